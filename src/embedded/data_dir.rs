//! The data directory with its lock, and the directory of the socket.
//!
//! The invariant: **nothing of another account or program is changed.** The data directory must be
//! empty, or created here and owned by the right account. Root works here in directories of another account,
//! so no symbolic link is followed.

use std::{
    env,
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
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
use uuid::Uuid;

use super::{
    account::Account,
    error::{Error, io_error},
    lock::try_lock,
    options::Options,
    version::major_version,
};

/// The longest path of a Unix socket in bytes.
const SOCKET_PATH_LIMIT: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// A prepared data directory, and how to run a server in it.
#[derive(Debug)]
pub(super) struct DataDir {
    pub root: PathBuf,
    pub socket_dir: PathBuf,
    pub account: Account,
    pub durable: bool,
}

impl DataDir {
    /// Creates the directory if it is missing, and makes it private to the server's account.
    pub async fn prepare(options: &Options) -> Result<Self, Error> {
        let account = Account::find(options.user.as_deref()).await?;
        let dir =
            std::path::absolute(&options.data_dir).map_err(io_error("find", &options.data_dir))?;
        let parent = dir.parent().unwrap_or(&dir);
        account.check_can_enter(parent).await?;
        fs::create_dir_all(parent).map_err(io_error("create", parent))?;
        match DirBuilder::new().mode(0o700).create(&dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(io_error("create", &dir)(error));
            }
            _ => {}
        }
        let root = dir.canonicalize().map_err(io_error("find", &dir))?;
        claim(&root, &account)?;
        account.check_can_enter(&root).await?;
        let socket_dir = socket_dir(&root, account.uid);
        Ok(Self {
            root,
            socket_dir,
            account,
            durable: options.durable,
        })
    }

    /// Takes the lock. Returns `None` if a server has the lock, or a process that is about to start a server.
    pub fn try_lock(&self) -> Result<Option<File>, Error> {
        try_lock(&self.lock_path(), Some(&self.account))
    }

    /// The lock file.
    pub fn lock_path(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// The directory of the cluster for a version of PostgreSQL.
    pub fn cluster(&self, version: &str) -> PathBuf {
        self.root
            .join(format!("pg{}", major_version(version).unwrap_or_default()))
    }
}

/// Makes the account the owner of an empty directory. A directory with content must already belong to it.
fn claim(root: &Path, account: &Account) -> Result<(), Error> {
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
        if account.switches {
            fchown(&dir, Some(account.uid), Some(account.gid)).map_err(io_error("chown", root))?;
        }
        dir.set_permissions(Permissions::from_mode(0o700))
            .map_err(io_error("chmod", root))?;
    } else if !root
        .join("lock")
        .symlink_metadata()
        .is_ok_and(|lock| lock.is_file())
    {
        return not_ours("has content that this program did not create");
    } else if dir.metadata().map_err(io_error("inspect", root))?.uid() != account.uid {
        return not_ours(&format!("does not belong to `{}`", account.name));
    }
    Ok(())
}

/// The directory of the socket: `s` in the data directory. If the socket's path would be too long for the
/// system or would contain a comma, at which clients split paths, a directory with a short path in `/tmp`.
fn socket_dir(root: &Path, uid: u32) -> PathBuf {
    let dir = root.join("s");
    let bytes = dir.as_os_str().as_bytes();
    if bytes.len() + "/.s.PGSQL.5432.lock".len() <= SOCKET_PATH_LIMIT && !bytes.contains(&b',') {
        return dir;
    }
    // Two builds may share the data directory, so the name depends only on the path of the data directory.
    let name = Uuid::new_v5(&Uuid::NAMESPACE_URL, root.as_os_str().as_bytes()).simple();
    PathBuf::from(format!("/tmp/palisade-pg-{uid}-{name}"))
}

/// The directory `palisade`. For root, it is in `root_dir`. For other callers, it is in the directory that the
/// environment variable contains or, without the variable, in `home_dir` inside the home directory.
pub(super) fn default_dir(
    purpose: &'static str,
    root_dir: &str,
    variable: &str,
    home_dir: &str,
) -> Result<PathBuf, Error> {
    let absolute = |name: &str| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let base = if geteuid().is_root() {
        PathBuf::from(root_dir)
    } else if let Some(dir) = absolute(variable) {
        dir
    } else {
        absolute("HOME")
            .ok_or(Error::NoHome(purpose))?
            .join(home_dir)
    };
    Ok(base.join("palisade"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{SOCKET_PATH_LIMIT, socket_dir};

    #[test]
    fn a_socket_has_a_path_that_clients_understand() {
        assert_eq!(socket_dir(Path::new("/a/b"), 7), Path::new("/a/b/s"));
        for root in ["/a,b", &format!("/{}", "x".repeat(100))] {
            let dir = socket_dir(Path::new(root), u32::MAX);
            let lock = dir.join(".s.PGSQL.5432.lock");
            assert!(
                dir.starts_with("/tmp") && lock.as_os_str().len() <= SOCKET_PATH_LIMIT,
                "{dir:?}"
            );
            assert_eq!(dir, socket_dir(Path::new(root), u32::MAX));
            assert_ne!(dir, socket_dir(&Path::new(root).join("x"), u32::MAX));
        }
        let known = Path::new("/tmp/palisade-pg-7-8d440d78c2b9554b8bf70b7d3296b7ef");
        assert_eq!(socket_dir(Path::new("/a,b"), 7), known);
    }
}
