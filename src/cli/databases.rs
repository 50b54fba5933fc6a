//! The databases of the commands that read or write the data of tenants.

use secrecy::{ExposeSecret as _, SecretString};

use super::{Failure, dev::DevHome};
use crate::{
    config::EmbeddedSettings,
    db::{
        PoolSettings, TenantDb,
        admin_tx::AdminDb,
        context::{ContextSettings, Signing},
        sign_in::{DirectoryEntry, SignInDb},
    },
};

/// The database for the role that signs users in.
#[derive(Clone, Debug, clap::Args)]
pub struct SignInDatabase {
    /// URL of the database for the role `palisade_auth`. Without it, `serve` lists only the current tenant in
    /// `viewer.memberships`, and the other commands use the database of `dev`.
    #[arg(
        long,
        env = "PALISADE_AUTH_DATABASE_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub auth_database_url: Option<SecretString>,
}

impl SignInDatabase {
    /// Connects to the database of the option, or else to that of `dev`.
    pub async fn connect(self, home: Option<&DevHome>) -> Result<SignInDb, Failure> {
        let url = match (self.auth_database_url, home) {
            (None, Some(home)) => home.url("palisade_auth").into(),
            (url, _) => url.unwrap_or_default(),
        };
        let connected = SignInDb::connect(url.expose_secret()).await;
        connected.map_err(Failure::failed)
    }
}

/// The user of a tenant with this email address. Fails if the user or the tenant is not active.
pub async fn find_user(
    directory: &SignInDb,
    tenant: &str,
    email: &str,
) -> Result<DirectoryEntry, Failure> {
    let entry = directory.find(tenant, email).await?;
    entry.ok_or_else(|| {
        Failure::Failed(format!(
            "there is no active user {email} in an active tenant {tenant}"
        ))
    })
}

/// The URLs of one database for two roles. Without both URLs, the commands use the database of `dev`.
#[derive(Clone, Debug, clap::Args)]
pub struct Databases {
    /// URL of the database for the role `palisade_app`, which writes the rows [default: the database of `dev`].
    #[arg(
        long,
        env = "PALISADE_APP_DATABASE_URL",
        hide_env_values = true,
        value_name = "URL",
        requires = "admin_database_url"
    )]
    app_database_url: Option<SecretString>,
    /// URL of the database for the role `palisade_admin`, which lists and creates tenants [default: the database of `dev`].
    #[arg(
        long,
        env = "PALISADE_ADMIN_DATABASE_URL",
        hide_env_values = true,
        value_name = "URL",
        requires = "app_database_url"
    )]
    admin_database_url: Option<SecretString>,
    #[command(flatten)]
    context: ContextSettings,
    #[command(flatten)]
    embedded: EmbeddedSettings,
}

impl Databases {
    /// Connects as both roles, does the work, and closes the connections, even if the work fails.
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
        let result = async {
            let signing = match &home {
                Some(home) => home.signing()?,
                None => Signing::new(&self.context).map_err(Failure::usage)?,
            };
            let mut admin = AdminDb::connect(admin.expose_secret())
                .await
                .map_err(Failure::failed)?;
            let db = TenantDb::connect(app.expose_secret(), PoolSettings::default(), &signing)
                .await
                .map_err(Failure::failed)?;
            let result = work(&db, &mut admin).await;
            db.close().await;
            result
        }
        .await;
        DevHome::close_after(home, result).await
    }
}
