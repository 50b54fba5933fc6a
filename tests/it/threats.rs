//! The tables of `docs/isolation.md`: every threat and every fault has a row, and the tests that a row names exist.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// A row of a table: its code, and its cells after the code.
fn rows(page: &str, prefix: char) -> Vec<(String, Vec<String>)> {
    let is_row = |code: &str| {
        let digits = code.strip_prefix(prefix).unwrap_or_default();
        !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit())
    };
    page.lines()
        .filter_map(|line| {
            let cells: Vec<String> = line
                .strip_prefix("| ")?
                .trim_end_matches('|')
                .split('|')
                .map(|cell| cell.trim().to_owned())
                .collect();
            let (code, rest) = cells.split_first()?;
            is_row(code).then(|| (code.clone(), rest.to_vec()))
        })
        .collect()
}

/// The names in backquotes.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

fn source_files(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("node_modules") {
                source_files(&path, into);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// The names of all tests. A test is a function after an attribute whose last line is a test attribute.
fn test_names() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for dir in ["src", "tests"] {
        source_files(&root.join(dir), &mut files);
    }
    let mut names = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        let (mut is_test, mut in_attribute) = (false, false);
        for line in text.lines().map(str::trim) {
            if in_attribute || line.starts_with("#[") {
                in_attribute = !line.ends_with(']');
                is_test |= line.starts_with("#[test]")
                    || line.starts_with("#[tokio::test")
                    || line.starts_with("#[apply(palisade_test)]");
            } else if let Some(name) = line
                .trim_start_matches("async ")
                .strip_prefix("fn ")
                .filter(|_| is_test)
            {
                names.insert(name.split(['(', '<']).next().unwrap().to_owned());
                is_test = false;
            } else if !line.starts_with("//") {
                is_test = false;
            }
        }
    }
    names
}

#[test]
fn every_threat_and_fault_has_a_row_whose_tests_exist() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/isolation.md"));
    let page = page.unwrap();
    let threats = rows(&page, 'T');
    let codes: Vec<&str> = threats.iter().map(|(code, _)| code.as_str()).collect();
    let expected: Vec<String> = (1..=50).map(|number| format!("T{number}")).collect();
    assert_eq!(codes, expected);
    let faults = rows(&page, 'F');
    let codes: Vec<&str> = faults.iter().map(|(code, _)| code.as_str()).collect();
    let expected: Vec<String> = (1..=17).chain(20..=21).map(|n| format!("F{n}")).collect();
    assert_eq!(codes, expected);

    let existing = test_names();
    assert!(existing.len() > 300, "{}", existing.len());
    for (code, cells) in threats.iter().chain(&faults) {
        let [threat, answer, tests] = &cells[..] else {
            panic!("{code}: {cells:?}")
        };
        assert!(threat.len() >= 5 && answer.len() > 10, "{code}");
        let named = quoted(tests);
        for name in &named {
            assert!(existing.contains(*name), "{code}: there is no test {name}");
        }
        // Without a test, the row must say why.
        let has_reason = answer.contains("open: ") || answer.contains("none: ");
        assert!(!named.is_empty() || has_reason, "{code} has no test");
    }
}
