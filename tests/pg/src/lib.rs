//! PostgreSQL for tests: a cluster in a temporary folder, and a fresh database per test.
//!
//! Called by the tests of store, services and server, and by `cargo xtask test`, which starts one cluster for all of
//! them and names it in `HEXA_TEST_PG`. Without that a test process starts its own. The server runs as the user
//! `postgres` when the tests run as root, because PostgreSQL refuses root.
//! Invariants: loopback only, a free port, nothing outside the temporary folder, stopped when the process ends.
//! Start at [`database`].

mod cluster;
pub mod proxy;

use std::sync::{Mutex, PoisonError};

pub use cluster::Cluster;

/// Names a running cluster: an address without a database, `postgres://postgres@127.0.0.1:5432`.
pub const CLUSTER: &str = "HEXA_TEST_PG";
/// `postgres` makes the tests of both databases use PostgreSQL; anything else means SQLite.
pub const WHICH: &str = "HEXA_TEST_DB";

/// Whether this run of the tests is the one on PostgreSQL.
pub fn chosen() -> bool {
    std::env::var(WHICH).is_ok_and(|v| v == "postgres")
}

/// The address of a fresh, empty database.
///
/// # Panics
/// When PostgreSQL is not installed or does not start; the message says what to do.
pub fn database() -> String {
    let base = std::env::var(CLUSTER).unwrap_or_else(|_| own_cluster());
    cluster::create_database(&base).unwrap_or_else(|e| panic!("{e}"))
}

/// The cluster of this process.
static OWN: Mutex<Option<Cluster>> = Mutex::new(None);

/// Its address; it is started first if it is not there.
fn own_cluster() -> String {
    let mut own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
    let cluster = own.get_or_insert_with(|| {
        // A static is never dropped, and a server that outlives its tests is somebody's server.
        // SAFETY: `stop` is a plain function without arguments that does not unwind.
        #[expect(unsafe_code, reason = "the standard library has no way to run something at exit")]
        let registered = unsafe { libc::atexit(stop) };
        assert_eq!(registered, 0, "nothing can be run at exit");
        Cluster::start().unwrap_or_else(|e| panic!("{e}"))
    });
    cluster.url()
}

extern "C" fn stop() {
    let own = OWN.lock().unwrap_or_else(PoisonError::into_inner).take();
    drop(own);
}
