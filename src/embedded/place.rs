//! The directories: the data directory with its lock, and the socket's.
//!
//! The one rule: **nothing of anybody else is touched.** Only an empty directory is taken, only one
//! of the right owner is used, and root, who works here in directories of another account, follows
//! no link.

use std::{
    env,
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{
            DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown,
        },
    },
    path::{Path, PathBuf},
};

use rustix::{fs::OFlags, process::geteuid};

use super::{
    Options,
    account::Account,
    discover::major,
    error::{Error, io_error},
};

/// The longest path of a Unix socket in bytes.
const SOCKET_PATH_LIMIT: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// A data directory made ready, and how to run a server in it.
#[derive(Debug)]
pub(super) struct Place {
    pub root: PathBuf,
    pub socket_dir: PathBuf,
    pub account: Account,
    pub durable: bool,
}

impl Place {
    pub async fn prepare(options: &Options) -> Result<Self, Error> {
        let account = Account::find(options.user.as_deref()).await?;
        let dir =
            std::path::absolute(&options.data_dir).map_err(io_error("find", &options.data_dir))?;
        let parent = dir.parent().unwrap_or(&dir);
        account.can_enter(parent).await?;
        fs::create_dir_all(parent).map_err(io_error("make", parent))?;
        match DirBuilder::new().mode(0o700).create(&dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(io_error("make", &dir)(error));
            }
            _ => {}
        }
        let root = dir.canonicalize().map_err(io_error("find", &dir))?;
        take(&root, &account)?;
        account.can_enter(&root).await?;
        let socket_dir = socket_dir(&root, account.uid);
        Ok(Self {
            root,
            socket_dir,
            account,
            durable: options.durable,
        })
    }

    /// The lock, unless a server, or a process that is about to start one, has it. It is free again
    /// when the last copy of the returned file is closed, in whatever process.
    pub fn try_lock(&self) -> Result<Option<File>, Error> {
        try_lock(&self.root.join("lock"), Some(&self.account))
    }

    pub fn cluster(&self, version: &str) -> PathBuf {
        self.root
            .join(format!("pg{}", major(version).unwrap_or_default()))
    }
}

/// Makes an empty directory the account's own. One with content must be so already.
fn take(root: &Path, account: &Account) -> Result<(), Error> {
    let not_ours = |problem: &str| {
        Err(Error::NotOurs {
            dir: root.to_path_buf(),
            problem: problem.to_owned(),
        })
    };
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let dir = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(root)
        .map_err(io_error("open", root))?;
    let mut entries = fs::read_dir(root).map_err(io_error("read", root))?;
    if entries.next().is_none() {
        if account.changed {
            fchown(&dir, Some(account.uid), Some(account.gid)).map_err(io_error("chown", root))?;
        }
        dir.set_permissions(Permissions::from_mode(0o700))
            .map_err(io_error("chmod", root))?;
    } else if !root
        .join("lock")
        .symlink_metadata()
        .is_ok_and(|lock| lock.is_file())
    {
        return not_ours("has content that was not made here");
    } else if dir.metadata().map_err(io_error("look at", root))?.uid() != account.uid {
        return not_ours(&format!("does not belong to `{}`", account.name));
    }
    Ok(())
}

/// Opens a file of ours for reading and appending. Root may do so in a directory that is not root's
/// own, so neither a link nor a second name of another file is followed.
pub(super) fn open_private(path: &Path, owner: Option<&Account>) -> Result<File, Error> {
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
        .open(path)
        .map_err(io_error("open", path))?;
    let found = file.metadata().map_err(io_error("look at", path))?;
    if !found.is_file() || found.nlink() != 1 {
        return Err(io_error("use", path)(io::Error::other(
            "not a file with one name",
        )));
    }
    if let Some(owner) = owner.filter(|owner| owner.changed && owner.uid != found.uid()) {
        fchown(&file, Some(owner.uid), Some(owner.gid)).map_err(io_error("chown", path))?;
    }
    Ok(file)
}

pub(super) fn try_lock(path: &Path, owner: Option<&Account>) -> Result<Option<File>, Error> {
    let file = open_private(path, owner)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(io_error("lock", path)(error)),
    }
}

/// `s` in the data directory, or a directory with a short name if the socket's path would be too
/// long for the system, or has a comma, at which clients split it.
fn socket_dir(root: &Path, uid: u32) -> PathBuf {
    let dir = root.join("s");
    let bytes = dir.as_os_str().as_bytes();
    if bytes.len() + "/.s.PGSQL.5432.lock".len() <= SOCKET_PATH_LIMIT && !bytes.contains(&b',') {
        return dir;
    }
    // FNV-1a: the same in every build, because two of them may share the directory.
    let hash = root
        .as_os_str()
        .as_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    PathBuf::from(format!("/tmp/palisade-pg-{uid}-{hash:016x}"))
}

/// `palisade` in the platform's directory for something: root's, a variable's, or one in the home.
pub(super) fn default_dir(
    what: &'static str,
    of_root: &str,
    variable: &str,
    in_home: &str,
) -> Result<PathBuf, Error> {
    let absolute = |name: &str| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
    };
    let base = if geteuid().is_root() {
        PathBuf::from(of_root)
    } else if let Some(dir) = absolute(variable) {
        dir
    } else {
        absolute("HOME").ok_or(Error::NoHome(what))?.join(in_home)
    };
    Ok(base.join("palisade"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::socket_dir;

    #[test]
    fn a_socket_has_a_path_that_clients_understand() {
        assert_eq!(socket_dir(Path::new("/a/b"), 7), Path::new("/a/b/s"));
        let short = Path::new("/tmp/palisade-pg-7-a9bc8b06a8a9f4d5")
            .as_os_str()
            .len();
        for root in ["/a,b", &format!("/{}", "x".repeat(100))] {
            let dir = socket_dir(Path::new(root), 7);
            assert!(
                dir.starts_with("/tmp") && dir.as_os_str().len() == short,
                "{dir:?}"
            );
        }
    }
}
