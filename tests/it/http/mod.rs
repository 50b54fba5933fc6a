//! The responses to malformed and hostile requests, and the responses while the database is down. Each has a stable
//! error code, arrives in time, and contains no message of the database.

mod bodies;
mod bounds;
mod charges;
mod connections;
mod database_down;
mod errors;
mod limits;
mod slow_clients;

use std::time::Duration;

use palisade::{
    auth::role::UserRole,
    db::{
        PoolSettings, TenantDb,
        admin_tx::{AdminDb, NewMember, NewTenant},
        context::ContextSigner,
    },
    http::{self as service, Features, Service},
    ids::{TenantId, UserId},
};
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::harness::{
    ServiceOptions, TestApp, create_database, migrate, settings, signing, tokens,
};

/// A response of the service.
#[derive(Debug)]
struct Reply {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The code of the first error.
    fn code(&self) -> String {
        self.json()["errors"][0]["extensions"]["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

/// Sends a body with the token and exactly these other headers.
async fn send(url: &str, token: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Reply {
    let mut request = TestApp::shared()
        .await
        .client
        .post(url)
        .bearer_auth(token)
        .body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    reply(request).await
}

async fn reply(request: reqwest::RequestBuilder) -> Reply {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Reply {
        status,
        headers,
        text: response.text().await.unwrap(),
    }
}

const JSON: (&str, &str) = ("content-type", "application/json");

const GRAPHQL: (&str, &str) = ("accept", "application/graphql-response+json");

/// Sends a JSON body.
async fn post(url: &str, token: &str, body: &str) -> Reply {
    send(url, token, &[JSON], body.as_bytes().to_vec()).await
}

/// Sends a document.
async fn query(url: &str, token: &str, document: &str) -> Reply {
    post(url, token, &json!({ "query": document }).to_string()).await
}

/// The URL of the shared service, and the token of an owner.
async fn caller() -> (String, String) {
    let app = TestApp::shared().await;
    let tenant = app.tenant().await;
    (app.url.clone(), tenant.owner().token.clone())
}

/// A service with its own migrated database, which a test may make unavailable.
struct Broken {
    database: String,
    url: String,
    token: String,
}

impl Broken {
    async fn new() -> Self {
        let app = TestApp::shared().await;
        let database = format!("palisade_test_{}", Uuid::now_v7().simple());
        create_database(&mut superuser(app).await, &database).await;
        let address = |role| app.server.url(role, &database);
        migrate(&address("postgres")).await;
        let tenant = NewTenant {
            id: TenantId::generate(),
            name: "Acme".to_owned(),
            slug: "acme".to_owned(),
            plan: "FREE".to_owned(),
        };
        let owner = NewMember {
            user: UserId::generate(),
            identity: Uuid::now_v7(),
            email: "owner@acme.example".to_owned(),
            display_name: "Owner".to_owned(),
            role: UserRole::Owner,
        };
        let mut admin = AdminDb::connect(&address("palisade_admin")).await.unwrap();
        assert!(
            admin
                .create_tenant(
                    &tenant,
                    std::slice::from_ref(&owner),
                    &ContextSigner::new(&signing())
                )
                .await
                .unwrap()
        );
        let token = tokens()
            .issue(tenant.id, owner.user, chrono::TimeDelta::hours(1))
            .unwrap();
        let pool = PoolSettings {
            size: 2,
            acquire_timeout: Duration::from_millis(500),
        };
        let db = TenantDb::connect(&address("palisade_app"), pool, &signing())
            .await
            .unwrap();
        let url = serve(db, ServiceOptions::default(), Features::default()).await;
        Self {
            database,
            url,
            token,
        }
    }

    async fn query(&self, document: &str) -> Reply {
        query(&self.url, &self.token, document).await
    }

    /// The response of the health check with this path.
    async fn health(&self, which: &str) -> Reply {
        let url = self.url.replace("/graphql", which);
        reply(TestApp::shared().await.client.get(url)).await
    }
}

async fn superuser(app: &TestApp) -> PgConnection {
    use sqlx::Connection as _;

    PgConnection::connect(&app.server.url("postgres", "postgres"))
        .await
        .unwrap()
}

async fn execute(connection: &mut PgConnection, sql: String) {
    sqlx::query(sqlx::AssertSqlSafe(sql))
        .execute(connection)
        .await
        .unwrap();
}

async fn serve(db: TenantDb, options: ServiceOptions, features: Features) -> String {
    let settings = settings(options);
    let listener = service::listen(settings.listen).await.unwrap();
    let url = format!("http://{}/graphql", listener.local_addr().unwrap());
    let served = Service::new(db, None, tokens(), &settings, features).unwrap();
    tokio::spawn(async move {
        service::serve(listener, served, &settings, std::future::pending())
            .await
            .unwrap();
    });
    url
}
