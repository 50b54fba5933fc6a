//! `palisade migrate`

use secrecy::{ExposeSecret as _, SecretString};

use super::Failure;
use crate::db::migrate::{self, RolePasswords};

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
}

/// Creates roles, rights and schema.
pub async fn run(options: Options) -> Result<(), Failure> {
    let url = options
        .database_url
        .or_else(|| std::env::var("DATABASE_URL").ok().map(SecretString::from))
        .ok_or_else(|| {
            Failure::usage("no database: set PALISADE_OWNER_DATABASE_URL or DATABASE_URL")
        })?;
    let migrated = migrate::run(url.expose_secret(), &options.passwords)
        .await
        .map_err(Failure::failed)?;
    println!(
        "{} migrations applied, {} in all",
        migrated.applied, migrated.total
    );
    Ok(())
}
