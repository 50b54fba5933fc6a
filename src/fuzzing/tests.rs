//! Runs each target with its corpus and with random changes of the corpus, and the property tests.

use std::{fs, panic::catch_unwind, path::Path, time::Instant};

use async_graphql::Value;
use chrono::{DateTime, NaiveDate};
use proptest::{collection::vec, option, prelude::*};
use serde_json::{Value as Json, json};

use super::*;
use crate::{
    db::{filter::Value as SqlValue, page::Position},
    ids::EntityId,
};

/// The number of changed inputs of each target.
const INPUTS: usize = 10_000;

/// Parts that a random change inserts.
const WORDS: [&str; 40] = [
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    ":",
    "...",
    "on ",
    "@skip(if: true)",
    "$v",
    "\"",
    "\"\"\"",
    "\\",
    "\\u0000",
    "query",
    "mutation",
    "fragment f on Query",
    "first: 100",
    "null",
    "true",
    "-0",
    "1e9",
    "99999999999999999999",
    "prj_",
    "inv_",
    "eyJ",
    ".",
    ",",
    ";q=",
    "*/*",
    "application/json",
    "\u{feff}",
    "\u{0}",
    "ü",
    "😀",
    "#",
    "\n",
    "=",
    "0.001",
];

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut files: Vec<_> = fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|file| fs::read(file).unwrap())
        .collect()
}

/// Changes an input at random, from one to four times.
fn change(random: &mut fastrand::Rng, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut data = corpus[random.usize(..corpus.len())].clone();
    for _ in 0..random.usize(1..=4) {
        let at = random.usize(..=data.len());
        let end = random.usize(at..=data.len()).min(at + 16);
        match random.u8(..6) {
            0 => drop(data.drain(at..end)),
            1 if at < data.len() => data[at] ^= 1 << random.u8(..8),
            2 => data.insert(at, random.u8(..)),
            3 => {
                let part = data[at..end].to_vec();
                data.splice(at..at, part.repeat(random.usize(1..4)));
            }
            4 => {
                let other = &corpus[random.usize(..corpus.len())];
                let from = random.usize(..=other.len());
                data.splice(at..end, other[from..].to_vec());
            }
            _ => {
                let word = WORDS[random.usize(..WORDS.len())];
                data.splice(at..end, word.bytes());
            }
        }
    }
    // Keeps the time of an input short. Other tests use long inputs.
    data.truncate(1_024);
    data
}

/// Runs a target with its corpus, and with changed inputs. The changes are the same in each run.
fn run(name: &str) {
    let (_, target) = TARGETS.iter().find(|(target, _)| *target == name).unwrap();
    let corpus = corpus(name);
    assert!(corpus.len() >= 3, "the corpus of {name} is too small");
    let mut random = fastrand::Rng::with_seed(0x5eed);
    let changed = (0..INPUTS).map(|_| change(&mut random, &corpus));
    let inputs = corpus.iter().cloned().chain(changed);
    for input in inputs {
        let begun = Instant::now();
        let result = catch_unwind(|| target(&input));
        let shown = String::from_utf8_lossy(&input);
        assert!(result.is_ok(), "{name} fails for {input:?}: {shown}");
        assert!(
            begun.elapsed().as_secs() < 5,
            "{name} takes too long for {shown}"
        );
    }
}

macro_rules! runs {
    ($($test:ident: $target:literal),+ $(,)?) => {
        $(
            #[test]
            fn $test() {
                run($target);
            }
        )+

        #[test]
        fn every_target_is_run_and_has_a_binary() {
            let run = [$($target),+];
            assert_eq!(TARGETS.map(|(name, _)| name), run);
            let manifest = include_str!("../../fuzz/Cargo.toml");
            for name in run {
                let binary = format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"");
                assert!(manifest.contains(&binary), "fuzz/Cargo.toml has no binary {name}");
            }
        }
    };
}
runs! {
    no_accept_header_breaks_an_invariant: "accept",
    no_cursor_breaks_an_invariant: "cursor",
    no_document_breaks_an_invariant: "document",
    no_filter_breaks_an_invariant: "filter",
    no_global_id_breaks_an_invariant: "global_id",
    no_header_breaks_an_invariant: "headers",
    no_amount_breaks_an_invariant: "money",
    no_request_body_breaks_an_invariant: "request_body",
    no_token_breaks_an_invariant: "token",
    no_variables_break_an_invariant: "variables",
}

/// A value of each sort column, or null if the column is nullable.
fn positions() -> impl Strategy<Value = Position> {
    let micros = -62_135_596_800_000_000_i64..253_402_300_800_000_000;
    (
        option::of("[^\u{0}]{0,40}".prop_map(SqlValue::Text)),
        micros.prop_map(|micros| SqlValue::Time(DateTime::from_timestamp_micros(micros).unwrap())),
        option::of((0_u64..3_652_059).prop_map(|days| {
            let first = NaiveDate::from_ymd_opt(1, 1, 1).unwrap();
            SqlValue::Date(first + chrono::Days::new(days))
        })),
        option::of(any::<i32>().prop_map(SqlValue::Int)),
        option::of(any::<bool>().prop_map(SqlValue::Bool)),
        any::<u128>().prop_map(|id| SqlValue::Uuid(Uuid::from_u128(id))),
    )
        .prop_map(|(text, time, date, int, bool, id)| {
            vec![text, Some(time), date, int, bool, Some(id)]
        })
}

/// Any JSON, with names and strings that inputs use.
fn json_values() -> impl Strategy<Value = Json> {
    let names = "name|eq|in|and|or|not|status|id|dueOn|createdAt|isNull|nope";
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        ".{0,12}".prop_map(Json::from),
        "ACTIVE|PLANNED|2026-01-31|prj_[0-9a-f]{32}".prop_map(Json::from),
    ];
    leaf.prop_recursive(5, 64, 5, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Json::from),
            vec((names, inner), 0..5).prop_map(|fields| Json::Object(fields.into_iter().collect())),
        ]
    })
}

/// Filters that the schema accepts, if their IDs and strings are valid.
fn filters() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        "[a-z%_\\\\\"']{0,12}".prop_map(|text| json!({ "name": { "contains": text } })),
        vec("[a-z]{0,4}", 0..5).prop_map(|texts| json!({ "name": { "in": texts } })),
        any::<bool>().prop_map(|is_null| json!({ "dueOn": { "isNull": is_null } })),
        any::<u128>().prop_map(|id| {
            json!({ "id": { "eq": ProjectId::from(Uuid::from_u128(id)).to_string() } })
        }),
        "ACTIVE|PLANNED|ON_HOLD".prop_map(|status| json!({ "status": { "ne": status } })),
        Just(json!({})),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|one| json!({ "not": one })),
            vec(inner.clone(), 0..3).prop_map(|all| json!({ "and": all })),
            vec(inner, 0..3).prop_map(|any| json!({ "or": any })),
        ]
    })
}

/// A selection set of projects and their lists, with page sizes.
fn selections() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![Just("id".to_owned()), Just("name".to_owned())];
    leaf.prop_recursive(3, 12, 3, |inner| {
        (1_u32..=100, vec(inner, 1..3)).prop_map(|(first, inner)| {
            let inner = inner.join(" ");
            format!("owner {{ projects(first: {first}) {{ nodes {{ {inner} }} }} }}")
        })
    })
}

/// The cost of a document without limits.
fn cost(text: &str) -> (u64, u64, u64) {
    let limits = Limits {
        cost: u64::MAX,
        values: u64::MAX,
        depth: 64,
        levels: 64,
        ..Limits::default()
    };
    let guard = Guard {
        limits,
        shape: shape(),
    };
    let checked = guard.check(text, None, &Variables::default()).unwrap();
    (checked.cost, checked.values, checked.work)
}

proptest! {
    #[test]
    fn a_cursor_survives_writing_and_reading(position in positions(), stamp: u128) {
        let (stamp, order) = (Uuid::from_u128(stamp), cursor_order());
        let cursor = connection::encode(stamp, &position);
        prop_assert_eq!(connection::decode(&cursor, stamp, &order), Some(position));
        let other = Uuid::from_u128(stamp.as_u128() ^ 1);
        prop_assert_eq!(connection::decode(&cursor, other, &order), None);
    }

    #[test]
    fn a_string_that_is_not_a_cursor_is_rejected(text in ".{0,80}") {
        prop_assert_eq!(connection::decode(&text, Uuid::nil(), &cursor_order()), None);
    }

    #[test]
    fn a_global_id_survives_writing_and_reading(uuid: u128) {
        let id = ProjectId::from(Uuid::from_u128(uuid));
        prop_assert_eq!(id.to_string().parse::<ProjectId>(), Ok(id));
        prop_assert!(id.to_string().parse::<InvoiceId>().is_err());
    }

    #[test]
    fn a_string_with_one_changed_character_is_another_id_or_none(uuid: u128, at in 0_usize..36, other: char) {
        let id = ProjectId::from(Uuid::from_u128(uuid));
        let mut characters: Vec<char> = id.to_string().chars().collect();
        prop_assume!(characters[at] != other);
        characters[at] = other;
        let text = String::from_iter(characters);
        if let Ok(parsed) = text.parse::<ProjectId>() {
            prop_assert!(parsed != id && at >= ProjectId::PREFIX.len());
        }
    }

    #[test]
    fn an_amount_survives_storing_it(minor in -1_000_000_000_000_i64..1_000_000_000_000, digits in 0_u32..8) {
        let text = rust_decimal::Decimal::new(minor, digits).to_string();
        money(format!("{text} EUR").as_bytes());
        money(format!("{text} JPY").as_bytes());
        money(format!("{text} KWD").as_bytes());
    }

    #[test]
    fn a_valid_filter_is_accepted_and_read(filter in filters()) {
        let document = DOCUMENTS_WITH_VARIABLES[0];
        let variables = Variables::from_json(json!({ "v": filter }));
        let admitted = admit(document, &variables);
        prop_assert!(admitted.is_ok(), "{filter}: {:?}", admitted.err());
        let value = Value::from_json(filter.clone()).unwrap();
        let read = ProjectFilter::parse(Some(value));
        prop_assert!(read.is_ok(), "{filter}");
        prop_assert!(read.unwrap().filter().is_ok(), "{filter}");
    }

    #[test]
    fn a_filter_is_rejected_before_it_is_read(filter in json_values()) {
        let variables = Variables::from_json(json!({ "v": filter }));
        match admit(DOCUMENTS_WITH_VARIABLES[0], &variables) {
            Ok(_) => {
                // Only the type of an ID and the length of a value are checked later.
                let value = Value::from_json(filter.clone()).unwrap();
                if let Err(error) = Option::<ProjectFilter>::parse(Some(value)) {
                    let message = error.into_server_error(async_graphql::Pos::default()).message;
                    prop_assert!(message.contains("ID of the type"), "{filter}: {message}");
                }
            }
            Err(error) => {
                check_rejection(&error);
                prop_assert!(error.code == Code::BadUserInput || error.code == Code::QueryTooComplex);
                let message = &error.errors[0].message;
                prop_assert!(error.code != Code::BadUserInput || message.starts_with("$v"), "{message}");
            }
        }
    }

    #[test]
    fn the_cost_of_a_document_grows_with_its_selections_and_pages(
        one in selections(), other in selections(), first in 1_u32..100,
    ) {
        let text = |first: u32, set: &str| format!("{{ projects(first: {first}) {{ nodes {{ {set} }} }} }}");
        let (of_one, values_of_one, work) = cost(&text(first, &one));
        let (of_both, values_of_both, _) = cost(&text(first, &format!("{one} {other}")));
        prop_assert!(of_one <= of_both && values_of_one <= values_of_both);
        let (of_more, values_of_more, _) = cost(&text(first + 1, &one));
        prop_assert!(of_one < of_more && values_of_one < values_of_more);
        prop_assert!(work <= 4 * text(first, &one).len() as u64);
        // A fragment costs the same as its selections.
        let fragment = format!("{} fragment f on Project {{ {one} }}", text(first, "...f"));
        prop_assert_eq!(cost(&fragment).0, of_one);
    }

    #[test]
    fn no_text_makes_the_guard_panic(text in "[{}()\\[\\]:$@!.\"\\\\a-c0-9 #\n,…]{0,200}") {
        document(text.as_bytes());
    }

    #[test]
    fn a_token_of_random_parts_is_rejected(parts in vec("[A-Za-z0-9_-]{0,40}", 0..5)) {
        token(parts.join(".").as_bytes());
    }
}
