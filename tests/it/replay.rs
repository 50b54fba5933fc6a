//! A thousand mutations to a service that is killed again and again. The clients repeat each request until
//! they get a response. The stored rows are the same as without a kill.

use std::{process::Stdio, time::Duration};

use fastrand::Rng;
use futures_util::future::join_all;
use macro_rules_attribute::apply;
use palisade::ids::EntityId as _;
use serde_json::{Value, json};
use sqlx::{PgConnection, Row as _};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    sync::watch,
};

use crate::{
    harness::{
        CONTEXT_KEY, Caller, Reply, SECRET, Tenant, TestApp, entity, model, mutation, palisade_test,
    },
    samples::payload_object,
};

/// The mutations of a stream are sent one after the other, because later ones use the results of earlier
/// ones.
const STREAMS: usize = 4;
const MUTATIONS: usize = 250;
const KILLS: usize = 8;
/// The time limit of each wait, long enough for a busy machine.
const LIMIT: Duration = Duration::from_mins(1);

/// A mutation of a stream. In its input, `@7` is replaced by the id that the mutation at index 7 returned.
struct Step {
    name: &'static str,
    object: &'static str,
    input: Value,
}

/// The steps so far, and for each type the positions of the steps that create an object of this type.
#[derive(Default)]
struct Story {
    steps: Vec<Step>,
    organizations: Vec<usize>,
    projects: Vec<usize>,
    products: Vec<usize>,
    comments: Vec<usize>,
    invoices: Vec<usize>,
    lines: Vec<usize>,
}

/// A placeholder for one of these positions, often one of the last. Sometimes, or if there are none, an unused id.
fn one_of(rng: &mut Rng, made: &[usize], prefix: &str) -> String {
    if made.is_empty() || rng.u32(0..40) == 0 {
        return nothing(prefix);
    }
    let late = made.len().saturating_sub(4);
    let at = if rng.bool() {
        rng.usize(late..made.len())
    } else {
        rng.usize(0..made.len())
    };
    format!("@{}", made[at])
}

fn nothing(prefix: &str) -> String {
    format!("{prefix}_{:032x}", 0)
}

fn amount(rng: &mut Rng) -> String {
    // One in thirty has too many digits.
    let digits = if rng.u32(0..30) == 0 { 3 } else { 2 };
    format!("{}.{:0digits$}", rng.u32(0..10_000), rng.u32(1..100))
}

impl Story {
    fn generate(seed: u64) -> Vec<Step> {
        let mut rng = Rng::with_seed(seed);
        let mut story = Self::default();
        while story.steps.len() < MUTATIONS {
            let at = story.steps.len();
            let step = match rng.u32(0..100) {
                _ if at == 0 => story.organization(&mut rng, at),
                0..30 => story.work(&mut rng, at),
                30..45 => story.goods(&mut rng, at),
                45..60 => story.talk(&mut rng, at),
                _ => story.bill(&mut rng, at),
            };
            story.steps.push(step);
        }
        story.steps
    }

    fn organization(&mut self, rng: &mut Rng, at: usize) -> Step {
        self.organizations.push(at);
        // Few slugs, so that some are already used.
        let slug = format!("slug-{}", rng.u32(0..100));
        step(
            "createOrganization",
            "organization",
            json!({ "name": format!("O {at}"), "slug": slug }),
        )
    }

    fn work(&mut self, rng: &mut Rng, at: usize) -> Step {
        let organization = one_of(rng, &self.organizations, "org");
        let project = one_of(rng, &self.projects, "prj");
        let version = (rng.u32(0..5) == 0).then(|| rng.i32(1..4));
        let target = json!({ "id": project, "ifVersion": version });
        match rng.u32(0..12) {
            0 | 1 => self.organization(rng, at),
            2 => step(
                "updateOrganization",
                "organization",
                json!({ "id": organization, "ifVersion": version, "name": format!("Renamed {at}") }),
            ),
            3..=5 => {
                self.projects.push(at);
                let name = if rng.u32(0..10) == 0 {
                    String::new()
                } else {
                    format!("P {at}")
                };
                step(
                    "createProject",
                    "project",
                    json!({ "name": name, "organizationId": organization }),
                )
            }
            6 | 7 => {
                let status = *rng
                    .choice(&["PLANNED", "ACTIVE", "ON_HOLD", "ARCHIVED"])
                    .unwrap();
                step(
                    "updateProject",
                    "project",
                    json!({ "id": project, "ifVersion": version, "status": status, "description": format!("D {at}") }),
                )
            }
            8 => step("archiveProject", "project", target),
            9 => step("unarchiveProject", "project", target),
            10 => step("deleteProject", "project", target),
            _ => step(
                "deleteOrganization",
                "organization",
                json!({ "id": organization }),
            ),
        }
    }

    fn goods(&mut self, rng: &mut Rng, at: usize) -> Step {
        let product = one_of(rng, &self.products, "prd");
        let price = json!({ "amount": amount(rng), "currencyCode": "EUR" });
        match rng.u32(0..5) {
            0 | 1 => {
                self.products.push(at);
                let asin = format!("B{:09}", rng.u32(0..200));
                step(
                    "createProduct",
                    "product",
                    json!({ "asin": asin, "title": format!("T {at}"), "price": price }),
                )
            }
            2 | 3 => step(
                "updateProduct",
                "product",
                json!({ "id": product, "price": price }),
            ),
            _ => step("deleteProduct", "product", json!({ "id": product })),
        }
    }

    fn talk(&mut self, rng: &mut Rng, at: usize) -> Step {
        let comment = one_of(rng, &self.comments, "com");
        match rng.u32(0..6) {
            0..=2 => {
                self.comments.push(at);
                let subject = match rng.u32(0..3) {
                    0 => one_of(rng, &self.projects, "prj"),
                    1 => one_of(rng, &self.products, "prd"),
                    _ => one_of(rng, &self.invoices, "inv"),
                };
                step(
                    "createComment",
                    "comment",
                    json!({ "subjectId": subject, "body": format!("C {at}") }),
                )
            }
            3 | 4 => step(
                "updateComment",
                "comment",
                json!({ "id": comment, "body": format!("Changed {at}") }),
            ),
            _ => step("deleteComment", "comment", json!({ "id": comment })),
        }
    }

    fn line(&self, rng: &mut Rng, at: usize) -> Value {
        let product = rng
            .bool()
            .then(|| one_of(rng, &self.products, "prd"))
            .filter(|id| id.starts_with('@'));
        let tax = rng.bool().then_some("0.19");
        json!({ "description": format!("L {at}"), "quantity": rng.u32(1..9).to_string(),
                "unitPrice": amount(rng), "productId": product, "taxRate": tax })
    }

    fn bill(&mut self, rng: &mut Rng, at: usize) -> Step {
        let invoice = one_of(rng, &self.invoices, "inv");
        let line = one_of(rng, &self.lines, "ili");
        let target = json!({ "id": invoice });
        match rng.u32(0..14) {
            0..=3 => {
                self.invoices.push(at);
                let lines: Vec<Value> = (0..rng.u32(0..3)).map(|_| self.line(rng, at)).collect();
                let organization = one_of(rng, &self.organizations, "org");
                step(
                    "createInvoice",
                    "invoice",
                    json!({ "organizationId": organization, "currencyCode": "EUR", "lineItems": lines }),
                )
            }
            4 | 5 => {
                self.lines.push(at);
                let mut input = self.line(rng, at);
                input["invoiceId"] = json!(invoice);
                step("addInvoiceLineItem", "lineItem", input)
            }
            6 => step(
                "updateInvoiceLineItem",
                "lineItem",
                json!({ "id": line, "unitPrice": amount(rng) }),
            ),
            7 => step("removeInvoiceLineItem", "lineItem", json!({ "id": line })),
            8..=10 => step("issueInvoice", "invoice", target),
            11 => step("payInvoice", "invoice", target),
            12 => step("voidInvoice", "invoice", target),
            _ => step("markInvoiceUncollectible", "invoice", target),
        }
    }
}

fn step(name: &'static str, object: &'static str, input: Value) -> Step {
    Step {
        name,
        object,
        input,
    }
}

/// Replaces each placeholder in an input: `@7` by the id at index 7.
fn resolve(value: &Value, ids: &[String]) -> Value {
    match value {
        Value::String(text) => match text.strip_prefix('@') {
            Some(position) => json!(ids[position.parse::<usize>().unwrap()]),
            None => value.clone(),
        },
        Value::Array(items) => items.iter().map(|item| resolve(item, ids)).collect(),
        Value::Object(fields) => {
            let fields = fields.iter();
            Value::Object(
                fields
                    .map(|(name, value)| (name.clone(), resolve(value, ids)))
                    .collect(),
            )
        }
        other => other.clone(),
    }
}

/// A process of the built binary that serves the tests' database.
struct Service {
    child: Child,
    url: String,
}

impl Service {
    async fn start(app: &TestApp) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_palisade"));
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("PALISADE_") || name.starts_with("PG") || name == "DATABASE_URL" {
                command.env_remove(&*name);
            }
        }
        let database = app.database_url("palisade_app");
        let mut child = command
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--database-url",
                &database,
            ])
            .env("PALISADE_JWT_SECRET", SECRET)
            .env("PALISADE_CONTEXT_KEY", CONTEXT_KEY)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let listens = tokio::time::timeout(LIMIT, async {
            loop {
                let line = lines.next_line().await.unwrap().expect("serve ended");
                if let Some((_, url)) = line.split_once("listening on ") {
                    return url.trim().to_owned();
                }
            }
        });
        let url = listens.await.expect("serve did not become ready");
        // Continue to read the output. Otherwise the service would block when the pipe is full.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { child, url }
    }

    /// Stops the process with SIGKILL.
    async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// A request, and the data of its response.
struct Sent {
    document: String,
    variables: Value,
    key: String,
    data: String,
}

/// A client that sends the mutations of a stream to the current URL of the service.
struct Client {
    caller: Caller,
    address: watch::Receiver<String>,
    response_count: watch::Sender<usize>,
    again: usize,
    replayed: usize,
}

impl Client {
    /// Sends a request once. Returns `None` if there was no complete response.
    async fn attempt(&self, url: &str, sent: &Sent) -> Option<Reply> {
        let body = json!({ "query": sent.document, "variables": sent.variables });
        let request = self.caller.app.client.post(url);
        let response = request
            .bearer_auth(&self.caller.token)
            .header("idempotency-key", &sent.key)
            .json(&body)
            .send()
            .await
            .ok()?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.ok()?;
        Some(Reply {
            status,
            headers,
            text,
        })
    }

    /// Repeats a request until there is a response.
    async fn send(&mut self, sent: &Sent) -> Reply {
        loop {
            let url = self.address.borrow().clone();
            if let Some(reply) = self.attempt(&url, sent).await {
                return reply;
            }
            self.again += 1;
            let moved = self.address.wait_for(|address| *address != url);
            let moved = tokio::time::timeout(LIMIT, moved).await;
            moved.expect("a request failed without a kill").unwrap();
        }
    }

    async fn lead(&mut self, steps: &[Step]) -> Vec<Sent> {
        let mut ids: Vec<String> = Vec::new();
        let mut all = Vec::new();
        for (at, step) in steps.iter().enumerate() {
            let input = resolve(&step.input, &ids);
            let mut sent = Sent {
                document: mutation(step.name, &format!("{} {{ id version }}", step.object)),
                variables: json!({ "input": input }),
                key: format!("step {at}"),
                data: String::new(),
            };
            let reply = self.send(&sent).await;
            let response = reply.response();
            let payload = &response.data()[step.name];
            let made = payload["userErrors"] == json!([]);
            let id = payload[step.object]["id"].as_str().filter(|_| made);
            let object = payload_object(model().mutation(step.name));
            let prefix = entity(&object.type_name).id_prefix;
            ids.push(id.map_or_else(|| nothing(prefix), str::to_owned));
            self.replayed += usize::from(reply.header("idempotency-replayed").is_some());
            sent.data = reply.data_text();
            all.push(sent);
            self.response_count
                .send_modify(|response_count| *response_count += 1);
        }
        all
    }
}

/// The error codes of each response.
fn codes(sent: &[Sent]) -> Vec<Vec<String>> {
    let error_codes = |sent: &Sent| {
        let data: Value = serde_json::from_str(&sent.data).unwrap();
        let payload = data.as_object().unwrap().values().next().unwrap().clone();
        let errors = payload["userErrors"].as_array().unwrap().iter();
        errors
            .map(|error| format!("{} {}", error["code"], error["field"]))
            .collect()
    };
    sent.iter().map(error_codes).collect()
}

/// All rows of a tenant, without ids and timestamps.
async fn rows(superuser: &mut PgConnection, tenant: &Tenant) -> Vec<String> {
    let mut all = Vec::new();
    for sql in [
        "select concat_ws('|', 'organization', name, slug, status, version)
         from organizations where tenant_id = $1",
        "select concat_ws('|', 'project', p.name, p.description, p.status, 'from', p.archived_from,
                          p.due_on, p.version, o.slug)
         from projects p join organizations o on o.tenant_id = p.tenant_id and o.id = p.organization_id
         where p.tenant_id = $1",
        "select concat_ws('|', 'product', asin, title, price_minor, currency, status, version)
         from products where tenant_id = $1",
        "select concat_ws('|', 'invoice', i.number, i.status, i.currency, i.subtotal_minor, i.tax_minor,
                          i.total_minor, i.version, o.slug, (
                    select string_agg(concat_ws('/', l.position, l.description, l.quantity,
                        l.unit_price_minor, l.amount_minor, l.tax_rate, l.version, p.asin), ' ' order by l.position)
                    from invoice_line_items l
                    left join products p on p.tenant_id = l.tenant_id and p.id = l.product_id
                    where l.tenant_id = i.tenant_id and l.invoice_id = i.id))
         from invoices i join organizations o on o.tenant_id = i.tenant_id and o.id = i.organization_id
         where i.tenant_id = $1",
        "select concat_ws('|', 'comment', c.body, c.version, p.name, d.title, i.status, i.number)
         from comments c
         left join projects p on p.tenant_id = c.tenant_id and p.id = c.project_id
         left join products d on d.tenant_id = c.tenant_id and d.id = c.product_id
         left join invoices i on i.tenant_id = c.tenant_id and i.id = c.invoice_id
         where c.tenant_id = $1",
        "select concat_ws('|', 'changes', action, count(*)) from audit_logs where tenant_id = $1
         group by action",
        "select concat_ws('|', 'last number', last_number) from invoice_counters where tenant_id = $1",
        "select concat_ws('|', 'keys', count(*), count(response)) from idempotency_keys where tenant_id = $1",
    ] {
        let found = sqlx::query(sql)
            .bind(tenant.id.uuid())
            .fetch_all(&mut *superuser)
            .await
            .unwrap();
        all.extend(found.iter().map(|row| row.get::<String, _>(0)));
    }
    all.sort();
    all
}

/// Kills the service at random times, and starts a new one after each kill.
async fn kill_repeatedly(
    app: &TestApp,
    mut rng: Rng,
    mut service: Service,
    address: &watch::Sender<String>,
    mut response_count: watch::Receiver<usize>,
) -> Service {
    let part = STREAMS * MUTATIONS / (KILLS + 1);
    for kill in 1..=KILLS {
        let threshold = kill * part + rng.usize(0..part / 2);
        response_count
            .wait_for(|response_count| *response_count >= threshold)
            .await
            .unwrap();
        // Wait for a random time that is about as long as a request, so that the kill interrupts some request.
        tokio::time::sleep(Duration::from_micros(rng.u64(0..10_000))).await;
        service.kill().await;
        service = Service::start(app).await;
        address.send_replace(service.url.clone());
    }
    service
}

#[apply(palisade_test)]
async fn a_request_that_is_repeated_after_a_kill_of_the_service_runs_once() {
    let seed = match std::env::var("PALISADE_TEST_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => fastrand::u64(..),
    };
    println!("PALISADE_TEST_SEED={seed}");
    let app = TestApp::shared().await;
    let stories: Vec<Vec<Step>> = (0..STREAMS as u64)
        .map(|stream| Story::generate(seed.wrapping_add(stream)))
        .collect();
    let service = Service::start(app).await;
    let (address, here) = watch::channel(service.url.clone());
    let (_quiet, there) = watch::channel(app.url.clone());
    let (response_count, progress) = watch::channel(0);
    let (unwatched, _) = watch::channel(0);

    let mut killed = Vec::new();
    let mut undisturbed = Vec::new();
    for _ in 0..STREAMS {
        for (tenants, address, response_count) in [
            (&mut killed, &here, &response_count),
            (&mut undisturbed, &there, &unwatched),
        ] {
            let tenant = app.tenant().await;
            let client = Client {
                caller: tenant.owner().clone(),
                address: address.clone(),
                response_count: response_count.clone(),
                again: 0,
                replayed: 0,
            };
            tenants.push((tenant, client));
        }
    }
    let killing = kill_repeatedly(app, Rng::with_seed(seed), service, &address, progress);
    let lead = async |tenants: &mut Vec<(Tenant, Client)>| {
        let streams = tenants.iter_mut().zip(&stories);
        join_all(streams.map(|((_, client), steps)| client.lead(steps))).await
    };
    let (service, sent, expected) =
        tokio::join!(killing, lead(&mut killed), lead(&mut undisturbed));

    let again: usize = killed.iter().map(|(_, client)| client.again).sum();
    let replayed: usize = killed.iter().map(|(_, client)| client.replayed).sum();
    println!("sent again: {again}, done before the kill: {replayed}");
    assert!(again > 0, "no kill met a request");
    let rejected = expected.iter().flat_map(|sent| codes(sent));
    let rejected = rejected.filter(|codes| !codes.is_empty()).count();
    // Usually, 430 to 510 of the mutations are rejected. With very few or nearly all, the test would prove little.
    assert!((100..750).contains(&rejected), "{rejected} were rejected");

    // Sending all requests that were executed again returns the same responses and changes nothing. Rejected requests
    // are not kept: they would run again.
    let repeat = killed.iter_mut().zip(&sent);
    let repeat = repeat.map(async |((_, client), sent)| {
        let executed = sent.iter().zip(codes(sent));
        let executed = executed.filter(|(_, codes)| codes.is_empty());
        for (sent, _) in executed {
            let reply = client.send(sent).await;
            assert_eq!(
                reply.header("idempotency-replayed"),
                Some("true"),
                "{}",
                sent.key
            );
            assert_eq!(reply.data_text(), sent.data, "{}", sent.key);
        }
    });
    join_all(repeat).await;
    service.kill().await;

    let mut superuser = app.connect("postgres").await;
    let mut compared = 0;
    for stream in 0..STREAMS {
        assert_eq!(codes(&sent[stream]), codes(&expected[stream]));
        let stored = rows(&mut superuser, &killed[stream].0).await;
        let expected = rows(&mut superuser, &undisturbed[stream].0).await;
        assert_eq!(stored, expected);
        compared += stored.len();
    }
    // Usually, there are 320 to 360 rows. Without this assertion, the test would also pass if no rows were stored.
    assert!(compared > 200, "{compared} rows were compared");
}
