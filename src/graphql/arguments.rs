//! The arguments of nested fields: read once per field of the document, and shared by all parents.
//!
//! The engine reads the arguments of a field again for each parent, and each time it copies the literals and the whole
//! variables. A filter of one megabyte under a hundred parents would be copied a hundred times.

use std::any::{Any, TypeId};

use async_graphql::{Context, ServerResult};
use foldhash::HashMap;
use parking_lot::Mutex;

/// The arguments that one run of an operation has read, by the field of the document.
///
/// A field is identified by its address. This is valid because the engine keeps the document in one location until the
/// run ends, and each run has its own `FieldArguments`.
#[derive(Debug, Default)]
pub struct FieldArguments {
    by_field: Mutex<HashMap<FieldKey, Box<dyn Any + Send>>>,
}

/// The address of a field, the column of its parent, and the type of its arguments. A field in a fragment on an
/// interface can have parents of several types, and its arguments are read once for each of them.
type FieldKey = (usize, &'static str, TypeId);

impl FieldArguments {
    /// Returns the arguments of the field of the context. Calls `read` for the first parent only, even if it fails.
    /// The path of an error is that of the context.
    ///
    /// # Panics
    ///
    /// Never, because the type of the arguments is a part of their key.
    pub fn read_once<T>(
        &self,
        ctx: &Context<'_>,
        parent_column: &'static str,
        read: impl FnOnce() -> ServerResult<T>,
    ) -> ServerResult<T>
    where
        T: Clone + Send + 'static,
    {
        let address = std::ptr::from_ref(ctx.item).addr();
        let key = (address, parent_column, TypeId::of::<T>());
        let mut by_field = self.by_field.lock();
        let arguments = by_field
            .entry(key)
            .or_insert_with(|| Box::new(read()))
            .downcast_ref::<ServerResult<T>>()
            .expect("BUG: arguments of another type")
            .clone();
        drop(by_field);
        arguments.map_err(|error| ctx.set_error_path(error))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_graphql::{
        ComplexObject, ContextSelectionSet, EmptyMutation, EmptySubscription,
        Object as GraphqlObject, OutputType as _, Positioned, Request, Response, Schema,
        SimpleObject, Variables, parser::types::Field,
    };
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        error::Error,
        graphql::{
            json::{PlainFields, write_response},
            object::{DirectJson, FieldFuture, ListResolver, Object, Objects, null_on_error},
        },
    };

    /// A type with two fields that return the same children: `children` reads its arguments once, and `engine` reads
    /// them for each parent.
    #[derive(Debug, SimpleObject)]
    #[graphql(complex)]
    struct Branch {
        name: String,
    }

    impl PlainFields for Branch {
        fn list_resolver(field: &str) -> Option<ListResolver<Self>> {
            (field == "children").then_some(resolve_children)
        }
    }

    #[ComplexObject]
    impl Branch {
        #[expect(clippy::unused_async, reason = "resolvers are async")]
        async fn engine(
            &self,
            ctx: &Context<'_>,
            names: Vec<String>,
        ) -> Result<Option<Objects<Self>>, Error> {
            let names = check(names)?;
            ctx.data_unchecked::<Seen>()
                .0
                .lock()
                .push(Arc::clone(&names));
            Ok(Some(branches(&names)))
        }

        async fn children(&self, names: Vec<String>) -> Option<Objects<Self>> {
            assert_eq!(names, [""], "the engine must not resolve this field");
            None
        }
    }

    /// The arguments that each resolver got.
    #[derive(Clone, Debug, Default)]
    struct Seen(Arc<Mutex<Vec<Arc<Vec<String>>>>>);

    /// The number of times that arguments were read.
    #[derive(Clone, Debug, Default)]
    struct Reads(Arc<Mutex<usize>>);

    fn check(names: Vec<String>) -> Result<Arc<Vec<String>>, Error> {
        if names.is_empty() {
            return Err(Error::invalid("names", "must not be empty"));
        }
        Ok(Arc::new(names))
    }

    fn branches(names: &[String]) -> Objects<Branch> {
        let names = names.iter().cloned();
        names.map(|name| Object::from(Branch { name })).collect()
    }

    fn resolve_children<'a>(
        _: &'a Branch,
        ctx: ContextSelectionSet<'a>,
        field: &'a Positioned<Field>,
    ) -> FieldFuture<'a> {
        Box::pin(async move {
            let ctx = ctx.with_field(field);
            let arguments = ctx.data_unchecked::<FieldArguments>();
            let names = arguments.read_once(&ctx, "parent_id", || {
                *ctx.data_unchecked::<Reads>().0.lock() += 1;
                let (_, names) = ctx.param_value::<Vec<String>>("names", None)?;
                check(names).map_err(|error| {
                    async_graphql::Error::from(error).into_server_error(ctx.item.pos)
                })
            });
            let value = match names {
                Ok(names) => {
                    ctx.data_unchecked::<Seen>()
                        .0
                        .lock()
                        .push(Arc::clone(&names));
                    let selection = ctx.with_selection_set(&ctx.item.node.selection_set);
                    branches(&names)
                        .resolve(&selection, ctx.item)
                        .await
                        .map(Some)
                }
                Err(error) => Err(error),
            };
            null_on_error::<Branch>(&ctx, value)
        })
    }

    struct Root;

    #[GraphqlObject]
    impl Root {
        async fn roots(&self) -> Objects<Branch> {
            branches(&["a".to_owned(), "b".to_owned(), "c".to_owned()])
        }
    }

    /// The response, the number of reads, and the arguments that each resolver got.
    fn execute(
        document: &str,
        variables: &Value,
        is_direct: bool,
    ) -> (Response, usize, Vec<Arc<Vec<String>>>) {
        let schema = Schema::build(Root, EmptyMutation, EmptySubscription).finish();
        let (reads, seen) = (Reads::default(), Seen::default());
        let mut request = Request::new(document)
            .variables(Variables::from_json(variables.clone()))
            .data(FieldArguments::default())
            .data(reads.clone())
            .data(seen.clone());
        if is_direct {
            request = request.data(DirectJson);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let response = runtime.block_on(schema.execute(request));
        let reads = *reads.0.lock();
        let seen = seen.0.lock().clone();
        (response, reads, seen)
    }

    #[test]
    fn the_arguments_of_a_field_are_read_once_for_all_parents() {
        let names = json!({ "names": ["x", "y"], "none": [] });
        // The document, the number of fields with arguments, and how many parents they have in total.
        for (document, fields, parents) in [
            ("{ roots { children(names: [\"x\"]) { name } } }", 1, 3),
            (
                "query($names: [String!]!) { roots { children(names: $names) { name } } }",
                1,
                3,
            ),
            (
                "query($names: [String!]!) { roots { a: children(names: $names) { name }
                    b: children(names: $names) { name } c: children(names: \"z\") { name } } }",
                3,
                9,
            ),
            // Two levels: 3 parents, then 6.
            (
                "query($names: [String!]!) { roots { children(names: $names) { name
                    children(names: $names) { name } } } }",
                2,
                9,
            ),
            // A field in a fragment that is spread twice is one field of the document.
            (
                "query($names: [String!]!) { roots { children(names: $names) { ...F } ...F } }
                    fragment F on Branch { name again: children(names: $names) { name } }",
                2,
                12,
            ),
            (
                "query($names: [String!] = [\"p\"]) { roots { ... { children(names: $names) { name } } } }",
                1,
                3,
            ),
            // Two fields with the same response key are merged in a tree of values.
            (
                "{ roots { children(names: [\"x\"]) { name } children(names: [\"x\"]) { one: name } } }",
                2,
                6,
            ),
        ] {
            for is_direct in [false, true] {
                let (response, reads, mut seen) = execute(document, &names, is_direct);
                assert_eq!(response.errors, [], "{document}");
                assert_eq!((reads, seen.len()), (fields, parents), "{document}");
                seen.sort_by_key(Arc::as_ptr);
                seen.dedup_by(|one, other| Arc::ptr_eq(one, other));
                assert_eq!(seen.len(), fields, "{document}");
                assert_like_engine(response, document, &names, is_direct);
            }
        }
    }

    #[test]
    fn an_invalid_argument_is_read_once_and_reported_for_each_parent() {
        let variables = json!({ "none": [], "names": ["x"] });
        for (document, fields, errors) in [
            (
                "query($none: [String!]!) { roots { children(names: $none) { name } } }",
                1,
                3,
            ),
            (
                "query($none: [String!]!, $names: [String!]!) { roots { name
                    children(names: $names) { a: children(names: $none) { name } name } } }",
                2,
                3,
            ),
            (
                "{ roots { a: children(names: []) { name } b: children(names: []) { name } } }",
                2,
                6,
            ),
        ] {
            for is_direct in [false, true] {
                let (response, reads, _) = execute(document, &variables, is_direct);
                assert_eq!(
                    (reads, response.errors.len()),
                    (fields, errors),
                    "{document}"
                );
                let mut paths: Vec<String> = response
                    .errors
                    .iter()
                    .map(|error| format!("{:?}", error.path))
                    .collect();
                paths.dedup();
                assert_eq!(paths.len(), errors, "each error has its own path");
                assert_like_engine(response, document, &variables, is_direct);
            }
        }
    }

    /// Asserts that the response is the same if the engine reads the arguments.
    fn assert_like_engine(response: Response, document: &str, variables: &Value, is_direct: bool) {
        // The aliases keep the response keys, and the spaces keep the locations.
        let document = document
            .replace(": children(", ": CHILDREN(")
            .replace("children(", "children: CHILDREN(")
            .replace("CHILDREN(", "engine(");
        let (mut expected, reads, _) = execute(&document, variables, is_direct);
        assert_eq!(reads, 0);
        let mut response = response;
        for error in response.errors.iter_mut().chain(&mut expected.errors) {
            error.locations.truncate(1);
            for location in &mut error.locations {
                // The alias moves the other fields of the line.
                location.column = 0;
            }
        }
        let text = |response: &Response| String::from_utf8(write_response(response)).unwrap();
        assert_eq!(text(&response), text(&expected), "{document}");
    }
}
