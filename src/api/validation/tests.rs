use std::fmt::Write as _;

use async_graphql::{
    Variables,
    parser::{parse_query, types::ExecutableDocument},
    registry::{MetaType, Registry},
};

use super::*;
use crate::api::{
    guard::Guard,
    schema::{complete_registry, registry},
};

/// The errors of a document: their positions and their messages.
fn errors(registry: &Registry, text: &str) -> Vec<String> {
    let document = parse_query(text).unwrap();
    let errors = validate(registry, &document, text).into_iter();
    let errors = errors.map(|DocumentError { message, locations }| {
        let locations = locations.iter().fold(String::new(), |mut all, position| {
            write!(all, "{}:{} ", position.line, position.column).unwrap();
            all
        });
        format!("{locations}{message}")
    });
    errors.collect()
}

/// Invalid documents and their errors.
const ERRORS: [(&str, &[&str]); 16] = [
    (
        "{ viewer { nope } }",
        &["1:12 the type Viewer does not have a field `nope`"],
    ),
    (
        "{ viewer role { x } }",
        &[
            "1:3 the field `viewer` must have a selection set: Viewer has fields",
            "1:10 the type Query does not have a field `role`",
        ],
    ),
    (
        "{ viewer { role { x } __typename { x } } }",
        &[
            "1:12 the field `role` must not have a selection set: UserRole does not have fields",
            "1:23 the field `__typename` must not have a selection set: String does not have fields",
        ],
    ),
    (
        "{ ...a ... on Nope { x } } fragment b on Int { x }",
        &[
            "1:6 the fragment a is not defined",
            "1:15 the type Nope does not exist",
            "1:28 the fragment b is never used",
            "1:42 a fragment cannot be on the type Int, which does not have fields",
        ],
    ),
    (
        "{ viewer { ...f ... on User { id } } } fragment f on Project { id }",
        &[
            "1:12 the fragment f is on Project, which Viewer can never be",
            "1:17 the fragment is on User, which Viewer can never be",
        ],
    ),
    (
        "{ project(uuid: 1, id: \"a\", id: \"a\") { id } user { id } }",
        &[
            "1:11 the field `project` does not have an argument `uuid`",
            "1:29 the field `project` has several arguments named `id`",
            "1:45 the field `user` requires the argument `id`",
        ],
    ),
    (
        "query @skip(if: true) { viewer { role @nope @include @include(if: true) } }",
        &[
            "1:7 the directive @skip cannot be used on a query",
            "1:39 the directive @nope does not exist",
            "1:45 the directive @include requires the argument `if`",
            "1:54 the directive @include can be used only once here",
        ],
    ),
    (
        "query A($a: Int, $a: Int, $b: Nope, $c: Project, $d: ID) { projects(first: $e, after: $b) { totalCount } project(id: $d) { id } }",
        &[
            "1:9 the variable $a is never used in the operation A",
            "1:18 the variable $a is defined several times",
            "1:18 the variable $a is never used in the operation A",
            "1:31 the type Nope does not exist",
            "1:37 the variable $c is never used in the operation A",
            "1:41 the variable $c cannot have the type Project, which is an output type",
            "1:76 1:1 the variable $e is not defined in the operation A",
            "1:87 1:27 the variable $b of the type Nope cannot be used where the type String is expected",
            "1:118 1:50 the variable $d of the type ID cannot be used where the type ID! is expected",
        ],
    ),
    (
        "{ projects(first: \"ten\", filter: { name: { eq: 1, nope: 2 }, status: { in: [ACTIVE, \"PLANNED\", NONE] } }) { totalCount } }",
        &[
            "1:19 first: \"ten\" is not a valid Int",
            "1:34 filter.name.eq: 1 is not a valid String",
            "1:34 filter.name.nope is not a field of StringFilter",
            "1:34 filter.status.in[1]: \"PLANNED\" is not a valid ProjectStatus: write it without quotes",
            "1:34 filter.status.in[2]: NONE is not a valid ProjectStatus",
        ],
    ),
    (
        "mutation { createInvoice(input: { currencyCode: \"eur\", lineItems: [{ description: null, quantity: \"x\", unitPrice: 9.95 }], dueOn: \"21.11.2026\" }) { userErrors { code } } }",
        &[
            "1:33 input.currencyCode: \"eur\" is not a valid CurrencyCode: it must be three upper-case letters",
            "1:33 input.lineItems[0].description must not be null",
            "1:33 input.lineItems[0].quantity: \"x\" is not a valid Decimal: it must consist of digits and a decimal point, such as \"9.95\"",
            "1:33 input.lineItems[0].unitPrice: 9.95 is not a valid Decimal: it must be a string, so that no client rounds it: \"9.95\"",
            "1:33 input.dueOn: \"21.11.2026\" is not a valid Date: it must be a valid date in the format YYYY-MM-DD",
            "1:33 input.organizationId is required",
        ],
    ),
    (
        "query Q($a: [ID!]! = [\"a\", null, true]) { nodes(ids: $a) { id } }",
        &[
            "1:22 a[1] must not be null",
            "1:22 a[2]: true is not a valid ID",
        ],
    ),
    (
        "{ projects(filter: { id: null, id: null }) { totalCount } }",
        &["1:32 the input object has several fields named `id`"],
    ),
    (
        "query () { ...on } fragment on on Query { viewer { role } }",
        &[
            "1:7 a list of variable definitions must not be empty",
            "1:20 a fragment cannot have the name `on`",
        ],
    ),
    (
        "{ projects(first: 1) { totalCount } viewer { x: role x: tokenExpiresAt } projects(first: 2) { totalCount } }",
        &[
            "1:3 1:74 the fields with the response key `projects` conflict: they have different arguments. Use different aliases",
            "1:46 1:54 the fields with the response key `x` conflict: `role` and `tokenExpiresAt` are different fields. Use different aliases",
        ],
    ),
    (
        "{ node(id: \"x\") { ... on Project { x: version } ... on Comment { x: body } } }",
        &[
            "1:36 1:66 the fields with the response key `x` conflict: their types are Int! and String!. Use different aliases",
        ],
    ),
    (
        "subscription { a } ",
        &["1:1 this API does not have subscriptions"],
    ),
];

#[test]
fn every_rule_reports_its_errors_with_their_positions() {
    for (text, expected) in ERRORS {
        assert_eq!(errors(complete_registry(), text), expected, "{text}");
    }
}

#[test]
fn a_subscription_has_one_root_field() {
    let mut registry = registry();
    registry.subscription_type = Some(registry.query_type.clone());
    let errors = |text| errors(&registry, text);
    let one_field = "1:1 a subscription must have exactly one root field";
    for (text, expected) in [
        ("subscription { viewer { role } }", None),
        (
            "subscription { viewer { role } viewer { permissions } }",
            None,
        ),
        (
            "subscription { viewer { role } tenant { id } }",
            Some(one_field),
        ),
        (
            "subscription { a: viewer { role } b: viewer { role } }",
            Some(one_field),
        ),
        (
            "subscription { ...f } fragment f on Query { viewer { role } ... { tenant { id } } }",
            Some(one_field),
        ),
        (
            "subscription { __typename }",
            Some("1:1 the root field of a subscription must not be an introspection field"),
        ),
    ] {
        assert_eq!(errors(text), Vec::from_iter(expected), "{text}");
    }
}

#[test]
fn every_scalar_of_the_schema_is_checked() {
    let known = [
        "Boolean",
        "CurrencyCode",
        "Date",
        "DateTime",
        "Decimal",
        "Float",
        "ID",
        "Int",
        "JSON",
        "String",
        "UUID",
    ];
    let types = complete_registry().types.values();
    let scalars = types.filter(|of| matches!(of, MetaType::Scalar { .. }));
    let unknown: Vec<&str> = scalars
        .map(MetaType::name)
        .filter(|name| !known.contains(name))
        .collect();
    assert_eq!(unknown, [""; 0]);
}

#[test]
fn a_document_has_at_most_25_errors() {
    let many = |part: &str| part.repeat(1_000);
    for text in [
        format!("{{ viewer {{ {} }} }}", many("nope ")),
        format!("{{ viewer {{ {} }} }}", many("...nope ")),
        format!("{{ nodes(ids: [{}]) {{ id }} }}", many("null ")),
        format!("{{ nodes(ids: [{}]) {{ id }} }}", many("$a ")),
        format!(
            "{{ projects(filter: {{ {} }}) {{ totalCount }} }}",
            many("id: null ")
        ),
    ] {
        assert_eq!(
            errors(complete_registry(), &text).len(),
            MAX_ERRORS,
            "{text:.60}"
        );
    }
}

/// The number of fields that are compared in a valid document.
fn merging_work(text: &str) -> u64 {
    let document: ExecutableDocument = parse_query(text).unwrap();
    let checked = Guard::default().check(text, None, &Variables::default());
    assert!(checked.is_ok(), "{checked:?}");
    let mut errors = Errors::default();
    let mut merger = FieldMerger::new(complete_registry(), &document, &mut errors);
    merger.check();
    let work = merger.work;
    assert_eq!(errors.0, [], "{text:.100}");
    work
}

#[test]
fn comparing_overlapping_fields_takes_linear_time() {
    // The same field many times: the algorithm of the specification compares each pair.
    let equal = |amount: usize| format!("{{ viewer {{ {} }} }}", "role ".repeat(amount));
    assert_eq!(merging_work(&equal(4_000)), 2 * 4_001);
    // The same fields on many levels, through fragments that spread the next one twice.
    let mut nested = "{ viewer { user { ...f0 } } }".to_owned();
    for level in 0..8 {
        let next = level + 1;
        write!(
            nested,
            " fragment f{level} on User {{ id email ...f{next} ... on User {{ ...f{next} }} }}"
        )
        .unwrap();
    }
    nested.push_str(" fragment f8 on User { id }");
    assert!(merging_work(&nested) < 100, "{}", merging_work(&nested));
    // Fields of an interface belong to the group of each object type.
    let types = [
        "Project",
        "Invoice",
        "Comment",
        "User",
        "Product",
        "Organization",
        "Tenant",
    ];
    let of_types = |amount: usize| {
        let selected = types.iter().fold(String::new(), |mut all, of| {
            write!(all, "... on {of} {{ {} }} ", "id ".repeat(amount)).unwrap();
            all
        });
        let shared = "id ".repeat(amount);
        format!("{{ node(id: \"x\") {{ {selected} {shared} }} }}")
    };
    let (once, twice) = (merging_work(&of_types(200)), merging_work(&of_types(400)));
    assert!(twice <= 2 * once, "{once} {twice}");
}

#[test]
fn the_work_of_comparing_fields_is_limited() {
    let text = "{ viewer { role } }";
    let document = parse_query(text).unwrap();
    let mut errors = Errors::default();
    let mut merger = FieldMerger::new(complete_registry(), &document, &mut errors);
    merger.work = 1_000_000;
    merger.check();
    let messages: Vec<_> = errors.0.into_iter().map(|error| error.message).collect();
    assert_eq!(
        messages,
        ["the fields of the document overlap in too many ways"]
    );
}
