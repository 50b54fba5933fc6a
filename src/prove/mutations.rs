//! Attacks on mutations. Each is a dry run: the service executes it and rolls it back.
//!
//! An attack is worth something only if the mutation would succeed with an id of B. So for each id in the input, the
//! attacker first looks for an input with which the mutation succeeds for B, and for one with which it succeeds for A.
//! Then it puts A's id into B's input.

use serde_json::Value;

use super::{
    ProveError,
    attacker::{Attacker, Echo, Shot, declarations, in_parentheses, with_value},
    client::{Reply, Side},
    data::{TenantData, random_like, split_id, twin},
    inputs::{self, Leaf, NotBuilt},
    report::{FieldReport, Problem},
    schema::Field,
};

/// The number of inputs that are tried until a mutation succeeds.
const MAX_TRIES: usize = 200;
/// The number of ids of a type that are tried.
const MAX_IDS: usize = 100;

/// How far a mutation comes with an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    /// The service rejects the input before it looks for the rows, or finds none.
    Rejected,
    /// The service finds the rows, but their state does not allow the change.
    Found,
    /// The mutation succeeds.
    Done,
}

/// An input, and how far the mutation comes with it.
struct Base {
    variables: Value,
    reach: Reach,
    outcome: String,
}

/// User error codes of inputs that say nothing about a row.
const REJECTIONS: [&str; 8] = [
    "REQUIRED",
    "INVALID",
    "TOO_LONG",
    "TOO_SMALL",
    "TOO_LARGE",
    "NOT_FOUND",
    "FORBIDDEN",
    "LIMIT_REACHED",
];

/// `ok`, or the codes of the errors.
fn outcome(reply: &Reply) -> String {
    if reply.is_error() {
        return format!("{} {}", reply.status, reply.code());
    }
    let mut codes = Vec::new();
    collect_codes(&reply.body["data"], &mut codes);
    if codes.is_empty() {
        return "ok".to_owned();
    }
    codes.join(" ")
}

fn collect_codes(value: &Value, codes: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect_codes(item, codes)),
        Value::Object(fields) => {
            for (name, value) in fields {
                if name == "userErrors" {
                    let errors = value.as_array().into_iter().flatten();
                    codes.extend(errors.map(|error| {
                        let code = error["code"].as_str().unwrap_or("ERROR");
                        format!("{code} {}", error["field"])
                    }));
                } else {
                    collect_codes(value, codes);
                }
            }
        }
        _ => {}
    }
}

fn reach(reply: &Reply, outcome: &str) -> Reach {
    if reply.is_error() {
        return Reach::Rejected;
    }
    let first = outcome.split(' ').next().unwrap_or_default();
    let is_rejection = REJECTIONS.contains(&first);
    match outcome {
        "ok" => Reach::Done,
        _ if is_rejection => Reach::Rejected,
        _ => Reach::Found,
    }
}

impl<'r> Attacker<'r> {
    /// Attacks every mutation.
    pub async fn attack_mutations(&mut self) -> Result<Vec<FieldReport>, ProveError> {
        let schema = self.schema;
        let mutations = schema.mutations().iter();
        let named = mutations.map(|field| (format!("Mutation.{}", field.name), field));
        let selected: Vec<_> = named.filter(|(name, _)| self.is_selected(name)).collect();
        let mut reports = Vec::new();
        if !selected.is_empty() {
            self.assert_dry_runs().await?;
        }
        for (name, field) in selected {
            let mut report = FieldReport::new(name);
            self.attack_mutation(&mut report, field).await?;
            reports.push(report);
        }
        Ok(reports)
    }

    /// Sends mutations with random ids until one is executed. It changes nothing, and the service must confirm that it
    /// was a dry run.
    async fn assert_dry_runs(&self) -> Result<(), ProveError> {
        for field in self.schema.mutations() {
            let leaves = inputs::leaves(self.schema, &field.args);
            let mut required = leaves
                .iter()
                .filter(|leaf| leaf.is_id() && leaf.field.is_required());
            let Some(leaf) = required.next() else {
                continue;
            };
            for of in self.types_of(leaf, field) {
                let mut choose = |_: &str, field: &Field| match field.type_name.as_str() {
                    "ID" | "UUID" => {
                        let ids = self.b.ids.get(of).and_then(|ids| ids.first());
                        let id = ids.ok_or_else(|| NotBuilt::NoId(of.to_owned()))?;
                        Ok(random_like(id).into())
                    }
                    _ => inputs::plain_value(self.schema, self.b, field),
                };
                let built = inputs::build(self.schema, &field.args, &[], &mut choose);
                let Ok(variables) = built else { continue };
                let document = self.mutation(field, &variables);
                let reply = self.client.dry_run(Side::B, &document, &variables).await?;
                if !reply.is_error() {
                    return confirmed(field, &reply);
                }
            }
        }
        Err(ProveError::NotDryRun(
            "no mutation accepts a random id".to_owned(),
        ))
    }

    /// A document with one mutation.
    fn mutation(&self, field: &Field, variables: &Value) -> String {
        let (declared, arguments) = declarations(&field.args, variables);
        let declared = in_parentheses(&declared);
        let selection = self.schema.selection_set(&field.type_name, 2, Some(2));
        format!(
            "mutation Prove{declared} {{ {}{arguments} {selection} }}",
            field.name
        )
    }

    /// The types to which an id in the input may refer, as its name and that of the mutation suggest; every type if they
    /// suggest nothing.
    fn types_of(&self, leaf: &Leaf<'_>, mutation: &Field) -> Vec<&'r str> {
        let nodes: Vec<&str> = self.schema.node_types().collect();
        let name = leaf.field.name.as_str();
        let stem = name.strip_suffix("Ids").or_else(|| name.strip_suffix("Id"));
        let stem = stem.unwrap_or_default().to_lowercase();
        if let Some(of) = nodes.iter().find(|of| of.to_lowercase() == stem) {
            return vec![of];
        }
        if matches!(name, "id" | "ids") {
            let mutation = mutation.name.to_lowercase();
            let named = nodes
                .iter()
                .filter(|of| mutation.contains(&of.to_lowercase()));
            if let Some(of) = named.max_by_key(|of| of.len()) {
                return vec![of];
            }
        }
        nodes
    }

    /// The ids that a tenant could put into a leaf: of each type in turn.
    fn pool<'d>(&self, data: &'d TenantData, leaf: &Leaf<'_>, mutation: &Field) -> Vec<&'d str> {
        let types = self.types_of(leaf, mutation);
        let ids: Vec<&[String]> = types
            .iter()
            .filter_map(|of| data.ids.get(*of).map(Vec::as_slice))
            .collect();
        let in_turn = (0..MAX_IDS).flat_map(|row| ids.iter().filter_map(move |ids| ids.get(row)));
        in_turn.map(String::as_str).collect()
    }

    /// Looks for an input with which the mutation succeeds for a tenant, or else comes as far as possible. The input has
    /// the required fields and the `wanted` ones.
    async fn base(
        &self,
        side: Side,
        field: &Field,
        leaves: &[Leaf<'r>],
        wanted: &[&str],
    ) -> Result<Result<Base, NotBuilt>, ProveError> {
        let data = match side {
            Side::A => self.a,
            Side::B => self.b,
        };
        let pools: Vec<(&str, Vec<&str>)> = leaves
            .iter()
            .filter(|leaf| leaf.is_id())
            .map(|leaf| (leaf.pointer.as_str(), self.pool(data, leaf, field)))
            .collect();
        let mut best: Option<Base> = None;
        let longest = pools.iter().map(|(_, pool)| pool.len()).max();
        for number in 0..MAX_TRIES {
            let mut given = 0;
            let mut choose = |pointer: &str, field: &Field| {
                let Some((_, pool)) = pools.iter().find(|(known, _)| *known == pointer) else {
                    return inputs::plain_value(self.schema, data, field);
                };
                given += 1;
                if pool.is_empty() {
                    return Err(NotBuilt::NoId(field.name.clone()));
                }
                // A single id takes every value in turn; several take random ones after the first.
                let index = match (number, given) {
                    (number, 1) if number < pool.len() => number,
                    _ => fastrand::usize(..pool.len()),
                };
                Ok(id_for(field, pool[index]).into())
            };
            let variables = match inputs::build(self.schema, &field.args, wanted, &mut choose) {
                Ok(variables) => variables,
                Err(error) => return Ok(Err(error)),
            };
            let document = self.mutation(field, &variables);
            let reply = self.client.dry_run(side, &document, &variables).await?;
            confirmed(field, &reply)?;
            let outcome = outcome(&reply);
            let reach = reach(&reply, &outcome);
            if best.as_ref().is_none_or(|best| best.reach < reach) {
                best = Some(Base {
                    variables,
                    reach,
                    outcome,
                });
            }
            let tried_all = given <= 1 && number >= longest.unwrap_or(10);
            if reach == Reach::Done || tried_all {
                break;
            }
        }
        Ok(best.ok_or_else(|| NotBuilt::NoId(field.name.clone())))
    }

    async fn attack_mutation(
        &self,
        report: &mut FieldReport,
        field: &'r Field,
    ) -> Result<(), ProveError> {
        let leaves = inputs::leaves(self.schema, &field.args);
        let ids: Vec<&Leaf<'_>> = leaves.iter().filter(|leaf| leaf.is_id()).collect();
        // Each id alone, then all together, because the service checks one after the other.
        let mut chosen: Vec<&[&Leaf<'_>]> = ids.chunks(1).collect();
        if ids.len() > 1 {
            chosen.push(&ids);
        }
        for chosen in chosen {
            self.attack_ids(report, field, &leaves, chosen).await?;
        }
        self.attack_strings(report, field, &leaves).await?;
        if report.attacks == 0 && report.findings.is_empty() {
            report.add(
                Problem::NotAttacked,
                "the input has neither an id nor a string",
            );
        }
        Ok(())
    }

    async fn attack_ids(
        &self,
        report: &mut FieldReport,
        field: &'r Field,
        leaves: &[Leaf<'r>],
        chosen: &[&Leaf<'_>],
    ) -> Result<(), ProveError> {
        let wanted: Vec<&str> = chosen.iter().map(|leaf| leaf.pointer.as_str()).collect();
        let what: Vec<String> = chosen.iter().map(|leaf| leaf.path()).collect();
        let what = what.join(" and ");
        let mut bases = Vec::new();
        for side in [Side::B, Side::A] {
            let least = Reach::Found;
            match self.base(side, field, leaves, &wanted).await? {
                Ok(base) if base.reach >= least => bases.push(base),
                // All ids together may exclude each other; each alone was attacked.
                _ if chosen.len() > 1 => return Ok(()),
                Ok(base) => {
                    let detail = format!(
                        "{what}: no row of {side:?} lets the mutation run: {}",
                        base.outcome
                    );
                    report.add(Problem::NotAttacked, detail);
                    return Ok(());
                }
                Err(reason) => {
                    report.add(Problem::NotAttacked, format!("{what}: {side:?}: {reason}"));
                    return Ok(());
                }
            }
        }
        let [own, target] = &bases[..] else {
            return Ok(());
        };
        let (mut real, mut random) = (own.variables.clone(), own.variables.clone());
        let mut sent = [String::new(), String::new()];
        for pointer in &wanted {
            let id = target.variables.pointer(pointer).and_then(Value::as_str);
            let id = id.unwrap_or_default();
            sent = [id.to_owned(), random_like(id)];
            real = with_value(&real, pointer, &sent[0]);
            random = with_value(&random, pointer, &sent[1]);
        }
        let [real, random] = [(real, 0), (random, 1)].map(|(variables, which)| Shot {
            variables,
            sent: sent[which].clone(),
        });
        let document = self.mutation(field, &own.variables);
        report.attacks += 1;
        let mut replies = Vec::new();
        for shot in [&real, &random] {
            let reply = self
                .client
                .dry_run(Side::B, &document, &shot.variables)
                .await?;
            confirmed(field, &reply)?;
            self.search(report, &what, &reply, &shot.sent, Echo::Sent);
            replies.push(reply);
        }
        if let Some(difference) = self.difference((&replies[0], &real), (&replies[1], &random)) {
            let detail = format!("{what}: an id of A and a random one: {difference}");
            report.add(Problem::Difference, detail);
        }
        let of_random = outcome(&replies[1]);
        if of_random == own.outcome {
            let detail = format!("{what}: a random id has the same result as B's own: {of_random}");
            report.add(Problem::NotAttacked, detail);
        }
        if report.timing.is_none() {
            self.measure(report, &document, [&real, &random], true)
                .await?;
        }
        Ok(())
    }

    /// Sends A's strings in B's input. They are as free for B as random ones, also where they must be unique.
    async fn attack_strings(
        &self,
        report: &mut FieldReport,
        field: &'r Field,
        leaves: &[Leaf<'r>],
    ) -> Result<(), ProveError> {
        for leaf in leaves.iter().filter(|leaf| leaf.is_string()) {
            let Some(value) = self.string_of_a(&leaf.field.name) else {
                continue;
            };
            let what = leaf.path();
            let base = match self.base(Side::B, field, leaves, &[&leaf.pointer]).await? {
                Ok(base) if base.reach >= Reach::Found => base,
                Ok(base) => {
                    let detail = format!("{what}: B cannot run the mutation: {}", base.outcome);
                    report.add(Problem::NotAttacked, detail);
                    continue;
                }
                Err(reason) => {
                    report.add(Problem::NotAttacked, format!("{what}: {reason}"));
                    continue;
                }
            };
            let document = self.mutation(field, &base.variables);
            report.attacks += 1;
            let mut outcomes = Vec::new();
            for text in [value.clone(), twin(&value)] {
                let variables = with_value(&base.variables, &leaf.pointer, &text);
                let reply = self.client.dry_run(Side::B, &document, &variables).await?;
                confirmed(field, &reply)?;
                self.search(report, &what, &reply, &text, Echo::Strings);
                outcomes.push(outcome(&reply));
            }
            if outcomes[0] != outcomes[1] {
                let detail = format!(
                    "{what}: a string of A and a random one: {} and {}",
                    outcomes[0], outcomes[1]
                );
                report.add(Problem::Difference, detail);
            }
        }
        Ok(())
    }
}

/// The form in which a field takes an id.
fn id_for(field: &Field, id: &str) -> String {
    match (field.type_name.as_str(), split_id(id)) {
        ("UUID", Some((_, uuid))) => uuid.to_string(),
        _ => id.to_owned(),
    }
}

/// Errors: the service executed a mutation and did not say that it was a dry run.
fn confirmed(field: &Field, reply: &Reply) -> Result<(), ProveError> {
    if reply.is_error() || reply.is_dry_run {
        return Ok(());
    }
    Err(ProveError::NotDryRun(field.name.clone()))
}
