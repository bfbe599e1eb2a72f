//! The store on real databases: a SQLite file in a temporary folder, or with `HEXA_TEST_DB=postgres` a database of
//! its own in PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected comes")]

mod audit;
mod chains;
mod command_keys;
mod device_list;
mod grants;
mod opening;
mod postgres_only;
mod rig;
mod set_right;
mod sqlite_only;
mod writing;
