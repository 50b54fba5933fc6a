//! Writes objects as JSON. A field that is ready is written at once. A field that waits leaves a hole, which is filled
//! at the end.

use std::task::{Context as Poller, Poll};

use async_graphql::{
    ContextSelectionSet, ServerError, ServerResult, Value, resolver_utils::ContainerType,
};

use super::{
    FieldKind, SelectedField, Selection, Slot, count_bytes, field_error, null_on_error,
    resolve_field,
};
use crate::graphql::json::{JsonWriter, PlainFields};

/// The JSON of one object, or of a list of objects.
pub(super) struct Text<'a> {
    json: JsonWriter,
    /// The fields that wait or that failed, with the positions of their values, in ascending order.
    holes: Vec<(usize, Slot<'a>)>,
    /// The number of bytes that were counted as a part of the response.
    counted: usize,
    /// The error of a response that has become too long.
    failure: Option<ServerError>,
}

/// The number of uncounted bytes at which a list counts them as a part of the response.
const COUNT_STEP_BYTES: usize = 16 * 1024;

/// The number of bytes to reserve for a field and its key.
const EXPECTED_FIELD_BYTES: usize = 40;

impl<'a> Text<'a> {
    /// Creates an empty JSON text with space for this number of fields.
    pub(super) fn new(fields: usize) -> Self {
        Self {
            json: JsonWriter::with_capacity(fields * EXPECTED_FIELD_BYTES + 2),
            holes: Vec::new(),
            counted: 0,
            failure: None,
        }
    }

    /// Writes a list. Stops when the response has become too long.
    pub(super) fn list<T: ContainerType + PlainFields + 'a>(
        &mut self,
        selection: &Selection<'a, T>,
        ctx: &ContextSelectionSet<'a>,
        items: impl Iterator<Item = (&'a T, &'a ContextSelectionSet<'a>)>,
    ) {
        self.json.raw(b"[");
        for (index, (object, item_ctx)) in items.enumerate() {
            if index > 0 {
                self.json.raw(b",");
            }
            self.object(selection, item_ctx, object);
            if self.json.len() - self.counted > COUNT_STEP_BYTES {
                self.finish(ctx);
                if self.failure.is_some() {
                    return;
                }
            }
        }
        self.json.raw(b"]");
        self.finish(ctx);
    }

    /// Counts the bytes that were written since the last call.
    pub(super) fn finish(&mut self, ctx: &ContextSelectionSet<'_>) {
        let bytes = self.json.len() - self.counted;
        self.counted = self.json.len();
        if let Err(error) = count_bytes(ctx, bytes) {
            self.failure = Some(error);
        }
    }

    /// Writes an object.
    pub(super) fn object<T: ContainerType + PlainFields + 'a>(
        &mut self,
        selection: &Selection<'a, T>,
        ctx: &ContextSelectionSet<'a>,
        object: &'a T,
    ) {
        for (index, selected) in selection.fields.iter().enumerate() {
            self.json.key(index == 0, selected.key());
            self.field(selected, ctx, object);
        }
        self.json.raw(if selection.fields.is_empty() {
            b"{}"
        } else {
            b"}"
        });
    }

    fn field<T: ContainerType + PlainFields + 'a>(
        &mut self,
        selected: &SelectedField<'a, T>,
        ctx: &ContextSelectionSet<'a>,
        object: &'a T,
    ) {
        let slot = match selected.kind {
            FieldKind::Typename => {
                self.json.plain_string(&object.introspection_type_name());
                return;
            }
            FieldKind::Plain(write) => {
                let start = self.json.len();
                let Err(error) = write(object, &mut self.json) else {
                    return;
                };
                self.json.truncate(start);
                let ctx = ctx.with_field(selected.field);
                let error = field_error(&ctx, error);
                Slot::Ready(null_on_error::<T>(&ctx, Err(error)))
            }
            FieldKind::List(resolve) => Slot::Pending(resolve(object, ctx.clone(), selected.field)),
            FieldKind::Resolved => resolve_field(ctx, object, selected.field),
        };
        match slot {
            Slot::Ready(Ok(value)) => self.json.value(&value),
            slot => self.holes.push((self.json.len(), slot)),
        }
    }

    /// Completes when all fields are ready, even if one has failed: dropping a future in the middle of a statement
    /// would end the transaction.
    pub(super) fn poll(&mut self, poller: &mut Poller<'_>) -> Poll<ServerResult<Value>> {
        let mut is_ready = true;
        for (_, slot) in &mut self.holes {
            is_ready &= slot.poll(poller);
        }
        if is_ready {
            Poll::Ready(self.fill())
        } else {
            Poll::Pending
        }
    }

    /// Fills the holes. An error of a non-null field makes the whole object or list fail.
    fn fill(&mut self) -> ServerResult<Value> {
        let text = std::mem::take(&mut self.json).into_bytes();
        if let Some(error) = self.failure.take() {
            return Err(error);
        }
        if self.holes.is_empty() {
            return Ok(Value::Binary(text.into()));
        }
        let holes = self
            .holes
            .drain(..)
            .map(|(at, slot)| Ok((at, slot.into_value()?)));
        let holes = holes.collect::<ServerResult<Vec<_>>>()?;
        let bytes = holes.iter().map(|(_, value)| match value {
            Value::Binary(json) => json.len(),
            _ => EXPECTED_FIELD_BYTES,
        });
        let mut json = JsonWriter::with_capacity(text.len() + bytes.sum::<usize>());
        let mut from = 0;
        for (at, value) in holes {
            json.raw(&text[from..at]);
            json.value(&value);
            from = at;
        }
        json.raw(&text[from..]);
        Ok(Value::Binary(json.into_bytes().into()))
    }
}
