//! `palisade schema`

use super::Failure;

/// Prints the GraphQL schema. `schema.graphql` has the same content.
pub fn run() -> Result<(), Failure> {
    print!("{}", crate::api::sdl());
    Ok(())
}
