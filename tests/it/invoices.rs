//! Issuing invoices: numbers without gaps, statuses that follow the rules, and totals that equal the sums of
//! the lines.

use futures_util::future::join_all;
use macro_rules_attribute::apply;
use palisade::auth::role::UserRole;
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    create::{self, read},
    harness::{Caller, Tenant, TestApp, attempt, eventually, mutation, palisade_test, user_errors},
};

/// Creates `count` drafts with one line each.
async fn drafts(caller: &Caller, organization: &str, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    while ids.len() < count {
        let fields = (0..20.min(count - ids.len())).map(|n| {
            format!(
                "f{n}: createInvoice(input: {{ organizationId: \"{organization}\", currencyCode: \"EUR\",
                    lineItems: [{{ description: \"d\", quantity: \"1\", unitPrice: \"1.00\" }}] }}) {{ invoice {{ id }} }}"
            )
        });
        let document = format!("mutation {{ {} }}", fields.collect::<String>());
        let response = caller.query(&document).await;
        let payloads = response.data().as_object().unwrap().values();
        ids.extend(payloads.map(|payload| payload["invoice"]["id"].as_str().unwrap().to_owned()));
    }
    ids
}

async fn issue(caller: &Caller, id: &str) -> String {
    let input = json!({ "id": id });
    let payload = caller
        .mutate_ok("issueInvoice", input, "invoice { number }")
        .await;
    payload["invoice"]["number"].as_str().unwrap().to_owned()
}

/// The stored invoice numbers.
async fn numbers(tenant: &Tenant) -> Vec<String> {
    sqlx::query_scalar("select number from invoices where number is not null order by number")
        .fetch_all(&mut tenant.begin().await.0)
        .await
        .unwrap()
}

fn first_numbers(count: usize) -> Vec<String> {
    (1..=count).map(|n| format!("INV-{n:06}")).collect()
}

/// A service on a separate database, without a lock timeout for `palisade_app`.
async fn patient() -> &'static TestApp {
    let settings = "do $$ begin
        execute format('alter role palisade_app in database %I set lock_timeout = 0', current_database());
    end $$";
    TestApp::shared().await.in_own_database(&[settings]).await
}

/// The number of backends that wait for a lock of the backend that runs a request.
async fn waiting_for(superuser: &mut PgConnection, request: Uuid) -> i64 {
    sqlx::query_scalar(
        "select count(*) from pg_stat_activity waiting, pg_stat_activity one
         where one.application_name like 'palisade ' || $1 || ' %' and one.pid = any (pg_blocking_pids(waiting.pid))",
    )
    .bind(request)
    .fetch_one(superuser)
    .await
    .unwrap()
}

#[apply(palisade_test)]
async fn a_hundred_invoices_issued_at_once_are_numbered_without_gap_or_duplicate() {
    let app = patient().await;
    let (acme, globex) = (app.tenant().await, app.tenant().await);
    let billing = acme.caller(UserRole::Billing);
    let organization = create::organization(billing).await;
    let project = create::project(billing, &organization).await;
    let issued = drafts(billing, &organization, 100).await;
    let aborted = drafts(billing, &organization, 51).await;
    let elsewhere = globex.owner();
    let theirs = create::organization(elsewhere).await;
    let theirs = drafts(elsewhere, &theirs, 30).await;

    // This mutation has assigned a number. It then waits for a lock until its client disconnects.
    let mut superuser = app.connect("postgres").await;
    let mut holder = app.connect("postgres").await;
    let id = project.strip_prefix("prj_").unwrap();
    let lock = format!("begin; select from projects where id = '{id}' for update");
    attempt(&mut holder, lock).await.unwrap();
    let request = Uuid::now_v7();
    let document = format!(
        "mutation {{
            issueInvoice(input: {{ id: \"{}\" }}) {{ invoice {{ number }} }}
            updateProject(input: {{ id: \"{project}\", name: \"n\" }}) {{ project {{ id }} }} }}",
        aborted[50]
    );
    let client = tokio::spawn({
        let billing = billing.clone();
        async move { billing.bytes(&document, &json!({}), request).await }
    });
    eventually("it waits for the project", async || {
        let waits = "select exists (select from pg_stat_activity
            where application_name like 'palisade ' || $1 || ' %' and wait_event_type = 'Lock')";
        sqlx::query_scalar(waits)
            .bind(request)
            .fetch_one(&mut superuser)
            .await
            .unwrap()
    })
    .await;

    let document = mutation("issueInvoice", "invoice { number }");
    let fails = format!(
        "mutation ($input: IssueInvoiceInput!) {{
            issueInvoice(input: $input) {{ invoice {{ number }} }}
            updateOrganization(input: {{ id: \"{organization}\", name: \"n\" }}) {{
                organization {{ projects(first: 101) {{ nodes {{ id }} }} }} }} }}"
    );
    let fails_at_once = "mutation ($input: IssueInvoiceInput!) {
        issueInvoice(input: $input) { invoice { number lineItems(first: 101) { nodes { id } } } } }";
    let storm = issued.iter().enumerate().map(async |(at, id)| {
        let abort = async || {
            if at % 2 == 1 {
                return;
            }
            let variables = json!({ "input": { "id": aborted[at / 2] } });
            match at % 6 {
                0 => {
                    let prefer = [("prefer", "tx=rollback")];
                    let reply = billing.send(&document, &variables, &prefer).await;
                    let response = reply.response();
                    let number = &response.data()["issueInvoice"]["invoice"]["number"];
                    assert!(number.is_string(), "{}", reply.text);
                }
                kind => {
                    let document = if kind == 2 { &fails } else { fails_at_once };
                    let response = billing.send(document, &variables, &[]).await.response();
                    assert!(!response.code().is_empty(), "{}", response.body);
                    assert!(response.body["data"].is_null(), "{}", response.body);
                }
            }
        };
        let (number, ()) = tokio::join!(issue(billing, id), abort());
        number
    });
    let elsewhere = theirs.iter().map(|id| issue(elsewhere, id));
    let cut = async {
        eventually("other mutations wait for it", async || {
            waiting_for(&mut superuser, request).await > 0
        })
        .await;
        client.abort();
    };
    let (mut issued_numbers, mut other_numbers, ()) =
        tokio::join!(join_all(storm), join_all(elsewhere), cut);
    attempt(&mut holder, "rollback".to_owned()).await.unwrap();

    issued_numbers.sort();
    assert_eq!(issued_numbers, first_numbers(100));
    assert_eq!(numbers(&acme).await, first_numbers(100));
    other_numbers.sort();
    assert_eq!(other_numbers, first_numbers(30));
    assert_eq!(numbers(&globex).await, first_numbers(30));
    for id in &aborted {
        let stored = read(billing, "invoice", id, "number status version").await;
        assert_eq!(
            stored,
            json!({ "number": null, "status": "DRAFT", "version": 2 })
        );
    }
    assert_eq!(issue(billing, &aborted[50]).await, "INV-000101");
    app.drop_database().await;
}

#[apply(palisade_test)]
async fn numbers_grow_past_six_digits(app: &'static TestApp) {
    let acme = app.tenant().await;
    let owner = acme.owner();
    let organization = create::organization(owner).await;
    let ids = drafts(owner, &organization, 2).await;
    sqlx::query(
        "insert into invoice_counters (tenant_id, id, last_number) values ($1, $1, 999998)",
    )
    .bind(acme.id)
    .execute(&mut app.connect("postgres").await)
    .await
    .unwrap();
    assert_eq!(issue(owner, &ids[0]).await, "INV-999999");
    assert_eq!(issue(owner, &ids[1]).await, "INV-1000000");
}

#[apply(palisade_test)]
async fn an_issued_invoice_is_due_on_the_given_day_or_after_thirty_days(acme: Tenant) {
    let owner = acme.owner();
    let organization = create::organization(owner).await;
    for (of_draft, of_issue, expected) in [
        (Value::Null, Value::Null, Value::Null),
        (json!("2999-01-01"), Value::Null, json!("2999-01-01")),
        (Value::Null, json!("2999-01-02"), json!("2999-01-02")),
        (
            json!("2999-01-01"),
            json!("2999-01-02"),
            json!("2999-01-02"),
        ),
    ] {
        let id = create::draft(owner, &organization, &["1.00"]).await;
        let input = json!({ "id": id, "dueOn": of_draft });
        owner.mutate_ok("updateInvoice", input, "").await;
        let input = json!({ "id": id, "dueOn": of_issue });
        let payload = owner
            .mutate_ok("issueInvoice", input, "invoice { issuedOn dueOn status }")
            .await;
        let invoice = &payload["invoice"];
        assert_eq!(invoice["status"], "OPEN");
        let day = |field: &str| -> chrono::NaiveDate {
            invoice[field].as_str().unwrap().parse().unwrap()
        };
        if expected.is_null() {
            assert_eq!(day("dueOn") - day("issuedOn"), chrono::TimeDelta::days(30));
        } else {
            assert_eq!(invoice["dueOn"], expected);
        }
    }
}

const STATUSES: [&str; 5] = ["DRAFT", "OPEN", "PAID", "VOID", "UNCOLLECTIBLE"];

#[apply(palisade_test)]
async fn an_invoice_changes_its_status_only_as_allowed(app: &'static TestApp) {
    let acme = app.tenant().await;
    let billing = acme.caller(UserRole::Billing);
    let organization = create::organization(billing).await;
    let mut superuser = app.connect("postgres").await;
    let mut became = Vec::new();
    for from in STATUSES {
        for (name, to) in [
            ("issueInvoice", "OPEN"),
            ("payInvoice", "PAID"),
            ("voidInvoice", "VOID"),
            ("markInvoiceUncollectible", "UNCOLLECTIBLE"),
        ] {
            let id = create::invoice(billing, &organization, from).await;
            let before = read(billing, "invoice", &id, "status number version").await;
            let allowed: bool = sqlx::query_scalar("select app.invoice_may_become($1, $2)")
                .bind(from)
                .bind(to)
                .fetch_one(&mut superuser)
                .await
                .unwrap();
            let selection = "invoice { status number version }";
            let payload = billing.mutate(name, json!({ "id": id }), selection).await;
            let after = read(billing, "invoice", &id, "status number version").await;
            if allowed {
                assert_eq!(user_errors(&payload), [], "{from} {name}");
                assert_eq!(payload["invoice"], after);
                assert_eq!(after["status"], to);
                assert!(after["number"].is_string());
                became.push((from, to));
            } else {
                let expected = [("INVALID_STATE", "input.id".to_owned())];
                assert_eq!(user_errors(&payload), expected, "{from} {name}");
                assert_eq!(after, before, "{from} {name}");
            }
        }
    }
    assert_eq!(
        became,
        [
            ("DRAFT", "OPEN"),
            ("OPEN", "PAID"),
            ("OPEN", "VOID"),
            ("OPEN", "UNCOLLECTIBLE"),
            ("UNCOLLECTIBLE", "PAID"),
            ("UNCOLLECTIBLE", "VOID"),
        ]
    );
}

#[apply(palisade_test)]
async fn only_a_draft_and_its_lines_change(acme: Tenant) {
    let billing = acme.caller(UserRole::Billing);
    let organization = create::organization(billing).await;
    let whole = "version dueOn total { amount } lineItems { nodes { description version } }";
    for status in STATUSES {
        let id = create::invoice(billing, &organization, status).await;
        let lines = read(billing, "invoice", &id, "lineItems { nodes { id } }").await;
        let line = &lines["lineItems"]["nodes"][0]["id"];
        let before = read(billing, "invoice", &id, whole).await;
        let mut added = create::line_of("1.00");
        added["invoiceId"] = json!(id);
        for (name, input, field) in [
            (
                "updateInvoice",
                json!({ "id": id, "dueOn": "2999-01-01" }),
                "id",
            ),
            ("addInvoiceLineItem", added, "invoiceId"),
            (
                "updateInvoiceLineItem",
                json!({ "id": line, "description": "Changed" }),
                "id",
            ),
            ("removeInvoiceLineItem", json!({ "id": line }), "id"),
        ] {
            let payload = billing.mutate(name, input, "").await;
            if status == "DRAFT" {
                assert_eq!(user_errors(&payload), [], "{name}");
            } else {
                let expected = [("INVALID_STATE", format!("input.{field}"))];
                assert_eq!(user_errors(&payload), expected, "{status} {name}");
            }
        }
        let after = read(billing, "invoice", &id, whole).await;
        assert_eq!(after == before, status != "DRAFT", "{status}");
    }
}

/// An amount of money in hundredths of its currency.
fn hundredths(money: &Value) -> i64 {
    let amount = money["amount"].as_str().unwrap();
    amount.replace('.', "").parse().unwrap()
}

#[apply(palisade_test)]
async fn an_invoice_that_is_issued_while_its_lines_change_has_the_total_of_its_lines(acme: Tenant) {
    let billing = acme.caller(UserRole::Billing);
    let organization = create::organization(billing).await;
    let (mut in_time, mut too_late) = (0, 0);
    for round in 0..60 {
        let id = create::draft(billing, &organization, &["1.00", "10.00"]).await;
        let lines = read(billing, "invoice", &id, "lineItems { nodes { id } }").await;
        let line = lines["lineItems"]["nodes"][1]["id"].clone();
        let (name, input) = match round % 3 {
            0 => {
                let mut input = create::line_of("100.00");
                input["invoiceId"] = json!(id);
                ("addInvoiceLineItem", input)
            }
            1 => (
                "updateInvoiceLineItem",
                json!({ "id": line, "unitPrice": "20.00" }),
            ),
            _ => ("removeInvoiceLineItem", json!({ "id": line })),
        };
        let (number, payload) = if round % 2 == 0 {
            tokio::join!(issue(billing, &id), billing.mutate(name, input, ""))
        } else {
            let (payload, number) =
                tokio::join!(billing.mutate(name, input, ""), issue(billing, &id));
            (number, payload)
        };
        let expected = match user_errors(&payload).as_slice() {
            [] => {
                in_time += 1;
                [11_100, 2_100, 100][round % 3]
            }
            [("INVALID_STATE", _)] => {
                too_late += 1;
                1_100
            }
            other => panic!("{other:?}"),
        };
        let whole = "number status total { amount } lineItems { nodes { amount { amount } } }";
        let invoice = read(billing, "invoice", &id, whole).await;
        assert_eq!(
            (&invoice["number"], &invoice["status"]),
            (&json!(number), &json!("OPEN"))
        );
        let lines = invoice["lineItems"]["nodes"].as_array().unwrap();
        let sum: i64 = lines.iter().map(|line| hundredths(&line["amount"])).sum();
        assert_eq!(
            (hundredths(&invoice["total"]), sum),
            (expected, expected),
            "{invoice}"
        );
    }
    assert_eq!(in_time + too_late, 60);
}

/// Two connections of the service's role, and a superuser who sees which backend waits.
struct Concurrent {
    first: PgConnection,
    second: Option<PgConnection>,
    superuser: PgConnection,
    invoice: Uuid,
}

impl Concurrent {
    /// Creates a draft with a line of 1.00. The connections have no lock timeout.
    async fn new(acme: &Tenant) -> Self {
        let billing = acme.caller(UserRole::Billing);
        let organization = create::organization(billing).await;
        let id = create::draft(billing, &organization, &["1.00"]).await;
        let connect = async || {
            let mut sql = acme.begin_as(UserRole::Billing).await.0;
            let settings = "set lock_timeout = 0; set statement_timeout = 0".to_owned();
            attempt(&mut sql, settings).await.unwrap();
            sql
        };
        Self {
            first: connect().await,
            second: Some(connect().await),
            superuser: acme.app.connect("postgres").await,
            invoice: id.strip_prefix("inv_").unwrap().parse().unwrap(),
        }
    }

    fn insert_line(&self) -> String {
        format!(
            "insert into invoice_line_items
                 (id, invoice_id, position, description, quantity, unit_price_minor, amount_minor, currency)
             values (app.uuid_v7(), '{}', 1000, 'late', 1, 99900, 99900, 'EUR')",
            self.invoice
        )
    }

    fn issue(&self) -> String {
        format!(
            "update invoices set status = 'OPEN' where id = '{}'",
            self.invoice
        )
    }

    /// Runs `held` in a transaction of the first connection, and `waiting` on the second one. When the second one waits
    /// for a lock, commits the first one. Returns both results.
    async fn race(&mut self, held: String, waiting: String) -> [Result<u64, String>; 2] {
        let mut second = self.second.take().unwrap();
        let pid: i32 = sqlx::query_scalar("select pg_backend_pid()")
            .fetch_one(&mut second)
            .await
            .unwrap();
        attempt(&mut self.first, "begin".to_owned()).await.unwrap();
        let first_done = attempt(&mut self.first, held).await;
        let running = tokio::spawn(async move {
            let done = attempt(&mut second, waiting).await;
            (second, done)
        });
        eventually("the second statement waits for a lock", async || {
            running.is_finished()
                || sqlx::query_scalar("select cardinality(pg_blocking_pids($1)) > 0")
                    .bind(pid)
                    .fetch_one(&mut self.superuser)
                    .await
                    .unwrap()
        })
        .await;
        assert!(!running.is_finished(), "the second statement did not wait");
        attempt(&mut self.first, "commit".to_owned()).await.unwrap();
        let (second, second_done) = running.await.unwrap();
        self.second = Some(second);
        [first_done, second_done]
    }

    /// The status of the invoice, its total and the sum of its lines.
    async fn state(&mut self) -> (String, i64, i64) {
        sqlx::query_as(
            "select i.status, i.total_minor, (
                 select sum(l.amount_minor)::bigint from invoice_line_items l where l.invoice_id = i.id)
             from invoices i where i.id = $1",
        )
        .bind(self.invoice)
        .fetch_one(&mut self.first)
        .await
        .unwrap()
    }
}

#[apply(palisade_test)]
async fn a_line_that_is_inserted_by_sql_while_the_invoice_is_issued_is_in_the_total(acme: Tenant) {
    let mut both = Concurrent::new(&acme).await;
    let (insert, issue) = (both.insert_line(), both.issue());
    assert_eq!(both.race(insert, issue).await, [Ok(1), Ok(1)]);
    assert_eq!(both.state().await, ("OPEN".to_owned(), 100_000, 100_000));
}

#[apply(palisade_test)]
async fn no_line_of_an_invoice_changes_by_sql_while_the_invoice_is_issued(acme: Tenant) {
    for change in [
        None,
        Some("update invoice_line_items set quantity = 2, amount_minor = 200 where invoice_id = "),
        Some("delete from invoice_line_items where invoice_id = "),
    ] {
        let mut both = Concurrent::new(&acme).await;
        let change = match change {
            None => both.insert_line(),
            Some(change) => format!("{change}'{}'", both.invoice),
        };
        let issue = both.issue();
        let done = both.race(issue, change.clone()).await;
        assert_eq!(done, [Ok(1), Err("42501".to_owned())], "{change}");
        assert_eq!(
            both.state().await,
            ("OPEN".to_owned(), 100, 100),
            "{change}"
        );
    }
}

#[apply(palisade_test)]
async fn lines_that_are_added_concurrently_have_consecutive_positions_and_add_up(acme: Tenant) {
    let billing = acme.caller(UserRole::Billing);
    let organization = create::organization(billing).await;
    let id = create::draft(billing, &organization, &[]).await;
    let added = (1..=20).map(async |n| {
        let mut input = create::line_of(&format!("{n}.00"));
        input["invoiceId"] = json!(id);
        input["taxRate"] = json!("0.1");
        let selection = "lineItem { position invoice { total { amount } } }";
        billing
            .mutate_ok("addInvoiceLineItem", input, selection)
            .await["lineItem"]
            .clone()
    });
    let mut positions: Vec<i64> = join_all(added)
        .await
        .iter()
        .map(|line| line["position"].as_i64().unwrap())
        .collect();
    positions.sort_unstable();
    assert_eq!(positions, (1..=20).collect::<Vec<i64>>());
    let whole = "version subtotal { amount } tax { amount } total { amount }
                 lineItems(first: 100) { nodes { position } }";
    let invoice = read(billing, "invoice", &id, whole).await;
    assert_eq!(invoice["version"], 21);
    assert_eq!(invoice["subtotal"]["amount"], "210.00");
    assert_eq!(invoice["tax"]["amount"], "21.00");
    assert_eq!(invoice["total"]["amount"], "231.00");
    let stored: Vec<i64> = invoice["lineItems"]["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line["position"].as_i64().unwrap())
        .collect();
    assert_eq!(stored, positions);
}
