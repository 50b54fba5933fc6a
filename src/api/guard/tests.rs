//! Tests of the guard.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
};

use async_graphql::{
    Positioned,
    parser::types::{Field, Selection, SelectionSet},
    value,
};

use super::{cost::Scope, count::Tally, *};

/// The response keys of the root selection.
fn keys(admitted: &Admitted) -> Vec<Name> {
    admitted
        .root_fields
        .iter()
        .map(|field| field.key.clone())
        .collect()
}

/// As published with the graphql-js reference implementation, nine `ofType` deep.
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
            batches: HashMap::from([("importProducts".to_owned(), "rows".to_owned())]),
            ..Shape::default()
        },
    }
}

fn admit(text: &str) -> Result<Admitted, Refusal> {
    guard().admit(text, None, &Variables::default())
}

fn admit_named(text: &str, name: &str) -> Result<Admitted, Refusal> {
    guard().admit(text, Some(name), &Variables::default())
}

fn refused(text: &str) -> Refusal {
    admit(text).expect_err("refused")
}

/// What the request has too much of.
fn excess(refusal: &Refusal) -> &'static str {
    match refusal.reason {
        Reason::TooComplex { what, .. } => what,
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn a_batch_costs_what_is_below_for_each_of_its_inputs() {
    let import = |input: &str, variables: &str| {
        let text = format!(
            "mutation($input: I, $rows: [R!]) {{
                 importProducts(input: {input}) {{ results {{ product {{ id }} }} }} }}"
        );
        let variables = Variables::from_json(serde_json::from_str(variables).unwrap());
        guard().admit(&text, None, &variables).unwrap().cost
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
    // At least one, and no more than a resolver takes.
    assert_eq!(import("$input", "{}"), each);
    assert_eq!(import("{ rows: [] }", "{}"), each);
    let many = format!(r#"{{ "rows": [{}1] }}"#, "1,".repeat(1_999));
    assert_eq!(import("{ rows: $rows }", &many), 1_000 * each);
}

/// `levels` fragments, each spreading the next `spreads` times; the last one is `last`.
fn bomb(levels: usize, spreads: usize, last: &str) -> String {
    let mut text = "{ ...f0 }".to_owned();
    for level in 0..levels {
        let spread = format!(" ...f{}", level + 1).repeat(spreads);
        write!(text, " fragment f{level} on Query {{{spread} }}").unwrap();
    }
    write!(text, " fragment f{levels} on Query {{ {last} }}").unwrap();
    text
}

/// The selections of a bomb, counted without the guard.
fn bomb_nodes(levels: u64, spreads: u64) -> u64 {
    1 + levels * spreads + 1
}

/// `count` items in a row.
fn row(count: usize, item: impl Fn(usize) -> String) -> String {
    (0..count).map(item).collect::<Vec<_>>().concat()
}

fn aliases(count: usize) -> String {
    let fields = row(count, |n| format!("a{n}:__typename "));
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
        introspection: u64::MAX,
        variable_depth: u64::MAX,
        variable_values: u64::MAX,
    };
    guard
}

// Bombs

#[test]
fn bombs_are_refused_with_linear_work() {
    for (levels, spreads) in [(25, 2), (31, 2), (31, 40), (9, 7)] {
        for last in ["__typename", "...unknown", "... { __typename }"] {
            let refusal = refused(&bomb(levels, spreads, last));
            assert_eq!(refusal.reason.code(), "QUERY_TOO_COMPLEX");
            let nodes = bomb_nodes(levels as u64, spreads as u64) + 1;
            assert!(refusal.work <= 2 * nodes, "{} > 2 * {nodes}", refusal.work);
        }
    }
}

#[test]
fn a_bomb_is_counted_in_full_without_limits() {
    let text = bomb(25, 2, "__typename");
    let guard = unlimited();
    let admitted = guard.admit(&text, None, &Variables::default()).unwrap();
    assert_eq!(keys(&admitted), ["__typename"]);
    // Two passes over the fragments, one over the operation, one for the keys.
    assert!(admitted.work <= 3 * bomb_nodes(25, 2), "{}", admitted.work);

    let saturated = bomb(100, 2, "projects { nodes { id } }");
    let admitted = guard
        .admit(&saturated, None, &Variables::default())
        .unwrap();
    assert_eq!(admitted.cost, u64::MAX);
}

#[test]
fn a_bomb_of_spreads_without_fields_is_refused() {
    let refusal = refused(&bomb(14, 2, "...unknown"));
    assert_eq!(excess(&refusal), NODES);
}

#[test]
fn a_bomb_in_another_operation_or_in_none_is_refused() {
    let bomb = bomb(14, 2, "__typename");
    let other = bomb.replacen("{ ...f0 }", "query A { a } query B { ...f0 }", 1);
    let unused = bomb.replacen("{ ...f0 }", "query A { a }", 1);
    for text in [other, unused] {
        let refusal = admit_named(&text, "A").unwrap_err();
        assert_eq!(excess(&refusal), NODES);
    }
}

#[test]
fn the_operations_share_the_nodes() {
    let fields = "a ".repeat(300);
    let text = row(18, |n| format!("query Q{n} {{ a {{ {fields} }} }} "));
    let refusal = admit_named(&text, "Q0").unwrap_err();
    assert_eq!(excess(&refusal), NODES);
}

#[test]
fn cycles_are_refused() {
    for text in [
        "{ ...a } fragment a on Q { ...a }",
        "{ ...a } fragment a on Q { x ...b } fragment b on Q { y { ... { ...a } } }",
        "{ x } fragment a on Q { ...b } fragment b on Q { ...c } fragment c on Q { ...b }",
    ] {
        let refusal = refused(text);
        assert!(
            matches!(refusal.reason, Reason::Cycle { .. }),
            "{refusal:?}"
        );
        assert!(refusal.work < 10);
    }
    assert_eq!(
        refused("{ ...a } fragment a on Q { ...a }").to_string(),
        "the fragment a contains itself"
    );
}

#[test]
fn a_fragment_spread_twice_is_no_cycle() {
    let text = "{ ...a ...b ...a } fragment a on Q { ...b ...b } fragment b on Q { x }";
    assert_eq!(keys(&admit(text).unwrap()), ["x"]);
}

#[test]
fn a_long_chain_of_fragments_does_not_use_the_stack() {
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
            .admit(&text, None, &Variables::default())
            .map(|admitted| keys(&admitted))
    };
    let thread = std::thread::Builder::new()
        .stack_size(1024 * 1024)
        .spawn(run)
        .unwrap();
    assert_eq!(thread.join().unwrap().unwrap(), ["a"]);
    assert_eq!(
        excess(&refused(&bomb(32, 1, "a"))),
        "levels of selection sets"
    );
    admit(&bomb(31, 1, "a")).unwrap();
}

// Text, tokens, nesting

#[test]
fn fifty_thousand_aliases_meet_each_limit_in_turn() {
    let text = aliases(50_000);
    let mut guard = guard();
    let refusal = |guard: &Guard| guard.admit(&text, None, &Variables::default()).unwrap_err();
    assert_eq!(
        refusal(&guard).to_string(),
        "the request has more than 65536 bytes of query text"
    );
    guard.limits.text_bytes = u64::MAX;
    assert_eq!(
        refusal(&guard).to_string(),
        "the request has more than 10000 tokens"
    );
    guard.limits.tokens = u64::MAX;
    guard.limits.nodes = u64::MAX;
    assert_eq!(
        refusal(&guard).to_string(),
        "the request has more than 30 aliases"
    );
    assert!(refusal(&guard).work <= 50_000);
}

#[test]
fn aliases_are_counted_in_each_spread() {
    admit(&aliases(20)).unwrap();
    let text = "{ a { ...x } b { ...x } } fragment x on Q { FIELDS }";
    let fields = |count| aliases(count).trim_matches(['{', '}']).to_owned();
    admit(&text.replace("FIELDS", &fields(15))).unwrap();
    assert_eq!(
        excess(&refused(&text.replace("FIELDS", &fields(16)))),
        "aliases"
    );
}

#[test]
fn deep_nesting_is_refused_before_the_parser() {
    for (open, close) in [("{a", "}"), ("[", "]"), ("(", ")"), ("{a(b:{c:[", "]})}")] {
        let text = format!("{}{}", open.repeat(10_000), close.repeat(10_000));
        let mut guard = guard();
        guard.limits.text_bytes = u64::MAX;
        let refusal = guard.admit(&text, None, &Variables::default()).unwrap_err();
        assert_eq!(excess(&refusal), "brackets inside one another");
    }
    // The longest nesting that gets through has room on a small stack.
    let list = format!("{{ a(b: {}{}) }}", "[".repeat(62), "]".repeat(62));
    let types = format!("query($a: {}Int{}) {{ b }}", "[".repeat(63), "]".repeat(63));
    let object = format!("{{ a(b: {}1{}) }}", "{c:".repeat(62), "}".repeat(62));
    let sets = nested(64);
    let run = move || {
        for text in [list, types, object] {
            admit(&text).unwrap();
        }
        assert_eq!(excess(&refused(&sets)), "levels of fields");
        assert_eq!(excess(&refused(&nested(65))), "brackets inside one another");
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
        Lexer {
            text: text.as_bytes(),
            at: 0,
        }
        .check(&limits)
        .is_ok()
    };
    (0..1_000)
        .find(|&tokens| fits(tokens))
        .expect("fewer than 1,000 tokens")
}

#[test]
fn tokens_are_counted_right() {
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
        let result = Lexer {
            text: text.as_bytes(),
            at: 0,
        }
        .check(&unlimited().limits);
        if expected == 0 && result.is_err() {
            assert!(matches!(result, Err(Reason::Parse { .. })), "{text}");
        } else {
            assert_eq!(tokens(text), expected, "{text}");
        }
    }
}

#[test]
fn brackets_in_strings_and_comments_do_not_nest() {
    let braces = "{[(".repeat(100);
    for text in [
        format!("{{ a(b: \"{braces}\") }}"),
        format!("{{ a(b: \"\"\"{braces}\n\\\"\"\" {braces} \"quoted\" \"\"\") }}"),
        format!("{{ a # {braces}\n }}"),
        format!("{{ a(b: \"\\\"{braces}\") }}"),
        format!("\u{feff}{{ a(b: \"ünï 🦀 {braces}\") }}"),
    ] {
        admit(&text).unwrap_or_else(|refusal| panic!("{text}: {refusal:?}"));
    }
}

#[test]
fn a_string_without_end_is_a_parse_error() {
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
        let Reason::Parse { positions, .. } = refused(text).reason else {
            panic!("{text}")
        };
        assert_eq!(positions, [Pos { line, column }], "{text}");
    }
    // The parser would read an empty string here, a second string, and then the brackets.
    let text = format!("{{ a(b: [\"\"\" \" {} ", "[".repeat(10_000));
    assert!(matches!(refused(&text).reason, Reason::Parse { .. }));
}

#[test]
fn parse_errors_keep_position_and_message() {
    let refusal = refused("{ a\n  b( }");
    let Reason::Parse { message, positions } = &refusal.reason else {
        panic!("{refusal:?}")
    };
    assert_eq!(message, "expected name");
    assert_eq!(positions, &[Pos { line: 2, column: 6 }]);
    assert_eq!(refusal.reason.code(), "GRAPHQL_PARSE_FAILED");
    let long = format!("query {} {{ a }}", "A".repeat(1_000));
    let Reason::Parse { message, positions } = refused(&long.repeat(2)).reason else {
        panic!()
    };
    assert!(message.chars().count() <= MESSAGE_CHARS);
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
            matches!(refused(text).reason, Reason::Parse { .. }),
            "{text}"
        );
    }
}

// Counts

#[test]
fn fields_count_as_often_as_their_row_may_be_there() {
    let wide = |fields: usize| {
        let fields = row(fields, |_| "name ".to_owned());
        format!(
            "{{ projects(first: 100) {{ nodes {{ invoices(first: 100) {{ nodes {{ {fields} }} }} }} }} }}"
        )
    };
    // 100 and the wrapper of 100, each with 100 and the fields of these.
    admit(&wide(20)).unwrap();
    assert_eq!(excess(&refused(&wide(25))), "values in its answer");
    // A row that leads back to itself multiplies without a row that is fetched anew.
    let back = "{ projects(first: 1) { nodes { invoices(first: 100) { nodes { subject {
        ... on Project { invoices(first: 100) { nodes { id id id id id id id id id id id id id
        id id id id id id id id id id id id id id } } } } } } } } }";
    assert_eq!(excess(&refused(back)), "values in its answer");
}

#[test]
fn a_query_about_the_schema_that_goes_in_circles_is_refused() {
    let circles = |times: usize| {
        let open = "interfaces { possibleTypes { ".repeat(times);
        let close = "} } ".repeat(times);
        format!("{{ __schema {{ types {{ {open} kind {close} }} }} }}")
    };
    admit(&circles(1)).unwrap();
    let lists = "lists of the schema inside one another";
    assert_eq!(excess(&refused(&circles(2))), lists);
    let through_a_fragment = "{ __schema { types { ...T } } }
        fragment T on __Type { fields { type { fields { type { fields { name } } } } } }";
    assert_eq!(excess(&refused(through_a_fragment)), lists);
    let names = row(4_900, |_| "name ".to_owned());
    let wide = format!("{{ __schema {{ types {{ fields {{ {names} }} }} }} }}");
    assert_eq!(excess(&refused(&wide)), "values in its answer");
}

#[test]
fn the_introspection_query_is_admitted_at_depth_fifteen() {
    let admitted = admit(INTROSPECTION).unwrap();
    assert_eq!(keys(&admitted), ["__schema"]);
    assert_eq!(admitted.cost, 0);
    let mut guard = guard();
    guard.limits.depth = 14;
    let refusal = guard
        .admit(INTROSPECTION, None, &Variables::default())
        .unwrap_err();
    assert_eq!(excess(&refusal), "levels of fields");
}

#[test]
fn depth_is_counted_through_fragments() {
    admit(&nested(15)).unwrap();
    assert_eq!(excess(&refused(&nested(16))), "levels of fields");
    let through = |fields| {
        let inner = nested(fields);
        format!("{{ a {{ ... on A {{ b {{ ...f }} }} }} }} fragment f on B {inner}")
    };
    admit(&through(13)).unwrap();
    assert_eq!(excess(&refused(&through(14))), "levels of fields");
}

#[test]
fn directives_are_counted_wherever_they_stand() {
    for place in [
        "{ a DIRECTIVES }",
        "{ ... DIRECTIVES { a } }",
        "{ ...f DIRECTIVES } fragment f on Q { a }",
        "{ ...f } fragment f on Q DIRECTIVES { a }",
        "query DIRECTIVES { a }",
        "query($v: Int DIRECTIVES) { a }",
    ] {
        let text = |count| place.replace("DIRECTIVES", &"@d ".repeat(count));
        admit(&text(50)).unwrap();
        assert_eq!(excess(&refused(&text(51))), "directives", "{place}");
    }
    let spread = |count| {
        let directives = "@d ".repeat(count);
        format!("{{ ...f ...f }} fragment f on Q {{ a {directives} }}")
    };
    admit(&spread(25)).unwrap();
    assert_eq!(excess(&refused(&spread(26))), "directives");
}

#[test]
fn root_fields_are_counted_through_fragments() {
    let text = |fields: usize| {
        let fields = "a ".repeat(fields);
        format!("{{ ...f ... {{ ...f }} b }} fragment f on Q {{ {fields} }}")
    };
    admit(&text(9)).unwrap();
    assert_eq!(excess(&refused(&text(10))), "root fields");
    // Those of another operation are not fetched.
    let other = format!("query A {{ a }} query B {{ {} }}", "a ".repeat(30));
    admit_named(&other, "A").unwrap();
    let refusal = admit_named(&other, "B").unwrap_err();
    assert_eq!(excess(&refusal), "root fields");
}

#[test]
fn definitions_are_counted() {
    let operations = |count| row(count, |n| format!("query Q{n} {{a}}"));
    admit_named(&operations(20), "Q0").unwrap();
    let refusal = admit_named(&operations(21), "Q0").unwrap_err();
    assert_eq!(excess(&refusal), "operations");

    let fragments = |count| {
        let all = row(count, |n| format!("fragment f{n} on Q {{a}}"));
        format!("{{ a }} {all}")
    };
    admit(&fragments(200)).unwrap();
    assert_eq!(excess(&refused(&fragments(201))), "fragments");

    let variables = |count| {
        let all = row(count, |n| format!("$v{n}: Int "));
        format!("query A {{ a }} query B({all}) {{ a }}")
    };
    admit_named(&variables(100), "A").unwrap();
    let refusal = admit_named(&variables(101), "A").unwrap_err();
    assert_eq!(excess(&refusal), "variables in one operation");
}

#[test]
fn the_operation_is_chosen_by_the_specification() {
    let choose = |text: &str, name| {
        let admitted = guard().admit(text, name, &Variables::default());
        admitted
            .map(|admitted| admitted.operation)
            .map_err(|refusal| refusal.reason)
    };
    let two = "query A { a } mutation B { b }";
    assert_eq!(choose(two, Some("A")), Ok(OperationType::Query));
    assert_eq!(choose(two, Some("B")), Ok(OperationType::Mutation));
    assert_eq!(choose(two, Some("C")), Err(Reason::UnknownOperation));
    assert_eq!(choose(two, None), Err(Reason::OperationNameRequired));
    assert_eq!(
        choose("subscription S { a }", None),
        Ok(OperationType::Subscription)
    );
    assert_eq!(choose("{ a }", None), Ok(OperationType::Query));
    assert_eq!(choose("{ a }", Some("A")), Err(Reason::UnknownOperation));
}

#[test]
fn root_keys_are_in_the_order_of_the_answer() {
    let text = "
        { b: a ...f a ... on Q { c ...g @include(if: true) } ...f b: a d ...unknown }
        fragment f on Q { e ...g a }
        fragment g on Q { x: y z }";
    assert_eq!(
        keys(&admit(text).unwrap()),
        ["b", "e", "x", "z", "a", "c", "d"]
    );
}

// Cost

fn cost(text: &str, variables: Value) -> u64 {
    let mut guard = guard();
    guard.limits.cost = u64::MAX;
    guard
        .admit(text, None, &Variables::from_value(variables))
        .unwrap()
        .cost
}

#[test]
fn the_headline_query_costs_701() {
    // organization 1, owner 1, invoices 1 + 5 * (1 + total 1) = 11,
    // auditLogs 1 + 10 * (1 + actor 1) = 21; projects 1 + 20 * (1 + 1 + 1 + 11 + 21).
    assert_eq!(admit(HEADLINE).unwrap().cost, 701);
}

#[test]
fn pages_in_pages_are_refused() {
    let text = "{ projects(first:100) { nodes { invoices(first:100) { nodes {
        lineItems(first:100) { nodes { id } } } } } } }";
    // lineItems 1 + 100, invoices 1 + 100 * 102, projects 1 + 100 * 10,202.
    let reason = refused(text).reason;
    assert_eq!(
        reason,
        Reason::TooCostly {
            cost: 1_020_201,
            limit: 20_000
        }
    );
    assert_eq!(
        reason.to_string(),
        "the operation may fetch 1020201 rows, of 20000 at most: ask for smaller pages"
    );
    assert_eq!(reason.code(), "QUERY_TOO_COMPLEX");
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
fn the_default_is_that_of_the_operation_that_runs() {
    let text = "
        query A($n: Int = 1) { ...f }
        query B($n: Int = 9) { ...f }
        fragment f on Q { projects(first: $n) { nodes { id } } }";
    for (name, expected) in [("A", 2), ("B", 10)] {
        let admitted = admit_named(text, name).unwrap();
        assert_eq!(admitted.cost, expected);
    }
}

// Variables

#[test]
fn variables_are_bounded_in_depth_and_number() {
    let deep = |depth| {
        let nest = |value, _| Value::List(vec![value]);
        Variables::from_value(value!({ "a": ((0..depth).fold(Value::from(1), nest)) }))
    };
    guard().check_variables(&deep(32)).unwrap();
    let refusal = guard().check_variables(&deep(33)).unwrap_err();
    assert_eq!(
        excess(&refusal),
        "lists and objects inside one another in its variables"
    );

    let wide = |count| Variables::from_value(value!({ "a": { "b": (vec![1; count]) } }));
    guard().check_variables(&wide(9_998)).unwrap();
    let refusal = guard().check_variables(&wide(9_999)).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "the request has more than 10000 values in its variables"
    );

    guard().check_variables(&Variables::default()).unwrap();
    guard()
        .check_variables(&Variables::from_value(value!({ "a": "\0" })))
        .unwrap();
}

// The fold against a naive expansion

/// Random documents: xorshift, so that a seed is a document.
struct Random {
    state: u64,
    /// The tokens written so far.
    tokens: u64,
    text: String,
}

impl Random {
    fn new(seed: u64) -> Self {
        Self {
            state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            tokens: 0,
            text: String::new(),
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % bound
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        let index = self.below(from.len() as u64);
        from[usize::try_from(index).unwrap()]
    }

    fn token(&mut self, token: &str) {
        self.tokens += 1;
        self.text.push_str(token);
        let ignored = [
            " ",
            " ",
            "\n",
            ", ",
            "\t",
            "\u{feff} ",
            " # } { \" \"\"\"\n",
            "\r\n",
        ];
        let ignored = self.pick(&ignored);
        self.text.push_str(ignored);
    }

    fn tokens(&mut self, tokens: &str) {
        for token in tokens.split(' ') {
            self.token(token);
        }
    }

    /// A type condition. The parser takes no comment within it.
    fn token_on(&mut self) {
        self.tokens += 1;
        self.text.push_str("on ");
        self.token("T");
    }

    fn directives(&mut self) {
        while self.below(6) == 0 {
            self.tokens("@ include ( if : true )");
        }
    }

    fn arguments(&mut self) {
        match self.below(8) {
            0 => self.tokens("( first : 3 )"),
            1 => self.tokens("( last : $ n )"),
            2 => self.tokens("( ids : [ 1 2 3 ] )"),
            3 => self.tokens("( x : { y : \"}{\" } first : $ m )"),
            4 => self.tokens("( x : \"\"\"{\"{\"\"\" y : -1.5e3 first : null )"),
            _ => {}
        }
    }

    /// A selection set that spreads only fragments from `from` on, so there are no cycles.
    fn set(&mut self, depth: u64, from: u64, fragments: u64) {
        self.token("{");
        for _ in 0..=self.below(3) {
            match self.below(if depth == 0 { 4 } else { 8 }) {
                0 if from < fragments + 1 => {
                    // One beyond the last is unknown.
                    let fragment = from + self.below(fragments + 1 - from);
                    self.token("...");
                    self.token(&format!("f{fragment}"));
                    self.directives();
                }
                4 => {
                    self.token("...");
                    if self.below(2) == 0 {
                        self.token_on();
                    }
                    self.directives();
                    self.set(depth - 1, from, fragments);
                }
                kind => {
                    if self.below(4) == 0 {
                        self.tokens("alias :");
                    }
                    let names = [
                        "a", "projects", "invoices", "nodes", "edges", "node", "__type",
                    ];
                    let name = self.pick(&names);
                    self.token(name);
                    self.arguments();
                    self.directives();
                    if kind > 4 {
                        self.set(depth - 1, from, fragments);
                    }
                }
            }
        }
        self.token("}");
    }

    fn document(&mut self) {
        let fragments = self.below(6);
        for operation in 0..=self.below(3) {
            self.token("query");
            self.token(&format!("Q{operation}"));
            self.tokens("( $ n : Int = 2 $ m : Int )");
            self.directives();
            self.set(3, 0, fragments);
        }
        for fragment in 0..fragments {
            self.token("fragment");
            self.token(&format!("f{fragment}"));
            self.token_on();
            self.directives();
            self.set(2, fragment + 1, fragments);
        }
    }
}

/// The counts of a selection set by the book: expand, and count what is there.
struct Naive<'a> {
    document: &'a ExecutableDocument,
    sum: Tally,
}

impl Naive<'_> {
    /// `depth` and `levels` are those round the set.
    fn walk(&mut self, set: &SelectionSet, depth: u64, levels: u64) {
        self.sum.levels = self.sum.levels.max(levels);
        for selection in &set.items {
            self.sum.nodes += 1;
            self.sum.directives += selection.node.directives().len() as u64;
            match &selection.node {
                Selection::Field(field) => {
                    let set = &field.node.selection_set.node;
                    self.sum.depth = self.sum.depth.max(depth + 1);
                    self.sum.aliases += u64::from(field.node.alias.is_some());
                    self.sum.root_fields += u64::from(depth == 0);
                    if !set.items.is_empty() {
                        self.walk(set, depth + 1, levels + 1);
                    }
                }
                Selection::FragmentSpread(spread) => {
                    self.sum.levels = self.sum.levels.max(levels + 1);
                    let name = spread.node.fragment_name.node.as_str();
                    if let Some(fragment) = self.document.fragments.get(name) {
                        self.sum.directives += fragment.node.directives.len() as u64;
                        self.walk(&fragment.node.selection_set.node, depth, levels + 1);
                    }
                }
                Selection::InlineFragment(inline) => {
                    self.walk(&inline.node.selection_set.node, depth, levels + 1);
                }
            }
        }
    }

    /// The rows of a set that is fetched `times` times.
    fn rows(&self, set: &SelectionSet, times: u64) -> u64 {
        let rows = |selection: &Positioned<Selection>| match &selection.node {
            Selection::Field(field) => self.field_rows(&field.node, times),
            Selection::FragmentSpread(spread) => {
                let fragment = self.document.fragments.get(&spread.node.fragment_name.node);
                fragment.map_or(0, |known| self.rows(&known.node.selection_set.node, times))
            }
            Selection::InlineFragment(inline) => self.rows(&inline.node.selection_set.node, times),
        };
        set.items.iter().map(rows).sum()
    }

    fn field_rows(&self, field: &Field, times: u64) -> u64 {
        let set = &field.selection_set.node;
        if set.items.is_empty() || field.name.node == "__type" {
            return 0;
        }
        let (page, own) = Self::page(field);
        times * own + self.rows(set, times * page)
    }

    /// The values of a set that is there `times` times.
    fn values(&self, set: &SelectionSet, times: u64) -> u64 {
        let values = |selection: &Positioned<Selection>| match &selection.node {
            Selection::Field(field) => {
                let times = times * Self::page(&field.node).0;
                times + self.values(&field.node.selection_set.node, times)
            }
            Selection::FragmentSpread(spread) => {
                let fragment = self.document.fragments.get(&spread.node.fragment_name.node);
                fragment.map_or(0, |known| {
                    self.values(&known.node.selection_set.node, times)
                })
            }
            Selection::InlineFragment(inline) => {
                self.values(&inline.node.selection_set.node, times)
            }
        };
        set.items.iter().map(values).sum()
    }

    /// How many rows a field has, and what it costs besides what is below.
    fn page(field: &Field) -> (u64, u64) {
        let argument = |name| field.get_argument(name).map(|value| value.node.to_string());
        let name = field.name.node.as_str();
        match (name, argument("first").or(argument("last")).as_deref()) {
            ("projects" | "invoices", Some("3")) => (3, 4),
            // The default of `n`.
            ("projects" | "invoices", Some("$n")) => (2, 3),
            // The value of `m`.
            ("projects" | "invoices", Some("$m")) => (5, 6),
            ("projects" | "invoices", _) => (20, 21),
            ("nodes", _) if argument("ids").is_some() => (3, 3),
            ("nodes" | "edges" | "node", _) if field.arguments.is_empty() => (1, 0),
            _ => (1, 1),
        }
    }
}

#[test]
fn the_fold_equals_a_naive_expansion() {
    let guard = unlimited();
    let variables = Variables::from_value(value!({ "m": 5 }));
    let (mut with_fragments, mut costly) = (0, 0);
    for seed in 1..=1_000 {
        let mut random = Random::new(seed);
        random.document();
        let text = random.text.as_str();
        let document = guard
            .parse(text)
            .unwrap_or_else(|reason| panic!("{reason}: {text}"));
        let exact = Limits {
            tokens: random.tokens,
            ..guard.limits.clone()
        };
        assert_eq!(
            Lexer {
                text: text.as_bytes(),
                at: 0
            }
            .check(&exact),
            Ok(()),
            "{text}"
        );
        let less = Limits {
            tokens: random.tokens - 1,
            ..exact
        };
        assert!(
            Lexer {
                text: text.as_bytes(),
                at: 0
            }
            .check(&less)
            .is_err(),
            "{text}"
        );

        let mut fold = Fold::new(&guard, &document);
        let chosen = fold.check(Some("Q0"), &variables).unwrap();
        let scope = Scope::new(&guard.shape, chosen.definition, &variables);
        for (_, operation) in document.operations.iter() {
            let set = &operation.node.selection_set.node;
            let folded = fold.selection_set(set, &scope);
            let mut naive = Naive {
                document: &document,
                sum: Tally::default(),
            };
            naive.walk(set, 0, 0);
            naive.sum.cost = naive.rows(set, 1);
            naive.sum.values = naive.values(set, 1);
            assert_eq!(folded, naive.sum, "{text}");
            with_fragments += u64::from(naive.sum.nodes > fold.work);
            costly += u64::from(naive.sum.cost > 1_000);
        }
    }
    assert!(costly > 50, "{costly} of the documents are worth comparing");
    assert!(with_fragments > 0);
}
