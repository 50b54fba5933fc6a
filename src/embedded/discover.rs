//! Finds the programs of a server.
//!
//! The one rule: **programs are usable if they say so themselves**, tried as the account that will
//! run them. Every place that was looked at and refused is named with the reason.

use std::{
    collections::HashSet,
    env,
    ffi::{OsStr, OsString},
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use tokio::time::timeout;

use super::{
    ANSWER_LIMIT, Options, Origin,
    account::{Account, run},
    error::{Error, io_error},
    fetch::{FETCHED_PREFIX, fetch},
    place::default_dir,
};

/// The oldest major version that the service supports.
pub(super) const OLDEST: i32 = crate::db::OLDEST_SERVER;

/// `postgres` and `initdb` that can be used.
#[derive(Debug)]
pub(super) struct Programs {
    pub bin_dir: PathBuf,
    pub version: String,
    pub origin: Origin,
}

/// Where an installed Postgres is looked for, in this order; the default is this system's.
#[derive(Debug)]
pub(super) struct Places {
    /// Directories as in `PATH`.
    pub path: OsString,
    /// Is asked for its `--bindir`.
    pub pg_config: PathBuf,
    /// Each is `<parent>/<prefix><version>/<rest>`.
    pub versioned: Vec<(PathBuf, &'static str, &'static str)>,
    /// Where a build from source goes.
    pub local: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        let versioned = [
            ("/usr/lib/postgresql", "", "bin"),
            ("/usr", "pgsql-", "bin"),
            ("/usr/libexec", "postgresql", ""),
            ("/opt/homebrew/opt", "postgresql@", "bin"),
            ("/usr/local/opt", "postgresql@", "bin"),
            ("/home/linuxbrew/.linuxbrew/opt", "postgresql@", "bin"),
            ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
        ];
        Self {
            path: env::var_os("PATH").unwrap_or_default(),
            pg_config: "pg_config".into(),
            versioned: versioned
                .map(|(parent, prefix, rest)| (parent.into(), prefix, rest))
                .into(),
            local: "/usr/local/pgsql/bin".into(),
        }
    }
}

/// Programs from the given directory, else installed ones, else those that were fetched before,
/// else fetches some.
pub(super) async fn find(
    options: &Options,
    account: &Account,
    places: &Places,
) -> Result<Programs, Error> {
    if let Some(dir) = &options.bin_dir {
        let dir = std::path::absolute(dir).map_err(io_error("find", dir))?;
        let given = inspect(&dir, Origin::Installed, account).await;
        return given.map_err(|problem| Error::BinDir { dir, problem });
    }
    let (dirs, mut looked) = installed(places, account).await;
    if let Some(found) = first_usable(dirs, Origin::Installed, account, &mut looked).await {
        return Ok(found);
    }
    let cache = match &options.cache_dir {
        Some(dir) => std::path::absolute(dir).map_err(io_error("find", dir))?,
        None => default_dir(
            "the cache directory",
            "/var/cache",
            "XDG_CACHE_HOME",
            ".cache",
        )?,
    };
    let dirs = newest(&cache, FETCHED_PREFIX, "bin", &mut looked);
    if let Some(found) = first_usable(dirs, Origin::Fetched, account, &mut looked).await {
        return Ok(found);
    }
    let fetched = fetch(&cache, options.archive_url.as_deref(), account).await;
    fetched.map_err(|problem| Error::NotFound {
        looked,
        fetch: problem.to_string(),
    })
}

/// Those of the first directory that can be used; the others go to `looked`, with the reason.
pub(super) async fn first_usable(
    dirs: Vec<PathBuf>,
    origin: fn(PathBuf) -> Origin,
    account: &Account,
    looked: &mut Vec<String>,
) -> Option<Programs> {
    for dir in dirs {
        match inspect(&dir, origin, account).await {
            Ok(programs) => return Some(programs),
            Err(problem) => looked.push(format!("{}: {problem}", dir.display())),
        }
    }
    None
}

/// The programs in a directory, or why they cannot be used.
pub(super) async fn inspect(
    bin_dir: &Path,
    origin: fn(PathBuf) -> Origin,
    account: &Account,
) -> Result<Programs, String> {
    for program in ["postgres", "initdb"] {
        if !bin_dir.join(program).is_file() {
            return Err(format!("has no `{program}`"));
        }
    }
    let mut command = account.command(&bin_dir.join("postgres"));
    let output = match timeout(ANSWER_LIMIT, run(command.arg("--version"))).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(format!("`{}` cannot run it: {error}", account.name)),
        Err(_) => return Err("`postgres --version` does not end".to_owned()),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    // "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"
    let version = text.split_whitespace().nth(2).unwrap_or_default();
    match major(version) {
        Some(major) if major >= OLDEST => Ok(Programs {
            bin_dir: bin_dir.to_path_buf(),
            version: version.to_owned(),
            origin: origin(bin_dir.to_path_buf()),
        }),
        Some(_) => Err(format!(
            "version {version} is too old, {OLDEST} or newer is needed"
        )),
        None => {
            let problem = String::from_utf8_lossy(&output.stderr);
            let problem = problem
                .lines()
                .next()
                .unwrap_or("it does not tell its version");
            Err(format!("`postgres --version` failed: {problem}"))
        }
    }
}

/// Directories that may hold an installed Postgres, the best first, and the places where there is
/// none.
async fn installed(places: &Places, account: &Account) -> (Vec<PathBuf>, Vec<String>) {
    let (mut dirs, mut looked) = (Vec::new(), Vec::new());
    for entry in env::split_paths(&places.path) {
        // A distribution may link `postgres` alone into a common directory; the rest is where the
        // link leads.
        if let Ok(program) = entry.join("postgres").canonicalize() {
            dirs.extend(program.parent().map(Path::to_path_buf));
        }
    }
    if dirs.is_empty() {
        looked.push(format!("PATH ({}): no `postgres`", places.path.display()));
    }
    match run(account.command(&places.pg_config).arg("--bindir")).await {
        Ok(output) if output.status.success() => {
            dirs.push(PathBuf::from(OsStr::from_bytes(output.stdout.trim_ascii())));
        }
        _ => looked.push("pg_config --bindir: no `pg_config`".to_owned()),
    }
    for (parent, prefix, rest) in &places.versioned {
        dirs.extend(newest(parent, prefix, rest, &mut looked));
    }
    if places.local.is_dir() {
        dirs.push(places.local.clone());
    } else {
        looked.push(format!("{}: nothing there", places.local.display()));
    }
    let mut seen = HashSet::new();
    dirs.retain(|dir| seen.insert(dir.canonicalize().unwrap_or_else(|_| dir.clone())));
    (dirs, looked)
}

/// `17` of `17.5`, `17beta1` or `17`.
pub(super) fn major(version: &str) -> Option<i32> {
    let digits = version
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(version.len());
    version[..digits].parse().ok()
}

/// `<parent>/<prefix><version>/<rest>`, the newest first; says so if there is none.
pub(super) fn newest(
    parent: &Path,
    prefix: &str,
    rest: &str,
    looked: &mut Vec<String>,
) -> Vec<PathBuf> {
    let found = versions(parent, prefix, rest);
    if found.is_empty() {
        let pattern = parent.join(format!("{prefix}*")).join(rest);
        looked.push(format!("{}: nothing there", pattern.display()));
    }
    found.into_iter().map(|(_, dir)| dir).collect()
}

/// The directories `<parent>/<prefix><version>/<rest>` with their versions, the newest first.
pub(super) fn versions(parent: &Path, prefix: &str, rest: &str) -> Vec<(Vec<u32>, PathBuf)> {
    let mut found: Vec<(Vec<u32>, PathBuf)> = fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let version = name.strip_prefix(prefix)?.split('.').map(str::parse);
            Some((version.collect::<Result<_, _>>().ok()?, entry.path()))
        })
        .map(|(version, dir)| (version, if rest.is_empty() { dir } else { dir.join(rest) }))
        .filter(|(_, dir)| dir.is_dir())
        .collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    found
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::{
        super::testing::{Scratch, programs, script},
        *,
    };

    async fn found(scratch: &Scratch) -> Result<Programs, Error> {
        let account = Account::find(None).await.unwrap();
        find(&scratch.options(), &account, &scratch.places()).await
    }

    #[test]
    fn a_version_starts_with_its_major() {
        for (version, expected) in [
            ("15.18", Some(15)),
            ("19beta1", Some(19)),
            ("17", Some(17)),
            ("", None),
            ("x1", None),
        ] {
            assert_eq!(major(version), expected, "{version}");
        }
    }

    #[test]
    fn the_newest_of_several_versions_comes_first() {
        let scratch = Scratch::new("versions");
        for name in [
            "p-9.6",
            "p-16.2.0",
            "p-16.10.0",
            "p-x",
            "other",
            "p-16.10.0.new",
        ] {
            fs::create_dir(scratch.join(name)).unwrap();
        }
        let found = newest(&scratch, "p-", "", &mut Vec::new());
        let expected = ["p-16.10.0", "p-16.2.0", "p-9.6"].map(|name| scratch.join(name));
        assert_eq!(found, expected);
    }

    #[tokio::test]
    async fn each_place_is_used_when_those_before_it_have_nothing() {
        let scratch = Scratch::new("places");
        let by_config = scratch.join("by-config");
        let config = format!("echo {}", by_config.display());
        script(&scratch.join("pg_config"), &config);
        for (bin_dir, version) in [
            (scratch.join("cache/postgresql-15.1.0/bin"), "15.1"),
            (scratch.join("local"), "15.2"),
            (scratch.join("usr/postgresql-15/bin"), "15.3"),
            (scratch.join("usr/postgresql-16/bin"), "16.1"),
            (by_config, "15.4"),
            (scratch.join("path"), "15.5"),
        ] {
            programs(&bin_dir, version);
            let programs = found(&scratch).await.unwrap();
            assert_eq!(
                (programs.bin_dir, programs.version.as_str()),
                (bin_dir.clone(), version)
            );
            let fetched = bin_dir.starts_with(scratch.join("cache"));
            assert_eq!(
                matches!(programs.origin, Origin::Fetched(_)),
                fetched,
                "{version}"
            );
        }
    }

    #[tokio::test]
    async fn a_linked_program_leads_to_the_others() {
        let scratch = Scratch::new("linked");
        let bin_dir = scratch.join("elsewhere");
        programs(&bin_dir, "15.1");
        fs::create_dir(scratch.join("path")).unwrap();
        symlink(bin_dir.join("postgres"), scratch.join("path/postgres")).unwrap();
        assert_eq!(found(&scratch).await.unwrap().bin_dir, bin_dir);
    }

    #[tokio::test]
    async fn programs_that_cannot_be_used_are_passed_over() {
        let scratch = Scratch::new("unusable");
        programs(&scratch.join("path"), "14.2");
        programs(&scratch.join("usr/postgresql-17/bin"), "17.1");
        script(
            &scratch.join("usr/postgresql-17/bin/postgres"),
            "echo broken >&2; exit 1",
        );
        programs(&scratch.join("usr/postgresql-16/bin"), "16.1");
        fs::remove_file(scratch.join("usr/postgresql-16/bin/initdb")).unwrap();
        programs(&scratch.join("usr/postgresql-15/bin"), "15.1");
        assert_eq!(found(&scratch).await.unwrap().version, "15.1");
    }

    #[tokio::test]
    async fn without_any_postgres_every_place_and_the_cure_are_named() {
        let scratch = Scratch::new("nothing");
        programs(&scratch.join("path"), "14.2");
        fs::create_dir_all(scratch.join("usr/postgresql-16/bin")).unwrap();
        let error = found(&scratch).await.unwrap_err();
        assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
        let text = error.to_string();
        for (place, problem) in [
            ("path", ": version 14.2 is too old"),
            ("usr/postgresql-16/bin", ": has no `postgres`"),
            ("local", ": nothing there"),
            ("cache/postgresql-*/bin", ": nothing there"),
        ] {
            let part = format!("{}{problem}", scratch.join(place).display());
            assert!(text.contains(&part), "{part} is missing in:\n{text}");
        }
        for part in [
            "no `pg_config`",
            "file:///no-such-archive.tar.gz",
            "PALISADE_PG_BIN",
            "DATABASE_URL",
        ] {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
    }

    #[tokio::test]
    async fn if_a_directory_is_given_no_other_place_is_tried() {
        let scratch = Scratch::new("given");
        programs(&scratch.join("path"), "15.1");
        let bin_dir = Some(scratch.join("empty"));
        let options = Options {
            bin_dir,
            ..scratch.options()
        };
        let account = Account::find(None).await.unwrap();
        let error = find(&options, &account, &scratch.places())
            .await
            .unwrap_err();
        assert!(matches!(error, Error::BinDir { .. }), "{error:?}");
    }
}
