//! `palisade token`

use std::time::Duration;

use chrono::TimeDelta;
use secrecy::{ExposeSecret as _, SecretString};

use super::{Failure, dev::DevHome};
use crate::{
    auth::jwt::{MAX_LIFETIME, TokenSettings, Tokens},
    config::EmbeddedSettings,
    db::sign_in::SignInDb,
    duration,
};

/// The options of `palisade token`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The tenant's slug.
    #[arg(long, env = "PALISADE_TOKEN_TENANT", value_name = "SLUG")]
    tenant: String,
    /// The user's email address.
    #[arg(long, env = "PALISADE_TOKEN_USER", value_name = "EMAIL")]
    user: String,
    /// The lifetime of the token, at most 31d.
    #[arg(long, env = "PALISADE_TOKEN_EXPIRES", default_value = "12h", value_name = "DURATION",
          value_parser = duration::between("1s", "31d"))]
    expires: Duration,
    /// URL of the database for the role `palisade_auth` [default: the database of `dev`].
    #[arg(
        long,
        env = "PALISADE_AUTH_DATABASE_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    auth_database_url: Option<SecretString>,
    #[command(flatten)]
    embedded: EmbeddedSettings,
    #[command(flatten)]
    tokens: TokenSettings,
}

/// Prints the token as the last line of standard output.
pub async fn run(mut options: Options) -> Result<(), Failure> {
    let home = match (&options.auth_database_url, &options.tokens.jwt_secret) {
        (Some(_), Some(_)) => None,
        _ => Some(DevHome::open(&options.embedded).await?),
    };
    if let (None, Some(home)) = (&options.tokens.jwt_secret, &home) {
        options.tokens.jwt_secret = Some(home.secret()?.into());
    }
    let url = match (options.auth_database_url, &home) {
        (None, Some(home)) => home.url("palisade_auth").into(),
        (url, _) => url.unwrap_or_default(),
    };
    let lifetime = TimeDelta::from_std(options.expires).unwrap_or(MAX_LIFETIME);
    let tokens = Tokens::new(&options.tokens).map_err(Failure::usage)?;
    let token = async {
        let directory = SignInDb::connect(url.expose_secret())
            .await
            .map_err(Failure::failed)?;
        let entry = directory.find(&options.tenant, &options.user).await?;
        let entry = entry.ok_or_else(|| {
            Failure::Failed(format!(
                "there is no active user {} in an active tenant {}",
                options.user, options.tenant
            ))
        })?;
        tokens
            .issue(entry.tenant, entry.user, lifetime)
            .map_err(Failure::failed)
    }
    .await;
    println!("{}", DevHome::close_after(home, token).await?);
    Ok(())
}
