//! The database of the commands that write what belongs to tenants.

use secrecy::{ExposeSecret as _, SecretString};

use super::{Failure, dev::DevHome};
use crate::{
    config::EmbeddedSettings,
    db::{PoolSettings, TenantDb, admin_tx::AdminDb},
};

/// One database as two roles: both addresses are given, or it is that of `dev`.
#[derive(Clone, Debug, clap::Args)]
pub struct Databases {
    /// The database as `palisade_app`, who writes in a tenant [default: that of `dev`].
    #[arg(
        long,
        env = "PALISADE_APP_DATABASE_URL",
        hide_env_values = true,
        value_name = "URL",
        requires = "admin_database_url"
    )]
    app_database_url: Option<SecretString>,
    /// The database as `palisade_admin`, who knows the tenants [default: that of `dev`].
    #[arg(
        long,
        env = "PALISADE_ADMIN_DATABASE_URL",
        hide_env_values = true,
        value_name = "URL",
        requires = "app_database_url"
    )]
    admin_database_url: Option<SecretString>,
    #[command(flatten)]
    embedded: EmbeddedSettings,
}

impl Databases {
    /// Opens them for some work, and closes them whatever becomes of it.
    pub async fn with<T>(
        self,
        work: impl AsyncFnOnce(&TenantDb, &mut AdminDb) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let (app, admin, home) =
            if let (Some(app), Some(admin)) = (self.app_database_url, self.admin_database_url) {
                (app, admin, None)
            } else {
                let home = DevHome::open(&self.embedded).await?;
                (
                    home.url("palisade_app").into(),
                    home.url("palisade_admin").into(),
                    Some(home),
                )
            };
        let done = async {
            let mut admin = AdminDb::connect(admin.expose_secret())
                .await
                .map_err(Failure::failed)?;
            let db = TenantDb::connect(app.expose_secret(), PoolSettings::default())
                .await
                .map_err(Failure::failed)?;
            let done = work(&db, &mut admin).await;
            db.close().await;
            done
        }
        .await;
        DevHome::end(home, done).await
    }
}
