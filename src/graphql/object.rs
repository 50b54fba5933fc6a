//! The executor of objects: keeps the order of the query, and resolves columns without a future.
//!
//! The executor of async-graphql 7.2.1 boxes one future per field and writes the fields in the order in which they
//! complete, which the specification forbids (6.2.2). An [`Object`] walks its selection set once. It writes plain
//! fields immediately and polls other leaves once. A field with a selection set, or a leaf that waits, becomes a boxed
//! future. The response keeps the order of the query. Fragments, `__typename` and merged fields behave as usual;
//! `@skip` and `@include` have been applied to the document before. Extensions of the engine are not called for single
//! fields.
//!
//! The result has one of two forms. With [`DirectJson`], the executor writes the object as JSON (`text.rs`). Without
//! [`DirectJson`], or if two fields with the same response key must merge, the executor builds a tree of values
//! (`tree.rs`). The response has the same data in both forms; errors have the order in which they occurred.

mod text;
mod tree;

use std::{
    borrow::Cow,
    collections::HashSet,
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
    Context, ContextSelectionSet, Name, OutputType, Positioned, ServerError, ServerResult, Value,
    parser::types::{Field, Selection as ParsedSelection, SelectionSet},
    registry::Registry,
    resolver_utils::ContainerType,
};

use super::json::{FieldWriter, PlainFields};
use crate::{error::Error, metrics, usage::Usage};

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

impl<T: ContainerType + PlainFields> OutputType for Object<T> {
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
        let selection = Selection::<T>::new(ctx);
        if selection.is_direct {
            let mut text = text::Text::new(selection.fields.len());
            text.object(&selection, ctx, &*self.0);
            text.finish(ctx);
            return poll_fn(|poller| text.poll(poller)).await;
        }
        let mut fields = tree::Fields::new(&selection, ctx, &*self.0);
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

impl<T: ContainerType + PlainFields> OutputType for Objects<T> {
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
        let selection = Selection::<T>::new(ctx);
        let contexts: Vec<_> = (0..self.0.len())
            .map(|index| ctx.with_index(index))
            .collect();
        let items = self.0.iter().map(|item| &*item.0).zip(&contexts);
        if selection.is_direct {
            let mut text = text::Text::new(self.0.len() * selection.fields.len());
            text.list(&selection, ctx, items);
            return poll_fn(|poller| text.poll(poller)).await;
        }
        let mut list = tree::List::new(&selection, items);
        poll_fn(|poller| list.poll(poller)).await
    }
}

/// A marker in the data of a request: the executor writes objects as JSON, without a tree of values.
#[derive(Clone, Copy, Debug)]
pub struct DirectJson;

/// Up to this number of fields, comparing each key with each other one costs less than hashing them.
const MAX_COMPARED_KEYS: usize = 16;

/// The fields that a query selects of a type, in query order, with fragments expanded.
struct Selection<'a, T> {
    fields: Vec<SelectedField<'a, T>>,
    /// Whether the objects are written as JSON; false if two fields have the same response key.
    is_direct: bool,
}

/// A field that a query selects.
struct SelectedField<'a, T> {
    field: &'a Positioned<Field>,
    kind: FieldKind<T>,
}

enum FieldKind<T> {
    Typename,
    /// A plain field, which can be written directly.
    Plain(FieldWriter<T>),
    /// A list, whose arguments are read once for all objects.
    List(ListResolver<T>),
    Resolved,
}

impl<'a, T: ContainerType + PlainFields> Selection<'a, T> {
    fn new(ctx: &ContextSelectionSet<'a>) -> Self {
        let mut selection = Self {
            fields: Vec::with_capacity(ctx.item.node.items.len()),
            is_direct: ctx.data_opt::<DirectJson>().is_some(),
        };
        selection.collect(ctx, ctx.item);
        if selection.is_direct {
            selection.is_direct = !selection.has_equal_keys();
        }
        selection
    }

    fn collect(&mut self, ctx: &ContextSelectionSet<'a>, set: &'a Positioned<SelectionSet>) {
        for selection in &set.node.items {
            match &selection.node {
                ParsedSelection::Field(field) => {
                    let name = field.node.name.node.as_str();
                    let kind = match T::writer(name) {
                        _ if name == "__typename" => FieldKind::Typename,
                        Some(writer) => FieldKind::Plain(writer),
                        None => match T::list_resolver(name) {
                            Some(resolver) => FieldKind::List(resolver),
                            None => FieldKind::Resolved,
                        },
                    };
                    self.fields.push(SelectedField { field, kind });
                }
                ParsedSelection::FragmentSpread(spread) => {
                    // Validation has rejected unknown fragments.
                    let name = &spread.node.fragment_name.node;
                    if let Some(fragment) = ctx.query_env.fragments.get(name)
                        && matches_type::<T>(ctx, &fragment.node.type_condition.node.on.node)
                    {
                        self.collect(ctx, &fragment.node.selection_set);
                    }
                }
                ParsedSelection::InlineFragment(fragment) => {
                    let condition = fragment.node.type_condition.as_ref();
                    if condition.is_none_or(|on| matches_type::<T>(ctx, &on.node.on.node)) {
                        self.collect(ctx, &fragment.node.selection_set);
                    }
                }
            }
        }
    }

    fn has_equal_keys(&self) -> bool {
        let keys = || self.fields.iter().map(SelectedField::key);
        if self.fields.len() <= MAX_COMPARED_KEYS {
            return keys()
                .enumerate()
                .any(|(index, key)| keys().take(index).any(|one| one == key));
        }
        let mut seen = HashSet::with_capacity(self.fields.len());
        keys().any(|key| !seen.insert(key))
    }
}

impl<T> SelectedField<'_, T> {
    /// The response key: the alias, or the name if there is no alias.
    fn key(&self) -> &Name {
        &self.field.node.response_key().node
    }
}

/// The value of a field that waits.
pub type FieldFuture<'a> = Pin<Box<dyn Future<Output = ServerResult<Value>> + Send + 'a>>;

/// Resolves a list of an object. The engine's resolver would read the arguments of the list again for each object.
pub type ListResolver<T> =
    for<'a> fn(&'a T, ContextSelectionSet<'a>, &'a Positioned<Field>) -> FieldFuture<'a>;

/// The value of a field, or the future that waits for it.
enum Slot<'a> {
    Ready(ServerResult<Value>),
    Pending(FieldFuture<'a>),
}

impl Slot<'_> {
    /// Polls the field. Returns whether its value is ready.
    fn poll(&mut self, poller: &mut Poller<'_>) -> bool {
        if let Slot::Pending(future) = self {
            match future.as_mut().poll(poller) {
                Poll::Ready(value) => *self = Slot::Ready(value),
                Poll::Pending => return false,
            }
        }
        true
    }

    fn into_value(self) -> ServerResult<Value> {
        match self {
            Slot::Ready(value) => value,
            Slot::Pending(_) => unreachable!("BUG: a field is still pending"),
        }
    }
}

fn resolve_field<'a, T: ContainerType>(
    ctx: &ContextSelectionSet<'a>,
    object: &'a T,
    field: &'a Positioned<Field>,
) -> Slot<'a> {
    let is_leaf = field.node.selection_set.node.items.is_empty();
    if is_leaf {
        let ctx = ctx.with_field(field);
        // Pinned on the stack: the future is as large as the largest resolver of the type, and moving
        // it would cost more than resolving a column.
        let future = pin!(object.resolve_field(&ctx));
        if let Poll::Ready(value) = future.poll(&mut Poller::from_waker(Waker::noop())) {
            return Slot::Ready(null_on_error::<T>(&ctx, value));
        }
        // The leaf waits, like `totalCount`. It is resolved again, as a boxed future.
    }
    let ctx = ctx.clone();
    Slot::Pending(Box::pin(async move {
        let ctx = ctx.with_field(field);
        let value = object.resolve_field(&ctx).await;
        null_on_error::<T>(&ctx, value)
    }))
}

/// Counts the bytes of a response while it is built: a row that was fetched once can occur in a response many times.
/// Each run of an operation has its own counter, in the data of its request.
#[derive(Debug)]
pub struct ResponseBytes {
    limit: u64,
    bytes: AtomicU64,
    usage: Arc<Usage>,
}

impl ResponseBytes {
    /// A counter for a response of at most `limit` bytes. The tenant also pays for the bytes of a response that becomes
    /// too long.
    #[must_use]
    pub fn new(limit: u64, usage: Arc<Usage>) -> Self {
        Self {
            limit,
            bytes: AtomicU64::new(0),
            usage,
        }
    }

    /// Counts bytes. Errors: the response is too long.
    fn add(&self, bytes: usize) -> Result<(), Error> {
        let bytes = bytes as u64;
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes <= self.limit {
            return Ok(());
        }
        let was_within = before <= self.limit;
        let unpaid = if was_within { before + bytes } else { bytes };
        self.usage.add_response_bytes(unpaid);
        metrics::RESPONSE_BYTES_EXCEEDED.increment();
        Err(too_long(self.limit))
    }
}

/// The error of a response with more than `limit` bytes.
#[must_use]
pub fn too_long(limit: u64) -> Error {
    Error::TooComplex(format!(
        "the response has more than {limit} bytes: request smaller pages or fewer fields"
    ))
}

/// Counts bytes of the response. Errors: the response is too long.
fn count_bytes(ctx: &ContextSelectionSet<'_>, bytes: usize) -> ServerResult<()> {
    let counted = match ctx.data_opt::<ResponseBytes>() {
        Some(counter) => counter.add(bytes),
        None => Ok(()),
    };
    counted.map_err(|error| {
        let error = async_graphql::Error::from(error).into_server_error(ctx.item.pos);
        ctx.set_error_path(error)
    })
}

/// The error of a field, with its position and path.
fn field_error(ctx: &Context<'_>, error: Error) -> ServerError {
    let error = async_graphql::Error::from(error).into_server_error(ctx.item.pos);
    ctx.set_error_path(error)
}

/// The value of a field. A nullable field that failed is null, and the error is reported
/// (specification, 6.4.4). The engine does this only for errors below the field.
pub(super) fn null_on_error<T: ContainerType>(
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

/// Whether `T` matches the type condition of a fragment: the condition is `T`, or an interface or a union that contains
/// `T`.
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

#[cfg(test)]
mod tests;
