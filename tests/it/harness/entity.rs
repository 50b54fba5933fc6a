//! Finds entities by type, and converts names between `snake_case`, `camelCase` and other forms.

use palisade::entities::{ENTITIES, EntityInfo};
use uuid::Uuid;

use super::client::id;

/// The entity of a GraphQL type.
pub fn entity(type_name: &str) -> &'static EntityInfo {
    let mut entities = ENTITIES.iter();
    let found = entities.find(|entity| entity.type_name == type_name);
    found.unwrap_or_else(|| panic!("{type_name} is not an entity"))
}

/// The id of a row in the API.
pub fn id_of(type_name: &str, uuid: Uuid) -> String {
    id(entity(type_name).id_prefix, uuid)
}

/// `invoice_line_item` for `InvoiceLineItem` and `invoiceLineItem`, `due_on` for `DUE_ON`.
pub fn snake_case(name: &str) -> String {
    if !name.contains(char::is_lowercase) {
        return name.to_lowercase();
    }
    name.char_indices()
        .fold(String::new(), |mut snake, (at, letter)| {
            if letter.is_uppercase() && at > 0 {
                snake.push('_');
            }
            snake.extend(letter.to_lowercase());
            snake
        })
}

/// `invoiceLineItem` for `InvoiceLineItem`.
pub fn camel_case(type_name: &str) -> String {
    type_name[..1].to_lowercase() + &type_name[1..]
}
