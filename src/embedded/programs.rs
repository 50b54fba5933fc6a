//! Checks the programs of a server in a directory.
//!
//! The invariant: **only programs that run are used.** `postgres --version` runs as the account that will
//! run the server. Each directory that is not used is reported with the reason.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tokio::time::timeout;

use super::{
    account::{Account, output_of},
    options::{Origin, RESPONSE_LIMIT},
    version::{OLDEST_MAJOR_VERSION, major_version},
};

/// Usable programs: `postgres` and `initdb`.
#[derive(Debug)]
pub(super) struct Programs {
    pub bin_dir: PathBuf,
    pub version: String,
    pub origin: Origin,
}

/// The programs of the first usable directory. Adds each earlier directory to `rejected`, with the
/// reason.
pub(super) async fn first_usable(
    dirs: Vec<PathBuf>,
    origin: fn(PathBuf) -> Origin,
    account: &Account,
    rejected: &mut Vec<String>,
) -> Option<Programs> {
    for dir in dirs {
        match inspect(&dir, origin, account).await {
            Ok(programs) => return Some(programs),
            Err(problem) => rejected.push(format!("{}: {problem}", dir.display())),
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
    let output = match timeout(RESPONSE_LIMIT, output_of(command.arg("--version"))).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => {
            return Err(format!(
                "the account `{}` cannot run `postgres`: {error}",
                account.name
            ));
        }
        Err(_) => return Err("`postgres --version` does not exit".to_owned()),
    };
    let printed = String::from_utf8_lossy(&output.stdout);
    // "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"
    let version = printed.split_whitespace().nth(2).unwrap_or_default();
    match major_version(version) {
        Some(major) if major >= OLDEST_MAJOR_VERSION => Ok(Programs {
            bin_dir: bin_dir.to_path_buf(),
            version: version.to_owned(),
            origin: origin(bin_dir.to_path_buf()),
        }),
        Some(_) => Err(format!(
            "version {version} is too old: {OLDEST_MAJOR_VERSION} or newer is required"
        )),
        None => {
            let stderr = String::from_utf8_lossy(&output.stderr);
            let problem = stderr.lines().next().unwrap_or("the output has no version");
            Err(format!("`postgres --version` failed: {problem}"))
        }
    }
}

/// The directories `<parent>/<prefix><version>/<rest>`, the newest version first. Adds the pattern to
/// `rejected` if no directory matches.
pub(super) fn newest(
    parent: &Path,
    prefix: &str,
    rest: &str,
    rejected: &mut Vec<String>,
) -> Vec<PathBuf> {
    let found = versions(parent, prefix, rest);
    if found.is_empty() {
        let pattern = parent.join(format!("{prefix}*")).join(rest);
        rejected.push(format!("{}: not found", pattern.display()));
    }
    found.into_iter().map(|(_, dir)| dir).collect()
}

/// The directories `<parent>/<prefix><version>/<rest>` with their versions, the newest version first.
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
    use std::fs;

    use super::{super::testing::ScratchDir, newest};

    #[test]
    fn the_newest_of_several_versions_comes_first() {
        let scratch = ScratchDir::new("versions");
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
}
