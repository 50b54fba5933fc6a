//! Builds the explorer with npm, if npm is there, and lists its files for `src/http/explorer.rs`.
//!
//! Without npm, or if it fails, the list is empty and the service says how to get the explorer: Rust
//! alone must be enough to build it. Nothing is written into the source tree.

use std::{
    env,
    error::Error,
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// What the explorer is built from, in `explorer/`.
const SOURCES: [&str; 7] = [
    ".npmrc",
    "index.html",
    "package-lock.json",
    "package.json",
    "src",
    "tsconfig.json",
    "vite.config.ts",
];
/// `off` builds without the explorer, `require` refuses to.
const SWITCH: &str = "PALISADE_EXPLORER_BUILD";

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

fn main() -> Result<()> {
    let sources = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("explorer");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    println!("cargo:rerun-if-env-changed={SWITCH}");
    println!("cargo:rerun-if-changed=build.rs");
    for name in SOURCES {
        println!("cargo:rerun-if-changed={}", sources.join(name).display());
    }

    let switch = env::var(SWITCH).unwrap_or_default();
    let built = match (switch.as_str(), find_npm()) {
        ("off", _) => Ok(None),
        (_, Some(npm)) => build(&npm, &sources, &out.join("explorer")).map(Some),
        (_, None) => {
            watch_path();
            Err("npm is not installed".into())
        }
    };
    let files = match built {
        Ok(Some(built)) => list(&built)?,
        Ok(None) => Vec::new(),
        Err(error) if switch == "require" => return Err(error),
        Err(error) => {
            let line = error.to_string().replace(['\n', '\r'], " ");
            println!("cargo:warning=built without the explorer: {line}");
            Vec::new()
        }
    };
    fs::write(out.join("explorer.rs"), table(&files)?)?;
    Ok(())
}

fn directories() -> Vec<PathBuf> {
    env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect()
}

fn find_npm() -> Option<PathBuf> {
    let mut places = directories().into_iter().map(|dir| dir.join("npm"));
    places.find(|place| place.is_file())
}

/// Once npm is installed, the next build is to notice.
fn watch_path() {
    for dir in directories().iter().filter(|dir| dir.is_dir()) {
        println!("cargo:rerun-if-changed={}", dir.display());
    }
}

/// Installs and builds in a copy; answers the directory of the result.
fn build(npm: &Path, sources: &Path, work: &Path) -> Result<PathBuf> {
    match fs::remove_dir_all(work) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => fs::create_dir_all(work)?,
    }
    for name in SOURCES {
        copy(&sources.join(name), &work.join(name))?;
    }
    // What only the explorer's tests need stays away. A machine without a network is told so within
    // seconds, unless npm's cache holds everything.
    npm_run(
        npm,
        work,
        "ci --omit=dev --prefer-offline --no-audit --no-fund --fetch-retries=1 --fetch-retry-mintimeout=1000",
    )?;
    npm_run(npm, work, "run build")?;
    // A quarter of a gigabyte that the next `npm ci` would throw away.
    fs::remove_dir_all(work.join("node_modules"))?;
    Ok(work.join("dist"))
}

fn npm_run(npm: &Path, work: &Path, arguments: &str) -> Result<()> {
    let output = Command::new(npm)
        .args(arguments.split(' '))
        .current_dir(work)
        .stdin(Stdio::null())
        // Cargo's own, which Node programs take for theirs.
        .env_remove("DEBUG")
        .env_remove("NODE_ENV")
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stderr, output.stdout].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    let telling = said.lines().find(|line| line.contains("rror"));
    let command = arguments.split(" --").next().unwrap_or_default();
    Err(format!(
        "`npm {command}` failed ({}): {}; `touch explorer/package.json` tries again",
        output.status,
        telling.unwrap_or("it did not say why").trim(),
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

/// Every compressed file of the build, with its path below `/graphiql/`.
fn list(dist: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut files = Vec::new();
    let mut open = vec![dist.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "gz") {
                let name = path.with_extension("");
                let name = name.strip_prefix(dist)?.to_str().ok_or("a file's name")?;
                files.push((name.to_owned(), path));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// The list as an expression.
fn table(files: &[(String, PathBuf)]) -> Result<String> {
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
            other => return Err(format!("{name}: which type is .{other}?").into()),
        };
        let path = path.to_str().ok_or("a path that is no text")?;
        writeln!(
            text,
            "    File {{ name: {name:?}, content_type: {kind:?}, gzip: include_bytes!({path:?}) }},"
        )?;
    }
    text.push_str("]\n");
    Ok(text)
}
