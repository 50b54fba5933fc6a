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

    /// Strings that only A has: one of the field with this name in `of`, or else one of this field in each type, or else
    /// one of any field. A unique key applies to the rows of one type.
    pub fn strings_of_a(&self, field: &str, of: Option<&str>) -> Vec<String> {
        let is_only_of_a = |text: &&str| text.len() > 3 && !self.b.strings.contains(*text);
        // A filter compares the whole string, so a short one is better than the beginning of a long one.
        let one = |strings: &mut dyn Iterator<Item = &'r str>| {
            let (short, long): (Vec<&str>, Vec<&str>) = strings
                .filter(is_only_of_a)
                .partition(|text| text.chars().count() <= MAX_STRING);
            let first = short.first().or(long.first())?;
            Some(first.chars().take(MAX_STRING).collect())
        };
        let a = self.a;
        if let Some(found) = of.and_then(|of| one(&mut a.strings_in(of, field))) {
            return vec![found];
        }
        let owners = a.types_with_strings(field);
        let found: Vec<String> = owners
            .filter_map(|of| one(&mut a.strings_in(of, field)))
            .collect();
        if !found.is_empty() {
            return found;
        }
        one(&mut a.strings.iter().map(String::as_str))
            .into_iter()
            .collect()
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

    /// The first difference between two responses, apart from the attacked values and what `echo` allows.
    pub fn difference(
        &self,
        real: (&Reply, &Shot),
        random: (&Reply, &Shot),
        echo: Echo,
    ) -> Option<String> {
        let comparison = Comparison {
            known: &self.b.uuids,
            started: self.started,
            only_forms: echo == Echo::Strings,
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
        let difference = self.difference((&one, real), (&other, random), Echo::Sent);
        if let Some(difference) = difference {
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

/// The variables with a second element in the list around a value, a copy of the first, and the place of the value in it.
/// `None` if no list contains the value.
pub fn with_second(variables: &Value, pointer: &str) -> Option<(Value, String)> {
    let at = pointer.rfind("/0")?;
    let (list, rest) = (&pointer[..at], &pointer[at + "/0".len()..]);
    let mut variables = variables.clone();
    let items = variables.pointer_mut(list)?.as_array_mut()?;
    items.push(items.first()?.clone());
    Some((variables, format!("{list}/1{rest}")))
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
