//! Finds the programs of a server: in the given directory, else installed, else downloaded.
//!
//! The invariant: **each location that is searched and not used is reported with the reason.**

use std::{
    collections::HashSet,
    env,
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use super::{
    account::{Account, output_of},
    data_dir::default_dir,
    download::{CACHE_PREFIX, download},
    error::{Error, io_error},
    options::{Options, Origin},
    programs::{Programs, first_usable, inspect, newest},
};

/// The locations of an installed server, in the order in which they are searched. The default is for
/// this system.
#[derive(Debug)]
pub(super) struct SearchLocations {
    /// Directories, in the format of `PATH`.
    pub path: OsString,
    /// A program that prints a directory when it is called with `--bindir`.
    pub pg_config: PathBuf,
    /// Directories of the form `<parent>/<prefix><version>/<rest>`.
    pub versioned: Vec<(PathBuf, &'static str, &'static str)>,
    /// The directory of a build from source.
    pub local: PathBuf,
}

impl Default for SearchLocations {
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

/// Finds programs: in the given directory, else installed, else downloaded earlier. If there are none,
/// downloads them.
pub(super) async fn find(
    options: &Options,
    account: &Account,
    locations: &SearchLocations,
) -> Result<Programs, Error> {
    if let Some(dir) = &options.bin_dir {
        let dir = std::path::absolute(dir).map_err(io_error("find", dir))?;
        let given = inspect(&dir, Origin::Installed, account).await;
        return given.map_err(|problem| Error::BinDir { dir, problem });
    }
    let (dirs, mut rejected) = installed(locations, account).await;
    if let Some(found) = first_usable(dirs, Origin::Installed, account, &mut rejected).await {
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
    let dirs = newest(&cache, CACHE_PREFIX, "bin", &mut rejected);
    if let Some(found) = first_usable(dirs, Origin::Downloaded, account, &mut rejected).await {
        return Ok(found);
    }
    let downloaded = download(&cache, options.archive_url.as_deref(), account).await;
    downloaded.map_err(|error| Error::NotFound {
        searched: rejected,
        download: error.to_string(),
    })
}

/// Returns the directories that may hold an installed server, in order of preference, and a message for each
/// location without such a directory.
async fn installed(locations: &SearchLocations, account: &Account) -> (Vec<PathBuf>, Vec<String>) {
    let (mut dirs, mut rejected) = (Vec::new(), Vec::new());
    for entry in env::split_paths(&locations.path) {
        // A distribution may link only `postgres` into a common directory. The other programs are in the
        // directory of the link's target.
        if let Ok(program) = entry.join("postgres").canonicalize() {
            dirs.extend(program.parent().map(Path::to_path_buf));
        }
    }
    if dirs.is_empty() {
        rejected.push(format!(
            "PATH ({}): no `postgres`",
            locations.path.display()
        ));
    }
    match output_of(account.command(&locations.pg_config).arg("--bindir")).await {
        Ok(output) if output.status.success() => {
            dirs.push(PathBuf::from(OsStr::from_bytes(output.stdout.trim_ascii())));
        }
        _ => rejected.push("pg_config --bindir: no `pg_config`".to_owned()),
    }
    for (parent, prefix, rest) in &locations.versioned {
        dirs.extend(newest(parent, prefix, rest, &mut rejected));
    }
    if locations.local.is_dir() {
        dirs.push(locations.local.clone());
    } else {
        rejected.push(format!("{}: not found", locations.local.display()));
    }
    let mut seen = HashSet::new();
    dirs.retain(|dir| seen.insert(dir.canonicalize().unwrap_or_else(|_| dir.clone())));
    (dirs, rejected)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::{
        super::testing::{ScratchDir, programs, script},
        *,
    };

    async fn found(scratch: &ScratchDir) -> Result<Programs, Error> {
        let account = Account::find(None).await.unwrap();
        find(&scratch.options(), &account, &scratch.locations()).await
    }

    #[tokio::test]
    async fn a_location_is_used_if_earlier_ones_have_no_server() {
        let scratch = ScratchDir::new("locations");
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
            let downloaded = bin_dir.starts_with(scratch.join("cache"));
            assert_eq!(
                matches!(programs.origin, Origin::Downloaded(_)),
                downloaded,
                "{version}"
            );
        }
    }

    #[tokio::test]
    async fn a_symbolic_link_to_one_program_leads_to_the_others() {
        let scratch = ScratchDir::new("linked");
        let bin_dir = scratch.join("elsewhere");
        programs(&bin_dir, "15.1");
        fs::create_dir(scratch.join("path")).unwrap();
        symlink(bin_dir.join("postgres"), scratch.join("path/postgres")).unwrap();
        assert_eq!(found(&scratch).await.unwrap().bin_dir, bin_dir);
    }

    #[tokio::test]
    async fn unusable_programs_are_skipped() {
        let scratch = ScratchDir::new("unusable");
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
    async fn without_a_server_the_error_lists_every_location_and_what_to_do() {
        let scratch = ScratchDir::new("nothing");
        programs(&scratch.join("path"), "14.2");
        fs::create_dir_all(scratch.join("usr/postgresql-16/bin")).unwrap();
        let error = found(&scratch).await.unwrap_err();
        assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
        let message = error.to_string();
        for (location, problem) in [
            ("path", ": version 14.2 is too old"),
            ("usr/postgresql-16/bin", ": has no `postgres`"),
            ("local", ": not found"),
            ("cache/postgresql-*/bin", ": not found"),
        ] {
            let part = format!("{}{problem}", scratch.join(location).display());
            assert!(message.contains(&part), "{part} is missing in:\n{message}");
        }
        for part in [
            "no `pg_config`",
            "file:///no-such-archive.tar.gz",
            "PALISADE_PG_BIN",
            "DATABASE_URL",
        ] {
            assert!(message.contains(part), "{part} is missing in:\n{message}");
        }
    }

    #[tokio::test]
    async fn if_a_directory_is_given_no_other_location_is_searched() {
        let scratch = ScratchDir::new("given");
        programs(&scratch.join("path"), "15.1");
        let bin_dir = Some(scratch.join("empty"));
        let options = Options {
            bin_dir,
            ..scratch.options()
        };
        let account = Account::find(None).await.unwrap();
        let error = find(&options, &account, &scratch.locations())
            .await
            .unwrap_err();
        assert!(matches!(error, Error::BinDir { .. }), "{error:?}");
    }
}
