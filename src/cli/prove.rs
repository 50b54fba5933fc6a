//! `palisade prove`

use std::path::PathBuf;

use secrecy::{ExposeSecret as _, SecretString};

use super::Failure;
use crate::{
    db::{self, ConnectError},
    prove::{
        self, Settings,
        report::{Finding, Format, Report},
    },
};

/// The options of `palisade prove`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The URL of the API, such as `https://api.example/graphql`.
    #[arg(long, env = "PALISADE_PROVE_URL", value_name = "URL")]
    url: String,
    /// A token of an owner of tenant A, which is attacked. No other client may write to A while the command runs.
    #[arg(
        long,
        env = "PALISADE_PROVE_TOKEN_A",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    token_a: SecretString,
    /// A token of an owner of tenant B, which attacks.
    #[arg(
        long,
        env = "PALISADE_PROVE_TOKEN_B",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    token_b: SecretString,
    /// The file with the schema as SDL, for a service that does not allow introspection.
    #[arg(long, env = "PALISADE_PROVE_SCHEMA", value_name = "FILE")]
    schema: Option<PathBuf>,
    /// URL of the database of the service, for any role that may connect. With it, the command first inspects the
    /// database like `palisade doctor`.
    #[arg(
        long,
        env = "PALISADE_PROVE_DATABASE_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    database_url: Option<SecretString>,
    /// The role with which the service connects to the database.
    #[arg(
        long,
        env = "PALISADE_PROVE_ROLE",
        value_name = "ROLE",
        default_value = "palisade_app"
    )]
    role: String,
    /// A field to attack, such as `projects` or `Mutation.createProject`. Repeat the option for several [default: every
    /// field].
    #[arg(
        long = "field",
        env = "PALISADE_PROVE_FIELDS",
        value_name = "FIELD",
        value_delimiter = ','
    )]
    fields: Vec<String>,
    /// The number of rows of each list that are read and compared.
    #[arg(
        long,
        env = "PALISADE_PROVE_MAX_ROWS",
        default_value_t = 10_000,
        value_name = "N"
    )]
    max_rows: usize,
    /// The number of requests with which the response times of each field are measured, for an id of A and for a random
    /// id. 0 to measure none.
    #[arg(
        long,
        env = "PALISADE_PROVE_SAMPLES",
        default_value_t = 100,
        value_name = "N"
    )]
    samples: usize,
    /// The format of the output.
    #[arg(
        long,
        env = "PALISADE_PROVE_FORMAT",
        value_enum,
        default_value = "text"
    )]
    format: Format,
}

/// Prints the report. Fails if it has findings. If nothing could be proved, the exit code is 2.
pub async fn run(options: Options) -> Result<(), Failure> {
    let sdl = options.schema.map(|path| {
        std::fs::read_to_string(&path)
            .map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))
    });
    let inspected = match &options.database_url {
        Some(url) => inspect(url, &options.role).await?,
        None => Vec::new(),
    };
    let settings = Settings {
        url: options.url.clone(),
        token_a: options.token_a,
        token_b: options.token_b,
        sdl: sdl.transpose()?,
        fields: options.fields,
        max_rows: options.max_rows,
        samples: options.samples,
        checks_times: true,
    };
    let (mut report, failure) = match prove::run(settings).await {
        Ok(report) => (report, None),
        Err(error) if inspected.is_empty() => return Err(Failure::usage(error)),
        // A service rejects all requests while its database has a gap. The report still says which one.
        Err(error) => {
            let report = Report {
                url: options.url,
                ..Report::default()
            };
            (report, Some(error))
        }
    };
    report.general.splice(..0, inspected);
    print!("{}", report.print(options.format));
    let reason = failure.map_or_else(String::new, |error| format!("; no attack: {error}"));
    match report.findings().count() {
        0 if report.attacks() == 0 => Err(Failure::usage("--field names no field of the schema")),
        0 => Ok(()),
        findings => Err(Failure::Failed(format!(
            "the isolation of the tenants is not proved, findings: {findings}{reason}"
        ))),
    }
}

/// Inspects the database of the service like `palisade doctor`.
async fn inspect(url: &SecretString, role: &str) -> Result<Vec<Finding>, Failure> {
    let mut connection = match db::connect_for_inspection(url.expose_secret()).await {
        Err(error @ ConnectError::Address(_)) => return Err(Failure::usage(error)),
        connected => connected.map_err(Failure::usage)?,
    };
    let findings = prove::inspect(&mut connection, role).await;
    findings.map_err(Failure::usage)
}
