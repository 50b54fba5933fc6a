//! `palisade prove` against the demo tenants of `palisade dev`.

use std::{path::Path, time::Duration};

use macro_rules_attribute::apply;

use super::{Service, command, create_test_dir, remove_dir, run_to_exit_within};
use crate::harness::palisade_test;

/// The time limit for all attacks.
const LIMIT: Duration = Duration::from_mins(10);

/// The commands of the page that follow the start of `dev`, with the path of `dev.env` in `$1`.
fn documented_commands() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/prove.md");
    let page = std::fs::read_to_string(page).unwrap();
    let start = page.find("cargo run &").unwrap();
    let block = page[start..].split("```").next().unwrap();
    let (dev, commands) = block.split_once("/dev.env").unwrap();
    assert!(dev.ends_with("\n. ~/.local/share/palisade"), "{dev}");
    let (_, commands) = commands.split_once('\n').unwrap();
    format!(". \"$1\"\n{commands}")
}

#[apply(palisade_test)]
async fn the_documented_commands_prove_the_isolation_of_the_demo_tenants() {
    let dir = create_test_dir().await;
    let service = Service::dev(&dir).await;
    let binary = Path::new(env!("CARGO_BIN_EXE_palisade"));
    let path = format!(
        "{}:{}",
        binary.parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let mut shell = command("sh");
    shell
        .args(["-euc", &documented_commands(), "sh"])
        .arg(dir.join("dev.env"))
        .env("PATH", path)
        .env("PALISADE_PROVE_SAMPLES", "0");
    let report = run_to_exit_within(LIMIT, shell).await.success();
    assert!(report.ends_with("findings: 0\n"), "{report}");
    service.terminate().await;
    remove_dir(&dir);
}
