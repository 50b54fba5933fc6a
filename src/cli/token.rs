//! `palisade token`

use std::time::Duration;

use chrono::TimeDelta;

use super::{
    Failure,
    databases::{SignInDatabase, find_user},
    dev::DevHome,
};
use crate::{
    auth::jwt::{MAX_LIFETIME, TokenSettings, Tokens},
    config::EmbeddedSettings,
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
    #[command(flatten)]
    sign_in: SignInDatabase,
    #[command(flatten)]
    embedded: EmbeddedSettings,
    #[command(flatten)]
    tokens: TokenSettings,
}

/// Prints the token as the last line of standard output.
pub async fn run(mut options: Options) -> Result<(), Failure> {
    let home = match (
        &options.sign_in.auth_database_url,
        &options.tokens.jwt_secret,
    ) {
        (Some(_), Some(_)) => None,
        _ => Some(DevHome::open(&options.embedded).await?),
    };
    if let (None, Some(home)) = (&options.tokens.jwt_secret, &home) {
        options.tokens.jwt_secret = Some(home.secret()?.into());
    }
    let lifetime = TimeDelta::from_std(options.expires).unwrap_or(MAX_LIFETIME);
    let tokens = Tokens::new(&options.tokens).map_err(Failure::usage)?;
    let token = async {
        let directory = options.sign_in.connect(home.as_ref()).await?;
        let entry = find_user(&directory, &options.tenant, &options.user).await?;
        tokens
            .issue(entry.tenant, entry.user, lifetime)
            .map_err(Failure::failed)
    }
    .await;
    println!("{}", DevHome::close_after(home, token).await?);
    Ok(())
}
