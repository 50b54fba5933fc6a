//! The words of the schema and of the error messages: plain, and not empty.

use std::fmt::Write as _;

use async_graphql::{
    Positioned,
    parser::{
        parse_schema,
        types::{InputValueDefinition, TypeDefinition, TypeKind, TypeSystemDefinition},
    },
};
use palisade::{
    comments::Comment,
    db::write::Writable,
    invoices::{Invoice, InvoiceLineItem},
    organizations::Organization,
    products::Product,
    projects::Project,
    users::User,
};

/// Words and phrases for which `CONTRIBUTING.md` gives plain replacements. Only whole words match.
const UNCLEAR: &[&str] = &[
    "a text",
    "as text",
    "begun",
    "behind",
    "by now",
    "come of",
    "came of",
    "given up",
    "has not",
    "have not",
    "in front of",
    "in the way",
    "is made of",
    "is no",
    "knows not",
    "less than nothing",
    "moment",
    "nobody",
    "reckon",
    "reckoned",
    "resting",
    "shall",
    "so many",
    "somebody",
    "stands",
    "taken back",
    "tell",
    "tells",
    "these hold",
    "told",
    "which way",
    "whoever",
    "whom",
    "work out",
    "works out",
];

/// The minimum number of words in a description.
const FEWEST_WORDS: usize = 3;

/// The unclear word or phrase that a description or message contains, if any.
fn unclear(text: &str) -> Option<&'static str> {
    let padded = format!(" {} ", words(text).join(" "));
    let mut phrases = UNCLEAR.iter().copied();
    phrases.find(|phrase| padded.contains(&format!(" {phrase} ")))
}

/// The words of a string, in lower case.
fn words(text: &str) -> Vec<String> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '\'';
    let words = text.split(|c| !is_part(c)).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect()
}

/// The words of a name such as `dueOn`, `ON_HOLD` or `PageInfo`.
fn words_of_name(name: &str) -> Vec<String> {
    let mut spaced = String::new();
    let mut was_lower = false;
    for letter in name.chars() {
        if letter == '_' || (letter.is_uppercase() && was_lower) {
            spaced.push(' ');
        }
        was_lower = letter.is_lowercase();
        spaced.push(if letter == '_' { ' ' } else { letter });
    }
    words(&spaced)
}

/// Whether a description only repeats the words of the name, apart from articles and similar words.
fn repeats(name: &str, description: &str) -> bool {
    let articles = ["a", "an", "the", "its", "this", "of"];
    let mut words = words(description);
    words.retain(|word| !articles.contains(&word.as_str()));
    words == words_of_name(name)
}

#[derive(Default)]
struct Report {
    checked: usize,
    findings: String,
}

impl Report {
    fn check(&mut self, path: &str, name: &str, description: Option<&Positioned<String>>) {
        self.checked += 1;
        let Some(description) = description.map(|description| description.node.as_str()) else {
            writeln!(self.findings, "{path} has no description").unwrap();
            return;
        };
        if let Some(phrase) = unclear(description) {
            writeln!(self.findings, "{path}: {phrase:?} in {description:?}").unwrap();
        }
        if words(description).len() < FEWEST_WORDS || repeats(name, description) {
            writeln!(self.findings, "{path} says nothing: {description:?}").unwrap();
        }
        if !description.trim_end().ends_with('.') {
            writeln!(
                self.findings,
                "{path} does not end with a full stop: {description:?}"
            )
            .unwrap();
        }
    }

    fn check_inputs(&mut self, path: &str, inputs: &[Positioned<InputValueDefinition>]) {
        for input in inputs {
            let name = &input.node.name.node;
            let description = input.node.description.as_ref();
            self.check(&format!("{path}.{name}"), name, description);
        }
    }

    fn check_type(&mut self, definition: &TypeDefinition) {
        let name = &definition.name.node;
        self.check(name, name, definition.description.as_ref());
        let fields = match &definition.kind {
            TypeKind::Object(object) => &object.fields,
            TypeKind::Interface(interface) => &interface.fields,
            TypeKind::InputObject(input) => return self.check_inputs(name, &input.fields),
            TypeKind::Enum(of) => {
                for value in &of.values {
                    let value = &value.node;
                    let path = format!("{name}.{}", value.value.node);
                    self.check(&path, &value.value.node, value.description.as_ref());
                }
                return;
            }
            TypeKind::Scalar | TypeKind::Union(_) => return,
        };
        for field in fields {
            let field = &field.node;
            let path = format!("{name}.{}", field.name.node);
            self.check(&path, &field.name.node, field.description.as_ref());
            self.check_inputs(&path, &field.arguments);
        }
    }
}

#[test]
fn every_description_is_plain_and_says_something() {
    let document = parse_schema(palisade::api::sdl()).unwrap();
    let mut report = Report::default();
    for definition in &document.definitions {
        match definition {
            TypeSystemDefinition::Type(of) => report.check_type(&of.node),
            TypeSystemDefinition::Directive(of) => {
                let name = &of.node.name.node;
                report.check(name, name, of.node.description.as_ref());
            }
            TypeSystemDefinition::Schema(_) => {}
        }
    }
    assert_eq!(report.findings, "");
    assert!(report.checked > 900, "{} descriptions", report.checked);
}

#[test]
fn the_messages_of_constraints_are_plain() {
    fn messages<E: Writable>() -> impl Iterator<Item = &'static str> {
        let rules = E::RULES.iter().chain(E::REFERRERS);
        rules.map(|rule| rule.message)
    }

    let all = messages::<User>()
        .chain(messages::<Organization>())
        .chain(messages::<Project>())
        .chain(messages::<Product>())
        .chain(messages::<Invoice>())
        .chain(messages::<InvoiceLineItem>())
        .chain(messages::<Comment>());
    let all: Vec<&str> = all.collect();
    assert!(all.len() > 30, "{} messages", all.len());
    let found = all.into_iter().filter(|message| unclear(message).is_some());
    assert_eq!(found.collect::<Vec<_>>(), Vec::<&str>::new());
}

#[test]
fn the_check_finds_unclear_and_empty_descriptions() {
    for text in [
        "Only rows behind this cursor.",
        "Whom.",
        "Is no currency of this API.",
        "What came of `createProject`.",
        "A row, told by its owner.",
    ] {
        assert!(unclear(text).is_some(), "{text}");
    }
    for text in ["Returns the rows after this cursor.", "Momentum", "is none"] {
        assert_eq!(unclear(text), None, "{text}");
    }
    assert!(repeats("dueOn", "The due on."));
    assert!(repeats("PageInfo", "A page info"));
    assert!(repeats("ON_HOLD", "On hold."));
    assert!(!repeats("dueOn", "The due date."));
}
