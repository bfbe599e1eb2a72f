//! One route after the other: its requests are cut, and then everything is compared.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use hexa_tests::Metrics;
use hexa_tests::cut::Request;
use hexa_tests::load::Dice;
use hexa_tests::machine::{is_long, with};
use serde_json::json;

use super::facts::{self, Facts, Tables, differences};
use super::fixture::{Case, Credential, Fixture, Stands};
use super::recipes::{Commits, Recipe, Trace};

/// Inside COMMIT, for each route: what is the same code on both databases is cut less often on the second one.
pub(super) fn inside_commit() -> u64 {
    let whole = !hexa_testpg::chosen() || is_long() || with("disconnects");
    if whole { 20 } else { 6 }
}

/// Requests of a route that are not cut, before the others.
pub(super) const PILOTS: usize = 2;
/// Cuts between two looks at the counter.
const PIECE: usize = 4;
/// More than this is never tried for one route and one kind of request.
const TRIES: usize = 90;
/// Requests of the test itself at the same time.
const AT_ONCE: usize = 8;
/// A change that lost its caller may still be on its way.
const SETTLED_WITHIN: Duration = Duration::from_secs(4);

/// The stages, as the server counts them.
pub(super) const STAGES: [&str; 4] = ["waiting", "working", "committing", "following"];

/// One line of the table.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) route: &'static str,
    pub(super) keyed: bool,
    pub(super) cuts: usize,
    /// An answer was there before the cut.
    pub(super) answered: u64,
    pub(super) stages: [u64; 4],
    pub(super) differences: Vec<String>,
}

impl Row {
    pub(super) fn new(route: &'static str, keyed: bool) -> Self {
        Self { route, keyed, cuts: 0, answered: 0, stages: [0; 4], differences: Vec::new() }
    }
    pub(super) fn shown(&self) -> String {
        let [waiting, working, committing, following] = self.stages;
        let key = if self.keyed { "key" } else { "-" };
        let Self { route, cuts, answered, differences, .. } = self;
        let stages = format!("{waiting} | {working} | {committing} | {following} | {answered}");
        format!("{route} | {key} | {cuts} | {stages} | {}", differences.len())
    }
    pub(super) const HEAD: &str =
        "route | key | cuts | waiting | working | committing | following | answered | differences";
}

/// Counts of changes without a caller.
pub(super) async fn abandoned(fixture: &Fixture) -> [u64; 4] {
    let text = fixture.ask("/metrics", &fixture.admin).await.map(|a| a.text).unwrap_or_default();
    let metrics = Metrics::parse(&text);
    STAGES.map(|stage| metrics.count("hexa_changes_abandoned_total", &[("stage", stage)]))
}

/// Makes cases of a recipe.
pub(super) async fn prepare(fixture: &Fixture, recipe: &Recipe, count: usize) -> Vec<Case> {
    let made = stream::iter(0..count).map(|_| (recipe.prepare)(fixture)).buffer_unordered(AT_ONCE);
    made.collect().await
}

/// With an idempotency key of its own.
pub(super) fn keyed(mut case: Case) -> Case {
    case.request = case.request.header("idempotency-key", uuid::Uuid::now_v7().to_string());
    case
}

/// The server's memory knows what the cases are about, as in daily life.
pub(super) async fn warm(fixture: &Fixture, cases: &[Case]) {
    let mut asked = std::collections::HashSet::new();
    let mut paths = Vec::new();
    for case in cases {
        for credential in &case.credentials {
            let devices = case.devices.iter().map(|d| format!("/api/v1/devices/{}", d.uid));
            paths.extend(devices.chain(["/api/v1/auth/me".to_owned()]).map(|p| (p, credential.token.clone())));
        }
    }
    paths.retain(|asks| asked.insert(asks.clone()));
    let asks = stream::iter(paths).map(async |(path, token)| fixture.ask(&path, &token).await);
    asks.buffer_unordered(AT_ONCE).for_each(async |_| {}).await;
}

/// When a request of a route is in COMMIT, as far as it is known.
struct Aim {
    /// From the sending of the request to the middle of COMMIT.
    middle: f64,
    whole: f64,
    /// How long COMMIT takes.
    slow: f64,
}

impl Aim {
    fn of(took: Duration, slow: Duration) -> Self {
        let (whole, slow) = (took.as_secs_f64(), slow.as_secs_f64());
        Self { middle: (whole - slow / 2.0).max(0.001), whole: whole.max(slow), slow }
    }
    /// Every third one is at any moment, the others where COMMIT is thought to be.
    fn delay(&self, n: usize, dice: &mut Dice) -> Duration {
        let random = dice.below(1_000) as f64 / 1_000.0;
        let slow = self.slow;
        let at = if n % 3 == 2 { random * self.whole * 1.3 } else { self.middle + (random - 0.5) * slow * 0.7 };
        Duration::from_secs_f64(at.max(0.0))
    }
    /// Most were too early, or too late.
    fn learn(&mut self, early: u64, late: u64) {
        let step = (self.slow / 3.0).max(self.middle / 6.0);
        self.middle = (self.middle + step * (early as f64 - late as f64) / PIECE as f64).max(0.001);
    }
}

/// What is left of a route's requests after the cuts.
pub(super) struct Done {
    pub(super) row: Row,
    pub(super) cases: Vec<Case>,
    pub(super) facts: Vec<Facts>,
    /// The server takes no more writes.
    pub(super) dead: bool,
}

/// Cuts requests of one route until enough were cut inside COMMIT, then compares.
pub(super) async fn cut(fixture: &Fixture, recipe: &Recipe, mut pool: Vec<Case>, enough: u64, dice: &mut Dice) -> Done {
    let keyed = pool[0].request.headers.iter().any(|(name, _)| *name == "idempotency-key");
    let mut row = Row::new(recipe.route, keyed);
    warm(fixture, &pool).await;
    let before = Tables::read(&fixture.server.db());
    let seen = fixture.seen().len();
    // Some that stay: they say whether the recipe is right, and how long the route takes at least.
    let mut took = Duration::MAX;
    let mut fine = true;
    for stays in pool.drain(..PILOTS) {
        let started = Instant::now();
        let answer = stays.request.send(&fixture.http, fixture.server.address).await;
        took = took.min(started.elapsed());
        if answer.as_ref().is_none_or(|a| a.status >= 300) {
            row.differences.push(format!("one that stays is answered {answer:?}"));
            fine = false;
        }
    }
    let mut aim = Aim::of(took, fixture.slow);
    let mut cases: Vec<Case> = Vec::new();
    let mut tally = abandoned(fixture).await;
    while fine && !pool.is_empty() && cases.len() < TRIES {
        let piece: Vec<_> = pool.drain(..PIECE.min(pool.len())).collect();
        let mut answered = 0;
        for case in &piece {
            let (delay, reset) = (aim.delay(row.cuts, dice), row.cuts % 2 == 1);
            answered += u64::from(case.request.cut(fixture.server.address, delay, reset).await);
            row.cuts += 1;
            // The next caller comes when this change is over, most likely.
            tokio::time::sleep(fixture.slow).await;
        }
        // The server has noticed that they are gone.
        let now = abandoned(fixture).await;
        let delta: Vec<u64> = now.iter().zip(&tally).map(|(n, t)| n.saturating_sub(*t)).collect();
        tally = now;
        for (sum, more) in row.stages.iter_mut().zip(&delta) {
            *sum += more;
        }
        row.answered += answered;
        // Those that are not counted were at their passwords still, or were never read.
        let late = delta[3] + answered;
        aim.learn((piece.len() as u64).saturating_sub(delta[2] + late), late);
        cases.extend(piece);
        if enough > 0 && row.stages[2] >= enough {
            break;
        }
        if pool.is_empty() && enough > 0 && cases.len() < TRIES && writes_work(fixture).await.is_ok() {
            let more = prepare(fixture, recipe, PIECE).await.into_iter();
            pool = more.map(|case| if keyed { self::keyed(case) } else { case }).collect();
            warm(fixture, &pool).await;
        }
    }
    let seen_at_most = seen + cases.len() + PILOTS;
    let since = Since { before: &before, seen_at_most, others: PILOTS, killed: false };
    let (dead, facts) = compare(fixture, recipe, &mut row, &mut cases, &since).await;
    Done { row, cases, facts, dead }
}

/// What is known from before the requests, and what may have come of them.
pub(super) struct Since<'a> {
    pub(super) before: &'a Tables,
    /// So many commands may have reached the device since its beginning.
    pub(super) seen_at_most: usize,
    /// Requests of this kind that were not cut.
    pub(super) others: usize,
    /// The server was killed: nobody knows what became of a command that was open.
    pub(super) killed: bool,
}

/// Everything that is to be said after requests of one route were left alone. Gives whether the server takes no more
/// writes, and the facts.
pub(super) async fn compare(
    fixture: &Fixture,
    recipe: &Recipe,
    row: &mut Row,
    cases: &mut [Case],
    since: &Since<'_>,
) -> (bool, Vec<Facts>) {
    // Whatever was on its way has had its turn when these have had theirs.
    let work = writes_work(fixture).await;
    if let Err(wrong) = &work {
        row.differences.push(format!("later writes fail: {wrong}"));
    }
    if row.keyed && work.is_ok() {
        let answers = join_all(cases.iter().map(|case| again(fixture, case, since.killed))).await;
        for (case, answer) in cases.iter_mut().zip(answers) {
            match answer {
                Ok(found) => case.credentials.extend(found),
                Err(wrong) => row.differences.push(wrong),
            }
        }
    }
    for case in cases.iter_mut() {
        for (email, password) in std::mem::take(&mut case.passwords) {
            let body = json!({ "email": email, "password": password });
            let login = Request::new("POST /api/v1/auth/login").json(body);
            let answer = login.send(&fixture.http, fixture.server.address).await;
            let session = answer
                .filter(|a| a.status == 200)
                .and_then(|a| a.json()["access_token"].as_str().map(Credential::session));
            case.credentials.extend(session);
        }
    }
    let (tables, facts) = settled(fixture, cases, row, work.is_ok()).await;
    if fixture.seen().len() > since.seen_at_most {
        row.differences.push(format!("{} commands sent, of at most {}", fixture.seen().len(), since.seen_at_most));
    }
    traces(recipe, row, cases, since, &tables);
    (work.is_err(), facts)
}

/// Facts of the server and of the database, once they are the same; what differs to the end goes into the row.
async fn settled(fixture: &Fixture, cases: &[Case], row: &mut Row, alive: bool) -> (Tables, Vec<Facts>) {
    let since = Instant::now();
    loop {
        let found = read(fixture, cases).await;
        let tables = Tables::read(&fixture.server.db());
        let wrong: Vec<_> = cases
            .iter()
            .zip(&found)
            .flat_map(|(case, said)| differences(said, &tables.facts(case), "its database"))
            .collect();
        // A server that takes no more writes never will be.
        if wrong.is_empty() || !alive || since.elapsed() >= SETTLED_WITHIN {
            row.differences.extend(wrong);
            return (tables, found);
        }
    }
}

/// What the server says of all cases.
pub(super) async fn read(fixture: &Fixture, cases: &[Case]) -> Vec<Facts> {
    let read = stream::iter(0..cases.len()).map(async |n| (n, facts::of_server(fixture, &cases[n]).await));
    let found: HashMap<usize, Facts> = read.buffer_unordered(AT_ONCE).collect().await;
    (0..cases.len()).map(|n| found[&n].clone()).collect()
}

/// A request with a key is asked for twice more: its answer, and the same again. Gives the credentials in it.
async fn again(fixture: &Fixture, case: &Case, killed: bool) -> Result<Vec<Credential>, String> {
    let wait = Instant::now();
    let first = loop {
        let answer = case.request.send(&fixture.http, fixture.server.address).await;
        let answer = answer.ok_or("a retry has no answer")?;
        let under_way = answer.status == 503 || answer.json()["code"] == "idempotency_in_progress";
        if !under_way || wait.elapsed() > SETTLED_WITHIN {
            break answer;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let what = format!("{} {}", case.request.method, case.request.path);
    // Who asks may have ended itself: whether that is so is compared with the database.
    let own = case.request.headers.iter().any(|(_, v)| case.credentials.iter().any(|c| v.ends_with(&c.token)));
    if first.status == 401 && own {
        return Ok(Vec::new());
    }
    let unknown = killed && first.status == 504 && !case.relays.is_empty();
    if first.status >= 300 && !unknown {
        return Err(format!("{what}: a retry with its key is answered {} {}", first.status, first.text));
    }
    let second =
        case.request.send(&fixture.http, fixture.server.address).await.ok_or("a second retry has no answer")?;
    if !(second.status == 401 && own)
        && ((second.status, &second.text) != (first.status, &first.text) || !second.replayed)
    {
        return Err(format!("{what}: two answers to one key: {first:?}, then {second:?}"));
    }
    let body = first.json();
    let session = body["access_token"].as_str().map(Credential::session);
    let token = body["token"].as_str().filter(|t| t.starts_with("hxp_")).map(|token| {
        let user = case.credentials[0].user().to_owned();
        let id = body["id"].as_str().unwrap_or_default().to_owned();
        Credential { token: token.to_owned(), stands: Stands::Token { user, id } }
    });
    Ok(session.into_iter().chain(token).collect())
}

/// Each request left its trace once, or not at all; with a key and asked for again, exactly once.
fn traces(recipe: &Recipe, row: &mut Row, cases: &[Case], since: &Since<'_>, after: &Tables) {
    // A command that was open when the server was killed has none.
    let all = row.keyed && !(since.killed && recipe.commits == Commits::Beside);
    let wrong = |count: usize, most: usize| if all { count != most } else { count > most };
    let before = since.before;
    let mut found = Vec::new();
    match recipe.trace {
        Trace::None => {}
        Trace::Own(action) => {
            for case in cases {
                let count = after.traces(action, &case.ids) - before.traces(action, &case.ids);
                if wrong(count, 1) {
                    found.push(format!("{} {}: {count} rows of {action}", case.request.method, case.request.path));
                }
            }
        }
        Trace::Shared(action) => {
            let Some(case) = cases.first() else { return };
            let count = after.traces(action, &case.ids) - before.traces(action, &case.ids);
            let most = cases.len() + since.others;
            if wrong(count, most) {
                found.push(format!("{most} requests, {count} rows of {action}"));
            }
        }
    }
    row.differences.extend(found);
}

/// Writes of every kind: a sign-in, a change of a device, a command.
pub(super) async fn writes_work(fixture: &Fixture) -> Result<(), String> {
    let address = fixture.server.address;
    let owner = &fixture.crowd[0];
    let login = json!({ "email": owner.email, "password": hexa_tests::server::PASSWORD });
    let uid = &fixture.proof.uid;
    let requests = [
        Request::new("POST /api/v1/auth/login").json(login),
        Request::new(&format!("PATCH /api/v1/devices/{uid}")).bearer(&owner.token).json(json!({ "name": "Bench" })),
        Request::new(&format!("POST /api/v1/devices/{uid}/relays/1"))
            .bearer(&owner.token)
            .json(json!({ "state": true })),
        Request::new(&format!("POST /api/v1/devices/{uid}/relays/1"))
            .bearer(&owner.token)
            .json(json!({ "state": false })),
    ];
    for request in requests {
        let answer =
            request.send(&fixture.http, address).await.ok_or_else(|| format!("{}: no answer", request.path))?;
        if answer.status != 200 {
            return Err(format!("{} {}: {} {}", request.method, request.path, answer.status, answer.text));
        }
    }
    Ok(())
}

/// Where a route's row is compared again after a restart.
pub(super) struct Kept {
    pub(super) row: usize,
    pub(super) case: Case,
    pub(super) facts: Facts,
}

/// The facts of before against those of a server that has just started.
pub(super) async fn against_restart(fixture: &Fixture, rows: &mut [Row], kept: &[Kept], which: &str) {
    let cases: Vec<Case> = kept.iter().map(|k| k.case.clone()).collect();
    let now = read(fixture, &cases).await;
    for (kept, now) in kept.iter().zip(&now) {
        let wrong = differences(&kept.facts, now, which);
        rows[kept.row].differences.extend(wrong);
    }
}

/// The routes that change something, as `hexa docs routes` prints them.
pub(super) fn changing_routes() -> Vec<String> {
    let out = std::process::Command::new(hexa_tests::process::hexa()).args(["docs", "routes"]).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let rows = text.lines().filter(|l| l.starts_with("| ") && l.contains("| `/"));
    let cell = |line: &str, n: usize| line.split('|').nth(n).unwrap().trim().trim_matches('`').to_owned();
    let all = rows.map(|line| format!("{} {}", cell(line, 1), cell(line, 2)));
    all.filter(|route| ["POST ", "PUT ", "PATCH ", "DELETE "].iter().any(|m| route.starts_with(m))).collect()
}
