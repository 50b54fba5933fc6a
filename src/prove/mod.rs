//! The proof of the isolation from outside: attacks a running service as one tenant with the values of another.
//!
//! The attacks are generated from the schema, so a new field is attacked as soon as it exists; a field that cannot be
//! attacked is a finding. Tenant B sends A's ids, cursors and strings in every argument, and each request is repeated
//! with a random value. The invariants that the responses must keep:
//!
//! - **No response to B contains a value of A.**
//! - **The response for a value of A is that for a random value**: status, code, body and time.
//! - **The rows of both tenants are the same before and after.** Mutations are dry runs.
//!
//! `docs/prove.md` describes the command.

mod attacker;
mod canaries;
mod client;
mod compare;
mod data;
mod inputs;
mod mutations;
mod queries;
pub mod report;
pub mod schema;
mod timing;

use std::time::SystemTime;

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::SecretString;
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

pub use self::client::Side;
use self::{
    attacker::Attacker,
    canaries::Canaries,
    client::Client,
    data::TenantData,
    report::{FieldReport, Finding, Problem, Report},
    schema::{INTROSPECTION, Schema, SchemaError},
};
use crate::doctor::{self, Rule, RunAt, Scope, Severity};

/// What to attack, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The URL of the API.
    pub url: String,
    /// A token of the tenant that is attacked.
    pub token_a: SecretString,
    /// A token of the tenant that attacks.
    pub token_b: SecretString,
    /// The schema as SDL; `None` to ask the service for it.
    pub sdl: Option<String>,
    /// The fields to attack, such as `projects` or `Query.projects`; every field if the list is empty.
    pub fields: Vec<String>,
    /// The number of rows of each list that are read.
    pub max_rows: usize,
    /// The number of requests with which the response times of a field are measured; 0 to measure none.
    pub samples: usize,
    /// Whether a difference of the response times is a finding.
    pub checks_times: bool,
}

/// The reason why nothing could be proved.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// The service does not respond.
    #[error("cannot reach {url}: {reason}")]
    Unreachable {
        /// The URL of the API.
        url: String,
        /// The error of the HTTP client.
        reason: String,
    },
    /// The service was busy for a minute.
    #[error(
        "the service rejects every request as busy (503 or 429): its health check may give the reason"
    )]
    Busy,
    /// A token is not valid.
    #[error("the token of tenant {0:?} is not valid (401)")]
    Token(Side),
    /// Both tokens are of one tenant.
    #[error("both tokens are of the same tenant")]
    SameTenant,
    /// A has no rows.
    #[error("tenant A has no rows: there is nothing to attack")]
    NoData,
    /// A token may not read everything.
    #[error(
        "the token of tenant {side:?} cannot read {field} ({reason}): use the token of an owner"
    )]
    Unreadable {
        /// The tenant.
        side: Side,
        /// The root field.
        field: String,
        /// The status and the code of the response.
        reason: String,
    },
    /// The service fails. If it found a row of the canary, the isolation is broken.
    #[error(
        "the service fails to return {field} to tenant {side:?} (INTERNAL): its log has the reason, request id {request_id}"
    )]
    Failed {
        /// The tenant.
        side: Side,
        /// The root field.
        field: String,
        /// The request id.
        request_id: Uuid,
    },
    /// Other requests write to A.
    #[error("the rows of tenant A change ({0}): use a tenant that no other client writes to")]
    InUse(String),
    /// The service does not return its schema.
    #[error("the service does not allow introspection: give its schema.graphql with --schema")]
    NoIntrospection,
    /// The schema cannot be read.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// A mutation was not a dry run.
    #[error(
        "the service did not confirm `Prefer: tx=rollback` ({0}): no further mutation was sent"
    )]
    NotDryRun(String),
}

impl ProveError {
    fn unreachable(url: &str, error: &reqwest::Error) -> Self {
        use std::error::Error as _;

        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            reason = cause.to_string();
            source = cause.source();
        }
        Self::Unreachable {
            url: url.to_owned(),
            reason,
        }
    }
}

/// Runs the rules of the doctor for the role with which the service connects: those whose findings are errors, and those
/// that the service runs when it starts. They also find a gap that no request can use as long as the other layer of the
/// isolation holds.
pub async fn inspect(
    connection: &mut PgConnection,
    role: &str,
) -> Result<Vec<Finding>, sqlx::Error> {
    let scope = Scope {
        roles: vec![role.to_owned()],
        ..Scope::of_login()
    };
    let wants = |rule: &Rule| rule.severity == Severity::Error || rule.run_at >= RunAt::Start;
    let report = doctor::run(connection, &scope, wants).await?;
    let findings = report.findings.iter().map(|finding| Finding {
        problem: Problem::Doctor,
        detail: finding.to_string(),
    });
    Ok(findings.collect())
}

/// Attacks tenant A as tenant B.
pub async fn run(settings: Settings) -> Result<Report, ProveError> {
    let client = Client::new(
        &settings.url,
        settings.token_a.clone(),
        settings.token_b.clone(),
    )?;
    // The clocks of this machine and of the service may differ.
    let started = DateTime::<Utc>::from(SystemTime::now()) - TimeDelta::minutes(1);
    let schema = read_schema(&client, &settings).await?;
    let read = async |side| TenantData::read(&client, &schema, side, settings.max_rows).await;

    assert_tenants_differ(&client, &schema).await?;
    let a = read(Side::A).await?;
    let again = read(Side::A).await?;
    if a.ids.values().map(Vec::len).sum::<usize>() == 0 {
        return Err(ProveError::NoData);
    }
    // Other root fields may change by themselves, such as the rest of a budget.
    let changed = a.changed_rows(&again).into_iter();
    if let Some(row) = changed.into_iter().find(|row| TenantData::is_of_list(row)) {
        return Err(ProveError::InUse(row.to_owned()));
    }
    let b = read(Side::B).await?;

    let mut general = Vec::new();
    let shared: Vec<_> = a.uuids.intersection(&b.uuids).collect();
    if let Some(id) = shared.first() {
        general.push(Finding {
            problem: Problem::Leak,
            detail: format!(
                "B reads {} ids of A in its lists, such as {id}",
                shared.len()
            ),
        });
    }
    let canaries = Canaries::new(&a, &b);
    let searched = canaries.count();
    let mut attacker = Attacker::new(&client, &schema, (&a, &b), canaries, started, &settings);
    let mut fields = attacker.attack_queries().await?;
    fields.extend(attacker.attack_mutations().await?);
    for field in schema.subscriptions() {
        let mut report = FieldReport::new(format!("Subscription.{}", field.name));
        report.add(Problem::NotAttacked, "subscriptions are not attacked");
        fields.push(report);
    }

    for (side, before, after) in [
        (Side::A, &a, read(Side::A).await?),
        (Side::B, &b, read(Side::B).await?),
    ] {
        let changed = before.changed_rows(&after).into_iter();
        let changed: Vec<&str> = changed.filter(|row| TenantData::is_of_list(row)).collect();
        if let Some(row) = changed.first() {
            general.push(Finding {
                problem: Problem::Changed,
                detail: format!(
                    "{} rows of {side:?} are not the same after the attacks, such as {row}",
                    changed.len()
                ),
            });
        }
    }
    Ok(Report {
        url: settings.url.clone(),
        request_id: client.request_id,
        fields,
        general,
        rows: a.rows.len(),
        checksum: a.checksum(),
        canaries: searched,
        unread: a.unread.clone(),
    })
}

async fn read_schema(client: &Client, settings: &Settings) -> Result<Schema, ProveError> {
    if let Some(sdl) = &settings.sdl {
        return Ok(Schema::from_sdl(sdl)?);
    }
    let reply = client.query(Side::A, INTROSPECTION, &json!({})).await?;
    if reply.is_error() || !reply.body["data"]["__schema"].is_object() {
        return Err(ProveError::NoIntrospection);
    }
    Ok(Schema::from_introspection(&reply.body["data"])?)
}

/// Compares the row of the tenant itself, which both tokens can read.
async fn assert_tenants_differ(client: &Client, schema: &Schema) -> Result<(), ProveError> {
    let mut fields = schema.queries().iter();
    let tenant = fields.find(|field| field.type_name == "Tenant" && field.needs_no_argument());
    let Some(field) = tenant else {
        return Ok(());
    };
    let document = format!("{{ {} {{ id }} }}", field.name);
    let mut ids = Vec::new();
    for side in [Side::A, Side::B] {
        let reply = client.query(side, &document, &json!({})).await?;
        ids.push(reply.body["data"][&field.name]["id"].clone());
    }
    if ids[0] == ids[1] {
        return Err(ProveError::SameTenant);
    }
    Ok(())
}
