//! `palisade context`

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

use super::{
    Failure,
    databases::{SignInDatabase, find_user},
    dev::DevHome,
};
use crate::{
    config::EmbeddedSettings,
    db::{
        Purpose, TenantContext,
        context::{ContextSettings, ContextSigner, Signing},
        migrate,
    },
    duration,
};

/// The options of `palisade context`.
#[derive(Clone, Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    print: Print,
}

/// The subcommands of `palisade context`.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Create a new key, and print it. The previous key stays valid for a while, so that the services can change to the
    /// new one, one after another.
    Rotate(Rotate),
}

/// The options for a context.
#[derive(Clone, Debug, clap::Args)]
pub struct Print {
    /// The tenant's slug, or its id.
    #[arg(long, value_name = "SLUG", required = true)]
    tenant: Option<String>,
    /// The email address of the acting user [default: no user and no role, so no rights to write].
    #[arg(long, value_name = "EMAIL")]
    user: Option<String>,
    /// Allow changes of rows. Without it, the transaction is read-only.
    #[arg(long)]
    write: bool,
    #[command(flatten)]
    sign_in: SignInDatabase,
    #[command(flatten)]
    context: ContextSettings,
    #[command(flatten)]
    embedded: EmbeddedSettings,
}

/// The options of `palisade context rotate`.
#[derive(Clone, Debug, clap::Args)]
pub struct Rotate {
    /// How long the previous key stays valid. With 0s, services with the previous key fail at once.
    #[arg(long, default_value = "24h", value_name = "DURATION", value_parser = duration::between("0s", "31d"))]
    keep_previous: Duration,
    /// The database URL of `palisade_owner` or of a superuser [default: the database of `dev`].
    #[arg(
        long,
        env = "PALISADE_OWNER_DATABASE_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    database_url: Option<SecretString>,
    #[command(flatten)]
    embedded: EmbeddedSettings,
}

/// Prints a context or rotates the key.
pub async fn run(options: Options) -> Result<(), Failure> {
    match options.command {
        Some(Command::Rotate(options)) => rotate(options).await,
        None => print(options.print).await,
    }
}

/// Prints the statements that open a transaction with the context.
async fn print(options: Print) -> Result<(), Failure> {
    let has_key = options.context.context_key.is_some() || options.context.unsigned_context;
    let home = match &options.sign_in.auth_database_url {
        Some(_) if has_key => None,
        _ => Some(DevHome::open(&options.embedded).await?),
    };
    let printed = statements(options, home.as_ref()).await;
    println!("{}", DevHome::close_after(home, printed).await?);
    Ok(())
}

async fn statements(options: Print, home: Option<&DevHome>) -> Result<String, Failure> {
    let signing = match home {
        Some(home) => home.signing()?,
        None => Signing::new(&options.context).map_err(Failure::usage)?,
    };
    let directory = options.sign_in.connect(home).await?;
    let tenant = options.tenant.unwrap_or_default();
    let context = match options.user {
        Some(email) => {
            let entry = find_user(&directory, &tenant, &email).await?;
            TenantContext {
                tenant: entry.tenant,
                user: Some(entry.user),
                role: Some(entry.role),
            }
        }
        None => TenantContext {
            tenant: match Uuid::parse_str(&tenant) {
                // A tenant that does not exist yet: its creation needs a context.
                Ok(id) => id.into(),
                Err(_) => directory.tenant(&tenant).await?.ok_or_else(|| {
                    Failure::Failed(format!("there is no tenant with the slug {tenant}"))
                })?,
            },
            user: None,
            role: None,
        },
    };
    let (begin, purpose) = if options.write {
        ("begin", Purpose::Write)
    } else {
        (
            "begin isolation level repeatable read read only",
            Purpose::Read,
        )
    };
    let now = directory.now().await?;
    let context = ContextSigner::new(&signing).write(&context, purpose, Uuid::now_v7(), now);
    Ok(format!("{begin}; set local app.context = '{context}';"))
}

async fn rotate(options: Rotate) -> Result<(), Failure> {
    let (url, home) = if let Some(url) = options.database_url {
        (url, None)
    } else {
        let home = DevHome::open(&options.embedded).await?;
        (home.url(migrate::OWNER).into(), Some(home))
    };
    let rotated = async {
        let key = migrate::rotate_key(url.expose_secret(), options.keep_previous)
            .await
            .map_err(Failure::failed)?;
        if let Some(home) = &home {
            home.replace_context_key(&key)?;
        }
        Ok(key)
    }
    .await;
    let key = DevHome::close_after(home, rotated).await?;
    println!("PALISADE_CONTEXT_KEY={}", key.to_hex());
    Ok(())
}
