//! A caller that hangs up cancels nothing (docs/PLATFORM.md#command-hang-up), whatever it asked for: every route that
//! changes something is cut at random moments under load, and afterwards what the server remembers, what its database
//! holds and what a server says that has just started are the same, and everything can still be written. The same for a
//! server that is killed. A route without a recipe fails by its name.

mod facts;
mod fixture;
mod recipes;
mod slow;
mod walk;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hexa_tests::load::Dice;
use hexa_tests::machine::{is_long, long};

use self::facts::Tables;
use self::fixture::{Case, Fixture, SLOW, SLOW_BEHIND_A_HASH};
use self::recipes::{Commits, Recipe, recipes};
use self::walk::{
    Kept, PILOTS, Row, Since, abandoned, against_restart, changing_routes, compare, inside_commit, keyed, prepare, read,
};

/// The recipes of these routes of the table, in its order.
fn table() -> Vec<Recipe> {
    let mut known = recipes();
    let routes = changing_routes();
    let missing: Vec<_> = routes.iter().filter(|route| known.iter().all(|r| r.route != *route)).collect();
    assert!(missing.is_empty(), "no recipe in tests/it/disconnects/recipes.rs for {missing:?}");
    known.retain(|r| routes.iter().any(|route| r.route == *route));
    let only = std::env::var("HEXA_ROUTE").unwrap_or_default();
    known.retain(|r| r.route.contains(&only));
    known
}

#[test]
fn every_recipe_is_for_a_route_of_the_table() {
    let routes = changing_routes();
    assert!(routes.len() >= 30, "{routes:?}");
    for recipe in recipes() {
        assert!(routes.iter().any(|route| *route == recipe.route), "there is no route {}", recipe.route);
    }
}

/// Shows the table; fails when anything differed.
fn judge(what: &str, rows: &[Row], mut wrong: Vec<String>) {
    let mut shown = format!("{what}\n{}\n", Row::HEAD);
    for row in rows {
        let _ = writeln!(shown, "{}", row.shown());
    }
    for row in rows.iter().filter(|row| !row.differences.is_empty()) {
        let key = if row.keyed { "with a key" } else { "without a key" };
        let first: Vec<_> = row.differences.iter().take(3).map(|d| d.chars().take(300).collect::<String>()).collect();
        wrong.push(format!(
            "{} {key}: {} differences, such as\n    {}",
            row.route,
            row.differences.len(),
            first.join("\n    ")
        ));
    }
    eprintln!("{shown}");
    assert!(wrong.is_empty(), "{shown}\n{}", wrong.join("\n"));
}

/// Kinds of requests of a recipe, and how many are to be cut inside COMMIT.
fn kinds(recipe: &Recipe) -> [(bool, u64); 2] {
    match recipe.commits {
        Commits::Always => [(false, inside_commit() / 2), (true, inside_commit() / 2)],
        Commits::WithKey => [(false, 0), (true, inside_commit())],
        Commits::Beside => [(false, 0), (true, 0)],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_leaves_at_any_moment_leaves_memory_database_and_restart_alike() {
    let mut dice = Dice::seeded("disconnects");
    let recipes = table();
    let mut fixture = Fixture::open().await;
    let loader = slow::Loader::new(&fixture).await;
    // Everything that takes long to make is made while COMMIT is quick.
    let begun = Instant::now();
    let mut pools: Vec<(usize, u64, Vec<Case>)> = Vec::new();
    for (n, recipe) in recipes.iter().enumerate() {
        for (with_key, enough) in kinds(recipe) {
            let count = PILOTS + 10 + usize::try_from(enough).unwrap();
            let cases = prepare(&fixture, recipe, count).await.into_iter();
            pools.push((n, enough, cases.map(|case| if with_key { keyed(case) } else { case }).collect()));
        }
    }
    let prepared = begun.elapsed();
    pools.sort_by_key(|(n, _, _)| recipes[*n].hashes);
    slow::commits(&mut fixture, Some(SLOW));
    fixture.kill_and_restart().await;
    let mut load = loader.start(&fixture).await;
    let (mut rows, mut kept, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    for (n, enough, pool) in pools {
        if recipes[n].hashes && fixture.slow == SLOW {
            wrong.extend(load.end().await);
            slow::commits(&mut fixture, Some(SLOW_BEHIND_A_HASH));
            fixture.kill_and_restart().await;
            load = loader.start(&fixture).await;
        }
        let done = walk::cut(&fixture, &recipes[n], pool, enough, &mut dice).await;
        let row = rows.len();
        rows.push(done.row);
        if done.dead {
            // Its facts are wrong already; the other routes get a server that writes.
            drop(load.end().await);
            fixture.kill_and_restart().await;
            load = loader.start(&fixture).await;
        } else {
            kept.extend(done.cases.into_iter().zip(done.facts).map(|(case, facts)| Kept { row, case, facts }));
        }
    }
    wrong.extend(load.end().await.into_iter().take(5).map(|w| format!("under load: {w}")));
    let cut = begun.elapsed();
    slow::commits(&mut fixture, None);
    remember(&fixture, &mut kept).await;
    fixture.kill_and_restart().await;
    against_restart(&fixture, &mut rows, &kept, "a server after kill -9").await;
    fixture.server.stop().await;
    fixture.restart().await;
    against_restart(&fixture, &mut rows, &kept, "a server after a clean stop").await;
    fixture.server.db().assert_sound();
    for recipe in &recipes {
        let inside: u64 = rows.iter().filter(|r| r.route == recipe.route).map(|r| r.stages[2]).sum();
        if inside < inside_commit() && recipe.commits != Commits::Beside {
            wrong.push(format!("{}: only {inside} of its requests were cut inside COMMIT", recipe.route));
        }
    }
    eprintln!("prepared after {prepared:?}, cut after {cut:?}, done after {:?}", begun.elapsed());
    judge("cut by the caller", &rows, wrong);
}

/// Reads the facts once more, when nothing is on its way: accounts that many cases share have changed since.
async fn remember(fixture: &Fixture, kept: &mut [Kept]) {
    let cases: Vec<Case> = kept.iter().map(|k| k.case.clone()).collect();
    for (kept, facts) in kept.iter_mut().zip(read(fixture, &cases).await) {
        kept.facts = facts;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_at_any_moment_has_done_each_change_as_a_whole_or_not_at_all() {
    let mut dice = Dice::seeded("disconnects, killed");
    let rounds = if is_long() { 40 } else { 6 };
    let recipes = table();
    let mut fixture = Fixture::open().await;
    let loader = slow::Loader::new(&fixture).await;
    let mut rows: Vec<Row> = recipes.iter().flat_map(|r| [Row::new(r.route, false), Row::new(r.route, true)]).collect();
    for round in 0..rounds {
        let with_key = round % 2 == 1;
        let mut cases = Vec::new();
        for recipe in &recipes {
            let case = prepare(&fixture, recipe, 1).await.remove(0);
            cases.push(vec![if with_key { keyed(case) } else { case }]);
        }
        slow::commits(&mut fixture, Some(SLOW));
        fixture.kill_and_restart().await;
        let load = loader.start(&fixture).await;
        walk::warm(&fixture, &cases.concat()).await;
        let (before, seen) = (Tables::read(&fixture.server.db()), fixture.seen().len());
        let commands = cases.concat().iter().filter(|case| !case.relays.is_empty()).count();
        // All at once: one is in COMMIT, the others are before it or behind it.
        let asks = cases.concat().into_iter().map(|case| {
            let (http, address) = (fixture.http.clone(), fixture.server.address);
            tokio::spawn(async move { case.request.send(&http, address).await })
        });
        let asks: Vec<_> = asks.collect();
        let within = SLOW * u32::try_from(cases.len()).unwrap();
        tokio::time::sleep(within.mul_f64(dice.below(1_000) as f64 / 1_000.0)).await;
        fixture.server.kill9();
        join_all(asks).await;
        drop(load.end().await);
        slow::commits(&mut fixture, None);
        fixture.restart().await;
        let since = Since { before: &before, seen_at_most: seen + commands, others: 0, killed: true };
        for (n, recipe) in recipes.iter().enumerate() {
            let row = &mut rows[2 * n + usize::from(with_key)];
            row.cuts += 1;
            compare(&fixture, recipe, row, &mut cases[n], &since).await;
        }
    }
    fixture.server.stop().await;
    fixture.server.db().assert_sound();
    judge("cut by kill -9", &rows, Vec::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_cut_requests_leaves_memory_database_and_restart_alike() {
    if !long("disconnects::a_storm_of_cut_requests_leaves_memory_database_and_restart_alike") {
        return;
    }
    const STORM: usize = 10_000;
    /// Cases that are made at once.
    const ROUND: usize = 16;
    let mut dice = Dice::seeded("storm");
    let recipes = table();
    let mut fixture = Fixture::open().await;
    let loader = slow::Loader::new(&fixture).await;
    let mut rows: Vec<Row> = recipes.iter().flat_map(|r| [Row::new(r.route, false), Row::new(r.route, true)]).collect();
    let (mut wrong, mut with_key) = (Vec::new(), true);
    while rows.iter().map(|row| row.cuts).sum::<usize>() < STORM {
        with_key = !with_key;
        let mut sets = Vec::new();
        for recipe in &recipes {
            let cases = prepare(&fixture, recipe, ROUND).await.into_iter();
            sets.push(cases.map(|case| if with_key { keyed(case) } else { case }).collect::<Vec<_>>());
        }
        walk::warm(&fixture, &sets.concat()).await;
        let load = loader.start(&fixture).await;
        let (before, seen, tally) =
            (Tables::read(&fixture.server.db()), fixture.seen().len(), abandoned(&fixture).await);
        let order = shuffled(sets.concat(), &mut dice);
        for piece in order.chunks(16) {
            let cuts = piece.iter().enumerate().map(|(n, case)| {
                // Most are over soon; those that hash a password are not.
                let longest = if dice.below(4) == 0 { 60_000 } else { 6_000 };
                let delay = Duration::from_micros(dice.below(longest));
                case.request.cut(fixture.server.address, delay, n % 2 == 1)
            });
            join_all(cuts).await;
        }
        let now = abandoned(&fixture).await;
        eprintln!("by stage: {:?}", now.iter().zip(&tally).map(|(n, t)| n - t).collect::<Vec<_>>());
        let since = Since { before: &before, seen_at_most: seen + order.len(), others: 0, killed: false };
        for (n, cases) in sets.iter_mut().enumerate() {
            let row = &mut rows[2 * n + usize::from(with_key)];
            row.cuts += cases.len();
            compare(&fixture, &recipes[n], row, cases, &since).await;
        }
        wrong.extend(load.end().await.into_iter().map(|w| format!("under load: {w}")));
        let row = |n: usize| 2 * n + usize::from(with_key);
        let kept = sets.into_iter().enumerate().flat_map(|(n, cases)| cases.into_iter().map(move |c| (row(n), c)));
        let mut kept: Vec<_> = kept.map(|(row, case)| Kept { row, case, facts: facts::Facts::new() }).collect();
        remember(&fixture, &mut kept).await;
        fixture.kill_and_restart().await;
        against_restart(&fixture, &mut rows, &kept, "a server after kill -9").await;
    }
    fixture.server.stop().await;
    fixture.server.db().assert_sound();
    judge("the storm", &rows, wrong);
}

/// In any order (Fisher and Yates).
fn shuffled<T>(mut items: Vec<T>, dice: &mut Dice) -> Vec<T> {
    for n in (1..items.len()).rev() {
        items.swap(n, usize::try_from(dice.below(n as u64 + 1)).unwrap());
    }
    items
}
