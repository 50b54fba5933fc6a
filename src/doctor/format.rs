//! The outputs of `palisade doctor`.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Finding, RULES, Report, Severity};

/// The format of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Text for people.
    Text,
    /// One JSON object.
    Json,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
}

impl Format {
    /// Formats the findings of a run.
    #[must_use]
    pub fn print(self, report: &Report) -> String {
        match self {
            Self::Text => text(report),
            Self::Json => format!("{:#}\n", as_json(report)),
            Self::Sarif => format!("{:#}\n", sarif(report)),
        }
    }
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    for rule in RULES {
        let of_rule = |finding: &&Finding| finding.rule.code == rule.code;
        let mut findings = report.findings.iter().filter(of_rule).peekable();
        if findings.peek().is_none() {
            continue;
        }
        let severity = rule.severity.as_str();
        let _ = writeln!(
            text,
            "{severity} {} {}: {}",
            rule.code, rule.slug, rule.title
        );
        let _ = writeln!(text, "  {}", rule.why);
        for finding in findings {
            let _ = writeln!(text, "  - {}", finding.problem);
            let _ = writeln!(text, "    fix: {};", finding.fix.trim_end_matches(';'));
        }
        text.push('\n');
    }
    for finding in &report.allowed {
        let comment = finding.allowed_by.as_deref().unwrap_or_default();
        let _ = writeln!(
            text,
            "allowed {} {}: {comment}",
            finding.rule.code, finding.object
        );
    }
    for (rule, reason) in &report.skipped {
        let _ = writeln!(text, "skipped {} {}: {reason}", rule.code, rule.slug);
    }
    let _ = writeln!(
        text,
        "{}, {}, {} allowed by comments; {} rules",
        count(report.count(Severity::Error), "error"),
        count(report.count(Severity::Warning), "warning"),
        report.allowed.len(),
        RULES.len()
    );
    text
}

/// A number with its noun, such as `1 error` or `2 errors`.
fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

fn as_json(report: &Report) -> Value {
    let finding = |finding: &Finding| {
        json!({
            "rule": finding.rule.code,
            "name": finding.rule.slug,
            "severity": finding.rule.severity.as_str(),
            "title": finding.rule.title,
            "object": finding.object,
            "problem": finding.problem,
            "fix": finding.fix,
            "allowedBy": finding.allowed_by,
        })
    };
    json!({
        "errors": report.count(Severity::Error),
        "warnings": report.count(Severity::Warning),
        "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
        "allowed": report.allowed.iter().map(finding).collect::<Vec<_>>(),
        "skipped": report.skipped.iter().map(|(rule, reason)| json!({
            "rule": rule.code,
            "name": rule.slug,
            "reason": reason,
        })).collect::<Vec<_>>(),
    })
}

fn sarif(report: &Report) -> Value {
    let rules: Vec<Value> = RULES
        .iter()
        .map(|rule| {
            json!({
                "id": rule.code,
                "name": rule.slug,
                "shortDescription": { "text": rule.title },
                "fullDescription": { "text": rule.why },
                "defaultConfiguration": { "level": rule.severity.as_str() },
            })
        })
        .collect();
    let result = |finding: &Finding| {
        let mut result = json!({
            "ruleId": finding.rule.code,
            "ruleIndex": RULES.iter().position(|rule| rule.code == finding.rule.code),
            "level": finding.rule.severity.as_str(),
            "message": { "text": format!("{} Fix: {}", finding.problem, finding.fix) },
            "locations": [{ "logicalLocations": [{ "fullyQualifiedName": finding.object }] }],
        });
        if let Some(comment) = &finding.allowed_by {
            result["suppressions"] = json!([{ "kind": "inSource", "justification": comment }]);
        }
        result
    };
    let results: Vec<Value> = report
        .findings
        .iter()
        .chain(&report.allowed)
        .map(result)
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "palisade doctor",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            } },
            "results": results,
        }],
    })
}
