//! Lock files, and other files that only one account may read.
//!
//! The invariant: **no file of another program is opened.** Root opens these files in directories of
//! another account, so neither a symbolic link nor a hard link to another file is followed.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown},
    path::Path,
};

use rustix::fs::OFlags;

use super::{
    account::Account,
    error::{Error, io_error},
};

/// Opens a private file for reading and appending, and creates it if it is missing.
pub(super) fn open_private(path: &Path, owner: Option<&Account>) -> Result<File, Error> {
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
        .open(path)
        .map_err(io_error("open", path))?;
    let metadata = file.metadata().map_err(io_error("inspect", path))?;
    if !metadata.is_file() || metadata.nlink() != 1 {
        return Err(io_error("use", path)(io::Error::other(
            "not a regular file with exactly one hard link",
        )));
    }
    if let Some(owner) = owner.filter(|owner| owner.switches && owner.uid != metadata.uid()) {
        fchown(&file, Some(owner.uid), Some(owner.gid)).map_err(io_error("chown", path))?;
    }
    Ok(file)
}

/// Takes the lock of a file, unless another process has the lock. The lock is free again when all copies of
/// the returned descriptor are closed, in all processes.
pub(super) fn try_lock(path: &Path, owner: Option<&Account>) -> Result<Option<File>, Error> {
    let file = open_private(path, owner)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(io_error("lock", path)(error)),
    }
}
