//! Directives that say more about a field than its type can.

use async_graphql::TypeDirective;

/// The field is null only beside an error in `errors` that names it: whoever handles those may take it
/// for non-null. It is nullable so that an error takes this field and not its whole object. `levels`
/// are the levels of a list that this holds for; 0 is the field itself.
#[TypeDirective(name = "semanticNonNull", location = "FieldDefinition")]
pub(crate) fn semantic_non_null(
    #[graphql(default_with = "Some(vec![0])")] levels: Option<Vec<i32>>,
) {
}
