//! `palisade demo`

use super::{Failure, dev::DevHome};
use crate::{
    config::EmbeddedSettings,
    db::{PoolSettings, TenantDb, admin_tx::AdminDb},
    demo::{self, Amounts},
};

/// What `palisade demo` takes.
#[derive(Clone, clap::Args)]
pub struct Options {
    #[command(flatten)]
    amounts: Amounts,
    /// The database as `palisade_app`, by which the data is written [default: that of `dev`].
    #[arg(
        long,
        env = "PALISADE_APP_DATABASE_URL",
        hide_env_values = true,
        value_name = "URL",
        requires = "admin_database_url"
    )]
    app_database_url: Option<String>,
    /// The database as `palisade_admin`, by which the tenants are made [default: that of `dev`].
    #[arg(
        long,
        env = "PALISADE_ADMIN_DATABASE_URL",
        hide_env_values = true,
        value_name = "URL",
        requires = "app_database_url"
    )]
    admin_database_url: Option<String>,
    #[command(flatten)]
    embedded: EmbeddedSettings,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("amounts", &self.amounts)
            .finish_non_exhaustive()
    }
}

/// Fills in the tenants that are not there yet.
pub async fn run(options: Options) -> Result<(), Failure> {
    let (app, admin, home) =
        if let (Some(app), Some(admin)) = (options.app_database_url, options.admin_database_url) {
            (app, admin, None)
        } else {
            let home = DevHome::open(&options.embedded).await?;
            (
                home.url("palisade_app"),
                home.url("palisade_admin"),
                Some(home),
            )
        };
    let filled = async {
        let db = TenantDb::connect(&app, PoolSettings::default())
            .await
            .map_err(Failure::failed)?;
        let mut admin = AdminDb::connect(&admin).await.map_err(Failure::failed)?;
        let made = demo::fill(&db, &mut admin, options.amounts, true).await;
        db.close().await;
        made.map_err(|error| Failure::failed(error.detail()))
    }
    .await;
    if let Some(home) = home {
        home.close().await?;
    }
    let made = filled?;
    println!(
        "{made} tenants made, {} were there already",
        options.amounts.tenants - made
    );
    Ok(())
}
