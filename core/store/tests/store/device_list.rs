//! Lists of devices in the order of their names: the same in both databases, and read from an index.

use hexa_model::{DeviceKey, TimeMs, UserKey};
use hexa_store::{DeviceFilter, DeviceOrder, Store};

use crate::rig::{Home, Raw, change, device, kept, store, user};

async fn call(store: &Store, key: DeviceKey, name: &str) {
    let name = name.to_owned();
    assert!(change!(store, |tx| { tx.rename_device(key, Some(&name), TimeMs(2)).await.unwrap() }));
}

/// What the devices of all pages are called.
async fn called(store: &Store, filter: &DeviceFilter) -> Vec<String> {
    let (mut filter, mut all) = (filter.clone(), Vec::new());
    loop {
        let page = store.list_devices(&filter).await.unwrap();
        let Some(last) = page.last() else { return all };
        filter.order = filter.order.behind(last);
        all.extend(page.iter().map(|row| row.shown_name().to_owned()));
    }
}

/// Beyond ASCII every locale of a database has its own mind; here none is asked.
#[tokio::test(flavor = "multi_thread")]
async fn names_stand_by_their_folded_letters_in_both_databases() {
    let (store, _home) = store().await;
    // Equal ones in this order: ß is ss, ſ is s, ﬀ is ff, and İ is i with a dot above.
    let sorted = [
        "!",
        "10",
        "9",
        "A",
        "a",
        "a b",
        "A-b",
        "a_b",
        "aB",
        "ab",
        "AB",
        "ff",
        "ﬀ",
        "i",
        "İ",
        "S",
        "ſ",
        "SS",
        "ß",
        "Z",
        "ofen",
        "Öfen",
        "ÖFEN",
        "O\u{308}fen",
        "ı",
        "Ω",
        "ω",
        "\u{2126}",
        "ς",
        "Σ",
        "гараж",
        "Гараж",
        "😀",
    ];
    let folded: Vec<_> = sorted.iter().map(|name| hexa_model::names::fold(name)).collect();
    let mut sorted: Vec<_> = folded.iter().zip(sorted).collect();
    sorted.sort_by_key(|(folded, _)| folded.as_bytes().to_vec());
    let sorted: Vec<_> = sorted.into_iter().map(|(_, name)| name).collect();
    assert_eq!(&sorted[..6], ["!", "10", "9", "A", "a", "a b"]);
    // Equal ones stand as they came; the others come in another order than they stand.
    let mut came: Vec<_> = (0..sorted.len()).collect();
    came.sort_by_key(|n| (hexa_model::names::fold(sorted[*n]).bytes().rev().collect::<Vec<_>>(), *n));
    for (n, at) in (1..).zip(came) {
        let key = device(&store, n).await;
        call(&store, key, sorted[at]).await;
    }
    for limit in [1, 2, 5, 100] {
        let filter = DeviceFilter { order: DeviceOrder::Name(None), limit, ..DeviceFilter::default() };
        assert_eq!(called(&store, &filter).await, sorted, "{limit} a page");
    }
    store.close().await;
}

/// Half of them are one user's.
async fn many(home: &Home, owner: UserKey) {
    let mut raw = home.raw().await;
    let columns = "(uid, owner_id, name, name_folded, device_class, token_hash, created_at, updated_at)";
    let values = format!(
        "select 'hx' || n, case when n % 2 = 0 then {} end, case when n % 3 > 0 then 'Lamp ' || (n % 700) end, \
         case when n % 3 > 0 then 'lamp ' || (n % 700) else 'hx' || n end, 'relay_controller'",
        owner.0
    );
    let sql = match &raw {
        Raw::Sqlite(_) => format!(
            "with recursive numbers(n) as (select 1 union all select n + 1 from numbers where n < 10000) \
             insert into devices {columns} {values}, x'00', 1, 1 from numbers"
        ),
        Raw::Postgres(_) => format!(
            "insert into devices {columns} {values}, '\\x00'::bytea, 1, 1 from generate_series(1, 10000) as n; \
             analyze devices"
        ),
    };
    raw.run(&sql).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_by_name_is_read_from_an_index_wherever_it_begins() {
    let (store, home) = store().await;
    let owner = user(&store, 1).await;
    many(&home, owner).await;
    let middle = Some(("Lamp 350".to_owned(), DeviceKey(4_000)));
    for (owner, index) in [(None, "devices_name"), (Some(owner), "devices_owner_name")] {
        for place in [None, middle.clone()] {
            let begins = place.is_some();
            let filter = DeviceFilter { owner, order: DeviceOrder::Name(place), limit: 51, ..DeviceFilter::default() };
            let plan = store.plan_of_devices(&filter).await.unwrap().join("\n");
            assert!(plan.contains(&format!(" {index} ")) || plan.ends_with(&format!(" {index}")), "{index}:\n{plan}");
            assert!(!plan.contains("Sort") && !plan.contains("TEMP B-TREE"), "{index}:\n{plan}");
            let from_there = plan.contains("name_folded>?") || plan.contains("ROW(") && !plan.contains("Filter");
            assert!(!begins || from_there, "{index}:\n{plan}");
        }
    }
    store.close().await;
}

async fn found(store: &Store, search: &str) -> Vec<String> {
    let filter = DeviceFilter {
        search: Some(search.to_owned()),
        search_owners: true,
        order: DeviceOrder::Name(None),
        limit: 100,
        ..DeviceFilter::default()
    };
    called(store, &filter).await
}

/// What is shown is found, however it is typed (field case A7).
#[tokio::test(flavor = "multi_thread")]
async fn names_are_found_as_they_are_shown() {
    let (store, _home) = store().await;
    let names = [
        "Öfen",
        "Straße",
        "Ölheizung",
        "KÜCHE",
        "Гараж",
        "İstanbul",
        "Σοφός",
        "Ｌａｍｐ",
        "100 % _ \\",
        "a!b",
        "Licht ❤\u{fe0f}",
    ];
    for (n, name) in (1..).zip(names) {
        let key = device(&store, n).await;
        call(&store, key, name).await;
    }
    for name in names {
        let decomposed: String = hexa_model::names::fold(name).replace('ö', "o\u{308}").replace('ü', "u\u{308}");
        for search in [name.to_owned(), name.to_uppercase(), name.to_lowercase(), decomposed] {
            assert_eq!(found(&store, &search).await, [name], "{search}");
        }
    }
    for (search, name) in [
        ("öf", "Öfen"),
        ("STRASSE", "Straße"),
        ("lamp", "Ｌａｍｐ"),
        ("σοφοσ", "Σοφός"),
        ("%", "100 % _ \\"),
        ("_", "100 % _ \\"),
        ("\\", "100 % _ \\"),
        ("!", "a!b"),
        ("❤", "Licht ❤\u{fe0f}"),
    ] {
        // The final sigma has an accent before it in the name.
        let expected: &[&str] = if search == "σοφοσ" { &[] } else { &[name] };
        assert_eq!(found(&store, search).await, expected, "{search}");
    }
    // İ is no i to who knows no language, and what is not seen is nowhere, instead of everywhere.
    for nothing in ["istanbul", "ofen", "%%", "\u{200b}", "\u{fe0f}"] {
        assert!(found(&store, nothing).await.is_empty(), "{nothing:?}");
    }
    store.close().await;
}

/// Accounts and relays alike; and what a release takes away is not found any more.
#[tokio::test(flavor = "multi_thread")]
async fn people_and_relays_are_found_as_they_are_shown() {
    let (store, _home) = store().await;
    let owner = user(&store, 1).await;
    let key = device(&store, 1).await;
    change!(store, |tx| {
        tx.set_user_name(owner, Some("Änne Großmann"), TimeMs(2)).await.unwrap();
        assert_eq!(tx.claim_device(&kept(1), owner, (TimeMs(3), TimeMs(3))).await.unwrap(), Some(key));
        tx.rename_device(key, Some("Öfen"), TimeMs(3)).await.unwrap();
        tx.set_relay_names(key, &[(0, "Türöffner".into())]).await.unwrap();
    });
    let users = async |search: &str| {
        let filter = hexa_store::UserFilter { search: Some(search.into()), limit: 10, ..Default::default() };
        store.list_users(&filter).await.unwrap().len()
    };
    for search in ["ÄNNE GR", "änne gr", "A\u{308}nne G", "GROSSMANN", "U1@EXAMPLE"] {
        assert_eq!((users(search).await, found(&store, search).await.len()), (1, 1), "{search}");
    }
    assert_eq!(users("\u{200b}").await, 0);
    // New e-mails are kept composed and found either way; an older one is found as it is kept.
    change!(store, |tx| {
        for (n, email) in (1..).zip(["\u{e4}nne@example.com", "o\u{308}@example.com"]) {
            let id = hexa_model::UserId::at(TimeMs(n), [9; 10]);
            let (role, password_hash) = (hexa_model::Role::User, "x".into());
            let new =
                hexa_store::NewUser { id, email: email.into(), name: None, role, password_hash, created_at: TimeMs(1) };
            tx.insert_user(&new).await.unwrap();
        }
    });
    for (typed, there) in [
        ("\u{e4}nne@example.com", true),
        ("a\u{308}nne@example.com", true),
        ("o\u{308}@example.com", true),
        ("anne@example.com", false),
    ] {
        assert_eq!(store.user_by_email(typed).await.unwrap().is_some(), there, "{typed}");
    }
    let own = async |search: &str| {
        let search = Some(search.to_owned());
        let filter = DeviceFilter { owner: Some(owner), search, limit: 10, ..DeviceFilter::default() };
        store.list_devices(&filter).await.unwrap().len()
    };
    assert_eq!((own("TÜRÖFFNER").await, own("tu\u{308}ro\u{308}").await), (1, 1));
    assert!(change!(store, |tx| { tx.release_device(key, Some(owner), TimeMs(4)).await.unwrap() }));
    let row = store.device_by_key(key).await.unwrap().unwrap();
    assert!(found(&store, "öfen").await.is_empty() && found(&store, "türöffner").await.is_empty());
    assert_eq!(found(&store, &row.uid.as_str().to_uppercase()).await, [row.uid.as_str()]);
    store.close().await;
}

/// Rows that an earlier version wrote, more of them than one piece, and a start that was cut off in the middle.
#[tokio::test(flavor = "multi_thread")]
async fn names_of_before_are_folded_at_the_start_and_go_on_where_a_start_was_cut_off() {
    let (store, home) = store().await;
    let owner = user(&store, 1).await;
    many(&home, owner).await;
    store.close().await;
    drop(store);
    let mut raw = home.raw().await;
    let token = raw.either("zeroblob(32)", "decode(repeat('00', 32), 'hex')");
    let strip = format!(
        "update devices set name = 'Öfen ' || id, name_folded = null, token_hash = {token}; \
         update users set name = 'ÄNNE', name_folded = null, email_folded = null; \
         insert into relay_names (device_id, relay, name) select id, 0, 'TÜR ' || id from devices;"
    );
    raw.run(&format!("{strip} delete from settings where name = 'folded_names'")).await.unwrap();
    let store = home.open().await.unwrap();
    let filter = DeviceFilter { search: Some("öfen 97".into()), limit: 1_000, ..DeviceFilter::default() };
    let expected: Vec<i64> = (1..=10_000).filter(|n| n.to_string().starts_with("97")).collect();
    let keys = |rows: Vec<hexa_store::DeviceRow>| rows.iter().map(|r| r.key.0).collect::<Vec<_>>();
    assert_eq!(keys(store.list_devices(&filter).await.unwrap()), expected);
    let relays = DeviceFilter { owner: Some(owner), search: Some("Tür 7778".into()), ..filter.clone() };
    assert_eq!(keys(store.list_devices(&relays).await.unwrap()), [7_778]);
    let users = hexa_store::UserFilter { search: Some("änne".into()), limit: 10, ..Default::default() };
    assert_eq!(store.list_users(&users).await.unwrap().len(), 1);
    store.close().await;
    drop(store);
    // Cut off behind 9,000 devices: those before are not touched again.
    let version = hexa_model::names::FOLDING;
    raw.run(&format!(
        "update devices set name_folded = null; update users set name_folded = null; \
         update settings set value = '{version} devices 9000' where name = 'folded_names'"
    ))
    .await
    .unwrap();
    let store = home.open().await.unwrap();
    let late: Vec<i64> = expected.iter().copied().filter(|key| *key > 9_000).collect();
    assert_eq!(keys(store.list_devices(&filter).await.unwrap()), late);
    assert_eq!(store.list_users(&users).await.unwrap().len(), 1);
    store.close().await;
    drop(store);
    // Another version of the fold makes all of them anew.
    raw.run("update settings set value = '0 done' where name = 'folded_names'").await.unwrap();
    let store = home.open().await.unwrap();
    assert_eq!(keys(store.list_devices(&filter).await.unwrap()), expected);
    store.close().await;
}
