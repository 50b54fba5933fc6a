//! Builds the arguments of a field from the schema.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{
    data::{TenantData, twin},
    schema::{Field, Kind, Schema},
};

/// How often a type may be nested in itself, such as a filter in its `or`.
const MAX_NESTING: usize = 2;

/// A scalar or an enum value in the arguments of a field.
#[derive(Clone, Debug)]
pub struct Leaf<'s> {
    /// The place in the variables, as a JSON pointer: `/input/lineItems/0/productId`.
    pub pointer: String,
    /// The argument or the input field.
    pub field: &'s Field,
    /// The name of the input type; empty for an argument.
    pub owner: &'s str,
    /// The input field through which `owner` was reached, such as `organizationId` for the `eq` of its filter.
    pub through: &'s str,
    /// Whether the place is below a type that is nested in itself.
    pub is_nested: bool,
}

impl Leaf<'_> {
    /// The place without the positions of lists, for people: `input.lineItems.productId`.
    #[must_use]
    pub fn path(&self) -> String {
        let parts = self.pointer.split('/').skip(1);
        let parts: Vec<&str> = parts.filter(|part| *part != "0").collect();
        parts.join(".")
    }

    /// Whether the value names an object: an id, or a UUID.
    #[must_use]
    pub fn is_id(&self) -> bool {
        matches!(self.field.type_name.as_str(), "ID" | "UUID")
    }

    /// Whether the value is a string that a user has chosen.
    #[must_use]
    pub fn is_string(&self) -> bool {
        self.field.type_name == "String"
    }
}

/// Every leaf of these arguments, at any depth.
#[must_use]
pub fn leaves<'s>(schema: &'s Schema, args: &'s [Field]) -> Vec<Leaf<'s>> {
    let mut found = Vec::new();
    collect(schema, args, ("", ""), "", &mut Vec::new(), &mut found);
    found
}

fn collect<'s>(
    schema: &'s Schema,
    fields: &'s [Field],
    (owner, through): (&'s str, &'s str),
    at: &str,
    path: &mut Vec<&'s str>,
    found: &mut Vec<Leaf<'s>>,
) {
    for field in fields {
        let mut pointer = format!("{at}/{}", field.name);
        if field.is_list() {
            pointer += "/0";
        }
        let of = field.type_name.as_str();
        if schema.kind(of) == Kind::Input {
            if path.iter().filter(|name| **name == of).count() < MAX_NESTING {
                path.push(of);
                collect(
                    schema,
                    schema.fields(of),
                    (of, &field.name),
                    &pointer,
                    path,
                    found,
                );
                path.pop();
            }
        } else {
            let distinct: BTreeSet<&&str> = path.iter().collect();
            found.push(Leaf {
                pointer,
                field,
                owner,
                through,
                is_nested: distinct.len() < path.len(),
            });
        }
    }
}

/// The reason why an input cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotBuilt {
    /// The scalar is not one of GraphQL or of this service, and no row has a value of it.
    #[error("cannot build a value of the scalar {0} for {1}")]
    UnknownScalar(String, String),
    /// An input type requires a value of itself.
    #[error("cannot build {0}: it requires a value of its own type")]
    Endless(String),
    /// The tenant has no row to which the id could refer.
    #[error("there is no id for {0}")]
    NoId(String),
}

/// A function that chooses the value of a leaf, by its pointer.
pub type Choose<'c> = dyn FnMut(&str, &Field) -> Result<Value, NotBuilt> + 'c;

/// Builds the variables of a field: every required argument, and the optional ones on the way to `wanted` leaves.
pub fn build(
    schema: &Schema,
    args: &[Field],
    wanted: &[&str],
    choose: &mut Choose<'_>,
) -> Result<Value, NotBuilt> {
    build_fields(schema, args, wanted, "", 0, choose)
}

fn build_fields(
    schema: &Schema,
    fields: &[Field],
    wanted: &[&str],
    at: &str,
    depth: usize,
    choose: &mut Choose<'_>,
) -> Result<Value, NotBuilt> {
    let mut object = Map::new();
    for field in fields {
        let mut pointer = format!("{at}/{}", field.name);
        if field.is_list() {
            pointer += "/0";
        }
        let leads_to = |wanted: &&str| {
            let rest = wanted.strip_prefix(pointer.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if !field.is_required() && !wanted.iter().any(leads_to) {
            continue;
        }
        let of = field.type_name.as_str();
        let value = if schema.kind(of) == Kind::Input {
            if depth == 10 {
                return Err(NotBuilt::Endless(of.to_owned()));
            }
            build_fields(
                schema,
                schema.fields(of),
                wanted,
                &pointer,
                depth + 1,
                choose,
            )?
        } else {
            choose(&pointer, field)?
        };
        let value = if field.is_list() {
            json!([value])
        } else {
            value
        };
        object.insert(field.name.clone(), value);
    }
    Ok(Value::Object(object))
}

/// A value for a leaf that is not an id: a value of the tenant's rows, or one of its type. Strings are new, because they
/// could have to be unique.
pub fn plain_value(schema: &Schema, data: &TenantData, field: &Field) -> Result<Value, NotBuilt> {
    let of = field.type_name.as_str();
    let name = field.name.as_str();
    if let Some(known) = schema.find(of).filter(|known| known.kind == Kind::Enum) {
        let values = &known.values;
        return Ok(values[fastrand::usize(..values.len())].clone().into());
    }
    if of == "String" {
        let known: Vec<&str> = data
            .types_with_strings(name)
            .flat_map(|of| data.strings_in(of, name))
            .collect();
        let known = fastrand::choice(&known);
        return Ok(twin(known.unwrap_or(&"Value 1234567890")).into());
    }
    if let Some(known) = data.value(name, of) {
        return Ok(known.clone());
    }
    Ok(match of {
        "Boolean" => json!(true),
        "Int" => json!(1),
        "Float" => json!(1.0),
        "Decimal" => json!("1"),
        "Date" => json!("2030-01-31"),
        "DateTime" => json!("2030-01-31T00:00:00Z"),
        "JSON" => json!({}),
        _ => return Err(NotBuilt::UnknownScalar(of.to_owned(), name.to_owned())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SDL: &str = "
        type Query { find(filter: Filter, first: Int): String, strange(by: Strange!): String }
        scalar Strange
        input Filter { id: IdFilter, or: [Filter!], and: [Filter!] }
        input IdFilter { eq: ID, in: [ID!] }
        input Endless { of: Endless! }
        type Mutation { create(input: Create!): String, never(input: Endless!): String }
        input Create { ownerId: ID!, name: String!, lines: [Line!]! = [], note: String }
        input Line { productId: ID, count: Int! }
    ";

    fn schema() -> Schema {
        let with_roots = format!("{SDL} schema {{ query: Query mutation: Mutation }}");
        Schema::from_sdl(&with_roots).unwrap()
    }

    #[test]
    fn every_leaf_is_found_once_nested_in_itself() {
        let schema = schema();
        let found = leaves(&schema, &schema.queries()[0].args);
        let ids: Vec<&str> = found
            .iter()
            .filter(|leaf| leaf.is_id())
            .map(|leaf| leaf.pointer.as_str())
            .collect();
        assert_eq!(
            ids,
            [
                "/filter/id/eq",
                "/filter/id/in/0",
                "/filter/or/0/id/eq",
                "/filter/or/0/id/in/0",
                "/filter/and/0/id/eq",
                "/filter/and/0/id/in/0",
            ]
        );
        assert_eq!(found[2].path(), "filter.or.id.eq");
        assert_eq!((found[2].through, found[2].is_nested), ("id", true));
        assert!(!found[0].is_nested);
    }

    #[test]
    fn an_input_has_the_required_fields_and_the_way_to_a_wanted_one() {
        let schema = schema();
        let args = &schema.mutations()[0].args;
        let mut choose = |pointer: &str, _: &Field| Ok(json!(pointer));
        let least = build(&schema, args, &[], &mut choose).unwrap();
        assert_eq!(
            least,
            json!({ "input": { "ownerId": "/input/ownerId", "name": "/input/name" } })
        );
        let with_line = build(&schema, args, &["/input/lines/0/productId"], &mut choose).unwrap();
        let line =
            json!({ "productId": "/input/lines/0/productId", "count": "/input/lines/0/count" });
        assert_eq!(with_line["input"]["lines"], json!([line]));
        assert!(with_line.pointer("/input/lines/0/productId").is_some());
    }

    #[test]
    fn what_cannot_be_built_is_an_error() {
        let schema = schema();
        let data = TenantData::default();
        let mut choose = |_: &str, field: &Field| plain_value(&schema, &data, field);
        let strange = build(&schema, &schema.queries()[1].args, &[], &mut choose);
        assert!(
            matches!(strange, Err(NotBuilt::UnknownScalar(..))),
            "{strange:?}"
        );
        let endless = build(&schema, &schema.mutations()[1].args, &[], &mut choose);
        assert!(matches!(endless, Err(NotBuilt::Endless(_))), "{endless:?}");
    }
}
