//! `palisade doctor`

use secrecy::{ExposeSecret as _, SecretString};

use super::Failure;
use crate::{
    db::{self, ConnectError},
    doctor::{self, Format, LIVE_PROBE, Scope, Severity},
};

/// The options of `palisade doctor`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The database URL, for any role that may connect [default: `DATABASE_URL`]. Nothing is changed.
    #[arg(
        long,
        env = "PALISADE_OWNER_DATABASE_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    database_url: Option<SecretString>,
    /// A role with which the service connects. Repeat the option for several roles.
    #[arg(long = "role", value_name = "ROLE", default_value = "palisade_app")]
    roles: Vec<String>,
    /// The column with the tenant of a row.
    #[arg(long, value_name = "COLUMN", default_value = "tenant_id")]
    tenant_column: String,
    /// The setting with the tenant of a transaction.
    #[arg(long, value_name = "NAME", default_value = "app.context", value_parser = parse_setting)]
    setting: String,
    /// A schema to inspect. Repeat the option for several [default: every schema except those of PostgreSQL].
    #[arg(long = "schema", value_name = "SCHEMA")]
    schemas: Vec<String>,
    /// Do not attack the tables: skip the rule D36.
    #[arg(long)]
    catalogue_only: bool,
    /// The format of the output.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// The name of a custom setting of PostgreSQL: two identifiers with a dot.
fn parse_setting(value: &str) -> Result<String, String> {
    let is_word = |word: &str| {
        !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    match value.split_once('.') {
        Some((prefix, name)) if is_word(prefix) && is_word(name) => Ok(value.to_owned()),
        _ => Err("a setting has a prefix and a name, such as app.context".to_owned()),
    }
}

/// Prints the findings. Fails if one of them is an error.
pub async fn run(options: Options) -> Result<(), Failure> {
    let url = options
        .database_url
        .or_else(|| std::env::var("DATABASE_URL").ok().map(SecretString::from))
        .ok_or_else(|| Failure::usage("no database: set --database-url or DATABASE_URL"))?;
    let mut connection = match db::connect_for_inspection(url.expose_secret()).await {
        Err(error @ ConnectError::Address(_)) => return Err(Failure::usage(error)),
        connected => connected.map_err(Failure::failed)?,
    };
    let scope = Scope {
        roles: options.roles,
        tenant_column: options.tenant_column,
        setting: options.setting,
        schemas: options.schemas,
    };
    let missing = doctor::missing_roles(&mut connection, &scope).await;
    if let Some(role) = missing.map_err(Failure::failed)?.first() {
        return Err(Failure::usage(format!(
            "there is no role {role}: name the role of the service with --role"
        )));
    }
    let report = doctor::run(&mut connection, &scope, |rule| {
        !(options.catalogue_only && rule.code == LIVE_PROBE)
    })
    .await
    .map_err(Failure::failed)?;
    print!("{}", options.format.print(&report));
    match report.count(Severity::Error) {
        0 => Ok(()),
        errors => Err(Failure::Failed(format!(
            "the isolation of the tenants has gaps, errors: {errors}"
        ))),
    }
}
