//! Resolves plain columns without a future each, and fields in query order.
//!
//! The executor of async-graphql 7.2.1 boxes one future per field and writes fields in the order in
//! which they complete, which the specification forbids (6.2.2). An [`Object`] walks its selection
//! once: a column is resolved on the spot, only what waits for a loader becomes a future, and the
//! answer keeps the query's order. Fragments, `__typename` and merged fields behave as usual;
//! `@skip` and `@include` were applied to the document before. Extensions see no single fields.

use std::{
    borrow::Cow,
    future::poll_fn,
    ops::Deref,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context as Poller, Poll, Waker},
};

use async_graphql::{
    CacheControl, Context, ContextSelectionSet, Name, OutputType, Positioned, ServerResult, Value,
    indexmap::IndexMap,
    parser::types::{Field, Selection},
    registry::{Deprecation, MetaField, MetaType, MetaTypeId, Registry},
    resolver_utils::ContainerType,
};

use crate::error::Error;

/// A row, or a plain value of several fields, as a GraphQL object.
///
/// `T` derives `SimpleObject` as always. Rows are shared and not cloned.
#[derive(Debug)]
pub struct Object<T>(Arc<T>);

impl<T> Clone for Object<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for Object<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> From<T> for Object<T> {
    fn from(value: T) -> Self {
        Self(Arc::new(value))
    }
}

impl<T> From<Arc<T>> for Object<T> {
    fn from(row: Arc<T>) -> Self {
        Self(row)
    }
}

impl<T: ContainerType> OutputType for Object<T> {
    fn type_name() -> Cow<'static, str> {
        T::type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        T::create_type_info(registry)
    }

    async fn resolve(
        &self,
        ctx: &ContextSelectionSet<'_>,
        _: &Positioned<Field>,
    ) -> ServerResult<Value> {
        let mut fields = Fields::default();
        fields.collect(ctx, &*self.0);
        poll_fn(|poller| fields.poll(poller)).await
    }
}

/// A list of objects, none of them null.
#[derive(Debug)]
pub struct Objects<T>(pub Vec<Object<T>>);

impl<T, I: Into<Object<T>>> FromIterator<I> for Objects<T> {
    fn from_iter<C: IntoIterator<Item = I>>(items: C) -> Self {
        Self(items.into_iter().map(Into::into).collect())
    }
}

impl<T: ContainerType> OutputType for Objects<T> {
    fn type_name() -> Cow<'static, str> {
        Cow::Owned(format!("[{}]", Object::<T>::qualified_type_name()))
    }

    fn create_type_info(registry: &mut Registry) -> String {
        T::create_type_info(registry);
        Self::qualified_type_name()
    }

    async fn resolve(
        &self,
        ctx: &ContextSelectionSet<'_>,
        _: &Positioned<Field>,
    ) -> ServerResult<Value> {
        // Every item is asked before any is waited for, so that their loads make one batch.
        let contexts: Vec<_> = (0..self.0.len())
            .map(|index| ctx.with_index(index))
            .collect();
        let mut items = Vec::with_capacity(self.0.len());
        for (item, ctx) in self.0.iter().zip(&contexts) {
            let mut fields = Fields::default();
            fields.collect(ctx, &*item.0);
            items.push(Item::Waiting(fields));
        }
        poll_fn(|poller| {
            let mut waits = false;
            for item in &mut items {
                if let Item::Waiting(fields) = item {
                    match fields.poll(poller) {
                        Poll::Ready(value) => *item = Item::Done(value),
                        Poll::Pending => waits = true,
                    }
                }
            }
            if waits {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
        let values = items.into_iter().map(|item| match item {
            Item::Done(value) => value,
            Item::Waiting(_) => unreachable!("BUG: the list was waited for"),
        });
        Ok(Value::List(values.collect::<ServerResult<_>>()?))
    }
}

enum Item<'a> {
    Waiting(Fields<'a>),
    Done(ServerResult<Value>),
}

type FieldFuture<'a> = Pin<Box<dyn Future<Output = ServerResult<Value>> + Send + 'a>>;

enum Slot<'a> {
    Done(ServerResult<Value>),
    Waiting(FieldFuture<'a>),
}

/// The selected fields of one object, in query order.
#[derive(Default)]
struct Fields<'a>(Vec<(Name, Slot<'a>)>);

impl<'a> Fields<'a> {
    fn collect<T: ContainerType>(&mut self, ctx: &ContextSelectionSet<'a>, object: &'a T) {
        self.0.reserve(ctx.item.node.items.len());
        for selection in &ctx.item.node.items {
            match &selection.node {
                Selection::Field(field) => {
                    let key = field.node.response_key().node.clone();
                    self.0.push((key, resolve_field(ctx, object, field)));
                }
                Selection::FragmentSpread(spread) => {
                    // Unknown fragments were refused by validation.
                    let name = &spread.node.fragment_name.node;
                    if let Some(fragment) = ctx.query_env.fragments.get(name)
                        && applies::<T>(ctx, &fragment.node.type_condition.node.on.node)
                    {
                        self.collect(
                            &ctx.with_selection_set(&fragment.node.selection_set),
                            object,
                        );
                    }
                }
                Selection::InlineFragment(fragment) => {
                    let condition = fragment.node.type_condition.as_ref();
                    if condition.is_none_or(|on| applies::<T>(ctx, &on.node.on.node)) {
                        self.collect(
                            &ctx.with_selection_set(&fragment.node.selection_set),
                            object,
                        );
                    }
                }
            }
        }
    }

    /// Ready when every field is, also if one has failed: a future that is dropped in the middle
    /// of a statement would take the transaction with it.
    fn poll(&mut self, poller: &mut Poller<'_>) -> Poll<ServerResult<Value>> {
        let mut waits = false;
        for (_, slot) in &mut self.0 {
            if let Slot::Waiting(future) = slot {
                match future.as_mut().poll(poller) {
                    Poll::Ready(value) => *slot = Slot::Done(value),
                    Poll::Pending => waits = true,
                }
            }
        }
        if waits {
            Poll::Pending
        } else {
            Poll::Ready(self.take())
        }
    }

    fn take(&mut self) -> ServerResult<Value> {
        let mut object = IndexMap::with_capacity(self.0.len());
        for (key, slot) in self.0.drain(..) {
            let Slot::Done(value) = slot else {
                unreachable!("BUG: the field was waited for")
            };
            // An error here is that of a non-null field: it makes the whole object null.
            let value = value?;
            match object.get_mut(&key) {
                Some(first) => merge(first, value),
                None => {
                    object.insert(key, value);
                }
            }
        }
        Ok(Value::Object(object))
    }
}

fn resolve_field<'a, T: ContainerType>(
    ctx: &ContextSelectionSet<'a>,
    object: &'a T,
    field: &'a Positioned<Field>,
) -> Slot<'a> {
    if field.node.name.node == "__typename" {
        return Slot::Done(Ok(Value::String(
            object.introspection_type_name().into_owned(),
        )));
    }
    let is_leaf = field.node.selection_set.node.items.is_empty();
    if is_leaf {
        let ctx = ctx.with_field(field);
        // Pinned where it is made: it has room for the largest resolver of the type, and moving it
        // would cost more than resolving a column.
        let future = pin!(object.resolve_field(&ctx));
        if let Poll::Ready(value) = future.poll(&mut Poller::from_waker(Waker::noop())) {
            return Slot::Done(or_null::<T>(&ctx, bounded(&ctx, value)));
        }
        // A leaf that waits, like `totalCount`: it is started again as a future of its own.
    }
    let ctx = ctx.clone();
    Slot::Waiting(Box::pin(async move {
        let ctx = ctx.with_field(field);
        let value = object.resolve_field(&ctx).await;
        or_null::<T>(&ctx, value)
    }))
}

/// Most bytes of long texts in one answer. Rows may be in it more often than they were fetched.
const MAX_TEXT: u64 = 32 * 1024 * 1024;
/// Texts of at most so many bytes are not counted: the number of values bounds them.
const SHORT: usize = 256;

/// Counts the bytes of the long strings in one response. Each run of an operation has its own, in the
/// data of its request.
#[derive(Debug, Default)]
pub struct ResponseText(AtomicU64);

impl ResponseText {
    /// Adds bytes and returns the sum.
    fn add(&self, bytes: u64) -> u64 {
        self.0.fetch_add(bytes, Ordering::Relaxed) + bytes
    }
}

/// Rejects a string that makes the response too long.
fn bounded(ctx: &Context<'_>, value: ServerResult<Option<Value>>) -> ServerResult<Option<Value>> {
    let long = match &value {
        Ok(Some(Value::String(text))) if text.len() > SHORT => text.len() as u64,
        _ => return value,
    };
    match ctx.data_opt::<ResponseText>() {
        Some(counter) if counter.add(long) > MAX_TEXT => {
            let error = Error::TooComplex(format!(
                "the answer has more than {MAX_TEXT} bytes of text: ask for smaller pages"
            ));
            let error = async_graphql::Error::from(error).into_server_error(ctx.item.pos);
            Err(ctx.set_error_path(error))
        }
        _ => value,
    }
}

/// The value of a field. One that can be null is null if it has failed, beside its error
/// (specification, 6.4.4); the engine itself does so only for what fails below the field.
fn or_null<T: ContainerType>(
    ctx: &Context<'_>,
    value: ServerResult<Option<Value>>,
) -> ServerResult<Value> {
    let error = match value {
        Ok(value) => return Ok(value.unwrap_or_default()),
        Err(error) => error,
    };
    let registry = &ctx.schema_env.registry;
    let field = registry
        .types
        .get(&*T::type_name())
        .and_then(|named| named.field_by_name(&ctx.item.node.name.node));
    if field.is_some_and(|field| !field.ty.ends_with('!')) {
        ctx.add_error(error);
        return Ok(Value::Null);
    }
    Err(error)
}

/// Whether a fragment's type condition holds for `T`: its own name, an interface or a union of it.
fn applies<T: ContainerType>(ctx: &ContextSelectionSet<'_>, condition: &str) -> bool {
    let name = T::type_name();
    name == condition
        || ctx
            .schema_env
            .registry
            .types
            .get(condition)
            .is_some_and(|named| named.is_possible_type(&name))
}

/// Merges a field that was selected twice (specification, 6.3.3).
fn merge(first: &mut Value, second: Value) {
    match (first, second) {
        (Value::Object(first), Value::Object(second)) => {
            for (key, value) in second {
                match first.get_mut(&key) {
                    Some(known) => merge(known, value),
                    None => {
                        first.insert(key, value);
                    }
                }
            }
        }
        (Value::List(first), Value::List(second)) => {
            for (known, value) in first.iter_mut().zip(second) {
                merge(known, value);
            }
        }
        _ => {}
    }
}

/// Registers a union. `members` registers its members and names them.
pub(crate) fn union<T: OutputType>(
    registry: &mut Registry,
    description: &str,
    mut members: impl FnMut(&mut Registry) -> Vec<String>,
) -> String {
    registry.create_output_type::<T, _>(MetaTypeId::Union, |registry| MetaType::Union {
        name: T::type_name().into_owned(),
        description: Some(description.to_owned()),
        possible_types: members(registry).into_iter().collect(),
        visible: None,
        inaccessible: false,
        tags: Vec::new(),
        rust_typename: Some(std::any::type_name::<T>()),
        directive_invocations: Vec::new(),
    })
}

/// Registers an interface of things with an id. `members` registers its members and names them.
pub(crate) fn interface<T: OutputType>(
    registry: &mut Registry,
    description: &str,
    mut members: impl FnMut(&mut Registry) -> Vec<String>,
) -> String {
    registry.create_output_type::<T, _>(MetaTypeId::Interface, |registry| {
        let members = members(registry);
        for member in &members {
            registry.add_implements(member, &T::type_name());
        }
        let id = MetaField {
            name: "id".to_owned(),
            description: Some("The ID, unique across all types.".to_owned()),
            args: IndexMap::new(),
            ty: <async_graphql::ID as OutputType>::create_type_info(registry),
            deprecation: Deprecation::NoDeprecated,
            cache_control: CacheControl::default(),
            external: false,
            requires: None,
            provides: None,
            visible: None,
            shareable: false,
            inaccessible: false,
            tags: Vec::new(),
            override_from: None,
            compute_complexity: None,
            directive_invocations: Vec::new(),
            requires_scopes: Vec::new(),
        };
        MetaType::Interface {
            name: T::type_name().into_owned(),
            description: Some(description.to_owned()),
            fields: IndexMap::from_iter([("id".to_owned(), id)]),
            possible_types: members.into_iter().collect(),
            extends: false,
            keys: None,
            visible: None,
            inaccessible: false,
            tags: Vec::new(),
            rust_typename: Some(std::any::type_name::<T>()),
            directive_invocations: Vec::new(),
            requires_scopes: Vec::new(),
        }
    })
}

/// A union or interface whose members are [`Object`]s, resolved like them.
///
/// ```text
/// abstract_type! {
///     /// Who did it.
///     union AuditActor { User(User), SystemActor(SystemActor) }
/// }
/// ```
macro_rules! abstract_type {
    ($(#[doc = $doc:literal])+ $kind:ident $name:ident { $($variant:ident($member:ty)),+ $(,)? }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug)]
        pub enum $name {
            $(
                #[doc = concat!("A `", stringify!($variant), "`.")]
                $variant($crate::graphql::object::Object<$member>)
            ),+
        }

        $(impl From<std::sync::Arc<$member>> for $name {
            fn from(row: std::sync::Arc<$member>) -> Self {
                Self::$variant(row.into())
            }
        })+

        impl async_graphql::OutputType for $name {
            fn type_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn introspection_type_name(&self) -> std::borrow::Cow<'static, str> {
                match self {
                    $(Self::$variant(_) => <$member as async_graphql::OutputType>::type_name()),+
                }
            }

            fn create_type_info(registry: &mut async_graphql::registry::Registry) -> String {
                let description = concat!($($doc),+).trim();
                $crate::graphql::object::$kind::<Self>(registry, description, |registry| vec![
                    $(
                        {
                            <$member as async_graphql::OutputType>::create_type_info(registry);
                            <$member as async_graphql::OutputType>::type_name().into_owned()
                        }
                    ),+
                ])
            }

            async fn resolve(
                &self,
                ctx: &async_graphql::ContextSelectionSet<'_>,
                field: &async_graphql::Positioned<async_graphql::parser::types::Field>,
            ) -> async_graphql::ServerResult<async_graphql::Value> {
                match self {
                    $(Self::$variant(object) => object.resolve(ctx, field).await),+
                }
            }
        }
    };
}
pub(crate) use abstract_type;

#[cfg(test)]
mod tests {
    use async_graphql::{
        ComplexObject, EmptyMutation, EmptySubscription, Object as GraphqlObject, Request,
        Response, Schema, SimpleObject, Variables,
    };
    use futures_util::future::join_all;

    use super::*;

    /// What it leads to resolves only after `late` turns of the executor, so that fields complete in
    /// another order than they were asked for.
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

    abstract_type! {
        /// Either.
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

        /// Fails in leaves of an odd size.
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

    struct Root;

    #[GraphqlObject]
    impl Root {
        async fn leaf(&self, #[graphql(default)] size: i32) -> Option<Object<Leaf>> {
            Some(leaf("root", size))
        }
    }

    fn answer_with(document: &str, variables: serde_json::Value) -> Response {
        let schema = Schema::build(Root, EmptyMutation, EmptySubscription).finish();
        let request = Request::new(document).variables(Variables::from_json(variables));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(schema.execute(request))
    }

    fn answer(document: &str) -> Response {
        answer_with(document, serde_json::Value::Null)
    }

    /// The data of an answer without errors, as it goes out.
    fn data(document: &str) -> String {
        let answer = answer(document);
        assert!(answer.errors.is_empty(), "{:?}", answer.errors);
        serde_json::to_string(&answer.data).unwrap()
    }

    /// The data, and the path of every error.
    fn failed(document: &str) -> (String, Vec<String>) {
        let answer = answer(document);
        let paths = answer.errors.iter().map(|error| {
            assert_eq!(error.message, "odd");
            serde_json::to_string(&error.path).unwrap()
        });
        (
            serde_json::to_string(&answer.data).unwrap(),
            paths.collect(),
        )
    }

    #[test]
    fn fields_keep_the_order_of_the_query_however_late_they_complete() {
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
    fn a_field_that_is_selected_twice_stands_where_it_first_was_and_holds_both_selections() {
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
    fn the_name_of_the_type_is_that_of_the_object_behind_a_union() {
        assert_eq!(
            data("{ leaf { __typename t: thing(stone: true) { __typename } u: thing(stone: false) { __typename }
                           v: __typename } }"),
            r#"{"leaf":{"__typename":"Leaf","t":{"__typename":"Stone"},"u":{"__typename":"Leaf"},"v":"Leaf"}}"#,
        );
    }

    #[test]
    fn fragments_apply_by_the_type_itself_and_by_its_union() {
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
    fn a_selection_of_which_everything_is_skipped_is_an_empty_object() {
        let document = "query ($yes: Boolean!) { leaf { name @skip(if: $yes)
            child(late: 1) { size @skip(if: $yes) name @include(if: false) }
            ... @skip(if: $yes) { size } ...F @skip(if: $yes)
            children(amount: 1) @include(if: $yes) { name @skip(if: $yes) }
            thing(stone: true) { ... on Stone @skip(if: $yes) { name } } } }
            fragment F on Leaf { size }";
        let skipped = answer_with(document, serde_json::json!({ "yes": true }));
        assert!(skipped.errors.is_empty(), "{:?}", skipped.errors);
        assert_eq!(
            serde_json::to_string(&skipped.data).unwrap(),
            r#"{"leaf":{"child":{},"children":[{}],"thing":{}}}"#,
        );
        let kept = answer_with(document, serde_json::json!({ "yes": false }));
        assert!(kept.errors.is_empty(), "{:?}", kept.errors);
        assert_eq!(
            serde_json::to_string(&kept.data).unwrap(),
            r#"{"leaf":{"name":"root","child":{"size":1},"size":0,"thing":{"name":"root"}}}"#,
        );
        assert_eq!(data("{ leaf { name @skip(if: true) } }"), r#"{"leaf":{}}"#);
    }

    #[test]
    fn a_failed_field_that_cannot_be_null_makes_its_object_null() {
        assert_eq!(
            failed("{ leaf(size: 1) { name must } }"),
            (
                r#"{"leaf":null}"#.to_owned(),
                vec![r#"["leaf","must"]"#.to_owned()]
            ),
        );
        // Up to the next field that can be null, past one that cannot.
        assert_eq!(
            failed("{ leaf { name child(late: 1) { size x: mustLater { name } } } }"),
            (
                r#"{"leaf":null}"#.to_owned(),
                vec![r#"["leaf","child","x"]"#.to_owned()]
            ),
        );
    }

    #[test]
    fn a_failed_field_that_can_be_null_is_null_beside_its_error() {
        assert_eq!(
            failed("{ leaf(size: 1) { name a: may { name } size b: nothing { name } } }"),
            (
                r#"{"leaf":{"name":"root","a":null,"size":1,"b":null}}"#.to_owned(),
                vec![r#"["leaf","a"]"#.to_owned()],
            ),
        );
    }

    #[test]
    fn an_error_in_a_list_names_the_place_of_its_item() {
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
    fn every_item_of_a_list_is_asked_before_any_is_waited_for() {
        use std::sync::atomic::{AtomicUsize, Ordering};

        static ASKED: AtomicUsize = AtomicUsize::new(0);

        #[derive(SimpleObject)]
        #[graphql(complex)]
        struct Item {
            n: usize,
        }

        #[ComplexObject]
        impl Item {
            /// How many items had been asked by the time that this one's first wait was over.
            async fn asked(&self) -> Option<Object<Stone>> {
                ASKED.fetch_add(1, Ordering::Relaxed);
                turns(1).await;
                Some(
                    Stone {
                        name: ASKED.load(Ordering::Relaxed).to_string(),
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
        let answers =
            runtime.block_on(join_all([schema.execute("{ items { n asked { name } } }")]));
        let items: Vec<String> = (0..5)
            .map(|n| format!(r#"{{"n":{n},"asked":{{"name":"5"}}}}"#))
            .collect();
        assert_eq!(
            serde_json::to_string(&answers[0].data).unwrap(),
            format!(r#"{{"items":[{}]}}"#, items.join(",")),
        );
    }
}
