//! Resolvers that ignore a failed statement and report success. The service must neither store their changes
//! nor report success to the client.

use std::time::Duration;

use async_graphql::{Context, EmptySubscription, Request, Response, Schema, SimpleObject};
use chrono::{DateTime, Utc};
use macro_rules_attribute::apply;
use palisade::{
    api::transaction::{OperationInfo, TenantTransaction},
    auth::Principal,
    auth::role::UserRole,
    db::{
        Operation, PoolSettings, Purpose, TenantDb, TenantTx,
        entity::NeededColumns,
        idempotency::Claim,
        write::{Insert, WriteResult},
    },
    error::Result,
    graphql::{
        context::ContextExt as _,
        errors,
        json::PlainFields,
        mutation::{MutationResult, Write as _},
        object::Object,
    },
    ids::OrganizationId,
    organizations::Organization,
};
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    create::unique,
    harness::{Tenant, TestApp, eventually, palisade_test, signing, user_errors},
};

/// The result that a resolver of this test returns.
#[derive(SimpleObject)]
struct Reported {
    done: bool,
}

impl PlainFields for Reported {}

impl From<MutationResult<Organization>> for Reported {
    fn from(result: MutationResult<Organization>) -> Self {
        Self {
            done: result.value.is_some(),
        }
    }
}

async fn insert(tx: &TenantTx, slug: &str) -> WriteResult<Organization> {
    Insert::<Organization>::new(OrganizationId::generate())
        .set("name", "Careless")
        .set("slug", slug)
        .run(tx)
        .await
}

/// Inserts two organizations with one slug, and ignores that the database rejects the second.
async fn insert_twice(tx: &TenantTx, slug: &str) -> WriteResult<Organization> {
    let first = insert(tx, slug).await?;
    assert!(insert(tx, slug).await.is_err());
    Ok(first)
}

struct Nothing;

#[async_graphql::Object]
impl Nothing {
    async fn nothing(&self) -> bool {
        false
    }
}

struct Careless;

#[async_graphql::Object]
impl Careless {
    async fn good(&self, ctx: &Context<'_>, slug: String) -> Result<Object<Reported>> {
        ctx.write(insert(ctx.tx(), &slug)).await
    }

    async fn within(&self, ctx: &Context<'_>, slug: String) -> Result<Object<Reported>> {
        ctx.write(insert_twice(ctx.tx(), &slug)).await
    }

    async fn outside(&self, ctx: &Context<'_>, slug: String) -> Object<Reported> {
        let done = insert_twice(ctx.tx(), &slug).await.is_ok();
        Reported { done }.into()
    }
}

type Bad = Schema<Nothing, Careless, EmptySubscription>;

async fn execute(
    schema: &Bad,
    tenant: &Tenant,
    document: &str,
    dry_run: bool,
    claim: Option<Claim>,
) -> Response {
    let principal = Principal {
        tenant: tenant.id,
        user: tenant.owner().user,
        role: UserRole::Owner,
        expires_at: DateTime::<Utc>::MAX_UTC,
    };
    let request_id = Uuid::now_v7();
    let info = OperationInfo {
        operation: Operation::new(request_id),
        purpose: Purpose::Write,
        traced: false,
        dry_run,
        claim,
        columns: NeededColumns::ALL,
        cost: 0,
    };
    let request = Request::new(document).data(principal).data(info);
    let mut response = schema.execute(request).await;
    errors::finish(&mut response, request_id, false);
    response
}

async fn count(superuser: &mut PgConnection, sql: &str, tenant: &Tenant) -> i64 {
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
        .bind(tenant.id)
        .fetch_one(superuser)
        .await
        .unwrap()
}

const ORGANIZATIONS: &str = "select count(*) from organizations where tenant_id = $1";
const KEYS: &str = "select count(*) from idempotency_keys where tenant_id = $1";

#[apply(palisade_test)]
async fn a_resolver_that_ignores_a_failure_stores_nothing_and_does_not_succeed(
    app: &'static TestApp,
) {
    // A separate database, so that the test can count its connections.
    let app = app.in_own_database(&[]).await;
    let (acme, globex) = (app.tenant().await, app.tenant().await);
    let mut superuser = app.connect("postgres").await;
    let settings = PoolSettings {
        size: 1,
        acquire_timeout: Duration::from_secs(5),
    };
    let db = TenantDb::connect(&app.database_url("palisade_app"), settings, &signing())
        .await
        .unwrap();
    let schema: Bad = Schema::build(Nothing, Careless, EmptySubscription)
        .extension(TenantTransaction)
        .data(db.clone())
        .finish();
    let mut good = 0;
    for fields in [
        &["within"][..],
        &["outside"],
        &["within", "good"],
        &["outside", "good"],
        &["good", "within"],
        &["good", "outside"],
        &["good", "within", "good"],
        &["outside", "outside"],
        &["outside", "within"],
    ] {
        let fields = fields.iter().enumerate();
        let fields: Vec<String> = fields
            .map(|(n, field)| format!("f{n}: {field}(slug: \"{}\") {{ done }}", unique("s")))
            .collect();
        let document = format!("mutation {{ {} }}", fields.join(" "));
        for (dry_run, with_key) in [(false, false), (true, false), (false, true)] {
            let claim = with_key.then(|| {
                Claim::new(
                    acme.owner().user,
                    UserRole::Owner,
                    None,
                    "key",
                    &[b"request"],
                )
            });
            let response = execute(&schema, &acme, &document, dry_run, claim).await;
            let body = json!(response);
            assert_eq!(body["data"], json!(null), "{document} {body}");
            assert_eq!(
                body["errors"][0]["extensions"]["code"], "INTERNAL",
                "{body}"
            );
            assert_eq!(body["errors"][0]["message"], "internal error");
            assert_eq!(
                count(&mut superuser, ORGANIZATIONS, &acme).await,
                0,
                "{document}"
            );
            assert_eq!(count(&mut superuser, KEYS, &acme).await, 0, "{document}");

            // Afterwards, the service's only connection serves the other tenant normally.
            let document = format!("mutation {{ good(slug: \"{}\") {{ done }} }}", unique("s"));
            let response = execute(&schema, &globex, &document, false, None).await;
            assert_eq!(json!(response)["data"], json!({ "good": { "done": true } }));
            good += 1;
            assert_eq!(count(&mut superuser, ORGANIZATIONS, &globex).await, good);
        }
    }
    eventually("no connection is in a transaction", async || {
        let open = "select count(*) from pg_stat_activity where datname = current_database()
                    and usename = 'palisade_app' and xact_start is not null and $1 is not null";
        count(&mut superuser, open, &acme).await == 0
    })
    .await;
    db.close().await;
    app.drop_database().await;
}

#[apply(palisade_test)]
async fn a_commit_that_fails_is_an_error_and_stores_neither_rows_nor_response(
    app: &'static TestApp,
) {
    let app = app
        .in_own_database(&[
            "create function public.refuse() returns trigger language plpgsql as $$ begin
                if new.name = 'Refused' then raise exception 'refused at the end'; end if;
                return null;
             end $$",
            "create constraint trigger refuse after insert on organizations
             deferrable initially deferred for each row execute function public.refuse()",
        ])
        .await;
    let acme = app.tenant().await;
    let owner = acme.owner();
    let mut superuser = app.connect("postgres").await;
    let input = json!({ "input": { "name": "Refused" } });
    let document = crate::harness::mutation("createOrganization", "organization { id }");
    for headers in [
        &[][..],
        &[("idempotency-key", "key")],
        &[("idempotency-key", "key")],
    ] {
        let reply = owner.send(&document, &input, headers).await;
        let response = reply.response();
        assert_eq!(response.code(), "INTERNAL", "{}", response.body);
        assert_eq!(response.body["data"], json!(null));
        assert_eq!(reply.header("idempotency-replayed"), None);
        assert_eq!(count(&mut superuser, ORGANIZATIONS, &acme).await, 0);
        assert_eq!(count(&mut superuser, KEYS, &acme).await, 0);
    }
    let input = json!({ "name": "Accepted" });
    let payload = owner.mutate_ok("createOrganization", input, "").await;
    assert_eq!(user_errors(&payload), []);
    assert_eq!(count(&mut superuser, ORGANIZATIONS, &acme).await, 1);
    app.drop_database().await;
}
