//! Builds the explorer with npm and lists its files for `src/http/explorer.rs`.
//!
//! The service must build without Node.js. Therefore, if npm is missing or fails, the list is empty, and the
//! service shows a page that explains how to get the explorer. The build writes nothing into the source tree.

use std::{
    env,
    error::Error,
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The files and directories in `explorer/` from which the explorer is built.
const SOURCES: [&str; 7] = [
    ".npmrc",
    "index.html",
    "package-lock.json",
    "package.json",
    "src",
    "tsconfig.json",
    "vite.config.ts",
];
/// The environment variable that controls the explorer: `off` builds without it, `require` fails the
/// build if the explorer cannot be built.
const MODE_VARIABLE: &str = "PALISADE_EXPLORER_BUILD";

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

fn main() -> Result<()> {
    let sources = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("explorer");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    println!("cargo:rerun-if-env-changed={MODE_VARIABLE}");
    println!("cargo:rerun-if-changed=build.rs");
    for name in SOURCES {
        println!("cargo:rerun-if-changed={}", sources.join(name).display());
    }

    let mode = env::var(MODE_VARIABLE).unwrap_or_default();
    let built = match (mode.as_str(), find_npm()) {
        ("off", _) => Ok(None),
        (_, Some(npm)) => build(&npm, &sources, &out.join("explorer")).map(Some),
        (_, None) => {
            rerun_if_path_changes();
            Err("npm is not installed".into())
        }
    };
    let files = match built {
        Ok(Some(dist)) => list_compressed_files(&dist)?,
        Ok(None) => Vec::new(),
        Err(error) if mode == "require" => return Err(error),
        Err(error) => {
            let reason = error.to_string().replace(['\n', '\r'], " ");
            println!("cargo:warning=built without the explorer: {reason}");
            Vec::new()
        }
    };
    fs::write(out.join("explorer.rs"), rust_list(&files)?)?;
    Ok(())
}

fn path_directories() -> Vec<PathBuf> {
    env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect()
}

fn find_npm() -> Option<PathBuf> {
    let mut candidates = path_directories().into_iter().map(|dir| dir.join("npm"));
    candidates.find(|path| path.is_file())
}

/// Makes Cargo run this script again when a directory of `PATH` changes: npm may have been installed there.
fn rerun_if_path_changes() {
    for dir in path_directories().iter().filter(|dir| dir.is_dir()) {
        println!("cargo:rerun-if-changed={}", dir.display());
    }
}

/// Copies the sources to `work` and builds the explorer there. Returns the directory of the result.
fn build(npm: &Path, sources: &Path, work: &Path) -> Result<PathBuf> {
    match fs::remove_dir_all(work) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => fs::create_dir_all(work)?,
    }
    for name in SOURCES {
        copy(&sources.join(name), &work.join(name))?;
    }
    // The dependencies of the explorer's tests are not needed here. With one retry, npm fails within
    // seconds on a machine without a network, unless its cache contains everything.
    npm_run(
        npm,
        work,
        "ci --omit=dev --prefer-offline --no-audit --no-fund --fetch-retries=1 --fetch-retry-mintimeout=1000",
    )?;
    npm_run(npm, work, "run build")?;
    // Free 250 MB. The next `npm ci` would delete these files anyway.
    fs::remove_dir_all(work.join("node_modules"))?;
    Ok(work.join("dist"))
}

fn npm_run(npm: &Path, work: &Path, arguments: &str) -> Result<()> {
    let output = Command::new(npm)
        .args(arguments.split(' '))
        .current_dir(work)
        .stdin(Stdio::null())
        // Cargo sets `DEBUG`, but for Node programs this variable has another meaning.
        .env_remove("DEBUG")
        .env_remove("NODE_ENV")
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let log = [output.stderr, output.stdout].concat();
    let log = String::from_utf8_lossy(&log).into_owned();
    let reason = log.lines().find(|line| line.contains("rror"));
    let command = arguments.split(" --").next().unwrap_or_default();
    Err(format!(
        "`npm {command}` failed ({}): {}; to try again, run `touch explorer/package.json` and build",
        output.status,
        reason.unwrap_or("it printed no error").trim(),
    )
    .into())
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if !from.is_dir() {
        return fs::copy(from, to).map(drop);
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

/// Lists every compressed file of the build with its URL path relative to `/graphiql/`.
fn list_compressed_files(dist: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut files = Vec::new();
    let mut pending = vec![dist.to_path_buf()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "gz") {
                let name = path.with_extension("");
                let name = name
                    .strip_prefix(dist)?
                    .to_str()
                    .ok_or("a file name is not UTF-8")?;
                files.push((name.to_owned(), path));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Writes the list as a Rust expression.
fn rust_list(files: &[(String, PathBuf)]) -> Result<String> {
    let mut text = String::from("&[\n");
    for (name, path) in files {
        let extension = Path::new(name).extension().and_then(|found| found.to_str());
        let kind = match extension.unwrap_or_default() {
            "css" => "text/css; charset=utf-8",
            "html" => "text/html; charset=utf-8",
            "js" => "text/javascript; charset=utf-8",
            "svg" => "image/svg+xml",
            "ttf" => "font/ttf",
            "woff2" => "font/woff2",
            other => return Err(format!("{name}: add a content type for .{other}").into()),
        };
        let path = path.to_str().ok_or("a path is not UTF-8")?;
        writeln!(
            text,
            "    File {{ name: {name:?}, content_type: {kind:?}, gzip: include_bytes!({path:?}) }},"
        )?;
    }
    text.push_str("]\n");
    Ok(text)
}
