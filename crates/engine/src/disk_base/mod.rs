//! The [`Base`] on disk: one redb file with one table of keys and values.
//!
//! Every change is one transaction with an fsync. Quick repair is on, so that opening after a
//! kill -9 does not read the whole file; the price, a second fsync and the allocator's state
//! (about 1 ms per GB of file), is small next to what a checkpoint writes.
//!
//! Architecture invariant: a store file is never created in place. It is made under another name,
//! synced and renamed. A file that exists and is empty or cut short is therefore damaged, and is
//! refused: to open it as new would lose the state silently.
//!
//! Opening never panics, whatever the file holds. Reading does not verify checksums (redb does so
//! only in a repair): a page damaged later gives an error, a panic or a wrong value, and the
//! replicas are the cure.
//!
//! A checkpoint of keys that lie far apart is written as a run first, and merged later: `tables`.
//!
//! Not here: the write buffer in front (see [`crate::state`]), and when to write.

mod filter;
mod rows;
mod tables;
mod view;

use std::fs::{self, File};
use std::io::ErrorKind;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use flotilla_types::KeyRange;
use redb::{Builder, CursorError, Database, Durability, ReadableDatabase, StorageBackend, Table};

use self::filter::Filters;
use self::rows::Key;
pub use self::tables::RunOptions;
use self::tables::{MAIN, Tables};
use self::view::DiskView;
use crate::base::{Base, ReadView, Rows};
use crate::buffer::Buffer;
use crate::change::StateBatch;
use crate::error::EngineError;
use crate::poison::{Poison, catch_panic};

/// How to open a [`DiskBase`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskOptions {
    /// Memory that redb takes for pages; up to half of it for dirty ones. Its own default of 1 GiB
    /// would be taken by each store of a machine.
    pub cache_bytes: usize,
    /// When checkpoints become runs.
    pub runs: RunOptions,
}

impl Default for DiskOptions {
    fn default() -> DiskOptions {
        DiskOptions { cache_bytes: 32 * 1024 * 1024, runs: RunOptions::DEFAULT }
    }
}

/// An open redb file. See the module's header.
pub struct DiskBase {
    file: Arc<Path>,
    database: Database,
    length: Box<dyn Fn() -> u64 + Send + Sync>,
    runs: RunOptions,
    filters: Filters,
    poison: Poison,
}

impl DiskBase {
    /// Opens the file at `path`, creating it if there is none. The directory must exist.
    /// [`EngineError::Corrupt`] if the file is not one that was created here,
    /// [`EngineError::Io`] if it cannot be read or another process has it open.
    pub fn open(path: &Path, options: DiskOptions) -> Result<DiskBase, EngineError> {
        match fs::metadata(path) {
            Ok(meta) if meta.len() == 0 => {
                return Err(EngineError::corrupt(path, "the file is empty"));
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => create(path, options)?,
            Err(error) => return Err(EngineError::io(path, error)),
        }
        // The process that created the file may have died before the name was durable.
        sync_directory_of(path)?;
        let database = guarded(path, || builder(options).open(path))?;
        let measured = path.to_path_buf();
        let length = move || fs::metadata(&measured).map_or(0, |meta| meta.len());
        DiskBase::over(path, database, options, Box::new(length))
    }

    /// Opens a database on any storage, creating it if the storage is empty. `name` stands for
    /// the file in errors. For the simulated disk.
    pub fn open_backend(
        name: &Path,
        backend: impl StorageBackend,
        options: DiskOptions,
    ) -> Result<DiskBase, EngineError> {
        let backend: Arc<dyn StorageBackend> = Arc::new(backend);
        let is_new = backend.len().map_err(|error| EngineError::io(name, error))? == 0;
        let shared = SharedBackend(Arc::clone(&backend));
        let database = guarded(name, || builder(options).create_with_backend(shared))?;
        if is_new {
            guarded(name, || create_table(&database))?;
        }
        DiskBase::over(name, database, options, Box::new(move || backend.len().unwrap_or(0)))
    }

    fn over(
        file: &Path,
        database: Database,
        options: DiskOptions,
        length: Box<dyn Fn() -> u64 + Send + Sync>,
    ) -> Result<DiskBase, EngineError> {
        let base = DiskBase {
            file: file.into(),
            database,
            length,
            runs: options.runs,
            filters: Filters::default(),
            poison: Poison::default(),
        };
        // A file without the table was not created here; the view refuses it now, not at a read.
        catch_panic(|| base.view())
            .unwrap_or_else(|reason| Err(EngineError::corrupt(file, reason)))?;
        Ok(base)
    }

    /// Runs `fill` in a durable transaction. `Ok(Some(refusal))` from it aborts without harm;
    /// an error, here or there, poisons.
    fn transact(
        &self,
        fill: impl FnOnce(&mut Tables<'_>) -> Result<Option<EngineError>, redb::Error>,
    ) -> Result<(), EngineError> {
        let refusal = self
            .poison
            .run(|| self.commit(fill).map_err(|error| storage_error(&self.file, error)))?;
        refusal.map_or(Ok(()), Err)
    }

    fn commit(
        &self,
        fill: impl FnOnce(&mut Tables<'_>) -> Result<Option<EngineError>, redb::Error>,
    ) -> Result<Option<EngineError>, redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        transaction.set_quick_repair(true);
        let refusal = fill(&mut Tables::open(&transaction, &self.filters)?)?;
        match refusal {
            Some(_) => transaction.abort()?,
            None => transaction.commit()?,
        }
        Ok(refusal)
    }
}

impl Base for DiskBase {
    fn apply(&self, buffer: &Buffer) -> Result<(), EngineError> {
        self.transact(|tables| {
            tables.apply(buffer, &self.runs)?;
            Ok(None)
        })
    }

    fn install(
        &self,
        clear: &[KeyRange],
        rows: &mut Rows<'_>,
        records: &StateBatch,
    ) -> Result<(), EngineError> {
        self.transact(|tables| {
            for range in clear {
                tables.remove_range(range)?;
            }
            if let Some(refusal) = insert_rows(&self.file, tables.main(), rows)? {
                return Ok(Some(refusal));
            }
            for op in &records.ops {
                tables.write(op)?;
            }
            Ok(None)
        })
    }

    fn view(&self) -> Result<Box<dyn ReadView>, EngineError> {
        let open = || -> Result<_, redb::Error> {
            DiskView::open(Arc::clone(&self.file), &self.database.begin_read()?, &self.filters)
        };
        Ok(Box::new(open().map_err(|error| storage_error(&self.file, error))?))
    }

    fn disk_bytes(&self) -> u64 {
        (self.length)()
    }

    fn cached_bytes(&self) -> usize {
        self.database.cache_stats().used_bytes()
    }
}

/// Inserts `rows` through a cursor, which is about three times as fast as one by one. The cursor
/// is set anew where kept keys lie between two rows. A row that is there already is refused.
fn insert_rows(
    file: &Path,
    table: &mut Table<'_, Key, Key>,
    rows: &mut Rows<'_>,
) -> Result<Option<EngineError>, redb::Error> {
    let mut next = match rows() {
        Ok(row) => row,
        Err(refusal) => return Ok(Some(refusal)),
    };
    while let Some((first, _)) = &next {
        let first = first.clone();
        let mut cursor = table.lower_bound_mut(Bound::Included(&first[..]))?;
        while let Some((key, value)) = &next {
            match cursor.insert_before(&key[..], &value[..]) {
                Ok(()) => {}
                Err(CursorError::UnorderedKey) if *key == first => {
                    return Ok(Some(EngineError::corrupt(
                        file,
                        "a row to install is there already",
                    )));
                }
                Err(CursorError::UnorderedKey) => break,
                Err(error) => return Err(error.into()),
            }
            next = match rows() {
                Ok(row) => row,
                Err(refusal) => return Ok(Some(refusal)),
            };
        }
        cursor.close()?;
    }
    Ok(None)
}

fn builder(options: DiskOptions) -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(options.cache_bytes);
    builder
}

/// Makes a store file under another name and renames it. A crash leaves either no file, and the
/// next start creates it again, or a whole one.
fn create(path: &Path, options: DiskOptions) -> Result<(), EngineError> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    let unfinished = path.with_file_name(name);
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(EngineError::io(&unfinished, error));
        }
        _ => {}
    }
    let database = guarded(&unfinished, || builder(options).create(&unfinished))?;
    guarded(&unfinished, || create_table(&database))?;
    guarded(&unfinished, || database.close())?;
    fs::rename(&unfinished, path).map_err(|error| EngineError::io(path, error))
}

fn sync_directory_of(path: &Path) -> Result<(), EngineError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| EngineError::io(directory, error))
}

fn create_table(database: &Database) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    transaction.open_table(MAIN)?;
    Ok(transaction.commit()?)
}

/// Runs an opening step of redb, which may panic on a file that makes no sense.
fn guarded<T, E: Into<redb::Error>>(
    file: &Path,
    step: impl FnOnce() -> Result<T, E>,
) -> Result<T, EngineError> {
    match catch_panic(step) {
        Ok(result) => result.map_err(|error| storage_error(file, error)),
        Err(panic) => Err(EngineError::corrupt(file, panic)),
    }
}

fn storage_error(file: &Path, error: impl Into<redb::Error>) -> EngineError {
    let error = error.into();
    match &error {
        redb::Error::Io(cause) => match cause.kind() {
            // redb's words for "not a database" and "shorter than its header says".
            ErrorKind::InvalidData | ErrorKind::UnexpectedEof => EngineError::corrupt(file, error),
            _ => EngineError::io(file, error),
        },
        redb::Error::Corrupted(_)
        | redb::Error::RepairAborted
        | redb::Error::UpgradeRequired(_)
        | redb::Error::TableDoesNotExist(_)
        | redb::Error::TableIsMultimap(_)
        | redb::Error::TableTypeMismatch { .. }
        | redb::Error::TypeDefinitionChanged { .. } => EngineError::corrupt(file, error),
        _ => EngineError::io(file, error),
    }
}

/// Shares a backend with redb, so that its length can still be read. Without locks: the simulator
/// prevents two openings of one disk.
#[derive(Debug)]
struct SharedBackend(Arc<dyn StorageBackend>);

impl StorageBackend for SharedBackend {
    fn len(&self) -> std::io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> std::io::Result<()> {
        self.0.close()
    }
}
