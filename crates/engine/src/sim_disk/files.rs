//! The disk as redb and raft-engine want to see it.

use std::fmt;
use std::io::{Error, ErrorKind, Read, Result, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use raft_engine::env::{FileSystem, Handle, Permission, WriteExt};
use redb::StorageBackend;

use super::cells::Change;
use super::{PointKind, SimDisk};

/// The state's file, for redb.
pub(super) struct StateFile {
    disk: SimDisk,
    file: u64,
}

impl StateFile {
    pub(super) fn new(disk: SimDisk, file: u64) -> StateFile {
        StateFile { disk, file }
    }
}

impl fmt::Debug for StateFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateFile({})", self.file)
    }
}

impl StorageBackend for StateFile {
    fn len(&self) -> Result<u64> {
        Ok(self.disk.disk().cells.len(self.file))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let count = self.disk.disk().cells.read(self.file, offset, out);
        if count < out.len() { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.disk.change(self.file, PointKind::SetLen, Change::SetLen(len))
    }

    fn sync_data(&self) -> Result<()> {
        self.disk.sync(self.file)
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        let change = Change::Write { at: offset, data: data.to_vec() };
        self.disk.change(self.file, PointKind::Write, change)
    }
}

/// The log's files, for raft-engine.
pub(super) struct LogFiles {
    disk: SimDisk,
}

impl LogFiles {
    pub(super) fn new(disk: SimDisk) -> LogFiles {
        LogFiles { disk }
    }
}

/// An open file of the log.
pub(super) struct LogHandle {
    disk: SimDisk,
    file: u64,
}

/// A place in a file of the log.
pub(super) struct LogCursor {
    handle: Arc<LogHandle>,
    at: u64,
}

impl FileSystem for LogFiles {
    type Handle = LogHandle;
    type Reader = LogCursor;
    type Writer = LogCursor;

    fn create<P: AsRef<Path>>(&self, path: P) -> Result<LogHandle> {
        let file = self.disk.create(&self.disk.name(path.as_ref())?)?;
        Ok(LogHandle { disk: self.disk.clone(), file })
    }

    fn open<P: AsRef<Path>>(&self, path: P, _: Permission) -> Result<LogHandle> {
        let file = self.disk.look_up(&self.disk.name(path.as_ref())?)?;
        Ok(LogHandle { disk: self.disk.clone(), file })
    }

    fn delete<P: AsRef<Path>>(&self, path: P) -> Result<()> {
        self.disk.remove(&self.disk.name(path.as_ref())?)
    }

    fn rename<P: AsRef<Path>>(&self, from: P, to: P) -> Result<()> {
        self.disk.rename(&self.disk.name(from.as_ref())?, &self.disk.name(to.as_ref())?)
    }

    fn new_reader(&self, handle: Arc<LogHandle>) -> Result<LogCursor> {
        Ok(LogCursor { handle, at: 0 })
    }

    fn new_writer(&self, handle: Arc<LogHandle>) -> Result<LogCursor> {
        Ok(LogCursor { handle, at: 0 })
    }
}

impl Handle for LogHandle {
    fn truncate(&self, offset: usize) -> Result<()> {
        self.disk.cut(self.file, offset as u64)
    }

    fn file_size(&self) -> Result<usize> {
        Ok(self.disk.disk().cells.len(self.file) as usize)
    }

    fn sync(&self) -> Result<()> {
        self.disk.sync(self.file)
    }
}

impl Read for LogCursor {
    fn read(&mut self, out: &mut [u8]) -> Result<usize> {
        let count = self.handle.disk.disk().cells.read(self.handle.file, self.at, out);
        self.at += count as u64;
        Ok(count)
    }
}

impl Write for LogCursor {
    fn write(&mut self, data: &[u8]) -> Result<usize> {
        let change = Change::Write { at: self.at, data: data.to_vec() };
        self.handle.disk.change(self.handle.file, PointKind::Write, change)?;
        self.at += data.len() as u64;
        Ok(data.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Seek for LogCursor {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        let len = self.handle.disk.disk().cells.len(self.handle.file);
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => len.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| Error::from(ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

impl WriteExt for LogCursor {
    fn truncate(&mut self, offset: usize) -> Result<()> {
        let change = Change::SetLen(offset as u64);
        self.handle.disk.change(self.handle.file, PointKind::SetLen, change)?;
        self.at = offset as u64;
        Ok(())
    }

    fn allocate(&mut self, offset: usize, size: usize) -> Result<()> {
        let end = (offset + size) as u64;
        let len = self.handle.disk.disk().cells.len(self.handle.file);
        let change = Change::SetLen(end.max(len));
        self.handle.disk.change(self.handle.file, PointKind::Allocate, change)
    }
}
