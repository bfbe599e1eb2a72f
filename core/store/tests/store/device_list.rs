//! Lists of devices in the order of their names: the same in both databases, and read from an index.

use hexa_model::{DeviceKey, TimeMs, UserKey};
use hexa_store::{DeviceFilter, DeviceOrder, Store};

use crate::rig::{Home, Raw, change, device, store, user};

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
async fn names_stand_by_ascii_letters_in_any_case_and_by_bytes_otherwise() {
    let (store, _home) = store().await;
    let sorted = [
        "!", "10", "9", "A", "a", "a b", "A-b", "a_b", "aB", "ab", "AB", "Z", "ß", "İ", "ı", "ſ", "ǅ", "Ω", "ω", "ﬀ",
        "😀",
    ];
    // Equal ones stand as they came; the others come in another order than they stand.
    let mut came: Vec<_> = (0..sorted.len()).collect();
    came.sort_by_key(|n| (sorted[*n].to_ascii_lowercase().bytes().rev().collect::<Vec<_>>(), *n));
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
    let columns = "(uid, owner_id, name, device_class, token_hash, created_at, updated_at)";
    let values = format!(
        "select 'hx' || n, case when n % 2 = 0 then {} end, case when n % 3 > 0 then 'Lamp ' || (n % 700) end, \
         'relay_controller'",
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
            let from_there = plan.contains("<expr>>?") || plan.contains("ROW(") && !plan.contains("Filter");
            assert!(!begins || from_there, "{index}:\n{plan}");
        }
    }
    store.close().await;
}
