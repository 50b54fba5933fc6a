//! Completes the root of a response.

use std::collections::HashSet;

use async_graphql::{
    OutputType as _, PathSegment, Response, ServerError, Value, indexmap::IndexMap,
    registry::MetaType,
};

use super::{
    guard::RootField,
    schema::{Query, registry},
};

/// Completes the root of a response as the specification requires (6.2.2, 6.4.4): the fields have the order of the
/// query, and a failed field is null. If the failed field is non-null, `data` is null.
///
/// [`Object`](crate::graphql::object::Object) does the same below the root. The engine writes root
/// fields in the order in which they complete and omits failed ones.
pub(super) fn complete_root(
    response: &mut Response,
    fields: &[RootField],
    nullable: &HashSet<String>,
) {
    let mut values = match std::mem::take(&mut response.data) {
        Value::Object(data) => data,
        // The engine returns null both if no field succeeded and if nothing was executed.
        _ => IndexMap::new(),
    };
    // Usually nothing is missing, and the fields have the right order.
    if !values.is_empty() && values.keys().eq(fields.iter().map(|field| &field.key)) {
        response.data = Value::Object(values);
        return;
    }
    let has_failed = |key: &str| {
        let at_key = |error: &ServerError| match error.path.first() {
            Some(PathSegment::Field(field)) => field == key,
            _ => false,
        };
        response.errors.iter().any(at_key)
    };
    let mut data = IndexMap::with_capacity(fields.len());
    for RootField { key, name } in fields {
        match values.swap_remove(key) {
            Some(value) => {
                data.insert(key.clone(), value);
            }
            // The field has neither a value nor an error: a directive skipped it.
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

/// The names of the nullable root fields of queries.
pub(super) fn nullable_root_fields() -> HashSet<String> {
    let registry = registry();
    let query = registry.types.get(&*Query::type_name());
    let fields = query.and_then(MetaType::fields).into_iter().flatten();
    fields
        .filter(|(_, field)| !field.ty.ends_with('!'))
        .map(|(name, _)| name.clone())
        .collect()
}
