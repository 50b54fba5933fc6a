//! What the attacks on queries and on mutations have in common.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{
    ProveError, Settings,
    canaries::Canaries,
    client::{Client, Reply, Side},
    compare::Comparison,
    data::{TenantData, split_id},
    report::{FieldReport, Problem},
    schema::Schema,
    timing::{Series, Timing},
};

/// The length of the strings in an attack, which every filter accepts.
const MAX_STRING: usize = 60;

/// Attacks A as B.
pub struct Attacker<'r> {
    pub client: &'r Client,
    pub schema: &'r Schema,
    pub a: &'r TenantData,
    pub b: &'r TenantData,
    canaries: Canaries,
    id_canaries: Canaries,
    started: DateTime<Utc>,
    settings: &'r Settings,
    /// The types of id that an argument or input field accepts, by its owner, the field that leads to the owner, and its
    /// name.
    pub accepted: HashMap<[String; 3], Vec<String>>,
}

/// A request with one attacked value.
#[derive(Clone, Debug)]
pub struct Shot {
    pub variables: Value,
    /// The attacked value: of A, or random.
    pub sent: String,
}

/// What a response may have in common with A.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Echo {
    /// Nothing, except the string that B sent.
    Sent,
    /// Any string, because the service derives strings from the one that B sent: the slug from a name.
    Strings,
}

impl<'r> Attacker<'r> {
    pub fn new(
        client: &'r Client,
        schema: &'r Schema,
        (a, b): (&'r TenantData, &'r TenantData),
        canaries: Canaries,
        started: DateTime<Utc>,
        settings: &'r Settings,
    ) -> Self {
        Self {
            client,
            schema,
            a,
            b,
            id_canaries: canaries.only_ids(),
            canaries,
            started,
            settings,
            accepted: HashMap::new(),
        }
    }

    /// Whether the settings select a field.
    pub fn is_selected(&self, name: &str) -> bool {
        let short = name.split_once('.').map_or(name, |(_, short)| short);
        let fields = &self.settings.fields;
        fields.is_empty() || fields.iter().any(|field| field == name || field == short)
    }

    /// A string that only A has: of the field with this name, or else of any field.
    pub fn string_of_a(&self, field: &str) -> Option<String> {
        let is_only_of_a = |text: &&str| text.len() > 3 && !self.b.strings.contains(*text);
        let mut of_field = self.a.strings_of(field);
        let mut others = self.a.strings.iter().map(String::as_str);
        let found = of_field.find(is_only_of_a);
        let found = found.or_else(|| others.find(is_only_of_a))?;
        Some(found.chars().take(MAX_STRING).collect())
    }

    /// Adds a finding if a response to B contains a value of A.
    pub fn search(
        &self,
        report: &mut FieldReport,
        what: &str,
        reply: &Reply,
        sent: &str,
        echo: Echo,
    ) {
        // A response must not even repeat an id that B sent.
        let exempt: &[&str] = if split_id(sent).is_some() || sent.is_empty() {
            &[]
        } else {
            &[sent]
        };
        let canaries = match echo {
            Echo::Sent => &self.canaries,
            Echo::Strings => &self.id_canaries,
        };
        if let Some(found) = canaries.find(reply, exempt) {
            let detail = format!("{what}: the response to B contains {found} of A");
            report.add(Problem::Leak, detail);
        }
    }

    /// The first difference between two responses, apart from the attacked values.
    pub fn difference(&self, real: (&Reply, &Shot), random: (&Reply, &Shot)) -> Option<String> {
        let comparison = Comparison {
            known: &self.b.uuids,
            started: self.started,
        };
        comparison.difference((real.0, &[&real.1.sent]), (random.0, &[&random.1.sent]))
    }

    /// Sends a value of A and a random one as B. Adds findings for what the responses reveal.
    pub async fn pair(
        &self,
        report: &mut FieldReport,
        what: &str,
        document: &str,
        real: &Shot,
        random: &Shot,
    ) -> Result<Reply, ProveError> {
        report.attacks += 1;
        let query = async |shot: &Shot| self.client.query(Side::B, document, &shot.variables).await;
        let (one, other) = (query(real).await?, query(random).await?);
        for (reply, shot) in [(&one, real), (&other, random)] {
            self.search(report, what, reply, &shot.sent, Echo::Sent);
        }
        if let Some(difference) = self.difference((&one, real), (&other, random)) {
            let detail = format!("{what}: a value of A and a random one: {difference}");
            report.add(Problem::Difference, detail);
        }
        Ok(other)
    }

    /// Measures the response times for a value of A and a random one, in turn.
    pub async fn measure(
        &self,
        report: &mut FieldReport,
        document: &str,
        shots: [&Shot; 2],
        is_mutation: bool,
    ) -> Result<(), ProveError> {
        if self.settings.samples == 0 {
            return Ok(());
        }
        let mut timing = self.series(document, shots, is_mutation).await?;
        if timing.differs() {
            // A second, independent series decides.
            timing = self.series(document, shots, is_mutation).await?;
            if timing.differs() && self.settings.checks_times {
                let detail = format!(
                    "the median times differ: {:?} for an id of A, {:?} for a random one, z = {:.1}",
                    timing.real, timing.random, timing.z
                );
                report.add(Problem::Timing, detail);
            }
        }
        report.timing = Some(timing);
        Ok(())
    }

    async fn series(
        &self,
        document: &str,
        [real, random]: [&Shot; 2],
        is_mutation: bool,
    ) -> Result<Timing, ProveError> {
        let mut series = Series::default();
        let send = async |shot: &Shot| {
            let variables = &shot.variables;
            let reply = if is_mutation {
                self.client.dry_run(Side::B, document, variables).await?
            } else {
                self.client.query(Side::B, document, variables).await?
            };
            Ok::<_, ProveError>(reply.elapsed)
        };
        // The first requests fill caches.
        send(real).await?;
        send(random).await?;
        for _ in 0..self.settings.samples {
            // A random order, so that neither is always after the other.
            if fastrand::bool() {
                series.real.push(send(real).await?);
                series.random.push(send(random).await?);
            } else {
                series.random.push(send(random).await?);
                series.real.push(send(real).await?);
            }
        }
        Ok(series.compare())
    }
}

/// Replaces the value at a JSON pointer.
pub fn with_value(variables: &Value, pointer: &str, value: &str) -> Value {
    let mut variables = variables.clone();
    if let Some(slot) = variables.pointer_mut(pointer) {
        *slot = value.into();
    }
    variables
}

/// The declarations of a document's variables, with their types, and the arguments that use them.
pub fn declarations(args: &[super::schema::Field], variables: &Value) -> (Vec<String>, String) {
    let given = args.iter().filter(|arg| variables.get(&arg.name).is_some());
    let (mut declared, mut used) = (Vec::new(), Vec::new());
    for arg in given {
        declared.push(format!("${}: {}", arg.name, arg.type_text));
        used.push(format!("{0}: ${0}", arg.name));
    }
    (declared, in_parentheses(&used))
}

/// A list of GraphQL in parentheses; nothing if it is empty.
pub fn in_parentheses(items: &[String]) -> String {
    if items.is_empty() {
        return String::new();
    }
    format!("({})", items.join(", "))
}
