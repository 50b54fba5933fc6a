//! The layers of the source: imports point down. `docs/architecture.md` describes the layers.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The layers from top to bottom, each with the paths below `src/` that belong to it. All other
/// files are the slices. A layer imports only itself and the layers below it.
const LAYERS: &[(&str, &[&str])] = &[
    ("command line", &["main", "lib", "cli", "fuzzing"]),
    ("server", &["http"]),
    ("settings", &["config"]),
    ("proof", &["prove"]),
    ("demo data", &["demo"]),
    ("API", &["api"]),
    (SLICES, &[]),
    ("kit", &["graphql"]),
    ("authentication", &["auth"]),
    ("database", &["db"]),
    ("inspection", &["doctor"]),
    ("private PostgreSQL", &["embedded"]),
    (
        "ground",
        &[
            "auth/role",
            "canary",
            "duration",
            "entities",
            "error",
            "ids",
            "metrics",
            "tenant_cache",
            "usage",
            "user_error",
        ],
    ),
];
const SLICES: &str = "slices";

/// The maximum number of lines in a file, without its unit tests.
const MAX_LINES: usize = 600;

/// A file below `src/`: `db/page` for `src/db/page.rs`, `db` for `src/db/mod.rs`.
type Module = String;

fn sources() -> BTreeMap<Module, String> {
    fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }

    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    let module = |path: &PathBuf| {
        let path = path.strip_prefix(&root).unwrap().with_extension("");
        let path = path.to_str().unwrap();
        path.strip_suffix("/mod").unwrap_or(path).to_owned()
    };
    let read = |path: &PathBuf| (module(path), fs::read_to_string(path).unwrap());
    files.iter().map(read).collect()
}

/// The code without comments, and without the unit tests at its end.
fn code(source: &str) -> String {
    let code = source.split("#[cfg(test)]\nmod ").next().unwrap();
    let lines = code.lines().map(|line| line.split("//").next().unwrap());
    lines.collect::<Vec<_>>().join("\n")
}

/// Every path after a `crate::` or `super::`, as segments from the crate's root. A list in braces gives several paths.
fn paths(module: &str, code: &str) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    for (start, _) in code.match_indices("crate::") {
        take_apart(&code[start + "crate::".len()..], &[], &mut found);
    }
    for (start, _) in code.match_indices("super::") {
        let mut parent: Vec<String> = module.split('/').map(str::to_owned).collect();
        parent.pop();
        // In `super::super::`, the loop also finds the second `super`: it is one more level up.
        let before = &code[..start];
        if before.ends_with("super::") {
            parent.pop();
        }
        take_apart(&code[start + "super::".len()..], &parent, &mut found);
    }
    found
}

fn take_apart(text: &str, parent: &[String], found: &mut BTreeSet<Vec<String>>) {
    let text = text.trim_start();
    let Some(list) = text.strip_prefix('{') else {
        let end = text
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(text.len());
        let mut path = parent.to_vec();
        path.push(text[..end].to_owned());
        match text[end..].strip_prefix("::") {
            Some(rest) if !rest.starts_with('<') => take_apart(rest, &path, found),
            _ => {
                found.insert(path);
            }
        }
        return;
    };
    let (mut depth, mut item) = (0, 0);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                if !list[item..at].trim().is_empty() {
                    take_apart(&list[item..at], parent, found);
                }
                item = at + 1;
                if c == '}' {
                    return;
                }
            }
            _ => {}
        }
    }
}

/// Maps each name that a module re-exports with `pub use` to the module that defines the name.
fn reexports(sources: &BTreeMap<Module, String>) -> BTreeMap<(Module, String), Module> {
    let mut from = BTreeMap::new();
    for (module, source) in sources {
        for (_, rest) in code(source).split("pub use ").enumerate().skip(1) {
            let statement = rest.split(';').next().unwrap();
            let statement = statement.trim_start_matches("self::");
            let mut found = BTreeSet::new();
            take_apart(statement, &[], &mut found);
            for path in found {
                let (name, inner) = path.split_last().unwrap();
                let mut target = module.clone();
                for segment in inner {
                    target = format!("{target}/{segment}");
                }
                if sources.contains_key(&target) {
                    from.insert((module.clone(), name.clone()), target);
                }
            }
        }
    }
    from
}

/// The slices in the list of entities, `src/entities.rs`.
fn entity_slices(list: &str) -> BTreeSet<Module> {
    let lines = list.lines().map(str::trim);
    let slices = lines.filter_map(|line| line.strip_suffix(';')?.split_once("\" of "));
    slices.map(|(_, slice)| slice.to_owned()).collect()
}

/// Maps each module to the modules that it imports. A module that expands the list of entities also imports the
/// slices of the list.
fn imports() -> BTreeMap<Module, BTreeSet<Module>> {
    let sources = sources();
    let reexports = reexports(&sources);
    let mut imports = BTreeMap::new();
    for (module, source) in &sources {
        let code = code(source);
        let mut imported = BTreeSet::new();
        for path in paths(module, &code) {
            let mut target = String::new();
            let mut rest = path.as_slice();
            while let Some((segment, after)) = rest.split_first() {
                let next = match target.as_str() {
                    "" => segment.clone(),
                    parent => format!("{parent}/{segment}"),
                };
                if !sources.contains_key(&next) {
                    break;
                }
                (target, rest) = (next, after);
            }
            if let Some(name) = rest.first()
                && let Some(origin) = reexports.get(&(target.clone(), name.clone()))
            {
                target.clone_from(origin);
            }
            if !target.is_empty() && target != *module {
                imported.insert(target);
            }
        }
        if code.contains("crate::$slice::") {
            imported.extend(entity_slices(&sources["entities"]));
        }
        imports.insert(module.clone(), imported);
    }
    assert!(imports["projects"].contains("db/entity"), "{imports:?}");
    assert!(imports["node"].contains("projects"), "{imports:?}");
    imports
}

/// The number and the name of a module's layer. An entry for the file takes precedence over one for its folder.
fn layer_of(module: &str) -> (usize, &'static str) {
    let named = |wanted: &str| {
        let position = LAYERS.iter().position(|(_, paths)| paths.contains(&wanted));
        position.map(|layer| (layer, LAYERS[layer].0))
    };
    let folder = module.split('/').next().unwrap();
    let slices = LAYERS.iter().position(|(name, _)| *name == SLICES).unwrap();
    named(module)
        .or_else(|| named(folder))
        .unwrap_or((slices, SLICES))
}

#[test]
fn imports_point_down() {
    let mut upward = Vec::new();
    for (module, imported) in imports() {
        let (layer, name) = layer_of(&module);
        for other in imported {
            let (other_layer, other_name) = layer_of(&other);
            if other_layer < layer {
                upward.push(format!(
                    "src/{module} ({name}) imports {other} ({other_name})"
                ));
            }
        }
    }
    assert!(upward.is_empty(), "{}", upward.join("\n"));
}

#[test]
fn every_path_of_the_layers_exists() {
    let sources = sources();
    for path in LAYERS.iter().flat_map(|(_, paths)| *paths) {
        assert!(sources.contains_key(*path), "src/{path} does not exist");
    }
}

/// The import cycles: sets of files that import one another, directly or through other files.
fn circles(imports: &BTreeMap<Module, BTreeSet<Module>>) -> Vec<BTreeSet<Module>> {
    let reachable = |from: &Module| {
        let mut reached = BTreeSet::new();
        let mut open = vec![from];
        while let Some(module) = open.pop() {
            for next in &imports[module] {
                if reached.insert(next.clone()) {
                    open.push(next);
                }
            }
        }
        reached
    };
    let reached: BTreeMap<&Module, BTreeSet<Module>> = imports
        .keys()
        .map(|module| (module, reachable(module)))
        .collect();
    let mut circles: BTreeSet<BTreeSet<Module>> = BTreeSet::new();
    for (module, others) in &reached {
        let circle: BTreeSet<Module> = others
            .iter()
            .filter(|other| reached[other].contains(*module))
            .cloned()
            .collect();
        circles.insert(circle);
    }
    circles
        .into_iter()
        .filter(|circle| circle.len() > 1)
        .collect()
}

#[test]
fn the_largest_import_cycle_contains_only_entities_and_node() {
    let mut circles = circles(&imports());
    circles.sort_by_key(BTreeSet::len);
    let largest = circles.last().unwrap();
    // Entities have relations to one another, and `node` returns all of them, so these modules import one another.
    let mut domain = entity_slices(&sources()["entities"]);
    domain.insert("node".to_owned());
    assert!(largest.is_subset(&domain), "{largest:?}");
}

#[test]
fn only_tests_send_sql_that_a_caller_has_formatted() {
    let uses = sources()
        .into_iter()
        .filter(|(_, source)| source.contains("fetch_injected"));
    let modules: Vec<Module> = uses.map(|(module, _)| module).collect();
    assert_eq!(modules, ["db/tenant_tx"]);
}

#[test]
fn no_file_is_longer_than_600_lines() {
    for (module, source) in sources() {
        let is_test = module.ends_with("/tests");
        let lines = source
            .split("#[cfg(test)]\nmod ")
            .next()
            .unwrap()
            .lines()
            .count();
        assert!(is_test || lines <= MAX_LINES, "src/{module}: {lines} lines");
    }
}
