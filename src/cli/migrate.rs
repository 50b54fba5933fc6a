//! `palisade migrate`

use secrecy::{ExposeSecret as _, SecretString};

use super::Failure;
use crate::db::{
    context::{ContextSettings, Signing},
    migrate::{self, RolePasswords},
};

/// The options of `palisade migrate`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The database URL of a superuser, which also creates the roles, or of `palisade_owner`.
    #[arg(
        long,
        env = "PALISADE_OWNER_DATABASE_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    database_url: Option<SecretString>,
    #[command(flatten)]
    passwords: RolePasswords,
    #[command(flatten)]
    context: ContextSettings,
}

/// Creates roles, rights and schema.
pub async fn run(options: Options) -> Result<(), Failure> {
    let url = options
        .database_url
        .or_else(|| std::env::var("DATABASE_URL").ok().map(SecretString::from))
        .ok_or_else(|| {
            Failure::usage("no database: set PALISADE_OWNER_DATABASE_URL or DATABASE_URL")
        })?;
    let context = options.context;
    // Without these settings, the keys in the database stay as they are.
    let signing = if context.context_key.is_some() || context.unsigned_context {
        Some(Signing::new(&context).map_err(Failure::usage)?)
    } else {
        None
    };
    let migrated = migrate::run(url.expose_secret(), &options.passwords, signing.as_ref())
        .await
        .map_err(Failure::failed)?;
    if !migrated.accepts_contexts {
        tracing::warn!(
            "the database has no context key, so no service can use it: set PALISADE_CONTEXT_KEY to 32 random bytes, for \
             example from `openssl rand -hex 32`, and run `palisade migrate` again"
        );
    }
    println!(
        "{} migrations applied, {} in all",
        migrated.applied, migrated.total
    );
    Ok(())
}
