//! Completes the root of a response as the specification demands.

use std::collections::HashSet;

use async_graphql::{
    OutputType as _, PathSegment, Response, ServerError, Value, indexmap::IndexMap,
    registry::MetaType,
};

use super::{
    guard::RootField,
    schema::{Query, registry},
};

/// Completes the root of an answer as the specification demands (6.2.2, 6.4.4) and [`crate::graphql::object::Object`]
/// does below it: fields in the order of the query, and a failed one null, or all of the data if it
/// cannot be null. The engine writes root fields as they complete and leaves failed ones out.
pub(super) fn complete_root(
    response: &mut Response,
    fields: &[RootField],
    nullable: &HashSet<String>,
) {
    let mut given = match std::mem::take(&mut response.data) {
        Value::Object(data) => data,
        // The engine's word for "no field succeeded", and for "nothing was executed".
        _ => IndexMap::new(),
    };
    let has_failed = |key: &str| {
        let at_key = |error: &ServerError| match error.path.first() {
            Some(PathSegment::Field(field)) => field == key,
            _ => false,
        };
        response.errors.iter().any(at_key)
    };
    let mut data = IndexMap::with_capacity(fields.len());
    for RootField { key, name } in fields {
        match given.swap_remove(key) {
            Some(value) => {
                data.insert(key.clone(), value);
            }
            // Neither given nor failed: it was skipped by a directive.
            None if !has_failed(key) => {}
            None if nullable.contains(name.as_str()) => {
                data.insert(key.clone(), Value::Null);
            }
            None => return,
        }
    }
    let was_executed = response.errors.is_empty() || !data.is_empty();
    if was_executed {
        response.data = Value::Object(data);
    }
}

/// The root fields that can be null.
pub(super) fn nullable_root_fields() -> HashSet<String> {
    let registry = registry();
    let query = registry.types.get(&*Query::type_name());
    let fields = query.and_then(MetaType::fields).into_iter().flatten();
    fields
        .filter(|(_, field)| !field.ty.ends_with('!'))
        .map(|(name, _)| name.clone())
        .collect()
}
