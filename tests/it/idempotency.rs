//! A request that is sent again gets the first answer, byte for byte, and is done once.

use futures_util::future::join_all;
use macro_rules_attribute::apply;
use palisade::auth::role::UserRole;
use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::{
    harness::{Caller, Reply, Tenant, TestApp, attempt, mutation, palisade_test, refusals},
    made::{self, asin, fingerprint, read, unique},
};

const REPLAYED: &str = "idempotency-replayed";

async fn with_key(caller: &Caller, name: &str, input: &Value, key: &str) -> Reply {
    let selection = match name {
        "createOrganization" => "organization { id name slug version createdAt }",
        "createComment" => "comment { id body createdAt }",
        _ => "",
    };
    let variables = json!({ "input": input });
    let headers = [("idempotency-key", key)];
    caller
        .send(&mutation(name, selection), &variables, &headers)
        .await
}

fn is_replayed(reply: &Reply) -> bool {
    match reply.header(REPLAYED) {
        None => false,
        Some(value) => {
            assert_eq!(value, "true");
            true
        }
    }
}

async fn count(tenant: &Tenant, table: &str) -> i64 {
    let sql = format!("select count(*) from {table} where tenant_id = $1");
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
        .bind(tenant.id)
        .fetch_one(&mut tenant.app.connect("postgres").await)
        .await
        .unwrap()
}

/// Makes the keys of a tenant older.
async fn age(tenant: &Tenant, by: &str) {
    let mut superuser = tenant.app.connect("postgres").await;
    sqlx::query(
        "update idempotency_keys set created_at = created_at - $2::interval where tenant_id = $1",
    )
    .bind(tenant.id)
    .bind(by)
    .execute(&mut superuser)
    .await
    .unwrap();
}

#[apply(palisade_test)]
async fn a_repeated_request_is_answered_byte_for_byte_and_done_once(acme: Tenant) {
    let owner = acme.owner();
    let input = json!({ "name": "日本 🚀 \"quoted\" \\ \n", "slug": "one" });
    let first = with_key(owner, "createOrganization", &input, "key").await;
    assert_eq!(refusals(&first.answer().data()["createOrganization"]), []);
    assert!(!is_replayed(&first));
    let before = fingerprint(&acme).await;
    for _ in 0..3 {
        let again = with_key(owner, "createOrganization", &input, "key").await;
        assert!(is_replayed(&again));
        assert_eq!(again.status, 200);
        assert_eq!(again.data_text(), first.data_text());
    }
    assert!(fingerprint(&acme).await == before);
    assert_eq!(count(&acme, "organizations").await, 1);
    // The answer is that of then, whatever became of the object.
    let id = first.answer().data()["createOrganization"]["organization"]["id"].clone();
    owner
        .does("deleteOrganization", json!({ "id": id }), "")
        .await;
    let again = with_key(owner, "createOrganization", &input, "key").await;
    assert_eq!(again.data_text(), first.data_text());
    assert_eq!(count(&acme, "organizations").await, 0);
}

#[apply(palisade_test)]
async fn several_root_fields_are_replayed_in_their_order(acme: Tenant) {
    let owner = acme.owner();
    let document = "mutation {
        z: createOrganization(input: { name: \"\" }) { userErrors { code field message } }
        a: createOrganization(input: { name: \"a\" }) { organization { id } userErrors { code } }
        skipped: createOrganization(input: { name: \"s\" }) @skip(if: true) { organization { id } }
        m: createOrganization(input: { name: \"a\" }) { organization { id } userErrors { code } } }";
    let headers = [("idempotency-key", "several")];
    let first = owner.send(document, &json!({}), &headers).await;
    let again = owner.send(document, &json!({}), &headers).await;
    assert!(is_replayed(&again) && !is_replayed(&first));
    let answer = again.answer();
    // Their text, for the order of the fields counts.
    let data = |text: &str| text.split(r#","extensions":"#).next().map(str::to_owned);
    assert_eq!(data(&again.text), data(&first.text));
    let keys: Vec<&String> = answer.data().as_object().unwrap().keys().collect();
    assert_eq!(keys, ["z", "a", "m"]);
    assert_eq!(count(&acme, "organizations").await, 1);
}

#[apply(palisade_test)]
async fn a_key_stands_for_one_request(acme: Tenant) {
    let owner = acme.owner();
    let input = json!({ "name": "One" });
    let first = with_key(owner, "createOrganization", &input, "key").await;
    let before = fingerprint(&acme).await;
    let document = mutation("createOrganization", "organization { id }");
    let named = document.replacen("mutation", "mutation Named", 1);
    let spaced = format!("{document} ");
    let (one, two) = (json!({ "name": "One" }), json!({ "name": "Two" }));
    for (document, input) in [
        (&document, &one),
        (&document, &two),
        (&named, &one),
        (&spaced, &one),
    ] {
        let variables = json!({ "input": input });
        let headers = [("idempotency-key", "key")];
        let reply = owner.send(document, &variables, &headers).await;
        let answer = reply.answer();
        assert_eq!(answer.code(), "IDEMPOTENCY_MISMATCH", "{}", answer.body);
        assert_eq!(answer.body["data"], Value::Null);
        assert!(!is_replayed(&reply));
    }
    let reply = with_key(owner, "createOrganization", &two, "key").await;
    assert_eq!(reply.answer().code(), "IDEMPOTENCY_MISMATCH");
    assert!(fingerprint(&acme).await == before);
    let again = with_key(owner, "createOrganization", &input, "key").await;
    assert_eq!(again.data_text(), first.data_text());
    // Keys differ in every character.
    let reply = with_key(owner, "createOrganization", &two, "Key").await;
    assert!(!is_replayed(&reply));
    reply.answer().data();
    assert_eq!(count(&acme, "organizations").await, 2);
}

#[apply(palisade_test)]
async fn the_same_key_of_another_user_or_tenant_is_another_key(app: &'static TestApp) {
    let (acme, globex) = (app.tenant().await, app.tenant().await);
    let organization = made::organization(acme.owner()).await;
    let project = made::project(acme.owner(), &organization).await;
    let input = json!({ "subjectId": project, "body": "Mine" });
    let mut answers = Vec::new();
    for role in [UserRole::Owner, UserRole::Admin, UserRole::Member] {
        let reply = with_key(acme.caller(role), "createComment", &input, "key").await;
        assert!(!is_replayed(&reply), "{role:?}");
        answers.push(reply.data_text());
    }
    answers.dedup();
    assert_eq!(answers.len(), 3);
    assert_eq!(count(&acme, "comments").await, 3);

    let input = json!({ "name": "Ours" });
    let ours = with_key(acme.owner(), "createOrganization", &input, "both").await;
    let theirs = with_key(globex.owner(), "createOrganization", &input, "both").await;
    assert!(!is_replayed(&ours) && !is_replayed(&theirs));
    assert_ne!(ours.data_text(), theirs.data_text());
    for (tenant, first) in [(&acme, ours), (&globex, theirs)] {
        let again = with_key(tenant.owner(), "createOrganization", &input, "both").await;
        assert!(is_replayed(&again));
        assert_eq!(again.data_text(), first.data_text());
    }
    // Another's body under the own key tells nothing of theirs.
    let other = json!({ "name": "Others" });
    let reply = with_key(globex.owner(), "createOrganization", &other, "key").await;
    assert!(!is_replayed(&reply));
    reply.answer().data();
}

#[apply(palisade_test)]
async fn twenty_duplicates_at_once_are_done_once(acme: Tenant) {
    let owner = acme.owner();
    let taken = json!({ "name": "Taken" });
    owner.does("createOrganization", taken, "").await;
    let create = |slug: &str| {
        format!(
            "createOrganization(input: {{ name: \"n\", slug: \"{slug}\" }}) {{ organization {{ id }} userErrors {{ code }} }}"
        )
    };
    for (round, fields, made) in [
        (0, vec![create("one")], 1),
        // A refused first field ends the transaction that holds the key.
        (1, vec![create("taken"), create("two")], 1),
        (2, vec![create("three"), create("taken"), create("")], 1),
        (3, vec![create("taken")], 0),
        (4, vec![create(""), create("four"), create("five")], 2),
    ] {
        let fields = fields.iter().enumerate();
        let fields: Vec<String> = fields.map(|(n, field)| format!("f{n}: {field}")).collect();
        let document = format!("mutation {{ {} }}", fields.join(" "));
        let before = count(&acme, "organizations").await;
        let key = format!("round {round}");
        let headers = [("idempotency-key", key.as_str())];
        let nothing = json!({});
        let sent = (0..20).map(|_| owner.send(&document, &nothing, &headers));
        let replies = join_all(sent).await;
        for reply in &replies {
            reply.answer().data();
            assert_eq!(reply.data_text(), replies[0].data_text(), "{document}");
        }
        let anew = replies.iter().filter(|reply| !is_replayed(reply)).count();
        assert_eq!(anew, 1, "{document}");
        assert_eq!(
            count(&acme, "organizations").await - before,
            made,
            "{document}"
        );
    }
}

#[apply(palisade_test)]
async fn a_refusal_is_the_answer_also_when_it_would_not_be_refused_any_more(acme: Tenant) {
    let owner = acme.owner();
    let input = json!({ "name": "Taken" });
    let payload = owner
        .does("createOrganization", input.clone(), "organization { id }")
        .await;
    let first = with_key(owner, "createOrganization", &input, "key").await;
    let told = first.answer();
    let expected = [("ALREADY_EXISTS", "input.slug".to_owned())];
    assert_eq!(refusals(&told.data()["createOrganization"]), expected);
    let target = json!({ "id": payload["organization"]["id"] });
    owner.does("deleteOrganization", target, "").await;

    let again = with_key(owner, "createOrganization", &input, "key").await;
    assert!(is_replayed(&again));
    assert_eq!(again.data_text(), first.data_text());
    assert_eq!(count(&acme, "organizations").await, 0);
    let anew = with_key(owner, "createOrganization", &input, "another key").await;
    assert_eq!(refusals(&anew.answer().data()["createOrganization"]), []);
}

#[apply(palisade_test)]
async fn a_failure_is_not_kept_and_the_retry_is_done(app: &'static TestApp) {
    let app = app
        .in_own_database(&[
            "create sequence public.runs",
            "grant usage on sequence public.runs to palisade_app",
            "create function public.fail_once() returns trigger language plpgsql as $$ begin
                if nextval('public.runs') = 1 then raise exception 'the first one fails'; end if;
                return new;
             end $$",
            "create trigger fail_once before insert on organizations
             for each row execute function public.fail_once()",
        ])
        .await;
    let acme = app.tenant().await;
    let owner = acme.owner();
    let input = json!({ "name": "One" });
    let first = with_key(owner, "createOrganization", &input, "key").await;
    assert_eq!(first.answer().code(), "INTERNAL");
    assert_eq!(count(&acme, "idempotency_keys").await, 0);
    let second = with_key(owner, "createOrganization", &input, "key").await;
    assert!(!is_replayed(&second));
    assert_eq!(refusals(&second.answer().data()["createOrganization"]), []);
    let third = with_key(owner, "createOrganization", &input, "key").await;
    assert!(is_replayed(&third));
    assert_eq!(third.data_text(), second.data_text());
    assert_eq!(count(&acme, "organizations").await, 1);
    app.drop_database().await;
}

#[apply(palisade_test)]
async fn a_key_is_kept_for_a_day_and_old_keys_go(acme: Tenant) {
    let owner = acme.owner();
    let organization = made::organization(owner).await;
    let project = made::project(owner, &organization).await;
    let input = json!({ "subjectId": project, "body": "Said" });
    let first = with_key(owner, "createComment", &input, "key").await;
    age(&acme, "23 hours 59 minutes").await;
    let again = with_key(owner, "createComment", &input, "key").await;
    assert!(is_replayed(&again));
    age(&acme, "2 minutes").await;
    let anew = with_key(owner, "createComment", &input, "key").await;
    assert!(!is_replayed(&anew));
    assert_ne!(anew.data_text(), first.data_text());
    assert_eq!(count(&acme, "comments").await, 2);
    let again = with_key(owner, "createComment", &input, "key").await;
    assert!(is_replayed(&again));
    assert_eq!(again.data_text(), anew.data_text());

    // After its day a key may stand for something else.
    age(&acme, "25 hours").await;
    let other = json!({ "subjectId": project, "body": "Said anew" });
    let reply = with_key(owner, "createComment", &other, "key").await;
    assert!(!is_replayed(&reply));
    assert_eq!(count(&acme, "comments").await, 3);

    // Each request with a key takes some of the old ones of its user along.
    for n in 0..14 {
        with_key(owner, "createComment", &input, &format!("old {n}")).await;
    }
    let member = acme.caller(UserRole::Member);
    with_key(member, "createComment", &input, "of another").await;
    age(&acme, "25 hours").await;
    assert_eq!(count(&acme, "idempotency_keys").await, 16);
    with_key(owner, "createComment", &input, "new 1").await;
    assert_eq!(count(&acme, "idempotency_keys").await, 7);
    with_key(owner, "createComment", &input, "new 2").await;
    assert_eq!(
        count(&acme, "idempotency_keys").await,
        3,
        "that of another, and two new ones"
    );
}

#[apply(palisade_test)]
async fn a_key_that_is_none_is_refused_before_anything_is_done(acme: Tenant) {
    let owner = acme.owner();
    let before = fingerprint(&acme).await;
    let document =
        "mutation { createOrganization(input: { name: \"n\" }) { organization { id } } }";
    let long = "k".repeat(256);
    for headers in [
        &[("idempotency-key", "")][..],
        &[("idempotency-key", &long)],
        &[("idempotency-key", "a\tb")],
        &[("idempotency-key", "schlüssel")],
        &[("idempotency-key", "a"), ("idempotency-key", "a")],
        &[("idempotency-key", "a"), ("idempotency-key", "b")],
    ] {
        for document in [document, "{ __typename }"] {
            let reply = owner.send(document, &json!({}), headers).await;
            assert_eq!(reply.status, 400, "{headers:?}");
            let answer = reply.answer();
            assert_eq!(answer.code(), "BAD_USER_INPUT");
            assert!(answer.body.get("data").is_none());
        }
    }
    assert!(fingerprint(&acme).await == before);
    for (n, key) in [&"k".repeat(255), "~", "a b", "\"'; drop table users --"]
        .iter()
        .enumerate()
    {
        let input = json!({ "name": format!("n{n}") });
        let first = with_key(owner, "createOrganization", &input, key).await;
        let again = with_key(owner, "createOrganization", &input, key).await;
        assert!(is_replayed(&again) && !is_replayed(&first), "{key}");
    }
}

#[apply(palisade_test)]
async fn a_query_needs_no_key_and_ignores_one(acme: Tenant) {
    let owner = acme.owner();
    let headers = [("idempotency-key", "key")];
    let document = "{ organizations { totalCount } }";
    for n in 0..3 {
        let reply = owner.send(document, &json!({}), &headers).await;
        assert!(!is_replayed(&reply));
        assert_eq!(reply.answer().data()["organizations"]["totalCount"], n);
        made::organization(owner).await;
    }
    assert_eq!(count(&acme, "idempotency_keys").await, 0);
}

#[apply(palisade_test)]
async fn a_dry_run_shows_what_would_be_and_changes_nothing(acme: Tenant) {
    let owner = acme.owner();
    let organization = made::organization(owner).await;
    let draft = made::draft(owner, &organization, &["1.00"]).await;
    let before = fingerprint(&acme).await;
    let document = format!(
        "mutation {{
            a: createOrganization(input: {{ name: \"Dry\" }}) {{ organization {{ slug }} userErrors {{ code }} }}
            b: createOrganization(input: {{ name: \"Dry\" }}) {{ organization {{ slug }} userErrors {{ code }} }}
            c: issueInvoice(input: {{ id: \"{draft}\" }}) {{ invoice {{ number }} userErrors {{ code }} }} }}"
    );
    let expected = json!({
        "a": { "organization": { "slug": "dry" }, "userErrors": [] },
        "b": { "organization": null, "userErrors": [{ "code": "ALREADY_EXISTS" }] },
        "c": { "invoice": { "number": "INV-000001" }, "userErrors": [] },
    });
    let dry = [("prefer", "tx=rollback"), ("idempotency-key", "key")];
    for _ in 0..2 {
        let reply = owner.send(&document, &json!({}), &dry).await;
        assert_eq!(reply.answer().data(), &expected);
        assert!(!is_replayed(&reply));
        assert_eq!(reply.header("preference-applied"), Some("tx=rollback"));
        assert!(fingerprint(&acme).await == before);
        assert_eq!(count(&acme, "idempotency_keys").await, 0);
    }
    let wet = [("idempotency-key", "key")];
    let reply = owner.send(&document, &json!({}), &wet).await;
    assert_eq!(reply.answer().data(), &expected);
    assert!(!is_replayed(&reply));
    assert_eq!(reply.header("preference-applied"), None);
    assert!(fingerprint(&acme).await != before);
    // The key was used; a dry run does not mind.
    let reply = owner.send(&document, &json!({}), &dry).await;
    assert!(!is_replayed(&reply));
    let told = reply.answer();
    assert_eq!(told.data()["a"]["userErrors"][0]["code"], "ALREADY_EXISTS");
    assert_eq!(told.data()["c"]["userErrors"][0]["code"], "INVALID_STATE");
}

#[apply(palisade_test)]
async fn a_preference_counts_once_and_only_if_it_is_understood(acme: Tenant) {
    let owner = acme.owner();
    for (prefer, writes) in [
        (&["tx=rollback"][..], Some(false)),
        (&["tx=commit"], Some(true)),
        (&["TX=Rollback"], Some(false)),
        (&["tx=\"rollback\""], Some(false)),
        (&["tx = rollback"], Some(false)),
        (&["respond-async, tx=rollback"], Some(false)),
        (&["respond-async; wait=10"], Some(true)),
        (&["return=minimal"], Some(true)),
        (&["context=rollback"], Some(true)),
        (&["tx=rollback, tx=commit"], Some(false)),
        (&["tx=commit, tx=rollback"], Some(true)),
        (&["tx=rollback", "tx=commit"], Some(false)),
        (&["tx=commit", "tx=rollback"], Some(true)),
        (&["return=minimal", "tx=rollback"], Some(false)),
        (&[""], Some(true)),
        (&["tx=maybe"], None),
        (&["tx="], None),
        (&["tx"], None),
        (&["tx=rollback2"], None),
        (&["tx=rollback; note=\"ü\""], None),
        (&["note=\"a,tx=commit\", tx=rollback"], Some(false)),
        (&["note=\"a\\\",tx=commit\", tx=rollback"], Some(false)),
        (&["note=\"a,tx=rollback\""], Some(true)),
        (&["respond-async;tx=rollback"], Some(true)),
        (&["tx=rollback;tx=commit"], Some(false)),
    ] {
        let headers: Vec<(&str, &str)> = prefer.iter().map(|text| ("prefer", *text)).collect();
        let before = count(&acme, "organizations").await;
        let variables = json!({ "input": { "name": unique("n") } });
        let document = mutation("createOrganization", "organization { id }");
        let reply = owner.send(&document, &variables, &headers).await;
        let written = count(&acme, "organizations").await - before;
        match writes {
            None => {
                assert_eq!(reply.status, 400, "{prefer:?}");
                assert_eq!(reply.answer().code(), "BAD_USER_INPUT");
                assert_eq!(written, 0, "{prefer:?}");
            }
            Some(writes) => {
                reply.answer().data();
                assert_eq!(written, i64::from(writes), "{prefer:?}");
                let applied = reply.header("preference-applied");
                assert_eq!(applied, (!writes).then_some("tx=rollback"), "{prefer:?}");
            }
        }
    }
    let reply = owner
        .send("{ __typename }", &json!({}), &[("prefer", "tx=rollback")])
        .await;
    reply.answer().data();
}

const IMPORTED: &str = "results { index product { id asin } userErrors { code } }";

#[apply(palisade_test)]
async fn a_batch_with_a_key_of_its_own_is_done_once_for_the_same_input(acme: Tenant) {
    let owner = acme.owner();
    let rows = vec![json!({ "asin": asin() }), json!({ "asin": asin() })];
    let input = json!({ "rows": rows, "idempotencyKey": "key" });
    let imports = (0..10).map(|_| owner.does("importProducts", input.clone(), IMPORTED));
    let payloads = join_all(imports).await;
    assert!(payloads.iter().all(|payload| *payload == payloads[0]));
    assert!(payloads[0]["results"][1]["product"]["id"].is_string());
    assert_eq!(count(&acme, "products").await, 2);
    // Twice in one request, too.
    let document = "mutation ($input: ImportProductsInput!) {
        a: importProducts(input: $input) { results { product { asin } } userErrors { code } }
        b: importProducts(input: $input) { results { product { asin } } userErrors { code } } }";
    let input = json!({ "rows": [{ "asin": asin() }], "idempotencyKey": "twice" });
    let reply = owner.send(document, &json!({ "input": input }), &[]).await;
    let answer = reply.answer();
    assert_eq!(answer.data()["a"], answer.data()["b"]);
    assert_eq!(answer.data()["a"]["userErrors"], json!([]));
    assert_eq!(count(&acme, "products").await, 3);

    let before = fingerprint(&acme).await;
    let other_rows = json!({ "rows": [rows[1], rows[0]], "idempotencyKey": "key" });
    let other_terms = json!({ "rows": rows, "atomic": false, "idempotencyKey": "key" });
    for input in [other_rows, other_terms] {
        let payload = owner.mutate("importProducts", input, IMPORTED).await;
        let expected = [("IDEMPOTENCY_MISMATCH", "input.idempotencyKey".to_owned())];
        assert_eq!(refusals(&payload), expected);
        assert_eq!(payload["results"], json!([]));
    }
    for key in ["", &"k".repeat(256), "schlüssel"] {
        let input = json!({ "rows": [{ "asin": asin() }], "idempotencyKey": key });
        let payload = owner.mutate("importProducts", input, IMPORTED).await;
        let expected = [("INVALID", "input.idempotencyKey".to_owned())];
        assert_eq!(refusals(&payload), expected);
    }
    assert!(fingerprint(&acme).await == before);
}

#[apply(palisade_test)]
async fn a_batch_that_was_refused_is_done_again_and_one_that_was_done_in_part_is_not(acme: Tenant) {
    let owner = acme.owner();
    let taken = asin();
    let payload = owner
        .does("createProduct", json!({ "asin": taken }), "product { id }")
        .await;
    let in_the_way = payload["product"]["id"].clone();
    let rows = json!([{ "asin": taken }, { "asin": asin() }]);
    let whole = json!({ "rows": rows, "idempotencyKey": "whole" });
    let part = json!({ "rows": rows, "atomic": false, "idempotencyKey": "part" });
    let payload = owner
        .mutate("importProducts", whole.clone(), IMPORTED)
        .await;
    assert_eq!(
        refusals(&payload),
        [("ALREADY_EXISTS", "input.rows.0.asin".to_owned())]
    );
    assert_eq!(count(&acme, "products").await, 1);
    let in_part = owner.does("importProducts", part.clone(), IMPORTED).await;
    assert_eq!(count(&acme, "products").await, 2);
    let second = in_part["results"][1]["product"]["id"].clone();
    assert!(second.is_string() && in_part["results"][0]["product"].is_null());

    owner
        .does("deleteProduct", json!({ "id": in_the_way }), "")
        .await;
    let again = owner.does("importProducts", part.clone(), IMPORTED).await;
    assert_eq!(again, in_part);
    assert_eq!(count(&acme, "products").await, 1);
    // What is gone by now is null in the repeated answer.
    owner
        .does("deleteProduct", json!({ "id": second }), "")
        .await;
    let again = owner.does("importProducts", part, IMPORTED).await;
    assert!(again["results"][1]["product"].is_null());
    let payload = owner.does("importProducts", whole, IMPORTED).await;
    assert!(payload["results"][0]["product"]["id"].is_string());
    assert_eq!(count(&acme, "products").await, 2);
}

#[apply(palisade_test)]
async fn a_deletion_with_a_key_of_its_own_answers_the_same_again(acme: Tenant) {
    let owner = acme.owner();
    let organization = made::organization(owner).await;
    let one = made::project(owner, &organization).await;
    let two = made::project(owner, &organization).await;
    let deleted = "results { index deletedId userErrors { code } }";
    // The same key as that of an import is another one.
    let import = json!({ "rows": [{ "asin": asin() }], "idempotencyKey": "key" });
    owner.does("importProducts", import, "").await;
    let input = json!({ "ids": [one], "idempotencyKey": "key" });
    let first = owner.does("deleteProjects", input.clone(), deleted).await;
    assert_eq!(first["results"][0]["deletedId"], one);
    let again = owner.does("deleteProjects", input, deleted).await;
    assert_eq!(again, first);
    let other = json!({ "ids": [two], "idempotencyKey": "key" });
    let payload = owner.mutate("deleteProjects", other, deleted).await;
    let expected = [("IDEMPOTENCY_MISMATCH", "input.idempotencyKey".to_owned())];
    assert_eq!(refusals(&payload), expected);
    assert!(!read(owner, "project", &two, "id").await.is_null());
    // Nor is it that of a whole request.
    let reply = with_key(owner, "createOrganization", &json!({ "name": "n" }), "key").await;
    assert!(!is_replayed(&reply));
    reply.answer().data();
}

async fn keys_seen(sql: &mut PgConnection) -> i64 {
    sqlx::query_scalar("select count(*) from idempotency_keys")
        .fetch_one(sql)
        .await
        .unwrap()
}

#[apply(palisade_test)]
async fn nobody_reaches_the_answers_of_another_user(app: &'static TestApp) {
    let (acme, globex) = (app.tenant().await, app.tenant().await);
    let input = json!({ "name": "One" });
    with_key(acme.owner(), "createOrganization", &input, "key").await;
    assert_eq!(keys_seen(&mut acme.begin().await.0).await, 1);
    assert_eq!(keys_seen(&mut globex.begin().await.0).await, 0);
    let owner = acme.owner().user;
    for role in [UserRole::Admin, UserRole::Member, UserRole::Viewer] {
        let mut sql = acme.begin_as(role).await.0;
        assert_eq!(keys_seen(&mut sql).await, 0, "{role:?}");
        for statement in [
            "update idempotency_keys set answer = null",
            "delete from idempotency_keys",
        ] {
            assert_eq!(attempt(&mut sql, statement.to_owned()).await, Ok(0));
        }
        let id = owner.to_string().replace("usr_", "");
        let forge = format!(
            "insert into idempotency_keys (id, user_id, request)
             values (gen_random_uuid(), '{id}', sha256('x'))"
        );
        assert_eq!(attempt(&mut sql, forge).await, Err("42501".to_owned()));
        // To take over another's key by its id is refused as well, not answered.
        let claim = format!(
            "insert into idempotency_keys as known (id, request)
             select id, request from (values ('{}'::uuid, sha256('x'))) as given (id, request)
             on conflict (tenant_id, id) do update set request = known.request returning answer",
            key_of(&acme).await
        );
        assert_eq!(attempt(&mut sql, claim).await, Err("42501".to_owned()));
    }
    assert_eq!(count(&acme, "idempotency_keys").await, 1);
}

async fn key_of(tenant: &Tenant) -> uuid::Uuid {
    sqlx::query_scalar("select id from idempotency_keys where tenant_id = $1")
        .bind(tenant.id)
        .fetch_one(&mut tenant.app.connect("postgres").await)
        .await
        .unwrap()
}
