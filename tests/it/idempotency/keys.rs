//! The header `Idempotency-Key`: a key belongs to one request of one user for 24 hours.

use futures_util::future::join_all;
use macro_rules_attribute::apply;
use palisade::auth::role::UserRole;
use serde_json::{Value, json};
use sqlx::PgConnection;

use super::{count, is_replayed, with_key};
use crate::{
    create::{self, fingerprint},
    harness::{Tenant, TestApp, attempt, mutation, palisade_test, user_errors},
};

/// Makes the keys of a tenant older by an interval.
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
async fn a_repeated_request_returns_the_same_bytes_and_runs_once(acme: Tenant) {
    let owner = acme.owner();
    let input = json!({ "name": "日本 🚀 \"quoted\" \\ \n", "slug": "one" });
    let first = with_key(owner, "createOrganization", &input, "key").await;
    assert_eq!(
        user_errors(&first.response().data()["createOrganization"]),
        []
    );
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
    // The service returns the first response even if the object was deleted in the meantime.
    let id = first.response().data()["createOrganization"]["organization"]["id"].clone();
    owner
        .mutate_ok("deleteOrganization", json!({ "id": id }), "")
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
        a: createOrganization(input: { name: \"a\", slug: \"a\" }) { organization { id } userErrors { code } }
        skipped: createOrganization(input: { name: \"s\" }) @skip(if: true) { organization { id } }
        m: createOrganization(input: { name: \"a\", slug: \"a\" }) { organization { id } userErrors { code } } }";
    let headers = [("idempotency-key", "several")];
    let first = owner.send(document, &json!({}), &headers).await;
    let again = owner.send(document, &json!({}), &headers).await;
    assert!(is_replayed(&again) && !is_replayed(&first));
    let response = again.response();
    // Compare the unparsed JSON, because the order of the fields matters.
    let data = |text: &str| text.split(r#","extensions":"#).next().map(str::to_owned);
    assert_eq!(data(&again.text), data(&first.text));
    let keys: Vec<&String> = response.data().as_object().unwrap().keys().collect();
    assert_eq!(keys, ["z", "a", "m"]);
    assert_eq!(count(&acme, "organizations").await, 1);
}

#[apply(palisade_test)]
async fn a_key_belongs_to_one_request(acme: Tenant) {
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
        let response = reply.response();
        assert_eq!(response.code(), "IDEMPOTENCY_MISMATCH", "{}", response.body);
        assert_eq!(response.body["data"], Value::Null);
        assert!(!is_replayed(&reply));
    }
    let reply = with_key(owner, "createOrganization", &two, "key").await;
    assert_eq!(reply.response().code(), "IDEMPOTENCY_MISMATCH");
    assert!(fingerprint(&acme).await == before);
    let again = with_key(owner, "createOrganization", &input, "key").await;
    assert_eq!(again.data_text(), first.data_text());
    // Keys are case-sensitive.
    let reply = with_key(owner, "createOrganization", &two, "Key").await;
    assert!(!is_replayed(&reply));
    reply.response().data();
    assert_eq!(count(&acme, "organizations").await, 2);
}

#[apply(palisade_test)]
async fn the_same_key_of_another_user_or_tenant_is_another_key(app: &'static TestApp) {
    let (acme, globex) = (app.tenant().await, app.tenant().await);
    let organization = create::organization(acme.owner()).await;
    let project = create::project(acme.owner(), &organization).await;
    let input = json!({ "subjectId": project, "body": "Mine" });
    let mut responses = Vec::new();
    for role in [UserRole::Owner, UserRole::Admin, UserRole::Member] {
        let reply = with_key(acme.caller(role), "createComment", &input, "key").await;
        assert!(!is_replayed(&reply), "{role:?}");
        responses.push(reply.data_text());
    }
    responses.dedup();
    assert_eq!(responses.len(), 3);
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
    // Users of the other tenant have used this key for another request, which does not conflict with this one.
    let other = json!({ "name": "Others" });
    let reply = with_key(globex.owner(), "createOrganization", &other, "key").await;
    assert!(!is_replayed(&reply));
    reply.response().data();
}

#[apply(palisade_test)]
async fn twenty_concurrent_duplicates_run_once(acme: Tenant) {
    let owner = acme.owner();
    let taken = json!({ "name": "Taken" });
    owner.mutate_ok("createOrganization", taken, "").await;
    let create = |slug: &str| {
        format!(
            "createOrganization(input: {{ name: \"n\", slug: \"{slug}\" }}) {{ organization {{ id }} userErrors {{ code }} }}"
        )
    };
    for (round, fields, made) in [
        (0, vec![create("one")], 1),
        // The rejection of the first field rolls back the transaction in which the key was stored.
        (1, vec![create("taken"), create("two")], 1),
        (2, vec![create("three"), create("taken"), create("")], 1),
        // Nothing was written, so nothing is kept, and each of them is rejected.
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
            reply.response().data();
            assert_eq!(reply.data_text(), replies[0].data_text(), "{document}");
        }
        let executed = replies.iter().filter(|reply| !is_replayed(reply)).count();
        let expected = if made == 0 { replies.len() } else { 1 };
        assert_eq!(executed, expected, "{document}");
        assert_eq!(
            count(&acme, "organizations").await - before,
            made,
            "{document}"
        );
    }
}

#[apply(palisade_test)]
async fn a_rejected_request_is_not_kept_and_runs_again(acme: Tenant) {
    let owner = acme.owner();
    let input = json!({ "name": "Taken", "slug": "taken" });
    let payload = owner
        .mutate_ok("createOrganization", input.clone(), "organization { id }")
        .await;
    for _ in 0..2 {
        let reply = with_key(owner, "createOrganization", &input, "key").await;
        assert!(!is_replayed(&reply));
        let expected = [("ALREADY_EXISTS", "input.slug".to_owned())];
        let rejection = reply.response();
        assert_eq!(
            user_errors(&rejection.data()["createOrganization"]),
            expected
        );
        assert_eq!(count(&acme, "idempotency_keys").await, 0);
    }
    let target = json!({ "id": payload["organization"]["id"] });
    owner.mutate_ok("deleteOrganization", target, "").await;
    let first = with_key(owner, "createOrganization", &input, "key").await;
    assert!(!is_replayed(&first));
    assert_eq!(
        user_errors(&first.response().data()["createOrganization"]),
        []
    );
    let again = with_key(owner, "createOrganization", &input, "key").await;
    assert!(is_replayed(&again));
    assert_eq!(again.data_text(), first.data_text());
    assert_eq!(count(&acme, "organizations").await, 1);
}

#[apply(palisade_test)]
async fn a_failure_is_not_stored_and_the_retry_runs(app: &'static TestApp) {
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
    assert_eq!(first.response().code(), "INTERNAL");
    assert_eq!(count(&acme, "idempotency_keys").await, 0);
    let second = with_key(owner, "createOrganization", &input, "key").await;
    assert!(!is_replayed(&second));
    assert_eq!(
        user_errors(&second.response().data()["createOrganization"]),
        []
    );
    let third = with_key(owner, "createOrganization", &input, "key").await;
    assert!(is_replayed(&third));
    assert_eq!(third.data_text(), second.data_text());
    assert_eq!(count(&acme, "organizations").await, 1);
    app.drop_database().await;
}

#[apply(palisade_test)]
async fn a_key_is_kept_for_a_day_and_old_keys_are_deleted(acme: Tenant) {
    let owner = acme.owner();
    let organization = create::organization(owner).await;
    let project = create::project(owner, &organization).await;
    let input = json!({ "subjectId": project, "body": "Said" });
    let first = with_key(owner, "createComment", &input, "key").await;
    age(&acme, "23 hours 59 minutes").await;
    let again = with_key(owner, "createComment", &input, "key").await;
    assert!(is_replayed(&again));
    age(&acme, "2 minutes").await;
    let second = with_key(owner, "createComment", &input, "key").await;
    assert!(!is_replayed(&second));
    assert_ne!(second.data_text(), first.data_text());
    assert_eq!(count(&acme, "comments").await, 2);
    let again = with_key(owner, "createComment", &input, "key").await;
    assert!(is_replayed(&again));
    assert_eq!(again.data_text(), second.data_text());

    // After a day a key may be used for another request.
    age(&acme, "25 hours").await;
    let other = json!({ "subjectId": project, "body": "Another comment" });
    let reply = with_key(owner, "createComment", &other, "key").await;
    assert!(!is_replayed(&reply));
    assert_eq!(count(&acme, "comments").await, 3);

    // Each request with a key deletes up to ten expired keys of its user.
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
        "the key of another user, and two new ones"
    );
}

#[apply(palisade_test)]
async fn an_invalid_key_is_rejected_before_anything_runs(acme: Tenant) {
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
            let response = reply.response();
            assert_eq!(response.code(), "BAD_USER_INPUT");
            assert!(response.body.get("data").is_none());
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
        assert_eq!(reply.response().data()["organizations"]["totalCount"], n);
        create::organization(owner).await;
    }
    assert_eq!(count(&acme, "idempotency_keys").await, 0);
}

async fn keys_seen(sql: &mut PgConnection) -> i64 {
    sqlx::query_scalar("select count(*) from idempotency_keys")
        .fetch_one(sql)
        .await
        .unwrap()
}

#[apply(palisade_test)]
async fn no_user_gets_the_stored_responses_of_another(app: &'static TestApp) {
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
            "update idempotency_keys set response = null, kept_bytes = 0",
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
        // A statement that uses the id of another user's key is rejected as well.
        let claim = format!(
            "insert into idempotency_keys as known (id, request)
             select id, request from (values ('{}'::uuid, sha256('x'))) as given (id, request)
             on conflict (tenant_id, id) do update set request = known.request returning response",
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
