//! `docs/adding-an-entity.md` is true: every entity there is stands in every place that its table names.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn files(dir: impl AsRef<Path>) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join(dir)).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

fn all(dir: &str) -> String {
    files(dir)
        .into_iter()
        .map(read)
        .collect::<Vec<_>>()
        .concat()
}

/// Type, table and source file of every `entity!`.
fn entities() -> BTreeMap<String, (String, PathBuf)> {
    let mut found = BTreeMap::new();
    for path in files("src") {
        let text = read(&path);
        for line in text.lines().filter(|line| line.starts_with("entity!(")) {
            let (name, rest) = line["entity!(".len()..].split_once(" in \"").unwrap();
            let table = rest.split('"').next().unwrap();
            found.insert(name.to_owned(), (table.to_owned(), path.clone()));
        }
    }
    assert!(
        found.len() >= 9,
        "entities are declared in another way: {found:?}"
    );
    found
}

/// `invoice_line_items` is `invoiceLineItems` in the API.
fn camel(table: &str) -> String {
    let mut words = table.split('_');
    let first = words.next().unwrap().to_owned();
    words.fold(first, |name, word| {
        format!("{name}{}{}", word[..1].to_uppercase(), &word[1..])
    })
}

#[test]
fn every_place_in_the_table_exists() {
    let places: Vec<String> = read("docs/adding-an-entity.md")
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains("| `"))
        .map(|line| line.split('`').nth(1).unwrap().to_owned())
        .collect();
    assert_eq!(places.len(), 8, "the table changed: {places:?}");
    for place in places {
        let path = place.replace("<slice>", "projects");
        assert!(root().join(&path).exists(), "{path} is not there");
    }
}

#[test]
fn every_entity_stands_in_every_place() {
    let (migrations, ids) = (all("migrations"), read("src/ids.rs"));
    let (node, graphql) = (read("src/graphql/node.rs"), read("src/graphql/mod.rs"));
    let audited = read("src/audit/mod.rs");
    let documents = all("tests/it/documents");
    for (name, (table, path)) in entities() {
        let slice = read(&path);
        let place = path.display();
        // A caller sees one tenant, so there is no list of them.
        let is_listed = name != "Tenant";
        let mut wanted = vec![
            ("migrations", &migrations, format!("create table {table} (")),
            (
                "migrations",
                &migrations,
                format!("select app.protect('{table}'"),
            ),
            ("src/ids.rs", &ids, format!("{name}Id = \"")),
            ("its slice", &slice, format!("relations! {{\n    {name} {{")),
            ("src/graphql/node.rs", &node, format!("{name}({name})")),
            ("src/graphql/node.rs", &node, format!("{name}: {name}Id")),
            ("src/graphql/mod.rs", &graphql, format!("{name}Queries")),
        ];
        // The audit log does not write about itself.
        if name != "AuditLog" {
            let audit = format!("{name} = \"{table}\"");
            wanted.push(("src/audit/mod.rs", &audited, audit));
            let text = format!("AuditSubjectType::{name} => {name}Id::");
            wanted.push(("src/graphql/node.rs", &node, text));
        }
        if is_listed {
            wanted.push(("its slice", &slice, format!("listed! {{\n    {name} {{")));
            wanted.push(("its slice", &slice, format!("{name}Queries: {name} {{")));
            wanted.push(("tests/it/documents", &documents, camel(&table)));
        }
        for (where_, text, what) in wanted {
            assert!(
                text.contains(&what),
                "{name} ({place}): {where_} lacks `{what}`"
            );
        }
    }
}
