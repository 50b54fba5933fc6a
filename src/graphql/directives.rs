//! Directives of the schema.

use async_graphql::TypeDirective;

/// The field is null only if `errors` has an error with the path of the field. A client that handles these errors can
/// treat the field as non-null. The field is nullable so that an error sets only the field to null, and not the whole
/// object. `levels` are the list levels to which the directive applies; 0 is the field itself.
#[TypeDirective(name = "semanticNonNull", location = "FieldDefinition")]
pub(crate) fn semantic_non_null(
    #[graphql(default_with = "Some(vec![0])")] levels: Option<Vec<i32>>,
) {
}
