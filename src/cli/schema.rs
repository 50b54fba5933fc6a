//! `palisade schema`

use super::Failure;

/// Prints the API's schema, as `schema.graphql` holds it.
pub fn run() -> Result<(), Failure> {
    print!("{}", crate::api::sdl());
    Ok(())
}
