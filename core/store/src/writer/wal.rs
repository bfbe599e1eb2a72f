//! The write-ahead log as a file: its room is made before it is needed, and it is folded into the database when nobody
//! waits for it.
//!
//! A commit that makes the file longer has to sync the file system's own journal too: measured, 2 ms instead of 0.15.
//! So zeros are written behind the log's end in large steps, and commits only ever overwrite. SQLite reads no further
//! than the last frame whose checksum fits (file format, section 4.1), so that zeros mean nothing to it, also when
//! they are what a crash leaves.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::error::StoreError;

/// Written at once when room runs short.
const STEP: u64 = 4 * 1024 * 1024;
/// Less room than this is short: a large batch fits.
const MARGIN: u64 = 1024 * 1024;
/// Folded when it has so many pages, also under load. At 16 MB the log's index stays small.
const FULL_PAGES: i64 = 4_000;
/// Folded when there is nothing else to do and it has so many pages: not sooner, because each fold writes every changed
/// page once more, and a memory card wears out.
const IDLE_PAGES: i64 = 1_000;
/// A frame: a page and its header.
const FRAME: u64 = 4_096 + 24;

/// The log of one database.
#[derive(Debug)]
pub(super) struct Wal {
    path: PathBuf,
    length: u64,
    batches: u32,
    useless: bool,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Need {
    pub(super) room: bool,
    pub(super) fold: bool,
}

impl Wal {
    /// Of the database at `path`.
    pub(super) fn of(database: &Path) -> Self {
        let mut path = database.as_os_str().to_owned();
        path.push("-wal");
        Self { path: path.into(), length: 0, batches: 0, useless: false }
    }

    /// Looked at every eighth batch: a batch has at most some hundred pages, the margin holds thousands.
    pub(super) fn due(&mut self) -> bool {
        self.batches = self.batches.wrapping_add(1);
        self.batches.is_multiple_of(8)
    }

    /// How full it is. `idle`: there is time to fold.
    pub(super) fn need(&self, connection: &Connection, idle: bool) -> Result<Need, StoreError> {
        // NOOP tells the sizes and does nothing (SQLite 3.51).
        let mut look = connection.prepare_cached("pragma wal_checkpoint(noop)")?;
        let (pages, folded): (i64, i64) = look.query_row([], |row| Ok((row.get(1)?, row.get(2)?)))?;
        let used = 32 + pages.max(0) as u64 * FRAME;
        Ok(Need {
            room: !self.useless && used + MARGIN > self.length,
            fold: pages >= FULL_PAGES || (idle && pages - folded >= IDLE_PAGES),
        })
    }

    /// Copies the log into the database, as far as no reader stands in the way.
    pub(super) fn fold(connection: &Connection) -> Result<(), StoreError> {
        connection.prepare_cached("pragma wal_checkpoint(passive)")?.query_row([], |_| Ok(()))?;
        Ok(())
    }

    /// Makes room behind the end. Nobody may write to the database meanwhile.
    pub(super) fn make_room(&mut self) {
        if let Err(error) = self.lengthen() {
            // Room is a matter of speed only: without it SQLite makes the file longer by itself.
            tracing::debug!(%error, "no room made in the write-ahead log");
            self.useless = true;
        }
    }

    fn lengthen(&mut self) -> std::io::Result<()> {
        let file: File = OpenOptions::new().write(true).open(&self.path)?;
        let end = file.metadata()?.len();
        let zeros = vec![0u8; 256 * 1024];
        let mut at = end;
        while at < end + STEP {
            file.write_all_at(&zeros, at)?;
            at += zeros.len() as u64;
        }
        file.sync_data()?;
        self.length = at;
        Ok(())
    }
}
