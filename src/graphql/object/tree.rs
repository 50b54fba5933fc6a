//! Objects as trees of values.

use std::task::{Context as Poller, Poll};

use async_graphql::{
    ContextSelectionSet, Name, ServerResult, Value, indexmap::IndexMap,
    resolver_utils::ContainerType,
};

use super::{FieldKind, Selection, Slot, count_bytes, resolve_field};
use crate::graphql::json::{estimated_bytes, expand};

/// The selected fields of one object, in query order.
pub(super) struct Fields<'a>(Vec<(Name, Slot<'a>)>);

impl<'a> Fields<'a> {
    pub(super) fn new<T: ContainerType + 'a>(
        selection: &Selection<'a, T>,
        ctx: &ContextSelectionSet<'a>,
        object: &'a T,
    ) -> Self {
        let mut bytes = 0;
        let fields = selection.fields.iter().map(|selected| {
            let slot = match selected.kind {
                FieldKind::Typename => {
                    let name = object.introspection_type_name().into_owned();
                    Slot::Ready(Ok(Value::String(name)))
                }
                FieldKind::List(resolve) => {
                    Slot::Pending(resolve(object, ctx.clone(), selected.field))
                }
                FieldKind::Plain(_) | FieldKind::Resolved => {
                    resolve_field(ctx, object, selected.field)
                }
            };
            bytes += selected.key().len();
            if let Slot::Ready(Ok(value)) = &slot {
                bytes += estimated_bytes(value);
            }
            (selected.key().clone(), slot)
        });
        let mut fields: Vec<_> = fields.collect();
        if let Err(error) = count_bytes(ctx, bytes)
            && let Some((_, first)) = fields.first_mut()
        {
            // The whole object fails.
            *first = Slot::Ready(Err(error));
        }
        Self(fields)
    }

    /// Completes when all fields are ready, even if one has failed: dropping a future in the middle of a statement
    /// would end the transaction.
    pub(super) fn poll(&mut self, poller: &mut Poller<'_>) -> Poll<ServerResult<Value>> {
        let mut is_ready = true;
        for (_, slot) in &mut self.0 {
            is_ready &= slot.poll(poller);
        }
        if is_ready {
            Poll::Ready(self.take())
        } else {
            Poll::Pending
        }
    }

    fn take(&mut self) -> ServerResult<Value> {
        let mut object = IndexMap::with_capacity(self.0.len());
        for (key, slot) in self.0.drain(..) {
            // An error of a non-null field makes the whole object null.
            let value = slot.into_value()?;
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

/// The items of a list.
pub(super) struct List<'a>(Vec<Item<'a>>);

enum Item<'a> {
    Pending(Fields<'a>),
    Ready(ServerResult<Value>),
}

impl<'a> List<'a> {
    pub(super) fn new<T: ContainerType + 'a>(
        selection: &Selection<'a, T>,
        items: impl Iterator<Item = (&'a T, &'a ContextSelectionSet<'a>)>,
    ) -> Self {
        let items = items.map(|(item, ctx)| Item::Pending(Fields::new(selection, ctx, item)));
        Self(items.collect())
    }

    pub(super) fn poll(&mut self, poller: &mut Poller<'_>) -> Poll<ServerResult<Value>> {
        let mut is_ready = true;
        for item in &mut self.0 {
            if let Item::Pending(fields) = item {
                match fields.poll(poller) {
                    Poll::Ready(value) => *item = Item::Ready(value),
                    Poll::Pending => is_ready = false,
                }
            }
        }
        if !is_ready {
            return Poll::Pending;
        }
        let values = self.0.drain(..).map(|item| match item {
            Item::Ready(value) => value,
            Item::Pending(_) => unreachable!("BUG: an item is still pending"),
        });
        Poll::Ready(values.collect::<ServerResult<_>>().map(Value::List))
    }
}

/// Merges the values of a field that was selected twice (specification, 6.3.3).
fn merge_selections(first: &mut Value, mut second: Value) {
    expand(first);
    expand(&mut second);
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
