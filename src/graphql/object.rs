//! The executor of objects: it keeps the order of the query, and resolves columns without a future.
//!
//! The executor of async-graphql 7.2.1 boxes one future per field and writes the fields in the order in
//! which they complete, which the specification forbids (6.2.2). An [`Object`] walks its selection set
//! once. It resolves columns immediately; only fields that wait for a loader become futures. The
//! response keeps the order of the query. Fragments, `__typename` and merged fields behave as usual;
//! `@skip` and `@include` have been applied to the document before. Extensions do not see single
//! fields.

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
    Context, ContextSelectionSet, Name, OutputType, Positioned, ServerResult, Value,
    indexmap::IndexMap,
    parser::types::{Field, Selection},
    registry::Registry,
    resolver_utils::ContainerType,
};

use crate::error::Error;

/// A GraphQL object: a row, or a plain struct. `T` derives `SimpleObject` as usual.
///
/// Rows are shared and not cloned.
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

/// A list of non-null objects.
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
        // All items start before the first one is awaited, so that their loads form one batch.
        let contexts: Vec<_> = (0..self.0.len())
            .map(|index| ctx.with_index(index))
            .collect();
        let mut items = Vec::with_capacity(self.0.len());
        for (item, ctx) in self.0.iter().zip(&contexts) {
            let mut fields = Fields::default();
            fields.collect(ctx, &*item.0);
            items.push(Item::Pending(fields));
        }
        poll_fn(|poller| {
            let mut is_pending = false;
            for item in &mut items {
                if let Item::Pending(fields) = item {
                    match fields.poll(poller) {
                        Poll::Ready(value) => *item = Item::Ready(value),
                        Poll::Pending => is_pending = true,
                    }
                }
            }
            if is_pending {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
        let values = items.into_iter().map(|item| match item {
            Item::Ready(value) => value,
            Item::Pending(_) => unreachable!("BUG: an item is still pending"),
        });
        Ok(Value::List(values.collect::<ServerResult<_>>()?))
    }
}

enum Item<'a> {
    Pending(Fields<'a>),
    Ready(ServerResult<Value>),
}

type FieldFuture<'a> = Pin<Box<dyn Future<Output = ServerResult<Value>> + Send + 'a>>;

enum Slot<'a> {
    Ready(ServerResult<Value>),
    Pending(FieldFuture<'a>),
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
                    // Validation has rejected unknown fragments.
                    let name = &spread.node.fragment_name.node;
                    if let Some(fragment) = ctx.query_env.fragments.get(name)
                        && matches_type::<T>(ctx, &fragment.node.type_condition.node.on.node)
                    {
                        self.collect(
                            &ctx.with_selection_set(&fragment.node.selection_set),
                            object,
                        );
                    }
                }
                Selection::InlineFragment(fragment) => {
                    let condition = fragment.node.type_condition.as_ref();
                    if condition.is_none_or(|on| matches_type::<T>(ctx, &on.node.on.node)) {
                        self.collect(
                            &ctx.with_selection_set(&fragment.node.selection_set),
                            object,
                        );
                    }
                }
            }
        }
    }

    /// Ready when all fields are ready, even if one has failed: dropping a future in the middle of a
    /// statement would end the transaction.
    fn poll(&mut self, poller: &mut Poller<'_>) -> Poll<ServerResult<Value>> {
        let mut is_pending = false;
        for (_, slot) in &mut self.0 {
            if let Slot::Pending(future) = slot {
                match future.as_mut().poll(poller) {
                    Poll::Ready(value) => *slot = Slot::Ready(value),
                    Poll::Pending => is_pending = true,
                }
            }
        }
        if is_pending {
            Poll::Pending
        } else {
            Poll::Ready(self.take())
        }
    }

    fn take(&mut self) -> ServerResult<Value> {
        let mut object = IndexMap::with_capacity(self.0.len());
        for (key, slot) in self.0.drain(..) {
            let Slot::Ready(value) = slot else {
                unreachable!("BUG: a field is still pending")
            };
            // An error of a non-null field makes the whole object null.
            let value = value?;
            match object.get_mut(&key) {
                Some(first) => merge_selections(first, value),
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
        return Slot::Ready(Ok(Value::String(
            object.introspection_type_name().into_owned(),
        )));
    }
    let is_leaf = field.node.selection_set.node.items.is_empty();
    if is_leaf {
        let ctx = ctx.with_field(field);
        // Pinned on the stack: the future is as large as the largest resolver of the type, and moving
        // it would cost more than resolving a column.
        let future = pin!(object.resolve_field(&ctx));
        if let Poll::Ready(value) = future.poll(&mut Poller::from_waker(Waker::noop())) {
            return Slot::Ready(null_on_error::<T>(&ctx, limit_strings(&ctx, value)));
        }
        // A leaf that waits, like `totalCount`: it is resolved again as a boxed future.
    }
    let ctx = ctx.clone();
    Slot::Pending(Box::pin(async move {
        let ctx = ctx.with_field(field);
        let value = object.resolve_field(&ctx).await;
        null_on_error::<T>(&ctx, value)
    }))
}

/// The maximum number of bytes of long strings in one response. A response can contain a row more often
/// than it was fetched.
const MAX_LONG_STRING_BYTES: u64 = 32 * 1024 * 1024;
/// Strings of at most this many bytes do not count, because the number of values limits them.
const MAX_SHORT_STRING_BYTES: usize = 256;

/// Counts the bytes of the long strings in one response. Each run of an operation has its own, in the
/// data of its request.
#[derive(Debug, Default)]
pub struct LongStringBytes(AtomicU64);

impl LongStringBytes {
    /// Adds bytes and returns the sum.
    fn add(&self, bytes: u64) -> u64 {
        self.0.fetch_add(bytes, Ordering::Relaxed) + bytes
    }
}

/// Returns the value of a field, or an error if its string makes the response too long.
fn limit_strings(
    ctx: &Context<'_>,
    value: ServerResult<Option<Value>>,
) -> ServerResult<Option<Value>> {
    let long = match &value {
        Ok(Some(Value::String(text))) if text.len() > MAX_SHORT_STRING_BYTES => text.len() as u64,
        _ => return value,
    };
    match ctx.data_opt::<LongStringBytes>() {
        Some(counter) if counter.add(long) > MAX_LONG_STRING_BYTES => {
            let error = Error::TooComplex(format!(
                "the response has more than {MAX_LONG_STRING_BYTES} bytes in long strings: request smaller pages"
            ));
            let error = async_graphql::Error::from(error).into_server_error(ctx.item.pos);
            Err(ctx.set_error_path(error))
        }
        _ => value,
    }
}

/// The value of a field. A nullable field that failed is null, and the error is reported
/// (specification, 6.4.4). The engine does this only for errors below the field.
fn null_on_error<T: ContainerType>(
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

/// Whether `T` matches the type condition of a fragment: its own name, or an interface or union of it.
fn matches_type<T: ContainerType>(ctx: &ContextSelectionSet<'_>, condition: &str) -> bool {
    let name = T::type_name();
    name == condition
        || ctx
            .schema_env
            .registry
            .types
            .get(condition)
            .is_some_and(|named| named.is_possible_type(&name))
}

/// Merges the values of a field that was selected twice (specification, 6.3.3).
fn merge_selections(first: &mut Value, second: Value) {
    match (first, second) {
        (Value::Object(first), Value::Object(second)) => {
            for (key, value) in second {
                match first.get_mut(&key) {
                    Some(known) => merge_selections(known, value),
                    None => {
                        first.insert(key, value);
                    }
                }
            }
        }
        (Value::List(first), Value::List(second)) => {
            for (known, value) in first.iter_mut().zip(second) {
                merge_selections(known, value);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
