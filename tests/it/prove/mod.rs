//! `palisade prove`: it finds nothing in the service, and it finds each gap that a test opens.

use palisade::{
    auth::role::UserRole,
    prove::{
        self, Settings,
        report::{FieldReport, Format, Problem, Report},
    },
};

use crate::{
    harness::{Caller, Tenant, TestApp},
    samples::Rows,
};

mod attacks;
mod command;
mod gaps;
mod service;

/// The victim and the attacker. Each has rows of every entity, in every state that a mutation needs, and each string in
/// them contains the slug of its tenant.
async fn tenants(app: &'static TestApp) -> (Tenant, Tenant) {
    let (a, b) = (app.tenant().await, app.tenant().await);
    for tenant in [&a, &b] {
        tenant.fill(12).await;
        let mut sql = tenant.begin().await;
        Rows::insert(tenant, &mut sql, UserRole::Owner).await;
    }
    (a, b)
}

/// The settings of a run that reports the response times and does not judge them.
fn settings(a: &Caller, b: &Caller, fields: &[&str]) -> Settings {
    Settings {
        url: a.url.clone(),
        token_a: a.token.clone().into(),
        token_b: b.token.clone().into(),
        sdl: None,
        fields: fields.iter().map(|field| (*field).to_owned()).collect(),
        max_rows: 10_000,
        samples: 0,
        checks_times: false,
    }
}

/// Attacks some fields, or every field.
async fn attack(a: &Tenant, b: &Tenant, fields: &[&str]) -> Report {
    let settings = settings(a.owner(), b.owner(), fields);
    prove::run(settings).await.unwrap()
}

/// The report of a field.
fn field<'r>(report: &'r Report, name: &str) -> &'r FieldReport {
    let mut fields = report.fields.iter();
    let found = fields.find(|field| field.name == name);
    found.unwrap_or_else(|| panic!("{name} was not attacked"))
}

/// Whether a field has a finding of this kind.
fn has(report: &Report, name: &str, problem: Problem) -> bool {
    let mut findings = field(report, name).findings.iter();
    findings.any(|finding| finding.problem == problem)
}

fn assert_isolated(report: &Report) {
    let text = report.print(Format::Text);
    assert_eq!(report.findings().count(), 0, "{text}");
}
