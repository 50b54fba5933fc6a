//! Tests of the guard.

mod expansion;

use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
};

use async_graphql::{Value, value};

use super::{count::NODES, *};

/// The response keys of the root selection set.
fn keys(checked: &CheckedDocument) -> Vec<Name> {
    checked
        .root_fields
        .iter()
        .map(|field| field.key.clone())
        .collect()
}

/// The introspection query of graphql-js, the reference implementation, with nine nested `ofType`.
const INTROSPECTION: &str = "
    query IntrospectionQuery {
      __schema {
        description
        queryType { name kind }
        mutationType { name kind }
        subscriptionType { name kind }
        types { ...FullType }
        directives {
          name
          description
          isRepeatable
          locations
          args(includeDeprecated: true) { ...InputValue }
        }
      }
    }
    fragment FullType on __Type {
      kind
      name
      description
      specifiedByURL
      isOneOf
      fields(includeDeprecated: true) {
        name
        description
        args(includeDeprecated: true) { ...InputValue }
        type { ...TypeRef }
        isDeprecated
        deprecationReason
      }
      inputFields(includeDeprecated: true) { ...InputValue }
      interfaces { ...TypeRef }
      enumValues(includeDeprecated: true) {
        name
        description
        isDeprecated
        deprecationReason
      }
      possibleTypes { ...TypeRef }
    }
    fragment InputValue on __InputValue {
      name
      description
      type { ...TypeRef }
      defaultValue
      isDeprecated
      deprecationReason
    }
    fragment TypeRef on __Type {
      kind
      name
      ofType { kind name
        ofType { kind name
          ofType { kind name
            ofType { kind name
              ofType { kind name
                ofType { kind name
                  ofType { kind name
                    ofType { kind name
                      ofType { kind name }
                    }
                  }
                }
              }
            }
          }
        }
      }
    }";

const HEADLINE: &str = "{
    projects(first: 20) { nodes {
      id name status
      organization { id name }
      owner { id email displayName }
      invoices(first: 5) { nodes { id number status total { amount currencyCode } } }
      auditLogs(first: 10) { nodes {
        id action occurredAt actor { ... on User { id email } }
      } }
    } } }";

fn guard() -> Guard {
    let connections = ["projects", "invoices", "lineItems", "auditLogs"];
    Guard {
        limits: Limits::default(),
        shape: Shape {
            connections: connections.map(str::to_owned).into(),
            id_lists: HashSet::from(["nodes".to_owned()]),
            bulk_mutations: HashMap::from([("importProducts".to_owned(), "rows".to_owned())]),
            ..Shape::default()
        },
    }
}

fn check(text: &str) -> Result<CheckedDocument, GuardError> {
    guard().check(text, None, &Variables::default())
}

fn check_named(text: &str, name: &str) -> Result<CheckedDocument, GuardError> {
    guard().check(text, Some(name), &Variables::default())
}

fn rejected(text: &str) -> GuardError {
    check(text).expect_err("rejected")
}

/// The `what` of the limit that an error reports as exceeded.
fn exceeded(error: &GuardError) -> &'static str {
    match error.reason {
        Reason::LimitExceeded { what, .. } => what,
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn a_bulk_mutation_costs_its_selection_once_per_row() {
    let import = |input: &str, variables: &str| {
        let text = format!(
            "mutation($input: I, $rows: [R!]) {{
                 importProducts(input: {input}) {{ results {{ product {{ id }} }} }} }}"
        );
        let variables = Variables::from_json(serde_json::from_str(variables).unwrap());
        guard().check(&text, None, &variables).unwrap().cost
    };
    let each = 3;
    assert_eq!(import("{ rows: [{}, {}, {}] }", "{}"), 3 * each);
    assert_eq!(
        import("{ rows: $rows }", r#"{ "rows": [{}, {}] }"#),
        2 * each
    );
    assert_eq!(
        import("$input", r#"{ "input": { "rows": [{}, {}] } }"#),
        2 * each
    );
    // The cost is that of at least one row, and of at most as many rows as the resolver accepts.
    assert_eq!(import("$input", "{}"), each);
    assert_eq!(import("{ rows: [] }", "{}"), each);
    let many = format!(r#"{{ "rows": [{}1] }}"#, "1,".repeat(1_999));
    assert_eq!(import("{ rows: $rows }", &many), 1_000 * each);
}

/// A chain of `levels` fragments. Each spreads the next one `spreads` times, and the last one selects `last`.
fn bomb(levels: usize, spreads: usize, last: &str) -> String {
    let mut text = "{ ...f0 }".to_owned();
    for level in 0..levels {
        let spread = format!(" ...f{}", level + 1).repeat(spreads);
        write!(text, " fragment f{level} on Query {{{spread} }}").unwrap();
    }
    write!(text, " fragment f{levels} on Query {{ {last} }}").unwrap();
    text
}

/// The number of selections in a bomb, without expansion.
fn bomb_nodes(levels: u64, spreads: u64) -> u64 {
    1 + levels * spreads + 1
}

/// Concatenates `count` items.
fn repeat(count: usize, item: impl Fn(usize) -> String) -> String {
    (0..count).map(item).collect::<Vec<_>>().concat()
}

fn aliases(count: usize) -> String {
    let fields = repeat(count, |n| format!("a{n}:__typename "));
    format!("{{{fields}}}")
}

fn nested(fields: usize) -> String {
    format!(
        "{{{}{}}}",
        "a{".repeat(fields - 1) + "a",
        "}".repeat(fields - 1)
    )
}

fn unlimited() -> Guard {
    let mut guard = guard();
    guard.limits = Limits {
        text_bytes: u64::MAX,
        tokens: u64::MAX,
        nesting: 64,
        nodes: u64::MAX,
        depth: u64::MAX,
        levels: u64::MAX,
        aliases: u64::MAX,
        root_fields: u64::MAX,
        directives: u64::MAX,
        operations: u64::MAX,
        variables: u64::MAX,
        fragments: u64::MAX,
        cost: u64::MAX,
        values: u64::MAX,
        introspection_depth: u64::MAX,
        variable_depth: u64::MAX,
        variable_values: u64::MAX,
        argument_bytes: u64::MAX,
        mutation_argument_bytes: u64::MAX,
    };
    guard
}

// Bombs

#[test]
fn bombs_are_rejected_with_linear_work() {
    for (levels, spreads) in [(25, 2), (31, 2), (31, 40), (9, 7)] {
        for last in ["__typename", "...unknown", "... { __typename }"] {
            let error = rejected(&bomb(levels, spreads, last));
            assert_eq!(error.reason.code(), Code::QueryTooComplex);
            let nodes = bomb_nodes(levels as u64, spreads as u64) + 1;
            assert!(error.work <= 2 * nodes, "{} > 2 * {nodes}", error.work);
        }
    }
}

#[test]
fn a_bomb_is_counted_in_full_without_limits() {
    let text = bomb(25, 2, "__typename");
    let guard = unlimited();
    let checked = guard.check(&text, None, &Variables::default()).unwrap();
    assert_eq!(keys(&checked), ["__typename"]);
    // Three passes over the fragments, two over the operation, one for the root fields.
    assert!(checked.work <= 4 * bomb_nodes(25, 2), "{}", checked.work);

    let saturated = bomb(100, 2, "projects { nodes { id } }");
    let checked = guard
        .check(&saturated, None, &Variables::default())
        .unwrap();
    assert_eq!(checked.cost, u64::MAX);
}

#[test]
fn a_bomb_of_spreads_without_fields_is_rejected() {
    let error = rejected(&bomb(14, 2, "...unknown"));
    assert_eq!(exceeded(&error), NODES);
}

#[test]
fn a_bomb_is_rejected_even_if_the_selected_operation_does_not_spread_it() {
    let bomb = bomb(14, 2, "__typename");
    let other = bomb.replacen("{ ...f0 }", "query A { a } query B { ...f0 }", 1);
    let unused = bomb.replacen("{ ...f0 }", "query A { a }", 1);
    for text in [other, unused] {
        let error = check_named(&text, "A").unwrap_err();
        assert_eq!(exceeded(&error), NODES);
    }
}

#[test]
fn the_limit_of_nodes_applies_to_all_operations_together() {
    let fields = "a ".repeat(300);
    let text = repeat(18, |n| format!("query Q{n} {{ a {{ {fields} }} }} "));
    let error = check_named(&text, "Q0").unwrap_err();
    assert_eq!(exceeded(&error), NODES);
}

#[test]
fn fragment_cycles_are_rejected() {
    for text in [
        "{ ...a } fragment a on Q { ...a }",
        "{ ...a } fragment a on Q { x ...b } fragment b on Q { y { ... { ...a } } }",
        "{ x } fragment a on Q { ...b } fragment b on Q { ...c } fragment c on Q { ...b }",
    ] {
        let error = rejected(text);
        assert!(
            matches!(error.reason, Reason::FragmentCycle { .. }),
            "{error:?}"
        );
        assert!(error.work < 10);
    }
    assert_eq!(
        rejected("{ ...a } fragment a on Q { ...a }").to_string(),
        "the fragment a contains itself"
    );
}

#[test]
fn spreading_a_fragment_twice_is_not_a_cycle() {
    let text = "{ ...a ...b ...a } fragment a on Q { ...b ...b } fragment b on Q { x }";
    assert_eq!(keys(&check(text).unwrap()), ["x"]);
}

#[test]
fn a_long_chain_of_fragments_does_not_overflow_the_stack() {
    let mut guard = unlimited();
    guard.limits.depth = 15;
    let inline = |inner: &str| format!("{}{inner}{}", "...{".repeat(50), "}".repeat(50));
    let mut text = "{ ...f0 }".to_owned();
    for n in 0..300 {
        let body = inline(&format!("...f{}", n + 1));
        write!(text, "fragment f{n} on Q {{ {body} }}").unwrap();
    }
    text += "fragment f300 on Q { a }";
    let run = move || {
        guard
            .check(&text, None, &Variables::default())
            .map(|checked| keys(&checked))
    };
    let thread = std::thread::Builder::new()
        .stack_size(1024 * 1024)
        .spawn(run)
        .unwrap();
    assert_eq!(thread.join().unwrap().unwrap(), ["a"]);
    assert_eq!(
        exceeded(&rejected(&bomb(32, 1, "a"))),
        "levels of nested selection sets"
    );
    check(&bomb(31, 1, "a")).unwrap();
}

// Text, tokens, nesting

#[test]
fn fifty_thousand_aliases_exceed_each_limit_in_order() {
    let text = aliases(50_000);
    let mut guard = guard();
    let error = |guard: &Guard| guard.check(&text, None, &Variables::default()).unwrap_err();
    assert_eq!(
        error(&guard).to_string(),
        "the request has more than 65536 bytes of query text"
    );
    guard.limits.text_bytes = u64::MAX;
    assert_eq!(
        error(&guard).to_string(),
        "the request has more than 10000 tokens"
    );
    guard.limits.tokens = u64::MAX;
    guard.limits.nodes = u64::MAX;
    assert_eq!(
        error(&guard).to_string(),
        "the request has more than 30 aliases"
    );
    assert!(error(&guard).work <= 50_000);
}

#[test]
fn aliases_count_once_per_spread() {
    check(&aliases(20)).unwrap();
    let text = "{ a { ...x } b { ...x } } fragment x on Q { FIELDS }";
    let fields = |count| aliases(count).trim_matches(['{', '}']).to_owned();
    check(&text.replace("FIELDS", &fields(15))).unwrap();
    assert_eq!(
        exceeded(&rejected(&text.replace("FIELDS", &fields(16)))),
        "aliases"
    );
}

#[test]
fn deep_nesting_is_rejected_before_the_parser_runs() {
    for (open, close) in [("{a", "}"), ("[", "]"), ("(", ")"), ("{a(b:{c:[", "]})}")] {
        let text = format!("{}{}", open.repeat(10_000), close.repeat(10_000));
        let mut guard = guard();
        guard.limits.text_bytes = u64::MAX;
        let error = guard.check(&text, None, &Variables::default()).unwrap_err();
        assert_eq!(exceeded(&error), "levels of nested brackets");
    }
    // The deepest allowed nesting fits on a small stack.
    let list = format!("{{ a(b: {}{}) }}", "[".repeat(62), "]".repeat(62));
    let types = format!("query($a: {}Int{}) {{ b }}", "[".repeat(63), "]".repeat(63));
    let object = format!("{{ a(b: {}1{}) }}", "{c:".repeat(62), "}".repeat(62));
    let sets = nested(64);
    let run = move || {
        for text in [list, types, object] {
            check(&text).unwrap();
        }
        assert_eq!(exceeded(&rejected(&sets)), "levels of nested fields");
        assert_eq!(
            exceeded(&rejected(&nested(65))),
            "levels of nested brackets"
        );
    };
    let thread = std::thread::Builder::new()
        .stack_size(1024 * 1024)
        .spawn(run)
        .unwrap();
    thread.join().unwrap();
}

fn tokens(text: &str) -> u64 {
    let fits = |tokens| {
        let limits = Limits {
            tokens,
            nesting: 64,
            ..unlimited().limits
        };
        lexer::check(text, &limits).is_ok()
    };
    (0..1_000)
        .find(|&tokens| fits(tokens))
        .expect("fewer than 1,000 tokens")
}

#[test]
fn tokens_are_counted_correctly() {
    for (text, expected) in [
        ("", 0),
        (" ,\t\r\n\u{feff}", 0),
        ("\u{feff}{ a }", 3),
        ("# {{{\n# \"\r# \"\"\"", 0),
        ("#{\r{", 1),
        ("{ a # } \n }", 3),
        ("a...b", 3),
        ("$a: [Int!]! = -1.5e-10 @b", 12),
        ("1.5 2e5 3E+7 0 -0 0.5 10", 7),
        ("007", 3),
        ("1-2-3", 3),
        (r#""a""b""#, 2),
        (r#""{[(" "\"{" "\\" "\u0041{""#, 4),
        (r##""#" a"##, 2),
        (r#""""{"#, 0),
        (r#""""{ "quoted" \""" { """ a"#, 2),
        (r#""""""" """""""#, 2),
        ("\"\"\"\n{\n\"\"\"", 1),
        ("truetrue nullfalsetrue nullable true", 2 + 3 + 2 + 1),
        ("größe", 6),
    ] {
        let result = lexer::check(text, &unlimited().limits);
        if expected == 0 && result.is_err() {
            assert!(matches!(result, Err(Reason::Parse { .. })), "{text}");
        } else {
            assert_eq!(tokens(text), expected, "{text}");
        }
    }
}

#[test]
fn brackets_in_strings_and_comments_do_not_count() {
    let braces = "{[(".repeat(100);
    for text in [
        format!("{{ a(b: \"{braces}\") }}"),
        format!("{{ a(b: \"\"\"{braces}\n\\\"\"\" {braces} \"quoted\" \"\"\") }}"),
        format!("{{ a # {braces}\n }}"),
        format!("{{ a(b: \"\\\"{braces}\") }}"),
        format!("\u{feff}{{ a(b: \"ünï 🦀 {braces}\") }}"),
    ] {
        check(&text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
    }
}

#[test]
fn an_unterminated_string_is_a_parse_error() {
    for (text, line, column) in [
        ("{ a(b: \"c) }", 1, 8),
        ("{\n ü(b: \"c\n\") }", 2, 7),
        ("{ a(b: \"c\\\n\") }", 1, 8),
        ("{ a(b: \"c\\", 1, 8),
        ("{ a(b: \"c\\\") }", 1, 8),
        ("{ a(b: \"\"\"c\") }", 1, 8),
        ("{ a(b: \"\"\"c\\\"\"\" }", 1, 8),
        ("\"", 1, 1),
    ] {
        let Reason::Parse { positions, .. } = rejected(text).reason else {
            panic!("{text}")
        };
        assert_eq!(positions, [Pos { line, column }], "{text}");
    }
    // The parser would read an empty string, a second string, and then the brackets.
    let text = format!("{{ a(b: [\"\"\" \" {} ", "[".repeat(10_000));
    assert!(matches!(rejected(&text).reason, Reason::Parse { .. }));
}

#[test]
fn parse_errors_have_a_position_and_a_short_message() {
    let error = rejected("{ a\n  b( }");
    let Reason::Parse { message, positions } = &error.reason else {
        panic!("{error:?}")
    };
    assert_eq!(message, "expected name");
    assert_eq!(positions, &[Pos { line: 2, column: 6 }]);
    assert_eq!(error.reason.code(), Code::GraphqlParseFailed);
    let long = format!("query {} {{ a }}", "A".repeat(1_000));
    let Reason::Parse { message, positions } = rejected(&long.repeat(2)).reason else {
        panic!()
    };
    assert!(message.chars().count() <= MAX_PARSE_MESSAGE_CHARS);
    assert_eq!(positions.len(), 2);
    for text in [
        "",
        " ",
        "{",
        "}",
        "{}",
        "{ a }}",
        "\0",
        "{ a(b: 1a) }",
        "{ a(b: \"\\ud800\") }",
    ] {
        assert!(
            matches!(rejected(text).reason, Reason::Parse { .. }),
            "{text}"
        );
    }
}

// Counts

#[test]
fn the_values_of_a_response_count_once_per_row() {
    let wide = |fields: usize| {
        let fields = repeat(fields, |_| "name ".to_owned());
        format!(
            "{{ projects(first: 100) {{ nodes {{ invoices(first: 100) {{ nodes {{ {fields} }} }} }} }} }}"
        )
    };
    // 100 projects; each has 100 invoices, and each of those has the fields.
    check(&wide(20)).unwrap();
    assert_eq!(exceeded(&rejected(&wide(25))), "values in its response");
    // A path back to the same row multiplies the values without fetching more rows.
    let back = "{ projects(first: 1) { nodes { invoices(first: 100) { nodes { subject {
        ... on Project { invoices(first: 100) { nodes { id id id id id id id id id id id id id
        id id id id id id id id id id id id id id } } } } } } } } }";
    assert_eq!(exceeded(&rejected(back)), "values in its response");
}

#[test]
fn a_cyclic_introspection_query_is_rejected() {
    let cyclic = |times: usize| {
        let open = "interfaces { possibleTypes { ".repeat(times);
        let close = "} } ".repeat(times);
        format!("{{ __schema {{ types {{ {open} kind {close} }} }} }}")
    };
    check(&cyclic(1)).unwrap();
    let lists = "levels of nested introspection lists";
    assert_eq!(exceeded(&rejected(&cyclic(2))), lists);
    let through_a_fragment = "{ __schema { types { ...T } } }
        fragment T on __Type { fields { type { fields { type { fields { name } } } } } }";
    assert_eq!(exceeded(&rejected(through_a_fragment)), lists);
    let names = repeat(4_900, |_| "name ".to_owned());
    let wide = format!("{{ __schema {{ types {{ fields {{ {names} }} }} }} }}");
    assert_eq!(exceeded(&rejected(&wide)), "values in its response");
}

#[test]
fn the_standard_introspection_query_is_accepted_with_depth_fifteen() {
    let checked = check(INTROSPECTION).unwrap();
    assert_eq!(keys(&checked), ["__schema"]);
    assert_eq!(checked.cost, 0);
    let mut guard = guard();
    guard.limits.depth = 14;
    let error = guard
        .check(INTROSPECTION, None, &Variables::default())
        .unwrap_err();
    assert_eq!(exceeded(&error), "levels of nested fields");
}

#[test]
fn depth_is_counted_through_fragments() {
    check(&nested(15)).unwrap();
    assert_eq!(exceeded(&rejected(&nested(16))), "levels of nested fields");
    let through = |fields| {
        let inner = nested(fields);
        format!("{{ a {{ ... on A {{ b {{ ...f }} }} }} }} fragment f on B {inner}")
    };
    check(&through(13)).unwrap();
    assert_eq!(exceeded(&rejected(&through(14))), "levels of nested fields");
}

#[test]
fn directives_are_counted_in_every_location() {
    for place in [
        "{ a DIRECTIVES }",
        "{ ... DIRECTIVES { a } }",
        "{ ...f DIRECTIVES } fragment f on Q { a }",
        "{ ...f } fragment f on Q DIRECTIVES { a }",
        "query DIRECTIVES { a }",
        "query($v: Int DIRECTIVES) { a }",
    ] {
        let text = |count| place.replace("DIRECTIVES", &"@d ".repeat(count));
        check(&text(50)).unwrap();
        assert_eq!(exceeded(&rejected(&text(51))), "directives", "{place}");
    }
    let spread = |count| {
        let directives = "@d ".repeat(count);
        format!("{{ ...f ...f }} fragment f on Q {{ a {directives} }}")
    };
    check(&spread(25)).unwrap();
    assert_eq!(exceeded(&rejected(&spread(26))), "directives");
}

#[test]
fn root_fields_are_counted_through_fragments() {
    let text = |fields: usize| {
        let fields = "a ".repeat(fields);
        format!("{{ ...f ... {{ ...f }} b }} fragment f on Q {{ {fields} }}")
    };
    check(&text(9)).unwrap();
    assert_eq!(exceeded(&rejected(&text(10))), "root fields");
    // The root fields of another operation do not count.
    let other = format!("query A {{ a }} query B {{ {} }}", "a ".repeat(30));
    check_named(&other, "A").unwrap();
    let error = check_named(&other, "B").unwrap_err();
    assert_eq!(exceeded(&error), "root fields");
}

#[test]
fn operations_fragments_and_variables_are_counted() {
    let operations = |count| repeat(count, |n| format!("query Q{n} {{a}}"));
    check_named(&operations(20), "Q0").unwrap();
    let error = check_named(&operations(21), "Q0").unwrap_err();
    assert_eq!(exceeded(&error), "operations");

    let fragments = |count| {
        let all = repeat(count, |n| format!("fragment f{n} on Q {{a}}"));
        format!("{{ a }} {all}")
    };
    check(&fragments(200)).unwrap();
    assert_eq!(exceeded(&rejected(&fragments(201))), "fragments");

    let variables = |count| {
        let all = repeat(count, |n| format!("$v{n}: Int "));
        format!("query A {{ a }} query B({all}) {{ a }}")
    };
    check_named(&variables(100), "A").unwrap();
    let error = check_named(&variables(101), "A").unwrap_err();
    assert_eq!(exceeded(&error), "variables in one operation");
}

#[test]
fn the_operation_is_selected_as_the_specification_says() {
    let select = |text: &str, name| {
        let checked = guard().check(text, name, &Variables::default());
        checked
            .map(|checked| checked.operation_type)
            .map_err(|error| error.reason)
    };
    let two = "query A { a } mutation B { b }";
    assert_eq!(select(two, Some("A")), Ok(OperationType::Query));
    assert_eq!(select(two, Some("B")), Ok(OperationType::Mutation));
    assert_eq!(select(two, Some("C")), Err(Reason::UnknownOperation));
    assert_eq!(select(two, None), Err(Reason::OperationNameRequired));
    assert_eq!(
        select("subscription S { a }", None),
        Ok(OperationType::Subscription)
    );
    assert_eq!(select("{ a }", None), Ok(OperationType::Query));
    assert_eq!(select("{ a }", Some("A")), Err(Reason::UnknownOperation));
}

#[test]
fn root_fields_are_in_the_order_of_the_response() {
    let text = "
        { b: a ...f a ... on Q { c ...g @include(if: true) } ...f b: a d ...unknown }
        fragment f on Q { e ...g a }
        fragment g on Q { x: y z }";
    assert_eq!(
        keys(&check(text).unwrap()),
        ["b", "e", "x", "z", "a", "c", "d"]
    );
}

// Cost

fn cost(text: &str, variables: Value) -> u64 {
    let mut guard = guard();
    guard.limits.cost = u64::MAX;
    guard
        .check(text, None, &Variables::from_value(variables))
        .unwrap()
        .cost
}

#[test]
fn the_headline_query_costs_701() {
    // organization 1, owner 1, invoices 1 + 5 * (1 + total 1) = 11,
    // auditLogs 1 + 10 * (1 + actor 1) = 21; projects 1 + 20 * (1 + 1 + 1 + 11 + 21).
    assert_eq!(check(HEADLINE).unwrap().cost, 701);
}

#[test]
fn nested_pages_are_rejected() {
    let text = "{ projects(first:100) { nodes { invoices(first:100) { nodes {
        lineItems(first:100) { nodes { id } } } } } } }";
    // lineItems 1 + 100, invoices 1 + 100 * 102, projects 1 + 100 * 10,202.
    let reason = rejected(text).reason;
    assert_eq!(
        reason,
        Reason::CostExceeded {
            cost: 1_020_201,
            limit: 20_000
        }
    );
    assert_eq!(
        reason.to_string(),
        "the operation could fetch 1020201 rows, and the limit is 20000: request smaller pages"
    );
    assert_eq!(reason.code(), Code::QueryTooComplex);
}

#[test]
fn costs_by_field() {
    let none = value!({});
    for (text, expected) in [
        ("{ a b c }", 0),
        ("{ a { b } }", 1),
        ("{ a { b { c } d { e } } }", 3),
        ("{ __schema { types { fields { name } } } __typename }", 0),
        ("{ projects { totalCount } }", 21),
        ("{ projects { nodes { id } } }", 21),
        (
            "{ projects { edges { cursor node { id } } pageInfo { endCursor } } }",
            21,
        ),
        ("{ projects { nodes { a { b } } } }", 41),
        (
            "{ projects { nodes { a { b } } edges { node { a { b } } } } }",
            61,
        ),
        ("{ projects(first: 3) { nodes { id } } }", 4),
        ("{ projects(last: 3) { nodes { id } } }", 4),
        ("{ projects(first: 3, last: 5) { nodes { id } } }", 6),
        ("{ projects(first: 0) { nodes { id } } }", 1),
        ("{ projects(first: -5) { nodes { id } } }", 1),
        ("{ projects(first: 101) { nodes { id } } }", 101),
        (
            "{ projects(first: 99999999999999999999) { nodes { id } } }",
            101,
        ),
        ("{ projects(first: 1.5) { nodes { id } } }", 101),
        ("{ projects(first: \"1\") { nodes { id } } }", 101),
        ("{ projects(first: null) { nodes { id } } }", 21),
        ("{ projects(first: null, last: 2) { nodes { id } } }", 3),
        (
            "{ x: projects(first: 2) { nodes { id } } y: projects(first: 2) { nodes { id } } }",
            6,
        ),
        (
            "{ ...f ...f } fragment f on Q { projects(first: 2) { nodes { id } } }",
            6,
        ),
        ("{ projects(first: 2) @skip(if: true) { nodes { id } } }", 3),
        ("{ node(id: 1) { id } }", 1),
        ("{ node(id: 1) { a { b } } }", 2),
        ("{ nodes(ids: [1, 2, 3]) { id } }", 3),
        ("{ nodes(ids: [1, 2, 3]) { ... on A { b { c } } } }", 6),
        ("{ nodes(ids: 1) { id } }", 1),
        ("{ nodes(ids: []) { id } }", 0),
        ("{ nodes(ids: null) { id } }", 0),
    ] {
        assert_eq!(cost(text, none.clone()), expected, "{text}");
    }
    let ids = "1 ".repeat(150);
    assert_eq!(
        cost(&format!("{{ nodes(ids: [{ids}]) {{ id }} }}"), none),
        100
    );
}

#[test]
fn costs_by_variable() {
    let page = "query($n: Int) { projects(first: $n) { nodes { id } } }";
    let default = page.replace("Int", "Int = 7");
    for (text, variables, expected) in [
        (page, value!({ "n": 50 }), 51),
        (page, value!({ "n": 500 }), 101),
        (page, value!({ "n": (-1) }), 1),
        (page, value!({ "n": "50" }), 101),
        (page, value!({ "n": null }), 21),
        (page, value!({}), 21),
        (&default, value!({}), 8),
        (&default, value!({ "n": 2 }), 3),
        (&default, value!({ "n": null }), 21),
        (
            "{ projects(first: $undefined) { nodes { id } } }",
            value!({}),
            21,
        ),
    ] {
        assert_eq!(
            cost(text, variables.clone()),
            expected,
            "{text} {variables}"
        );
    }
    let list = "query($ids: [ID!]! = [1, 2]) { nodes(ids: $ids) { id } }";
    assert_eq!(cost(list, value!({ "ids": [1, 2, 3] })), 3);
    assert_eq!(cost(list, value!({ "ids": "one" })), 1);
    assert_eq!(cost(list, value!({ "ids": null })), 0);
    assert_eq!(cost(list, value!({})), 2);
    let in_fragment =
        "query($n: Int = 4) { ...f } fragment f on Q { projects(first: $n) { totalCount } }";
    assert_eq!(cost(in_fragment, value!({})), 5);
}

#[test]
fn the_defaults_of_variables_are_those_of_the_selected_operation() {
    let text = "
        query A($n: Int = 1) { ...f }
        query B($n: Int = 9) { ...f }
        fragment f on Q { projects(first: $n) { nodes { id } } }";
    for (name, expected) in [("A", 2), ("B", 10)] {
        let checked = check_named(text, name).unwrap();
        assert_eq!(checked.cost, expected);
    }
}

// Variables

#[test]
fn the_depth_and_the_number_of_variables_are_limited() {
    let deep = |depth| {
        let nest = |value, _| Value::List(vec![value]);
        Variables::from_value(value!({ "a": ((0..depth).fold(Value::from(1), nest)) }))
    };
    guard().check_variables(&deep(32)).unwrap();
    let error = guard().check_variables(&deep(33)).unwrap_err();
    assert_eq!(
        exceeded(&error),
        "levels of nested lists and objects in its variables"
    );

    let wide = |count| Variables::from_value(value!({ "a": { "b": (vec![1; count]) } }));
    guard().check_variables(&wide(9_998)).unwrap();
    let error = guard().check_variables(&wide(9_999)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the request has more than 10000 values in its variables"
    );

    guard().check_variables(&Variables::default()).unwrap();
    guard()
        .check_variables(&Variables::from_value(value!({ "a": "\0" })))
        .unwrap();
}

// Arguments

const ARGUMENTS: &str = "bytes of arguments, where a variable counts each time it is used";

/// A variable `f` that counts this number of bytes.
fn variable_of(bytes: usize) -> Variables {
    let text = "x".repeat(bytes - 64);
    Variables::from_value(value!({ "f": text }))
}

fn check_arguments(text: &str, variables: &Variables, limit: u64) -> Result<(), GuardError> {
    let mut guard = guard();
    guard.limits.argument_bytes = limit;
    guard.check(text, None, variables).map(drop)
}

#[test]
fn the_bytes_of_arguments_count_once_per_use() {
    // The document, and how often it uses `$f`, which counts 1,000 bytes.
    let in_list = "query($f: F) { projects { nodes { invoices(filter: $f) { nodes { id } } } } }";
    for (text, bytes) in [
        (in_list.to_owned(), 1_000),
        (in_list.replace("$f)", "{ or: [$f, $f] })"), 2_000 + 64 + 2 + 64),
        (in_list.replace("$f)", "{ number: { eq: \"12345\" } })"), 64 + 6 + 64 + 2 + 64 + 5),
        (in_list.replace("nodes { id }", "nodes { id @include(if: $f) }"), 2_000),
        // Ten aliases.
        (
            format!(
                "query($f: F) {{ {} }}",
                repeat(10, |n| format!("a{n}: projects(filter: $f) {{ nodes {{ id }} }} "))
            ),
            10_000,
        ),
        // A fragment that is spread twice by one that is spread three times.
        (
            "query($f: F) { ...a ...a ...a } fragment a on Q { ...b ... { ...b } }
             fragment b on Q { projects(filter: $f) { nodes { id } } }"
                .to_owned(),
            6_000,
        ),
        // The engine also validates the arguments of a fragment that is not spread.
        (
            "query($f: F) { a } fragment b on Q { ...c } fragment c on Q { projects(filter: $f) { nodes { id } } }"
                .to_owned(),
            1_000,
        ),
    ] {
        let variables = variable_of(1_000);
        check_arguments(&text, &variables, bytes).unwrap();
        let error = check_arguments(&text, &variables, bytes - 1).unwrap_err();
        assert_eq!(exceeded(&error), ARGUMENTS, "{text}");
        assert_eq!(error.reason.code(), Code::QueryTooComplex);
    }
}

#[test]
fn the_arguments_of_a_mutation_have_a_limit_of_their_own() {
    let mut guard = guard();
    guard.limits.mutation_argument_bytes = 1_000;
    let of_mutation = "mutation($f: F) { createProject(input: $f) { project { id } } }";
    let of_query = "query($f: F) { projects(filter: $f) { nodes { id } } }";
    let checked = guard.check(of_mutation, None, &variable_of(1_000)).unwrap();
    let longer = variable_of(1_001);
    let what = "bytes of arguments in a mutation, where a variable counts each time it is used";
    let error = guard.check(of_mutation, None, &longer).unwrap_err();
    assert_eq!(exceeded(&error), what);
    let error = guard.cost(&checked, &longer).unwrap_err();
    assert_eq!(exceeded(&error), what);
    guard.check(of_query, None, &longer).unwrap();
}

#[test]
fn a_variable_counts_its_value_or_its_default() {
    let text = "query($f: [Int] = [1, 2, 3]) { projects(ids: $f) { nodes { id } } }";
    let given = |value| Variables::from_value(value!({ "f": value }));
    for (variables, bytes) in [
        (Variables::default(), 4 * 64),
        (given(value!(null)), 64),
        (given(value!([1])), 2 * 64),
        (
            given(value!({ "abc": ["de", true] })),
            64 + 3 + 64 + 64 + 2 + 64,
        ),
    ] {
        check_arguments(text, &variables, bytes).unwrap();
        check_arguments(text, &variables, bytes - 1).unwrap_err();
    }
    // Without a value or a default, there is nothing to copy.
    let text = "query($f: [Int]) { projects(ids: $f) { nodes { id } } }";
    check_arguments(text, &Variables::default(), 0).unwrap();
    // The arguments of another operation are not read.
    let text = "query A { a } query B($f: F) { projects(filter: $f) { nodes { id } } }";
    let mut guard = guard();
    guard.limits.argument_bytes = 0;
    let variables = variable_of(1_000);
    guard.check(text, Some("A"), &variables).unwrap();
    guard.check(text, Some("B"), &variables).unwrap_err();
}

#[test]
fn the_variables_of_a_known_document_are_counted_again() {
    let text = "query($f: F) { a: projects(filter: $f) { nodes { id } } b: projects(filter: $f) { nodes { id } } }";
    let guard = guard();
    let limit = usize::try_from(guard.limits.argument_bytes).unwrap();
    let checked = guard.check(text, None, &variable_of(100)).unwrap();
    assert!(!checked.depends_on_variables);
    assert_eq!(
        guard.cost(&checked, &variable_of(limit / 2)),
        Ok((checked.cost, checked.values))
    );
    let error = guard
        .cost(&checked, &variable_of(limit / 2 + 1))
        .unwrap_err();
    assert_eq!(exceeded(&error), ARGUMENTS);
}
