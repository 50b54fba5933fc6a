//! Clients that take all connections (F6), disconnect (F7, F8), send slowly (F9), send bombs (F10), and do not read (F16).

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use macro_rules_attribute::apply;
use serde_json::json;
use sqlx::PgConnection;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    Lab, Outcome, new_client,
    random::{Random, seed},
    send,
};
use crate::harness::{attempt, eventually, palisade_test};

const READ: &str = "{ tenant { slug } organizations(first: 5) { nodes { name } } }";

/// The number of statements of the service that wait for a lock.
async fn waiting(superuser: &mut PgConnection) -> i64 {
    sqlx::query_scalar(
        "select count(*) from pg_stat_activity where usename = 'palisade_app' and wait_event_type = 'Lock'",
    )
    .fetch_one(superuser)
    .await
    .unwrap()
}

/// Creates an organization of a tenant. Returns its id.
async fn organization(lab: &Lab, tenant: usize) -> String {
    let document = "mutation { createOrganization(input: { name: \"n\" }) { organization { id } userErrors { code } } }";
    let data = lab.send(&lab.tenants[tenant], document, None).await.data();
    let id = &data["createOrganization"]["organization"]["id"];
    id.as_str().unwrap().to_owned()
}

#[apply(palisade_test)]
async fn a_tenant_that_takes_every_connection_does_not_delay_the_others() {
    let lab = Lab::start(2, &["--pool-size", "4"]).await;
    let memory = lab.service_memory();
    let id = organization(&lab, 0).await;
    let mut holder = lab.superuser().await;
    attempt(
        &mut holder,
        "begin; select from organizations for update".to_owned(),
    )
    .await
    .unwrap();
    let client = new_client();
    // 200 mutations of one tenant wait for the locked row, for a slot, or are rejected.
    let update = format!(
        "mutation {{ updateOrganization(input: {{ id: \"{id}\", name: \"m\" }}) {{ organization {{ id }} }} }}"
    );
    let slow: Vec<_> = (0..200)
        .map(|_| {
            let (client, port, tenant, update) = (
                client.clone(),
                lab.port,
                lab.tenants[0].clone(),
                update.clone(),
            );
            tokio::spawn(async move { send(&client, port, &tenant, &update, None).await })
        })
        .collect();
    let mut superuser = lab.superuser().await;
    eventually("mutations wait for the row", async || {
        waiting(&mut superuser).await > 0
    })
    .await;
    let mut times = Vec::new();
    for _ in 0..50 {
        let started = Instant::now();
        lab.send(&lab.tenants[1], READ, None).await.data();
        times.push(started.elapsed());
    }
    times.sort();
    println!(
        "another tenant: median {:?}, slowest {:?}",
        times[25], times[49]
    );
    assert!(times[49] < Duration::from_secs(1), "{times:?}");
    for outcome in join_all(slow).await {
        let outcome = outcome.unwrap();
        assert!(
            ["UNAVAILABLE", "TIMEOUT"].contains(&outcome.code()),
            "{outcome:?}"
        );
    }
    drop(holder);
    lab.assert_at_rest(4, memory, 64).await;
    lab.finish().await;
}

#[apply(palisade_test)]
async fn clients_that_disconnect_together_leave_no_statement_behind() {
    // More slots than connections: every connection has a statement that waits.
    let options = [
        "--pool-size",
        "8",
        "--tenant-slots",
        "16",
        "--tenant-queue",
        "0",
    ];
    let lab = Lab::start(1, &options).await;
    let memory = lab.service_memory();
    organization(&lab, 0).await;
    let mut superuser = lab.superuser().await;
    let mut holder = lab.superuser().await;
    attempt(
        &mut holder,
        "alter role palisade_app set lock_timeout = 0; begin; lock table organizations in access exclusive mode"
            .to_owned(),
    )
    .await
    .unwrap();
    let client = new_client();
    let clients: Vec<_> = (0..200)
        .map(|_| {
            let (client, port, tenant) = (client.clone(), lab.port, lab.tenants[0].clone());
            tokio::spawn(async move { send(&client, port, &tenant, READ, None).await })
        })
        .collect();
    eventually("the statements of the clients wait", async || {
        waiting(&mut superuser).await >= 4
    })
    .await;
    for client in &clients {
        client.abort();
    }
    drop(client);
    let left = Instant::now();
    eventually("their statements are cancelled", async || {
        waiting(&mut superuser).await == 0
    })
    .await;
    let cancelled = left.elapsed();
    println!("cancelled after {cancelled:?}");
    assert!(cancelled < Duration::from_secs(3), "{cancelled:?}");
    attempt(&mut holder, "rollback".to_owned()).await.unwrap();
    lab.query(READ).await.data();
    lab.assert_at_rest(8, memory, 64).await;
    lab.finish().await;
}

#[apply(palisade_test)]
async fn a_mutation_that_was_cut_at_any_time_is_applied_once_when_it_is_repeated() {
    let seed = seed("cut mutations");
    let mut random = Random::new(seed);
    let lab = Lab::start(2, &["--pool-size", "1"]).await;
    let memory = lab.service_memory();
    let (mut cut, mut complete) = (0, 0);
    for number in 0..100 {
        let tenant = &lab.tenants[number % 2];
        let name = format!("cut {number}");
        let document = format!(
            "mutation {{ createOrganization(input: {{ name: \"{name}\" }}) {{ organization {{ name }} userErrors {{ code }} }} }}"
        );
        let key = format!("key-of-{number}-{seed}");
        // A client of its own, so that dropping the request closes the connection.
        let client = new_client();
        let request = send(&client, lab.port, tenant, &document, Some(&key));
        let after = Duration::from_micros(random.below(15_000));
        if tokio::time::timeout(after, request).await.is_err() {
            cut += 1;
        } else {
            complete += 1;
        }
        drop(client);
        let mut repeated = lab.send(tenant, &document, Some(&key)).await;
        while !matches!(repeated, Outcome::Data(_)) {
            assert!(
                ["UNAVAILABLE", "TIMEOUT"].contains(&repeated.code()),
                "{repeated:?}"
            );
            repeated = lab.send(tenant, &document, Some(&key)).await;
        }
        let data = repeated.data();
        assert_eq!(data["createOrganization"]["organization"]["name"], name);
    }
    println!("{cut} mutations were cut, {complete} were complete");
    assert!(cut > 0);
    let rows = lab
        .number(
            "select count(*) from organizations o where 1 = (
                 select count(*) from audit_logs a where a.subject_id = o.id and a.tenant_id = o.tenant_id
                    and a.action = 'organization.created')",
        )
        .await;
    assert_eq!(rows, 100);
    let tenants = lab
        .number("select count(*) from (select from organizations group by tenant_id having count(*) = 50) t")
        .await;
    assert_eq!(tenants, 2);
    lab.assert_at_rest(1, memory, 64).await;
    lab.finish().await;
}

#[apply(palisade_test)]
#[ignore = "slow: waits for the time limits of slow clients"]
async fn slow_clients_are_closed_and_do_not_delay_others() {
    let lab = Lab::start(1, &[]).await;
    let memory = lab.service_memory();
    let started = Instant::now();
    let mut sockets = Vec::new();
    let token = &lab.tenants[0].token;
    for number in 0..400 {
        let mut stream = TcpStream::connect(("127.0.0.1", lab.port)).await.unwrap();
        let sent = match number % 3 {
            0 => String::new(),
            1 => "POST /graphql HTTP/1.1\r\nhost: x\r\nauthor".to_owned(),
            _ => format!(
                "POST /graphql HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
                 content-type: application/json\r\ncontent-length: 1000\r\n\r\n{{\"query"
            ),
        };
        stream.write_all(sent.as_bytes()).await.unwrap();
        sockets.push(stream);
    }
    let mut slowest = Duration::ZERO;
    for _ in 0..50 {
        let sent = Instant::now();
        lab.query(READ).await.data();
        slowest = slowest.max(sent.elapsed());
    }
    println!("with 400 slow clients, the slowest request took {slowest:?}");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    let closed = sockets.into_iter().map(|mut stream| async move {
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(25), stream.read_to_end(&mut rest));
        closed.await.expect("a slow client was not closed").ok();
    });
    join_all(closed).await;
    println!("all were closed after {:?}", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(20));
    lab.assert_at_rest(8, memory, 64).await;
    lab.finish().await;
}

#[apply(palisade_test)]
async fn bombs_are_rejected_at_once_and_take_no_memory() {
    let lab = Lab::start(1, &[]).await;
    lab.query(READ).await.data();
    let memory = lab.service_memory();
    let fragments: Vec<String> = (0..30)
        .map(|level| {
            let next = level + 1;
            format!("fragment f{level} on Query {{ ...f{next} ...f{next} }}")
        })
        .collect();
    let fragments = fragments.join(" ");
    let aliases: Vec<String> = (0..20_000)
        .map(|alias| format!("a{alias}:__typename"))
        .collect();
    let aliases = aliases.join(" ");
    let deep = format!("{{ {} {} }}", "tenant { ".repeat(2_000), "} ".repeat(2_000));
    let query = |document: &str| json!({ "query": document }).to_string();
    let bombs = [
        (
            "fragments",
            query(&format!(
                "{{ ...f0 }} {fragments} fragment f30 on Query {{ __typename }}"
            )),
        ),
        (
            "cycle",
            query("{ ...a } fragment a on Query { ...b } fragment b on Query { ...a }"),
        ),
        ("aliases", query(&format!("{{ {aliases} }}"))),
        ("depth", query(&deep)),
        (
            "pages",
            query(
                "{ projects(first: 100) { nodes { comments(first: 100) { nodes { id } } invoices(first: 100) { nodes { lineItems(first: 100) { nodes { id } } } } } } }",
            ),
        ),
        (
            "batch",
            format!("[{}]", vec![query("{ __typename }"); 1_000].join(",")),
        ),
        (
            "variables",
            format!(
                "{{\"query\":\"{{ __typename }}\",\"variables\":{}}}",
                "[".repeat(100_000)
            ),
        ),
        ("body", query(&"x".repeat(40 * 1024 * 1024))),
    ];
    for (name, body) in bombs {
        let started = Instant::now();
        let response = lab
            .client
            .post(format!("http://127.0.0.1:{}/graphql", lab.port))
            .bearer_auth(&lab.tenants[0].token)
            .header("content-type", "application/json")
            .body(body)
            .send()
            .await;
        let took = started.elapsed();
        match response {
            Ok(response) => {
                let status = response.status().as_u16();
                let text = response.text().await.unwrap();
                let rejected = matches!(status, 400 | 413)
                    || text.contains("QUERY_TOO_COMPLEX")
                    || text.contains("GRAPHQL_");
                assert!(
                    rejected,
                    "{name}: {status} {}",
                    &text[..text.len().min(300)]
                );
            }
            // The service closes the connection of a body that it does not read.
            Err(error) => assert_eq!(name, "body", "{error}"),
        }
        println!("{name}: {took:?}");
        assert!(took < Duration::from_secs(2), "{name}: {took:?}");
    }
    lab.query(READ).await.data();
    lab.assert_at_rest(8, memory, 32).await;
    lab.finish().await;
}

/// There are no subscriptions yet. This is the nearest fault: clients that do not read a response.
#[apply(palisade_test)]
#[ignore = "slow: waits for the time limit of the responses"]
async fn clients_that_read_no_response_are_closed_and_do_not_delay_others() {
    let lab = Lab::start(1, &["--receive-timeout", "3s"]).await;
    let organization = organization(&lab, 0).await;
    let create = format!(
        "mutation {{ createProject(input: {{ organizationId: \"{organization}\", name: \"p\" }}) {{ project {{ id }} userErrors {{ code }} }} }}"
    );
    let data = lab.query(&create).await.data();
    let project = data["createProject"]["project"]["id"].as_str().unwrap();
    for _ in 0..20 {
        let body = "\u{6f22}".repeat(10_000);
        let document = format!(
            "mutation {{ createComment(input: {{ subjectId: \"{project}\", body: \"{body}\" }}) {{ comment {{ id }} userErrors {{ code }} }} }}"
        );
        lab.query(&document).await.data();
    }
    // A response of some megabytes, more than the buffers of the sockets.
    let bodies = "b0: body b1: body b2: body b3: body b4: body b5: body b6: body b7: body";
    let document = format!("{{ comments(first: 20) {{ nodes {{ {bodies} }} }} }}");
    let whole = lab.query(&document).await.data().to_string();
    assert!(whole.len() > 2_000_000, "{}", whole.len());
    let memory = lab.service_memory();
    let body = json!({ "query": document }).to_string();
    let mut readers = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(("127.0.0.1", lab.port)).await.unwrap();
        let head = format!(
            "POST /graphql HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            lab.tenants[0].token,
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body.as_bytes()).await.unwrap();
        readers.push(stream);
    }
    // Health checks need no slot and no memory of the tenant.
    let started = Instant::now();
    assert!(lab.is_ready().await);
    assert!(started.elapsed() < Duration::from_secs(2));
    eventually("the service serves the tenant again", async || {
        matches!(lab.query(READ).await, Outcome::Data(_))
    })
    .await;
    // A write to a connection that the service has closed fails.
    eventually("the service closes the connections", async || {
        readers.retain(|reader| reader.try_write(b"x").is_ok());
        readers.is_empty()
    })
    .await;
    lab.assert_at_rest(8, memory, 64).await;
    lab.finish().await;
}
