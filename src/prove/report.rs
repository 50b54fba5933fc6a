//! The result of a run, for people and for programs.

use std::{fmt::Write as _, time::Duration};

use serde_json::{Value, json};
use uuid::Uuid;

use super::timing::Timing;

/// The format of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A table, for people.
    Text,
    /// One JSON object.
    Json,
}

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Problem {
    /// A response to B contains a value of A, or counts rows of A.
    Leak,
    /// The response for a value of A differs from that for a random value.
    Difference,
    /// The response for a value of A takes a different time.
    Timing,
    /// The rows of a tenant have changed.
    Changed,
    /// `palisade doctor` reports an error.
    Doctor,
    /// The field was not attacked, so nothing is known about it.
    NotAttacked,
}

impl Problem {
    /// The name in the output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Leak => "leak",
            Self::Difference => "difference",
            Self::Timing => "timing",
            Self::Changed => "changed",
            Self::Doctor => "doctor",
            Self::NotAttacked => "not attacked",
        }
    }
}

/// Something that contradicts the isolation of the tenants, or that prevents its proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub problem: Problem,
    /// One line about the request and the response.
    pub detail: String,
}

/// The result for one field.
#[derive(Clone, Debug)]
pub struct FieldReport {
    /// The field: `Query.project`, `Mutation.createProject`, `Project.comments`.
    pub name: String,
    /// The number of requests with values of A that B sent.
    pub attacks: usize,
    /// The findings.
    pub findings: Vec<Finding>,
    /// The response times, if they were measured.
    pub timing: Option<Timing>,
}

impl FieldReport {
    /// A report without attacks.
    #[must_use]
    pub fn new(name: String) -> Self {
        Self {
            name,
            attacks: 0,
            findings: Vec::new(),
            timing: None,
        }
    }

    /// Adds a finding, unless it is there already.
    pub fn add(&mut self, problem: Problem, detail: impl Into<String>) {
        let finding = Finding {
            problem,
            detail: detail.into(),
        };
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    /// `ok`, or the most serious problem.
    fn result(&self) -> &'static str {
        let problems = self.findings.iter().map(|finding| finding.problem);
        problems.min().map_or("ok", Problem::name)
    }
}

/// The result of a run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The URL of the API.
    pub url: String,
    /// The request id of every request.
    pub request_id: Uuid,
    /// The fields in the order of the schema.
    pub fields: Vec<FieldReport>,
    /// The findings that belong to no field.
    pub general: Vec<Finding>,
    /// The number of A's rows, and a checksum of them after the attacks.
    pub rows: usize,
    /// The checksum of A's rows after the attacks.
    pub checksum: String,
    /// The number of values of A that no response may contain.
    pub canaries: usize,
    /// The lists of A of which only the first rows were read.
    pub unread: Vec<String>,
}

/// The number of findings of a field that the text lists.
const LISTED: usize = 5;

impl Report {
    /// The number of attacks.
    #[must_use]
    pub fn attacks(&self) -> usize {
        self.fields.iter().map(|field| field.attacks).sum()
    }

    /// Every finding, with the field it belongs to.
    pub fn findings(&self) -> impl Iterator<Item = (&str, &Finding)> {
        let general = self.general.iter().map(|finding| ("", finding));
        let of_fields = self.fields.iter().flat_map(|field| {
            let findings = field.findings.iter();
            findings.map(|finding| (field.name.as_str(), finding))
        });
        general.chain(of_fields)
    }

    /// The report in a format.
    #[must_use]
    pub fn print(&self, format: Format) -> String {
        match format {
            Format::Text => self.text(),
            Format::Json => format!("{:#}\n", self.json()),
        }
    }

    fn text(&self) -> String {
        let width = self.fields.iter().map(|field| field.name.len()).max();
        let width = width.unwrap_or_default().max("field".len());
        let mut text = format!(
            "{:<width$}  {:>7}  {:<12}  median time: id of A, random id\n",
            "field", "attacks", "result"
        );
        for field in &self.fields {
            let times = field.timing.map_or_else(String::new, |timing| {
                let [real, random] = [timing.real, timing.random].map(millis);
                format!("{real:.2} ms, {random:.2} ms")
            });
            let line = format!(
                "{:<width$}  {:>7}  {:<12}  {times}",
                field.name,
                field.attacks,
                field.result()
            );
            text += line.trim_end();
            text.push('\n');
        }
        text.push('\n');
        let mut listed = std::collections::BTreeMap::<&str, usize>::new();
        for (field, finding) in self.findings() {
            let count = listed.entry(field).or_default();
            *count += 1;
            if *count <= LISTED || field.is_empty() {
                let separator = if field.is_empty() { "" } else { ": " };
                let Finding { problem, detail } = finding;
                // Writing to a string cannot fail.
                let _ = writeln!(text, "{}: {field}{separator}{detail}", problem.name());
            }
        }
        for (field, count) in listed.iter().filter(|(field, _)| !field.is_empty()) {
            if *count > LISTED {
                let _ = writeln!(text, "{field}: {} more findings", count - LISTED);
            }
        }
        if !self.unread.is_empty() {
            let _ = writeln!(
                text,
                "only the first rows of A were read (--max-rows): {}",
                self.unread.join(", ")
            );
        }
        let _ = writeln!(
            text,
            "rows of A: {}, searched values: {}, checksum: {}\n\
             request id: {}\n\
             attacks: {}, findings: {}",
            self.rows,
            self.canaries,
            self.checksum,
            self.request_id,
            self.attacks(),
            self.findings().count()
        );
        text
    }

    fn json(&self) -> Value {
        let finding = |finding: &Finding| json!({ "problem": finding.problem.name(), "detail": finding.detail });
        let fields = self.fields.iter().map(|field| {
            let timing = field.timing.map(|timing| {
                json!({
                    "samples": timing.samples,
                    "medianOfA": millis(timing.real),
                    "medianOfRandom": millis(timing.random),
                    "z": timing.z,
                })
            });
            json!({
                "field": field.name,
                "attacks": field.attacks,
                "result": field.result(),
                "milliseconds": timing,
                "findings": field.findings.iter().map(finding).collect::<Vec<_>>(),
            })
        });
        json!({
            "url": self.url,
            "requestId": self.request_id,
            "fields": fields.collect::<Vec<_>>(),
            "general": self.general.iter().map(finding).collect::<Vec<_>>(),
            "rowsOfA": self.rows,
            "checksumOfA": self.checksum,
            "searchedValues": self.canaries,
            "unreadLists": self.unread,
            "attacks": self.attacks(),
            "findings": self.findings().count(),
        })
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}
