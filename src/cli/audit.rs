//! `palisade audit`

use secrecy::{ExposeSecret as _, SecretString};

use super::{Failure, databases::Databases, dev::DevHome};
use crate::{
    audit::{
        sealing,
        verifying::{self, SealHash},
    },
    config::EmbeddedSettings,
    db::admin_tx::AdminDb,
    error::Error,
    ids::TenantId,
};

/// What can be done with an audit log.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Find what was changed, removed or inserted in a tenant's audit log.
    Verify(Verify),
    /// Seal what is not sealed yet, as the service does by itself after each write.
    Seal(Seal),
}

/// What `palisade audit verify` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct Verify {
    /// The tenant's slug.
    #[arg(long, value_name = "SLUG")]
    tenant: String,
    /// A head that an earlier run printed and that was kept elsewhere: a seal must still have it.
    #[arg(long, value_name = "HASH")]
    expect_head: Option<SealHash>,
    /// The database as `palisade_admin`, who reads without being bound [default: that of `dev`].
    #[arg(
        long,
        env = "PALISADE_ADMIN_DATABASE_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    admin_database_url: Option<SecretString>,
    #[command(flatten)]
    embedded: EmbeddedSettings,
}

/// What `palisade audit seal` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct Seal {
    /// The tenant's slug [default: every tenant].
    #[arg(long, value_name = "SLUG")]
    tenant: Option<String>,
    #[command(flatten)]
    databases: Databases,
}

/// Checks or seals.
pub async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Verify(options) => verify(options).await,
        Command::Seal(options) => seal(options).await,
    }
}

/// Prints one line for each finding, then what the log consists of.
async fn verify(options: Verify) -> Result<(), Failure> {
    let (url, home) = if let Some(url) = options.admin_database_url {
        (url, None)
    } else {
        let home = DevHome::open(&options.embedded).await?;
        (home.url("palisade_admin").into(), Some(home))
    };
    let verified = async {
        let mut admin = AdminDb::connect(url.expose_secret())
            .await
            .map_err(Failure::failed)?;
        let tenant = find(&mut admin, &options.tenant).await?;
        let mut log = admin.audit_snapshot(tenant).await.map_err(told)?;
        verifying::verify(&mut log, options.expect_head, |finding| {
            println!("{finding}");
        })
        .await
        .map_err(told)
    }
    .await;
    let summary = DevHome::end(home, verified).await?;
    println!("{summary}");
    match summary.findings {
        0 => Ok(()),
        findings => Err(Failure::Failed(format!(
            "the audit log of {} was tampered with, findings: {findings}",
            options.tenant
        ))),
    }
}

async fn seal(options: Seal) -> Result<(), Failure> {
    let slug = options.tenant;
    let (rows, tenants) = options
        .databases
        .with(async |db, admin| {
            let tenants = match &slug {
                Some(slug) => vec![find(admin, slug).await?],
                None => admin.tenants().await.map_err(told)?,
            };
            let mut rows = 0;
            for tenant in &tenants {
                // What another sealer is at needs none.
                rows += sealing::seal(db, *tenant).await.map_err(told)?.rows;
            }
            Ok((rows, tenants.len()))
        })
        .await?;
    println!("{rows} rows sealed, of {tenants} tenants");
    Ok(())
}

async fn find(admin: &mut AdminDb, slug: &str) -> Result<TenantId, Failure> {
    let found = admin.tenant(slug).await.map_err(told)?;
    found.ok_or_else(|| Failure::Failed(format!("there is no tenant {slug}")))
}

/// An operator reads the cause, too.
#[expect(clippy::needless_pass_by_value, reason = "it stands in map_err")]
fn told(error: Error) -> Failure {
    Failure::failed(error.detail())
}
