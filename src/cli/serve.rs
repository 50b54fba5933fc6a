//! `palisade serve`

use secrecy::{ExposeSecret as _, SecretString};

use super::{Failure, databases::SignInDatabase};
use crate::{
    auth::jwt::Tokens,
    config::ServiceSettings,
    db::{
        ConnectError, TenantDb,
        context::{ContextSettings, Signing},
        sign_in::SignInDb,
    },
    http::{self, Features, Listeners, Service},
};

/// The options of `palisade serve`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// URL of the database for the role `palisade_app` [default: `DATABASE_URL`].
    #[arg(
        long,
        env = "PALISADE_APP_DATABASE_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    database_url: Option<SecretString>,
    #[command(flatten)]
    sign_in: SignInDatabase,
    /// Allow introspection queries.
    #[arg(long, env = "PALISADE_INTROSPECTION")]
    introspection: bool,
    /// Serve the explorer at /graphiql. It requires --introspection.
    #[arg(long, env = "PALISADE_EXPLORER", requires = "introspection")]
    explorer: bool,
    #[command(flatten)]
    context: ContextSettings,
    #[command(flatten)]
    service: ServiceSettings,
}

/// Serves until SIGTERM or SIGINT.
pub async fn run(options: Options) -> Result<(), Failure> {
    let url = options
        .database_url
        .or_else(|| std::env::var("DATABASE_URL").ok().map(SecretString::from))
        .ok_or_else(|| {
            Failure::usage(
                "no database: set PALISADE_APP_DATABASE_URL or DATABASE_URL, or run `palisade dev`",
            )
        })?;
    let settings = options.service;
    let tokens = Tokens::new(&settings.tokens).map_err(Failure::usage)?;
    let signing = Signing::new(&options.context).map_err(Failure::usage)?;
    let health_address = settings.health_address().ok_or_else(|| {
        Failure::usage("there is no port after the one of --listen: set --health-listen or PALISADE_HEALTH_LISTEN")
    })?;
    let listener = http::listen(settings.listen)
        .await
        .map_err(Failure::failed)?;
    let health_listener = http::listen_for_health_checks(health_address)
        .await
        .map_err(Failure::failed)?;
    let db = TenantDb::connect(url.expose_secret(), settings.pool, &signing)
        .await
        .map_err(connect_failure)?;
    db.check_isolation().await.map_err(Failure::failed)?;
    let directory = match options.sign_in.auth_database_url {
        Some(url) => {
            let connected = SignInDb::connect(url.expose_secret()).await;
            let directory = connected.map_err(connect_failure)?;
            directory.check_isolation().await.map_err(Failure::failed)?;
            Some(directory)
        }
        None => None,
    };
    let features = Features {
        introspection: options.introspection,
        explorer: options.explorer,
        ..Features::default()
    };
    let service =
        Service::new(db, directory, tokens, &settings, features).map_err(Failure::usage)?;
    let stop = http::shutdown_signal();
    if let Ok(address) = health_listener.local_addr() {
        tracing::info!("health checks at http://{address}/health/ready");
    }
    if let Ok(address) = listener.local_addr() {
        tracing::info!("listening on http://{address}/graphql");
    }
    let listeners = Listeners {
        api: listener,
        health_checks: Some(health_listener),
    };
    http::serve(listeners, service, &settings, stop)
        .await
        .map_err(Failure::failed)
}

fn connect_failure(error: ConnectError) -> Failure {
    match error {
        ConnectError::Address(_) => Failure::usage(error),
        error => Failure::failed(error),
    }
}
