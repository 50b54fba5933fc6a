//! Attacks on mutations. Each is a dry run: the service executes it and rolls it back.
//!
//! An attack is worth something only if the mutation would succeed with an id of B. So for each id in the input, the
//! attacker first looks for an input with which the mutation succeeds for B, and for one with which it succeeds for A.
//! Then it puts A's id into B's input.

use serde_json::Value;

use super::{
    ProveError,
    attacker::{Attacker, Echo, Shot, declarations, in_parentheses, with_second, with_value},
    client::{Reply, Side},
    data::{TenantData, id_for, random_like, twin},
    inputs::{self, Leaf, NotBuilt},
    report::{FieldReport, Problem},
    schema::{Field, Schema},
};

/// The number of inputs that are tried until a mutation succeeds.
const MAX_TRIES: usize = 200;
/// The number of inputs that are tried for one of several types of id.
const MAX_TRIES_OF_TYPE: usize = 20;
/// The number of inputs without an id that are tried.
const MIN_TRIES: usize = 10;
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

/// The type of the ids that are tried in one place of an input.
#[derive(Clone, Copy)]
struct Only<'t> {
    pointer: &'t str,
    of: &'t str,
    max_tries: usize,
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
            for of in types_of(self.schema, leaf, field) {
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

    /// The ids of each type that a tenant could put into a leaf. Types without ids are left out.
    fn pool<'d>(
        &self,
        data: &'d TenantData,
        leaf: &Leaf<'_>,
        mutation: &Field,
        only: Option<Only<'_>>,
    ) -> Vec<&'d [String]> {
        let types = match only {
            Some(only) if only.pointer == leaf.pointer => vec![only.of],
            _ => types_of(self.schema, leaf, mutation),
        };
        types
            .into_iter()
            .filter_map(|of| data.ids.get(of))
            .map(|ids| &ids[..ids.len().min(MAX_IDS)])
            .collect()
    }

    /// Looks for an input with which the mutation succeeds for a tenant, or else comes as far as possible. The input has
    /// the required fields and the `wanted` ones.
    async fn base(
        &self,
        side: Side,
        field: &Field,
        leaves: &[Leaf<'r>],
        wanted: &[&str],
        only: Option<Only<'_>>,
    ) -> Result<Result<Base, NotBuilt>, ProveError> {
        let data = match side {
            Side::A => self.a,
            Side::B => self.b,
        };
        let pools: Vec<(&str, Vec<&[String]>)> = leaves
            .iter()
            .filter(|leaf| leaf.is_id())
            .map(|leaf| (leaf.pointer.as_str(), self.pool(data, leaf, field, only)))
            .collect();
        let mut best: Option<Base> = None;
        let max_tries = only.map_or(MAX_TRIES, |only| only.max_tries);
        for number in 0..max_tries {
            let (mut given, mut possible) = (0, 0);
            let mut choose = |pointer: &str, field: &Field| {
                let Some((_, pool)) = pools.iter().find(|(known, _)| *known == pointer) else {
                    return inputs::plain_value(self.schema, data, field);
                };
                given += 1;
                possible = possible.max(pool.iter().map(|ids| ids.len()).sum());
                // The first id takes every value in turn, each type after the other; the next ones take random values.
                // The type is chosen first: a type with many ids must not hide one with few.
                let mut in_turn =
                    (0..MAX_IDS).flat_map(|row| pool.iter().filter_map(move |of| of.get(row)));
                let next = (given == 1).then(|| in_turn.nth(number)).flatten();
                let random =
                    || fastrand::choice(pool.iter()).and_then(|of| fastrand::choice(of.iter()));
                let id = next.or_else(random);
                let id = id.ok_or_else(|| NotBuilt::NoId(field.name.clone()))?;
                Ok(id_for(field, id).into())
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
            let tried_all = given <= 1 && number >= possible.max(MIN_TRIES);
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
        for leaf in &ids {
            let types = types_of(self.schema, leaf, field);
            let mut only = Only {
                pointer: &leaf.pointer,
                of: "",
                max_tries: if types.len() > 1 {
                    MAX_TRIES_OF_TYPE
                } else {
                    MAX_TRIES
                },
            };
            let (mut reason, mut is_attacked) = (None, false);
            // An id such as that of a comment's subject may be of several types, each with a foreign key of its own.
            for of in types {
                only.of = of;
                let attacked = self
                    .attack_ids(report, field, &leaves, &[leaf], Some(only))
                    .await?;
                is_attacked |= attacked.is_ok();
                reason = attacked.err().or(reason);
            }
            if let (false, Some(reason)) = (is_attacked, reason) {
                report.add(Problem::NotAttacked, reason);
            }
        }
        if ids.len() > 1 {
            // All together, because the service checks one after the other. They may exclude each other, which is no
            // finding: each alone was attacked.
            let _ = self.attack_ids(report, field, &leaves, &ids, None).await?;
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

    /// Sends ids of A in B's input. Errors of the inner result: why the mutation does not run without them.
    async fn attack_ids(
        &self,
        report: &mut FieldReport,
        field: &'r Field,
        leaves: &[Leaf<'r>],
        chosen: &[&Leaf<'_>],
        only: Option<Only<'_>>,
    ) -> Result<Result<(), String>, ProveError> {
        let wanted: Vec<&str> = chosen.iter().map(|leaf| leaf.pointer.as_str()).collect();
        let what: Vec<String> = chosen.iter().map(|leaf| leaf.path()).collect();
        let what = what.join(" and ");
        let mut bases = Vec::new();
        for side in [Side::B, Side::A] {
            let base = self.base(side, field, leaves, &wanted, only).await?;
            match base {
                Ok(base) if base.reach >= Reach::Found => bases.push(base),
                Ok(base) => {
                    let outcome = base.outcome;
                    return Ok(Err(format!(
                        "{what}: no row of {side:?} lets the mutation run: {outcome}"
                    )));
                }
                Err(reason) => return Ok(Err(format!("{what}: {side:?}: {reason}"))),
            }
        }
        let [own, target] = &bases[..] else {
            return Ok(Ok(()));
        };
        let document = self.mutation(field, &own.variables);
        let mut shots = [0, 1].map(|_| Shot {
            variables: own.variables.clone(),
            sent: String::new(),
        });
        for pointer in &wanted {
            let id = target.variables.pointer(pointer).and_then(Value::as_str);
            let id = id.unwrap_or_default();
            for (shot, id) in shots.iter_mut().zip([id.to_owned(), random_like(id)]) {
                shot.variables = with_value(&shot.variables, pointer, &id);
                shot.sent = id;
            }
        }
        let of_random = self
            .dry_run_pair(report, field, &what, &document, &shots, Echo::Sent)
            .await?;
        if of_random == own.outcome {
            let detail = format!("{what}: a random id has the same result as B's own: {of_random}");
            report.add(Problem::NotAttacked, detail);
        }
        // The service could check only the first element of a list.
        if let [pointer] = wanted[..]
            && let Some((variables, pointer)) = with_second(&own.variables, pointer)
        {
            let shots = shots.clone().map(|shot| Shot {
                variables: with_value(&variables, &pointer, &shot.sent),
                ..shot
            });
            let what = format!("{what} after an id of B");
            self.dry_run_pair(report, field, &what, &document, &shots, Echo::Sent)
                .await?;
        }
        if report.timing.is_none() {
            let [real, random] = &shots;
            self.measure(report, &document, [real, random], true)
                .await?;
        }
        Ok(Ok(()))
    }

    /// Sends a mutation with a value of A and with a random one as B. Adds findings for what the responses reveal. Returns
    /// the outcome of the random one.
    async fn dry_run_pair(
        &self,
        report: &mut FieldReport,
        field: &Field,
        what: &str,
        document: &str,
        shots: &[Shot; 2],
        echo: Echo,
    ) -> Result<String, ProveError> {
        report.attacks += 1;
        let mut replies = Vec::new();
        for shot in shots {
            let reply = self.client.dry_run(Side::B, document, &shot.variables);
            let reply = reply.await?;
            confirmed(field, &reply)?;
            self.search(report, what, &reply, &shot.sent, echo);
            replies.push(reply);
        }
        let ([real, random], [one, other]) = (shots, &replies[..]) else {
            return Ok(String::new());
        };
        let [of_a, of_random] = [one, other].map(outcome);
        if of_a != of_random {
            let detail = format!("{what}: a value of A and a random one: {of_a} and {of_random}");
            report.add(Problem::Difference, detail);
        } else if let Some(difference) = self.difference((one, real), (other, random), echo) {
            let detail = format!("{what}: a value of A and a random one: {difference}");
            report.add(Problem::Difference, detail);
        }
        Ok(of_random)
    }

    /// Sends A's strings in B's input. They are as free for B as random ones, also where they must be unique.
    async fn attack_strings(
        &self,
        report: &mut FieldReport,
        field: &'r Field,
        leaves: &[Leaf<'r>],
    ) -> Result<(), ProveError> {
        let subject = subject(self.schema, field);
        for leaf in leaves.iter().filter(|leaf| leaf.is_string()) {
            let values = self.strings_of_a(&leaf.field.name, subject);
            if values.is_empty() {
                continue;
            }
            let what = leaf.path();
            let base = match self
                .base(Side::B, field, leaves, &[&leaf.pointer], None)
                .await?
            {
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
            for value in values {
                let shots = [value.clone(), twin(&value)].map(|text| Shot {
                    variables: with_value(&base.variables, &leaf.pointer, &text),
                    sent: text,
                });
                self.dry_run_pair(report, field, &what, &document, &shots, Echo::Strings)
                    .await?;
            }
        }
        Ok(())
    }
}

/// The type of the rows that a mutation writes, as its name suggests.
fn subject<'s>(schema: &'s Schema, mutation: &Field) -> Option<&'s str> {
    let name = mutation.name.to_lowercase();
    let named = schema
        .node_types()
        .filter(|of| name.contains(&of.to_lowercase()));
    named.max_by_key(|of| of.len())
}

/// The types to which an id in the input may refer: that of its name, that of the field with its name in the written rows
/// (`Project.owner` for `ownerId`), or that of the rows for `id`. Every type if these suggest nothing.
fn types_of<'s>(schema: &'s Schema, leaf: &Leaf<'_>, mutation: &Field) -> Vec<&'s str> {
    let nodes: Vec<&str> = schema.node_types().collect();
    let name = leaf.field.name.as_str();
    let subject = subject(schema, mutation);
    let found = if matches!(name, "id" | "ids") {
        subject
    } else {
        let stem = name.strip_suffix("Ids").or_else(|| name.strip_suffix("Id"));
        let stem = stem.unwrap_or_default();
        let mut fields = subject.map_or(&[][..], |of| schema.fields(of)).iter();
        let related = fields.find(|field| field.name == stem);
        let related = related.map(|field| field.type_name.as_str());
        let named = |of: &&str| of.eq_ignore_ascii_case(stem) || Some(*of) == related;
        nodes.iter().copied().find(named)
    };
    found.map_or(nodes, |of| vec![of])
}

/// Errors: the service executed a mutation and did not say that it was a dry run.
fn confirmed(field: &Field, reply: &Reply) -> Result<(), ProveError> {
    if reply.is_error() || reply.is_dry_run {
        return Ok(());
    }
    Err(ProveError::NotDryRun(field.name.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Most ids of a tenant are not ids of users: a search among all of them would often find no owner.
    #[test]
    fn the_schema_determines_the_type_of_each_id() {
        let schema = Schema::from_sdl(&crate::api::sdl()).unwrap();
        let types = |mutation: &str, argument: &str| {
            let mut mutations = schema.mutations().iter();
            let mutation = mutations.find(|field| field.name == mutation).unwrap();
            let leaves = inputs::leaves(&schema, &mutation.args);
            let leaf = leaves.iter().find(|leaf| leaf.path() == argument);
            types_of(&schema, leaf.unwrap(), mutation)
        };
        assert_eq!(types("updateProject", "input.ownerId"), ["User"]);
        assert_eq!(
            types("updateProject", "input.organizationId"),
            ["Organization"]
        );
        assert_eq!(types("updateProject", "input.id"), ["Project"]);
        assert_eq!(types("deleteProjects", "input.ids"), ["Project"]);
        assert_eq!(
            types("updateInvoiceLineItem", "input.id"),
            ["InvoiceLineItem"]
        );
        let nodes: Vec<&str> = schema.node_types().collect();
        assert_eq!(types("createComment", "input.subjectId"), nodes);
    }
}
