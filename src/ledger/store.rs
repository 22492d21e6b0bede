//! The file in which the ledger outlives the process: a redb database, written in one transaction a flush, so that a crash costs
//! what came since and nothing else. Blocking; who calls it is not on a thread that serves.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, StorageError, TableDefinition,
};

use super::book::{Book, Changes, DayCount, People, Tally};
use super::client::Client;
use super::count::Distinct;

/// The form of the tables; another one is refused and left alone.
const SCHEMA: u64 = 1;

/// Pages that are kept in memory: the whole of most ledgers. What is read is read at start.
const CACHE: usize = 1 << 20;

const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
const KEYS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("keys");

/// Route and client: first and last seen, the four counts, the days, identities, addresses.
type ClientRow<'a> = (u64, u64, (u64, u64, u64, u64), Vec<(u32, u64, u64)>, &'a [u8], &'a [u8]);
const CLIENTS: TableDefinition<'_, (&str, &str), ClientRow<'_>> = TableDefinition::new("clients");

/// Route and day: identities, addresses.
type DayRow<'a> = (&'a [u8], &'a [u8]);
const DAYS: TableDefinition<'_, (&str, u32), DayRow<'_>> = TableDefinition::new("days");

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is none, or no folder for it, or no right to it.
    #[error("cannot open the ledger {path}; its folder must be there, and both must be writable for this user")]
    File {
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process holds it.
    #[error("the ledger {path} is in use by another process; give each gateway a ledger of its own")]
    InUse {
        /// Where it is.
        path: PathBuf,
    },
    /// It is no ledger, or not a whole one.
    #[error("the ledger {path} cannot be read ({reason}); move it away, and an empty one is begun in its place")]
    Corrupt {
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It was written by another version of this program.
    #[error(
        "the ledger {path} has form {found}, and this version reads form 1; use the version that wrote it, or move it away"
    )]
    Schema {
        /// Where it is.
        path: PathBuf,
        /// Its form.
        found: u64,
    },
}

/// Why a flush failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the ledger")]
pub struct WriteError(#[source] Box<redb::Error>);

impl<E: Into<redb::Error>> From<E> for WriteError {
    fn from(error: E) -> Self {
        Self(Box::new(error.into()))
    }
}

/// What a book is made of.
type Parts = (BTreeMap<Client, Tally>, BTreeMap<u32, People>);

/// An open store. No other process can open it meanwhile.
#[derive(Debug)]
pub struct Store {
    database: Database,
    path: PathBuf,
}

/// All that a store holds.
#[derive(Debug)]
pub struct Kept {
    /// What identities and addresses are hashed with.
    pub key: [u8; 32],
    /// When the ledger was begun, in seconds since 1970.
    pub since: u64,
    /// The routes by their names.
    pub routes: BTreeMap<String, Book>,
}

impl Store {
    /// Opens a store, or begins one with this key at this time, readable for its owner alone.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the file is left as it is.
    pub fn open(path: &Path, key: [u8; 32], now: u64) -> Result<(Self, Kept), StoreError> {
        Self::attempt(path, true, |database| {
            let writing = database.begin_write()?;
            {
                let mut numbers = writing.open_table(NUMBERS)?;
                if numbers.get("schema")?.is_none() {
                    numbers.insert("schema", SCHEMA)?;
                    numbers.insert("since", now)?;
                    writing.open_table(KEYS)?.insert("people", key.as_slice())?;
                    writing.open_table(CLIENTS)?;
                    writing.open_table(DAYS)?;
                }
            }
            writing.commit()?;
            Ok(())
        })
    }

    /// Opens a store that must be there.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn open_existing(path: &Path) -> Result<(Self, Kept), StoreError> {
        Self::attempt(path, false, |_| Ok(()))
    }

    fn attempt(
        path: &Path,
        create: bool,
        prepare: impl FnOnce(&Database) -> Result<(), WriteError>,
    ) -> Result<(Self, Kept), StoreError> {
        let path = path.to_path_buf();
        let file = OpenOptions::new().read(true).write(true).create(create).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(|source| StoreError::File { path: path.clone(), source })?;
        let corrupt = |reason: String| StoreError::Corrupt { path: path.clone(), reason };
        // The library asserts what no file of its own breaks; a file that somebody damaged is not its own.
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let database = Self::database(file).map_err(|error| match error {
                DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
                    StoreError::InUse { path: path.clone() }
                }
                DatabaseError::Storage(StorageError::Io(source)) if is_of_system(&source) => {
                    StoreError::File { path: path.clone(), source }
                }
                error => corrupt(error.to_string()),
            })?;
            prepare(&database).map_err(|error| corrupt(error.0.to_string()))?;
            let found = schema(&database).map_err(|error| corrupt(error.0.to_string()))?;
            if found != SCHEMA {
                return Err(StoreError::Schema { path: path.clone(), found });
            }
            let kept = read(&database).map_err(|error| corrupt(error.0.to_string()))?;
            Ok((database, kept.ok_or_else(|| corrupt("its tables do not hold what they should".to_owned()))?))
        }));
        let (database, kept) = opened.unwrap_or_else(|_| Err(corrupt("it is damaged".to_owned())))?;
        Ok((Self { database, path }, kept))
    }

    fn database(file: File) -> Result<Database, DatabaseError> {
        Builder::new().set_cache_size(CACHE).create_with_backend(FileBackend::new(file)?)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes what changed on routes and deletes routes, all of it or nothing.
    ///
    /// # Errors
    ///
    /// [`WriteError`], above all when the disk is full.
    pub fn write(&self, changes: &[(&str, &Changes)], forgotten: &[&str]) -> Result<(), WriteError> {
        let writing = self.database.begin_write()?;
        {
            let mut clients = writing.open_table(CLIENTS)?;
            let mut days = writing.open_table(DAYS)?;
            for (route, changes) in changes {
                for (client, tally) in &changes.clients {
                    let key = (*route, client.as_str());
                    match tally {
                        Some(tally) => drop(clients.insert(key, row(tally, &sets(&tally.people)))?),
                        None => drop(clients.remove(key)?),
                    }
                }
                for (day, people) in &changes.days {
                    match people.as_ref().map(sets) {
                        Some((identities, addresses)) => {
                            drop(days.insert((*route, *day), (identities.as_slice(), addresses.as_slice()))?);
                        }
                        None => drop(days.remove((*route, *day))?),
                    }
                }
            }
            if !forgotten.is_empty() {
                clients.retain(|(route, _), _| !forgotten.contains(&route))?;
                days.retain(|(route, _), _| !forgotten.contains(&route))?;
            }
        }
        writing.commit()?;
        Ok(())
    }
}

/// Whether the system could not do what it was asked to, rather than that the file says something strange.
fn is_of_system(error: &io::Error) -> bool {
    !matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof | ErrorKind::InvalidInput)
}

fn sets(people: &People) -> (Vec<u8>, Vec<u8>) {
    (people.identities.to_bytes(), people.addresses.to_bytes())
}

fn row<'a>(tally: &Tally, (identities, addresses): &'a (Vec<u8>, Vec<u8>)) -> ClientRow<'a> {
    let days = tally.days.iter().map(|(day, count)| (*day, count.connections, count.refused)).collect();
    (tally.first, tally.last, tally.counts.into(), days, identities, addresses)
}

fn schema(database: &Database) -> Result<u64, WriteError> {
    let found = database.begin_read()?.open_table(NUMBERS)?.get("schema")?.map(|found| found.value());
    Ok(found.unwrap_or(0))
}

/// All of it; `None` if a row says what none can.
fn read(database: &Database) -> Result<Option<Kept>, WriteError> {
    let reading = database.begin_read()?;
    let since = reading.open_table(NUMBERS)?.get("since")?.map_or(0, |since| since.value());
    let key = reading.open_table(KEYS)?.get("people")?.and_then(|key| key.value().try_into().ok());
    let mut parts: BTreeMap<String, Parts> = BTreeMap::new();
    for entry in reading.open_table(CLIENTS)?.iter()? {
        let (key, value) = entry?;
        let (route, client) = key.value();
        let (first, last, counts, days, identities, addresses) = value.value();
        let (Some(client), Some(people)) = (Client::kept(client), people(identities, addresses)) else {
            return Ok(None);
        };
        let days =
            days.into_iter().map(|(day, connections, refused)| (day, DayCount { connections, refused })).collect();
        let tally = Tally { first, last, counts: counts.into(), people, days };
        parts.entry(route.to_owned()).or_default().0.insert(client, tally);
    }
    for entry in reading.open_table(DAYS)?.iter()? {
        let (key, value) = entry?;
        let ((route, day), (identities, addresses)) = (key.value(), value.value());
        let Some(people) = people(identities, addresses) else { return Ok(None) };
        parts.entry(route.to_owned()).or_default().1.insert(day, people);
    }
    let routes = parts.into_iter().map(|(route, (clients, days))| (route, Book::of(clients, days))).collect();
    Ok(key.map(|key| Kept { key, since, routes }))
}

fn people(identities: &[u8], addresses: &[u8]) -> Option<People> {
    Some(People { identities: Distinct::from_bytes(identities)?, addresses: Distinct::from_bytes(addresses)? })
}
