//! Tests of the executor of objects.

use async_graphql::{
    ComplexObject, EmptyMutation, EmptySubscription, Object as GraphqlObject, Request, Response,
    Schema, SimpleObject, Variables,
};
use futures_util::future::join_all;

use super::*;
use crate::db::entity::Column;
use crate::graphql::{
    abstract_type::abstract_type,
    json::{plain_fields, write_response},
};

/// A type whose fields yield to the executor different numbers of times before they resolve, so that they do
/// not complete in the order of the query.
#[derive(Clone, Debug, SimpleObject)]
#[graphql(complex)]
pub struct Leaf {
    name: String,
    size: i32,
}

#[derive(Clone, Debug, SimpleObject)]
pub struct Stone {
    name: String,
}

plain_fields!(Leaf { name, size });
plain_fields!(Stone { name });

abstract_type! {
    /// A leaf or a stone.
    union Thing { Leaf(Leaf), Stone(Stone) }
}

fn leaf(name: &str, size: i32) -> Object<Leaf> {
    Leaf {
        name: name.to_owned(),
        size,
    }
    .into()
}

async fn turns(late: u32) {
    for _ in 0..late {
        tokio::task::yield_now().await;
    }
}

#[ComplexObject]
impl Leaf {
    async fn child(&self, late: u32) -> Object<Leaf> {
        turns(late).await;
        leaf(&format!("{} child", self.name), self.size + 1)
    }

    async fn children(&self, amount: i32) -> Objects<Leaf> {
        turns(1).await;
        (0..amount).map(|n| leaf(&n.to_string(), n)).collect()
    }

    async fn thing(&self, stone: bool) -> Option<Thing> {
        turns(1).await;
        let name = self.name.clone();
        Some(if stone {
            Thing::Stone(Stone { name }.into())
        } else {
            Thing::Leaf(self.clone().into())
        })
    }

    /// Fails for a leaf of an odd size.
    async fn must(&self) -> async_graphql::Result<i32> {
        turns(0).await;
        self.must_be_even().map(|()| self.size)
    }

    async fn must_later(&self) -> async_graphql::Result<Object<Leaf>> {
        turns(2).await;
        self.must_be_even().map(|()| leaf("even", 0))
    }

    async fn may(&self) -> async_graphql::Result<Option<Object<Leaf>>> {
        turns(1).await;
        self.must_be_even().map(|()| Some(leaf("even", 0)))
    }

    /// A leaf that waits.
    async fn later(&self, late: u32) -> i32 {
        turns(late).await;
        self.size
    }

    async fn nothing(&self) -> Option<Object<Leaf>> {
        None
    }
}

impl Leaf {
    fn must_be_even(&self) -> async_graphql::Result<()> {
        if self.size % 2 == 1 {
            Err("odd".into())
        } else {
            Ok(())
        }
    }
}

/// A row of which a statement fetched only some columns.
#[derive(Clone, Debug, SimpleObject)]
struct Row {
    name: Column<Option<String>>,
    size: Column<i32>,
}

plain_fields!(Row { name, size });

struct Root;

#[GraphqlObject]
impl Root {
    /// A row with a column that was fetched and one that was not.
    async fn row(&self, #[graphql(default)] fetched: bool) -> Option<Object<Row>> {
        let row = Row {
            name: Column::new(fetched.then_some(None)),
            size: Column::new((!fetched).then_some(1)),
        };
        Some(row.into())
    }

    async fn leaf(&self, #[graphql(default)] size: i32) -> Option<Object<Leaf>> {
        Some(leaf("root", size))
    }
}

/// Executes a document in both forms, and asserts that they write the same bytes. Returns the tree.
fn execute_with(document: &str, variables: &serde_json::Value) -> Response {
    let schema = Schema::build(Root, EmptyMutation, EmptySubscription).finish();
    let request = || Request::new(document).variables(Variables::from_json(variables.clone()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let tree = runtime.block_on(schema.execute(request()));
    let direct = runtime.block_on(schema.execute(request().data(DirectJson)));
    let text = |response| String::from_utf8(write_response(response)).unwrap();
    assert_eq!(text(&direct), serde_json::to_string(&tree).unwrap());
    tree
}

fn execute(document: &str) -> Response {
    execute_with(document, &serde_json::Value::Null)
}

/// The data of a response without errors, as JSON.
fn data(document: &str) -> String {
    let response = execute(document);
    assert!(response.errors.is_empty(), "{:?}", response.errors);
    serde_json::to_string(&response.data).unwrap()
}

/// The data, and the path of each error.
fn failed(document: &str) -> (String, Vec<String>) {
    let response = execute(document);
    let paths = response.errors.iter().map(|error| {
        assert_eq!(error.message, "odd");
        serde_json::to_string(&error.path).unwrap()
    });
    (
        serde_json::to_string(&response.data).unwrap(),
        paths.collect(),
    )
}

#[test]
fn fields_have_the_order_of_the_query_and_not_of_completion() {
    assert_eq!(
        data(
            "{ leaf { a: child(late: 3) { size } name b: child(late: 1) { size } size
                       c: later(late: 2) d: child(late: 0) { size } } }"
        ),
        r#"{"leaf":{"a":{"size":1},"name":"root","b":{"size":1},"size":0,"c":0,"d":{"size":1}}}"#,
    );
    assert_eq!(
        data(
            "{ leaf { ...F name ... { b: child(late: 2) { size } size } } }
              fragment F on Leaf { z: child(late: 4) { size } y: later(late: 1) }"
        ),
        r#"{"leaf":{"z":{"size":1},"y":0,"name":"root","b":{"size":1},"size":0}}"#,
    );
}

#[test]
fn a_field_that_is_selected_twice_keeps_its_first_position_and_merges_both_selections() {
    assert_eq!(
        data(
            "{ leaf { child(late: 2) { size } name child(late: 2) { name size } size name
                       ... on Leaf { child(late: 2) { child(late: 1) { size } } } } }"
        ),
        r#"{"leaf":{"child":{"size":1,"name":"root child","child":{"size":2}},"name":"root","size":0}}"#,
    );
    assert_eq!(
        data("{ leaf { children(amount: 2) { name } children(amount: 2) { size name } } }"),
        r#"{"leaf":{"children":[{"name":"0","size":0},{"name":"1","size":1}]}}"#,
    );
    assert_eq!(
        data("{ leaf { nothing { name } nothing { size } } }"),
        r#"{"leaf":{"nothing":null}}"#,
    );
}

#[test]
fn typename_is_that_of_the_object_and_not_of_its_union() {
    assert_eq!(
        data("{ leaf { __typename t: thing(stone: true) { __typename } u: thing(stone: false) { __typename }
                       v: __typename } }"),
        r#"{"leaf":{"__typename":"Leaf","t":{"__typename":"Stone"},"u":{"__typename":"Leaf"},"v":"Leaf"}}"#,
    );
}

#[test]
fn fragments_match_the_type_of_an_object_and_its_union() {
    assert_eq!(
        data(
            "{ leaf {
            stone: thing(stone: true) { ... on Stone { name } ... on Leaf { size } }
            leaf: thing(stone: false) { ... on Stone { name } ... on Leaf { size } }
            union: thing(stone: true) { ... on Thing { ... on Stone { name } __typename } }
            named: thing(stone: false) { ...Any } } }
            fragment Any on Thing { __typename ... on Leaf { size } ... on Stone { name } }"
        ),
        r#"{"leaf":{"stone":{"name":"root"},"leaf":{"size":0},"union":{"name":"root","__typename":"Stone"},"named":{"__typename":"Leaf","size":0}}}"#,
    );
}

#[test]
fn an_object_whose_fields_are_all_skipped_is_empty() {
    let document = "query ($yes: Boolean!) { leaf { name @skip(if: $yes)
        child(late: 1) { size @skip(if: $yes) name @include(if: false) }
        ... @skip(if: $yes) { size } ...F @skip(if: $yes)
        children(amount: 1) @include(if: $yes) { name @skip(if: $yes) }
        thing(stone: true) { ... on Stone @skip(if: $yes) { name } } } }
        fragment F on Leaf { size }";
    let skipped = execute_with(document, &serde_json::json!({ "yes": true }));
    assert!(skipped.errors.is_empty(), "{:?}", skipped.errors);
    assert_eq!(
        serde_json::to_string(&skipped.data).unwrap(),
        r#"{"leaf":{"child":{},"children":[{}],"thing":{}}}"#,
    );
    let kept = execute_with(document, &serde_json::json!({ "yes": false }));
    assert!(kept.errors.is_empty(), "{:?}", kept.errors);
    assert_eq!(
        serde_json::to_string(&kept.data).unwrap(),
        r#"{"leaf":{"name":"root","child":{"size":1},"size":0,"thing":{"name":"root"}}}"#,
    );
    assert_eq!(data("{ leaf { name @skip(if: true) } }"), r#"{"leaf":{}}"#);
}

#[test]
fn a_failed_non_null_field_makes_its_object_null() {
    assert_eq!(
        failed("{ leaf(size: 1) { name must } }"),
        (
            r#"{"leaf":null}"#.to_owned(),
            vec![r#"["leaf","must"]"#.to_owned()]
        ),
    );
    // The error passes through a non-null field and makes the next nullable field null.
    assert_eq!(
        failed("{ leaf { name child(late: 1) { size x: mustLater { name } } } }"),
        (
            r#"{"leaf":null}"#.to_owned(),
            vec![r#"["leaf","child","x"]"#.to_owned()]
        ),
    );
}

#[test]
fn a_column_that_was_not_fetched_is_an_error_and_not_an_empty_value() {
    for (document, data) in [
        ("{ row { size name } }", r#"{"row":{"size":1,"name":null}}"#),
        ("{ row(fetched: true) { name size } }", r#"{"row":null}"#),
    ] {
        let response = execute(document);
        assert_eq!(serde_json::to_string(&response.data).unwrap(), data);
        let [error] = &response.errors[..] else {
            panic!("{:?}", response.errors);
        };
        assert_eq!(error.message, Error::Internal("".into()).to_string());
    }
    assert_eq!(data("{ row { size } }"), r#"{"row":{"size":1}}"#);
    let fetched = "{ row(fetched: true) { name } }";
    assert_eq!(data(fetched), r#"{"row":{"name":null}}"#);
}

#[test]
fn a_failed_nullable_field_is_null() {
    assert_eq!(
        failed("{ leaf(size: 1) { name a: may { name } size b: nothing { name } } }"),
        (
            r#"{"leaf":{"name":"root","a":null,"size":1,"b":null}}"#.to_owned(),
            vec![r#"["leaf","a"]"#.to_owned()],
        ),
    );
}

#[test]
fn the_path_of_an_error_in_a_list_has_the_index_of_the_item() {
    let (data, mut paths) = failed("{ leaf { children(amount: 4) { size may { name } } } }");
    assert_eq!(
        data,
        r#"{"leaf":{"children":[{"size":0,"may":{"name":"even"}},{"size":1,"may":null},{"size":2,"may":{"name":"even"}},{"size":3,"may":null}]}}"#,
    );
    paths.sort();
    assert_eq!(
        paths,
        [
            r#"["leaf","children",1,"may"]"#,
            r#"["leaf","children",3,"may"]"#
        ]
    );

    let (data, paths) = failed("{ leaf { children(amount: 2) { size must } } }");
    assert_eq!(data, r#"{"leaf":null}"#);
    assert_eq!(paths, [r#"["leaf","children",1,"must"]"#]);
}

#[test]
fn all_items_of_a_list_start_before_the_first_is_awaited() {
    use std::sync::atomic::{AtomicUsize, Ordering};

    static STARTED: AtomicUsize = AtomicUsize::new(0);

    #[derive(SimpleObject)]
    #[graphql(complex)]
    struct Item {
        n: usize,
    }

    impl PlainFields for Item {}

    #[ComplexObject]
    impl Item {
        /// The number of items that had started when this item's first wait ended.
        async fn started(&self) -> Option<Object<Stone>> {
            STARTED.fetch_add(1, Ordering::Relaxed);
            turns(1).await;
            Some(
                Stone {
                    name: STARTED.load(Ordering::Relaxed).to_string(),
                }
                .into(),
            )
        }
    }

    struct Items;

    #[GraphqlObject]
    impl Items {
        async fn items(&self) -> Objects<Item> {
            (0..5).map(|n| Object::from(Item { n })).collect()
        }
    }

    let schema = Schema::build(Items, EmptyMutation, EmptySubscription).finish();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let responses = runtime.block_on(join_all([
        schema.execute("{ items { n started { name } } }")
    ]));
    let items: Vec<String> = (0..5)
        .map(|n| format!(r#"{{"n":{n},"started":{{"name":"5"}}}}"#))
        .collect();
    assert_eq!(
        serde_json::to_string(&responses[0].data).unwrap(),
        format!(r#"{{"items":[{}]}}"#, items.join(",")),
    );
}

#[test]
fn the_bytes_of_a_response_that_becomes_too_long_are_charged() {
    const MIB: usize = 1024 * 1024;
    let usage = Arc::new(Usage::default());
    let bytes = ResponseBytes::new(8 * 1024 * 1024, Arc::clone(&usage));
    bytes.add(5 * MIB).unwrap();
    assert_eq!(usage.price(), 1, "a complete response is charged later");
    assert!(bytes.add(5 * MIB).is_err());
    let charged = usage.price();
    assert_eq!(charged, 10 * 512, "a row for 2 KiB");
    // Other fields of the response may continue.
    assert!(bytes.add(MIB).is_err());
    assert_eq!(usage.price(), charged + 512);
}
