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
    ids::TenantId,
};

/// The commands for audit logs.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Report the rows of a tenant's audit log that were changed, deleted or inserted outside the service.
    Verify(Verify),
    /// Seal the rows that are not sealed yet. The service also seals new rows after each write.
    Seal(Seal),
}

/// The options of `palisade audit verify`.
#[derive(Clone, Debug, clap::Args)]
pub struct Verify {
    /// The tenant's slug.
    #[arg(long, value_name = "SLUG")]
    tenant: String,
    /// The hash of the last seal, which an earlier run printed as `head`. Verification fails if no seal has this hash
    /// any more.
    #[arg(long, value_name = "HASH")]
    expect_head: Option<SealHash>,
    /// URL of the database for the role `palisade_admin`, which reads all tenants [default: the database of `dev`].
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

/// The options of `palisade audit seal`.
#[derive(Clone, Debug, clap::Args)]
pub struct Seal {
    /// The tenant's slug [default: all tenants].
    #[arg(long, value_name = "SLUG")]
    tenant: Option<String>,
    #[command(flatten)]
    databases: Databases,
}

/// Verifies or seals.
pub async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Verify(options) => verify(options).await,
        Command::Seal(options) => seal(options).await,
    }
}

/// Prints one line for each finding, and a summary of the log.
async fn verify(options: Verify) -> Result<(), Failure> {
    let (url, home) = if let Some(url) = options.admin_database_url {
        (url, None)
    } else {
        let home = DevHome::open(&options.embedded).await?;
        (home.url("palisade_admin").into(), Some(home))
    };
    let result = async {
        let mut admin = AdminDb::connect(url.expose_secret())
            .await
            .map_err(Failure::failed)?;
        let tenant = find(&mut admin, &options.tenant).await?;
        let mut log = admin.audit_snapshot(tenant).await?;
        let summary = verifying::verify(&mut log, options.expect_head, |finding| {
            println!("{finding}");
        });
        Ok(summary.await?)
    }
    .await;
    let summary = DevHome::close_after(home, result).await?;
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
                None => admin.tenants().await?,
            };
            let mut rows = 0;
            for tenant in &tenants {
                rows += sealing::seal(db, *tenant).await?.rows;
            }
            Ok((rows, tenants.len()))
        })
        .await?;
    println!("rows sealed: {rows}, tenants: {tenants}");
    Ok(())
}

async fn find(admin: &mut AdminDb, slug: &str) -> Result<TenantId, Failure> {
    let tenant = admin.tenant(slug).await?;
    tenant.ok_or_else(|| Failure::Failed(format!("there is no tenant with the slug {slug}")))
}
