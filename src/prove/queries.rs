//! Attacks on queries: the root fields, and the fields with arguments below an object of B.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::Value;

use super::{
    ProveError,
    attacker::{Attacker, Echo, Shot, declarations, in_parentheses, with_second, with_value},
    client::{Reply, Side},
    data::{random_like, split_id, twin},
    inputs::{self, Leaf},
    report::{FieldReport, Problem},
    schema::{Field, Kind},
};

/// The variable with the id of the parent object.
const PARENT: &str = "prove_parent";
/// A cursor that no list has returned.
const INVENTED_CURSOR: &str = "bWFkZSB1cA";
/// The number of A's rows that are tried as a target.
const MAX_TARGETS: usize = 50;
/// The rows of a page in an attack.
const PAGE: usize = 3;

/// A field with the way to it.
struct Site<'s> {
    name: String,
    field: &'s Field,
    /// The selections around the field: `node(id: …) { ... on Project {`.
    open: String,
    close: &'static str,
    /// The type of the parent, if the way begins with its id.
    parent: Option<&'s str>,
    is_root: bool,
}

/// How much of the rows a document selects.
#[derive(Clone, Copy)]
enum Selected {
    Ids,
    Everything,
}

/// A request in which one value varies: the attacked one.
#[derive(Clone)]
struct Template {
    /// The argument with the value, for people.
    what: String,
    document: String,
    variables: Value,
    /// The place of the value in the variables, as a JSON pointer.
    pointer: String,
    /// Whether the argument takes an id without the prefix of its type.
    takes_uuids: bool,
}

impl Template {
    fn shot(&self, value: &str) -> Shot {
        let value = match split_id(value) {
            Some((_, uuid)) if self.takes_uuids => uuid.to_string(),
            _ => value.to_owned(),
        };
        Shot {
            variables: with_value(&self.variables, &self.pointer, &value),
            sent: value,
        }
    }

    /// The same request with the value as the second in its list, after `first`. `None` if the argument is not a list.
    fn after(&self, first: &str) -> Option<Self> {
        let (variables, pointer) = with_second(&self.shot(first).variables, &self.pointer)?;
        Some(Self {
            what: format!("{} after an id of B", self.what),
            variables,
            pointer,
            ..self.clone()
        })
    }
}

impl<'r> Attacker<'r> {
    /// Attacks every field of the queries that returns rows or has arguments.
    pub async fn attack_queries(&mut self) -> Result<Vec<FieldReport>, ProveError> {
        let mut reports = Vec::new();
        for site in self.sites() {
            match site {
                Ok(site) if self.is_selected(&site.name) => {
                    reports.push(self.attack_site(&site).await?);
                }
                Err(name) if self.is_selected(&name) => {
                    let mut report = FieldReport::new(name);
                    report.add(
                        Problem::NotAttacked,
                        "no query leads to the type of this field",
                    );
                    reports.push(report);
                }
                Ok(_) | Err(_) => {}
            }
        }
        Ok(reports)
    }

    /// The root fields, and the fields with arguments of every other type. Errors: the name of a field without a way.
    fn sites(&self) -> Vec<Result<Site<'r>, String>> {
        let schema = self.schema;
        let mut sites: Vec<_> = schema
            .queries()
            .iter()
            .map(|field| {
                Ok(Site {
                    name: format!("Query.{}", field.name),
                    field,
                    open: String::new(),
                    close: "",
                    parent: None,
                    is_root: true,
                })
            })
            .collect();
        let nodes: BTreeSet<&str> = schema.node_types().collect();
        let ways = self.ways();
        let mut reached = BTreeSet::new();
        for field in schema.queries() {
            reached.extend(schema.reached_from(&field.type_name));
        }
        let objects = schema.types().filter(|of| {
            of.kind == Kind::Object && !schema.is_root(&of.name) && reached.contains(&of.name)
        });
        for of in objects {
            for field in of.fields.iter().filter(|field| !field.args.is_empty()) {
                let name = format!("{}.{}", of.name, field.name);
                let (open, close, parent) = if nodes.contains(of.name.as_str()) {
                    let open = format!("node(id: ${PARENT}) {{ ... on {} {{", of.name);
                    (open, "} }", Some(of.name.as_str()))
                } else if let Some(way) = ways.get(of.name.as_str()) {
                    (way.clone(), "", None)
                } else {
                    sites.push(Err(name));
                    continue;
                };
                sites.push(Ok(Site {
                    name,
                    field,
                    open,
                    close,
                    parent,
                    is_root: false,
                }));
            }
        }
        sites
    }

    /// The shortest way without arguments from the root to each object type.
    fn ways(&self) -> BTreeMap<&'r str, String> {
        let mut ways = BTreeMap::new();
        let mut next: VecDeque<(&[Field], String)> =
            VecDeque::from([(self.schema.queries(), String::new())]);
        while let Some((fields, way)) = next.pop_front() {
            for field in fields.iter().filter(|field| field.needs_no_argument()) {
                let of = field.type_name.as_str();
                if self.schema.kind(of) == Kind::Object && !ways.contains_key(of) {
                    let way = format!("{way}{} {{ ", field.name);
                    next.push_back((self.schema.fields(of), way.clone()));
                    ways.insert(of, way);
                }
            }
        }
        ways
    }

    /// A document with the field of a site, and the variables in it.
    fn document(&self, site: &Site<'_>, variables: &Value, selected: Selected) -> String {
        let (mut declared, arguments) = declarations(&site.field.args, variables);
        if site.parent.is_some() {
            declared.push(format!("${PARENT}: ID!"));
        }
        let declared = in_parentheses(&declared);
        let (schema, of) = (self.schema, &site.field.type_name);
        let selection = if site.field.is_connection() {
            let row = schema.row(site.field);
            let row = match selected {
                Selected::Ids => schema.selection(row, 0, None),
                Selected::Everything => schema.selection(row, 1, Some(2)),
            };
            let count = schema
                .fields(of)
                .iter()
                .any(|field| field.name == "totalCount");
            let count = if count { "totalCount" } else { "" };
            format!(
                "{{ {count} nodes {{ {row} }} edges {{ cursor }}
                    pageInfo {{ hasNextPage hasPreviousPage startCursor endCursor }} }}"
            )
        } else {
            schema.selection_set(of, 1, Some(2))
        };
        let close = match site.parent {
            Some(_) => site.close.to_owned(),
            None => "}".repeat(site.open.matches('{').count()),
        };
        format!(
            "query{declared} {{ {} found: {}{arguments} {selection} {close} }}",
            site.open, site.field.name
        )
    }

    /// The variables of a request below the first object of B.
    fn variables(&self, site: &Site<'_>) -> Result<Value, String> {
        let mut choose = |pointer: &str, field: &Field| {
            if field.type_name == "ID" {
                // The attack on this argument replaces it.
                let first = self.b.first_ids().next();
                let (_, id) = first.ok_or_else(|| inputs::NotBuilt::NoId(pointer.to_owned()))?;
                return Ok(id.into());
            }
            inputs::plain_value(self.schema, self.b, field)
        };
        let built = inputs::build(self.schema, &site.field.args, &[], &mut choose);
        let mut variables = built.map_err(|error| error.to_string())?;
        if let Some(of) = site.parent {
            let parent = self.b.ids.get(of).and_then(|ids| ids.first());
            variables[PARENT] = parent
                .ok_or_else(|| format!("B has no {of}"))?
                .as_str()
                .into();
        }
        if site.field.is_connection() {
            variables["first"] = PAGE.into();
        }
        Ok(variables)
    }

    async fn attack_site(&mut self, site: &Site<'r>) -> Result<FieldReport, ProveError> {
        let mut report = FieldReport::new(site.name.clone());
        let base = match self.variables(site) {
            Ok(base) => base,
            Err(reason) => {
                report.add(Problem::NotAttacked, reason);
                return Ok(report);
            }
        };
        if site.field.needs_no_argument() {
            self.read_as_b(&mut report, site, &base).await?;
        }
        if let Some(of) = site.parent {
            self.attack_parent(&mut report, site, &base, of).await?;
        }
        for leaf in inputs::leaves(self.schema, &site.field.args) {
            let template = self.template(site, &base, &leaf);
            let is_cursor = matches!(leaf.pointer.as_str(), "/after" | "/before");
            if site.field.is_connection() && is_cursor {
                self.attack_cursor(&mut report, site, &base, &template)
                    .await?;
            } else if leaf.is_id() {
                self.attack_id(&mut report, site, &leaf, &template).await?;
            } else if leaf.is_string() && !leaf.is_nested {
                self.attack_string(&mut report, site, &leaf, &template)
                    .await?;
            } else if site.is_root && !leaf.is_nested && !leaf.owner.is_empty() {
                self.attack_value(&mut report, &leaf, template).await?;
            }
        }
        Ok(report)
    }

    /// Reads the field as B, with everything in it.
    async fn read_as_b(
        &self,
        report: &mut FieldReport,
        site: &Site<'_>,
        base: &Value,
    ) -> Result<(), ProveError> {
        let mut variables = base.clone();
        if site.field.is_connection() {
            variables["first"] = 20.into();
        }
        let document = self.document(site, &variables, Selected::Everything);
        let reply = self.client.query(Side::B, &document, &variables).await?;
        report.attacks += 1;
        self.search(report, "read", &reply, "", Echo::Sent);
        if reply.is_error() {
            let detail = format!("B cannot read the field: {} {}", reply.status, reply.code());
            report.add(Problem::NotAttacked, detail);
        }
        if !site.is_root {
            return Ok(());
        }
        // A number contains no value of A, so only its size shows that it counts rows of A.
        let count = reply.body["data"]["found"]["totalCount"].as_u64();
        let read = self.b.row_counts.get(&site.field.name);
        if let (Some(count), Some(&read)) = (count, read)
            && usize::try_from(count) != Ok(read)
        {
            let detail = format!("read: totalCount is {count}, but B reads {read} rows");
            report.add(Problem::Leak, detail);
        }
        // A cache between the client and the service could keep A's response to the same URL.
        let document = self.document(site, base, Selected::Ids);
        self.client.get(Side::A, &document, base).await?;
        let reply = self.client.get(Side::B, &document, base).await?;
        report.attacks += 1;
        self.search(report, "GET after a GET of A", &reply, "", Echo::Sent);
        Ok(())
    }

    /// Reads the field below an object of A.
    async fn attack_parent(
        &self,
        report: &mut FieldReport,
        site: &Site<'_>,
        base: &Value,
        of: &str,
    ) -> Result<(), ProveError> {
        let Some(id) = self.a.ids.get(of).and_then(|ids| ids.first()) else {
            report.add(Problem::NotAttacked, format!("A has no {of}"));
            return Ok(());
        };
        let template = Template {
            what: "parent".to_owned(),
            document: self.document(site, base, Selected::Everything),
            variables: base.clone(),
            pointer: format!("/{PARENT}"),
            takes_uuids: false,
        };
        self.send_pair(report, &template, id, &random_like(id))
            .await?;
        Ok(())
    }

    /// The request for the attacks on a leaf. Its other arguments have the values of `base`.
    fn template(&self, site: &Site<'_>, base: &Value, leaf: &Leaf<'_>) -> Template {
        let mut choose = |_: &str, field: &Field| match field.type_name.as_str() {
            "ID" => Ok(Value::Null),
            _ => inputs::plain_value(self.schema, self.b, field),
        };
        let args = &site.field.args;
        let built = inputs::build(self.schema, args, &[&leaf.pointer], &mut choose);
        let mut variables = base.clone();
        let name = leaf.pointer.split('/').nth(1).unwrap_or_default();
        if let Ok(mut built) = built {
            variables[name] = built[name].take();
        }
        Template {
            what: leaf.path(),
            document: self.document(site, &variables, Selected::Ids),
            variables,
            pointer: leaf.pointer.clone(),
            takes_uuids: leaf.field.type_name == "UUID",
        }
    }

    /// Sends a value of A and a random one as B. Returns the response for the random one.
    async fn send_pair(
        &self,
        report: &mut FieldReport,
        template: &Template,
        value: &str,
        random: &str,
    ) -> Result<Reply, ProveError> {
        let [real, random] = [value, random].map(|value| template.shot(value));
        self.pair(report, &template.what, &template.document, &real, &random)
            .await
    }

    async fn attack_cursor(
        &self,
        report: &mut FieldReport,
        site: &Site<'_>,
        base: &Value,
        template: &Template,
    ) -> Result<(), ProveError> {
        let what = &template.what;
        let Some((cursor, parent)) = self.cursor_of_a(site, base).await? else {
            let detail = format!("{what}: no such list of A has rows");
            report.add(Problem::NotAttacked, detail);
            return Ok(());
        };
        self.send_pair(report, template, &cursor, INVENTED_CURSOR)
            .await?;
        // For A itself the cursor is valid.
        let own = template.shot(&cursor).variables;
        let own = with_value(&own, &format!("/{PARENT}"), parent);
        let reply = self.client.query(Side::A, &template.document, &own).await?;
        if reply.is_error() {
            let detail = format!("{what}: A's own cursor is rejected: {}", reply.code());
            report.add(Problem::NotAttacked, detail);
        }
        Ok(())
    }

    /// A cursor of A in the list of a site, and the object of A with the list; empty for a root field.
    async fn cursor_of_a(
        &self,
        site: &Site<'_>,
        base: &Value,
    ) -> Result<Option<(String, &'r str)>, ProveError> {
        let document = self.document(site, base, Selected::Ids);
        let parents: Vec<&str> = match site.parent {
            None => vec![""],
            Some(of) => {
                let ids = self.a.ids.get(of).into_iter().flatten();
                ids.take(MAX_TARGETS).map(String::as_str).collect()
            }
        };
        for parent in parents {
            let variables = with_value(base, &format!("/{PARENT}"), parent);
            let reply = self.client.query(Side::A, &document, &variables).await?;
            if let Some(cursor) = find_key(&reply.body, "endCursor").and_then(Value::as_str) {
                return Ok(Some((cursor.to_owned(), parent)));
            }
        }
        Ok(None)
    }

    async fn attack_id(
        &mut self,
        report: &mut FieldReport,
        site: &Site<'_>,
        leaf: &Leaf<'_>,
        template: &Template,
    ) -> Result<(), ProveError> {
        let what = &template.what;
        let key = match leaf.owner {
            "" => [site.name.clone(), String::new(), leaf.field.name.clone()],
            owner => {
                // The operators of one filter accept the same ids.
                let argument = leaf.pointer.split('/').nth(1).unwrap_or_default();
                let arg = site.field.arg(argument);
                let of = arg.map_or(owner, |arg| arg.type_name.as_str());
                [of.to_owned(), owner.to_owned(), leaf.through.to_owned()]
            }
        };
        let first_ids: Vec<(&str, &str)> = self.a.first_ids().collect();
        let known = self.accepted.get(&key).cloned();
        let mut accepted = Vec::new();
        for (of, id) in &first_ids {
            if known
                .as_ref()
                .is_some_and(|known| !known.iter().any(|known| known == of))
            {
                continue;
            }
            let reply = self
                .send_pair(report, template, id, &random_like(id))
                .await?;
            if !reply.is_error() {
                accepted.push((*of).to_owned());
            }
        }
        if accepted.is_empty() {
            let detail = format!("{what}: the service accepts no type of id");
            report.add(Problem::NotAttacked, detail);
            return Ok(());
        }
        if leaf.owner.is_empty() {
            self.attack_retyped(report, template, &first_ids).await?;
        }
        if site.is_root && !leaf.is_nested {
            for of in &accepted {
                let Some(target) = self.target(template, of).await? else {
                    let detail = format!("{what}: it finds no {of} of A");
                    report.add(Problem::NotAttacked, detail);
                    continue;
                };
                let random = random_like(target);
                self.send_pair(report, template, target, &random).await?;
                // The service could check only the first id of a list.
                let own = self.b.ids.get(of).and_then(|ids| ids.first());
                if let Some(list) = own.and_then(|own| template.after(own)) {
                    self.send_pair(report, &list, target, &random).await?;
                }
                if leaf.owner.is_empty() && report.timing.is_none() {
                    let [real, random] = [target, &random].map(|id| template.shot(id));
                    self.measure(report, &template.document, [&real, &random], false)
                        .await?;
                }
            }
        }
        self.accepted.insert(key, accepted);
        Ok(())
    }

    /// Sends A's UUIDs as ids of each other type.
    async fn attack_retyped(
        &self,
        report: &mut FieldReport,
        template: &Template,
        first_ids: &[(&str, &str)],
    ) -> Result<(), ProveError> {
        let template = Template {
            what: format!("{} with another type", template.what),
            ..template.clone()
        };
        for (_, id) in first_ids {
            for (_, other) in first_ids.iter().filter(|(_, other)| other != id) {
                if let (Some((_, uuid)), Some((prefix, _))) = (split_id(id), split_id(other)) {
                    let retyped = format!("{prefix}{}", uuid.simple());
                    self.send_pair(report, &template, &retyped, &random_like(other))
                        .await?;
                }
            }
        }
        Ok(())
    }

    /// An id of A with which A itself gets another response than with a random id.
    async fn target(&self, template: &Template, of: &str) -> Result<Option<&'r str>, ProveError> {
        let document = &template.document;
        let ids = self.a.ids.get(of).into_iter().flatten();
        for id in ids.take(MAX_TARGETS) {
            let query = async |id: &str| {
                let variables = template.shot(id).variables;
                self.client.query(Side::A, document, &variables).await
            };
            let (one, other) = (query(id).await?, query(&random_like(id)).await?);
            // The rows themselves, because they have ids that only A knows.
            if !one.is_error() && one.body["data"] != other.body["data"] {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    async fn attack_string(
        &self,
        report: &mut FieldReport,
        site: &Site<'_>,
        leaf: &Leaf<'_>,
        template: &Template,
    ) -> Result<(), ProveError> {
        let field = if leaf.through.is_empty() {
            &leaf.field.name
        } else {
            leaf.through
        };
        let row = self.schema.row(site.field);
        let values = self.strings_of_a(field, Some(row));
        if values.is_empty() {
            let detail = format!("{}: A has no string that B does not have", template.what);
            report.add(Problem::NotAttacked, detail);
        }
        for value in values {
            self.send_pair(report, template, &value, &twin(&value))
                .await?;
        }
        Ok(())
    }

    /// Sends a value of A that B can have too: a date, a number or an enum. Only the rows in the response matter.
    async fn attack_value(
        &self,
        report: &mut FieldReport,
        leaf: &Leaf<'_>,
        mut template: Template,
    ) -> Result<(), ProveError> {
        let what = &template.what;
        let value = self.a.value(leaf.through, &leaf.field.type_name).cloned();
        let built = || inputs::plain_value(self.schema, self.a, leaf.field);
        let value = match value.map_or_else(built, Ok) {
            Ok(value) => value,
            Err(reason) => {
                report.add(Problem::NotAttacked, format!("{what}: {reason}"));
                return Ok(());
            }
        };
        if let Some(slot) = template.variables.pointer_mut(&template.pointer) {
            *slot = value;
        }
        let query = self
            .client
            .query(Side::B, &template.document, &template.variables);
        let reply = query.await?;
        report.attacks += 1;
        self.search(report, what, &reply, "", Echo::Sent);
        if reply.is_error() {
            let detail = format!("{what}: {} {}", reply.status, reply.code());
            report.add(Problem::NotAttacked, detail);
        }
        Ok(())
    }
}

/// The first value with this key, at any depth.
fn find_key<'v>(value: &'v Value, key: &str) -> Option<&'v Value> {
    match value {
        Value::Object(fields) => fields
            .get(key)
            .or_else(|| fields.values().find_map(|value| find_key(value, key))),
        Value::Array(items) => items.iter().find_map(|item| find_key(item, key)),
        _ => None,
    }
}
