//! The service under test.

use std::{
    future::{Future, pending},
    time::Duration,
};

use palisade::{
    auth::jwt::{TokenSettings, Tokens},
    auth::role::UserRole,
    config::{ConnectionSettings, MemorySettings, ServiceSettings, TrafficSettings},
    db::{
        PoolSettings, TenantDb,
        admin_tx::{AdminDb, NewMember, NewTenant},
        context::ContextSigner,
        sign_in::SignInDb,
    },
    embedded::Embedded,
    http::{self, Features, Service},
    ids::{EntityId as _, TenantId, UserId},
};
use sqlx::{Connection as _, PgConnection, Row as _};
use tokio::sync::{OnceCell, oneshot};
use uuid::Uuid;

use super::{
    ENDINGS, RUNTIME,
    client::Caller,
    context::{migrate, signing},
    database::{attempt, create_database, database},
    tenant::Tenant,
};

static APP: OnceCell<TestApp> = OnceCell::const_new();

/// A client that drops idle connections after 5 s. The service closes them after 10 s. With the same limit, the client
/// could send a request on a connection that the service is closing.
fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .pool_idle_timeout(Duration::from_secs(5))
        .build()
        .unwrap()
}

/// The secret that signs the tests' tokens.
pub const SECRET: &str = "a secret of the tests, which is long enough to be one";

/// The database and the service under test.
pub struct TestApp {
    pub server: &'static Embedded,
    pub database: String,
    pub url: String,
    pub tokens: Tokens,
    pub client: reqwest::Client,
}

impl TestApp {
    /// Starts the database and the service for the first test that needs them.
    pub async fn shared() -> &'static Self {
        APP.get_or_init(Self::start).await
    }

    async fn start() -> Self {
        let (server, database) = database().await;
        // The server is never dropped, because it is in a static. Its watchdog stops it when this process ends.
        let server = Box::leak(Box::new(server));
        let app = Self {
            url: String::new(),
            tokens: tokens(),
            client: client(),
            server,
            database,
        };
        app.assert_role_is_bound().await;
        let settings = settings(ServiceOptions::default());
        let url = serve(app.server, &app.database, settings, pending()).await;
        Self { url, ..app }
    }

    /// Starts a service with a new migrated database, for tests that change the schema. A superuser runs `steps` before
    /// the service connects.
    pub async fn in_own_database(&self, steps: &[&str]) -> &'static Self {
        let database = format!("palisade_test_{}", Uuid::now_v7().simple());
        let postgres = self.server.url("postgres", "postgres");
        create_database(
            &mut PgConnection::connect(&postgres).await.unwrap(),
            &database,
        )
        .await;
        let url = self.server.url("postgres", &database);
        migrate(&url).await;
        let mut superuser = PgConnection::connect(&url).await.unwrap();
        for step in steps {
            attempt(&mut superuser, (*step).to_owned()).await.unwrap();
        }
        let app = Self {
            server: self.server,
            database,
            url: String::new(),
            tokens: tokens(),
            client: client(),
        };
        let url = app.serve(ServiceOptions::default()).await;
        Box::leak(Box::new(Self { url, ..app }))
    }

    /// Drops the separate database of a test. This closes its connections, whose number is limited.
    pub async fn drop_database(&self) {
        self.drop_own_database(&self.database).await;
    }

    /// Drops a database of [`TestApp::own_database`].
    pub async fn drop_own_database(&self, database: &str) {
        let postgres = self.server.url("postgres", "postgres");
        let mut superuser = PgConnection::connect(&postgres).await.unwrap();
        let drop = format!("drop database {database} with (force)");
        attempt(&mut superuser, drop).await.unwrap();
    }

    /// Starts another service on the same database. Returns the URL of its API.
    pub async fn serve(&self, options: ServiceOptions) -> String {
        self.serve_database(&self.database, options).await
    }

    /// Starts a service that connects to the same database as another role. Returns the URL of its API.
    pub async fn serve_as(&self, role: &str, options: ServiceOptions) -> String {
        let (ending, ended) = oneshot::channel();
        ENDINGS.with_borrow_mut(|endings| endings.push(ending));
        let url = self.database_url(role);
        let stop = async { drop(ended.await) };
        serve_url(self.server, &self.database, &url, settings(options), stop).await
    }

    /// Starts a service on a database of [`TestApp::own_database`]. Returns the URL of its API.
    pub async fn serve_database(&self, database: &str, options: ServiceOptions) -> String {
        self.serve_with(database, settings(options)).await
    }

    /// Starts a service on a database with these settings. Returns the URL of its API.
    pub async fn serve_with(&self, database: &str, settings: ServiceSettings) -> String {
        let (ending, ended) = oneshot::channel();
        ENDINGS.with_borrow_mut(|endings| endings.push(ending));
        serve(self.server, database, settings, async { drop(ended.await) }).await
    }

    /// Creates another migrated database, for a test whose rows or settings must not affect other tests.
    pub async fn own_database(&self) -> String {
        self.own_database_with("").await
    }

    /// Like [`TestApp::own_database`], with options for `create database`.
    pub async fn own_database_with(&self, options: &str) -> String {
        let mut connection = PgConnection::connect(&self.server.url("postgres", "postgres"))
            .await
            .unwrap();
        let database = format!("palisade_test_{}", Uuid::now_v7().simple());
        create_database(&mut connection, &format!("{database} {options}")).await;
        let url = self.server.url("postgres", &database);
        migrate(&url).await;
        database
    }

    /// A user of a service, with a token that is valid for an hour.
    pub fn caller(
        &'static self,
        url: &str,
        tenant: TenantId,
        user: UserId,
        role: UserRole,
    ) -> Caller {
        let life = chrono::TimeDelta::hours(1);
        Caller {
            app: self,
            url: url.to_owned(),
            user,
            role,
            token: self.tokens.issue(tenant, user, life).unwrap(),
        }
    }

    /// The URL of the tests' database for a role.
    pub fn database_url(&self, role: &str) -> String {
        self.server.url(role, &self.database)
    }

    /// Connects as a role, without a tenant or a user in the session.
    pub async fn connect(&self, role: &str) -> PgConnection {
        PgConnection::connect(&self.database_url(role))
            .await
            .unwrap()
    }

    /// Asserts that row level security applies to the service's role. Otherwise, the tests prove nothing.
    async fn assert_role_is_bound(&self) {
        let mut connection = self.connect("palisade_app").await;
        let row = sqlx::query(
            "select rolname::text, rolsuper or rolbypassrls or exists (
                 select from pg_class where relowner = r.oid) or exists (
                 select from pg_auth_members where member = r.oid)
             from pg_roles r where rolname = session_user",
        )
        .fetch_one(&mut connection)
        .await
        .unwrap();
        assert_eq!(row.get::<String, _>(0), "palisade_app");
        assert!(
            !row.get::<bool, _>(1),
            "palisade_app could see past row level security"
        );
    }

    /// Creates a tenant with one user of each role.
    pub async fn tenant(&'static self) -> Tenant {
        let id = TenantId::generate();
        let slug = format!("t-{}", id.uuid().simple());
        let tenant = NewTenant {
            id,
            name: format!("Tenant {slug}"),
            slug: slug.clone(),
            plan: "FREE".to_owned(),
        };
        let roles = [
            UserRole::Owner,
            UserRole::Admin,
            UserRole::Member,
            UserRole::Billing,
            UserRole::Viewer,
        ];
        let members: Vec<NewMember> = roles
            .iter()
            .map(|role| NewMember {
                user: UserId::generate(),
                identity: Uuid::now_v7(),
                email: format!("{}@{slug}.example", role.as_str().to_lowercase()),
                display_name: format!("{} of {slug}", role.as_str()),
                role: *role,
            })
            .collect();
        let mut admin = AdminDb::connect(&self.database_url("palisade_admin"))
            .await
            .unwrap();
        assert!(
            admin
                .create_tenant(&tenant, &members, &ContextSigner::new(&signing()))
                .await
                .unwrap()
        );
        let callers = members
            .iter()
            .map(|member| self.caller(&self.url, id, member.user, member.role))
            .collect();
        Tenant {
            app: self,
            id,
            slug,
            callers,
        }
    }
}

/// Starts a service that runs until `stop` completes. Returns the URL of its API.
async fn serve(
    server: &Embedded,
    database: &str,
    settings: ServiceSettings,
    stop: impl Future<Output = ()> + Send + 'static,
) -> String {
    let app = server.url("palisade_app", database);
    serve_url(server, database, &app, settings, stop).await
}

/// Like [`serve`], with the URL for the role of the service.
async fn serve_url(
    server: &Embedded,
    database: &str,
    app: &str,
    settings: ServiceSettings,
    stop: impl Future<Output = ()> + Send + 'static,
) -> String {
    let db = TenantDb::connect(app, settings.pool, &signing())
        .await
        .unwrap();
    let auth = server.url("palisade_auth", database);
    let directory = SignInDb::connect(&auth).await.unwrap();
    let features = Features {
        introspection: true,
        explorer: true,
        development: true,
        people: true,
    };
    let service = Service::new(
        db.recording_statements(),
        Some(directory),
        tokens(),
        &settings,
        features,
    )
    .unwrap();
    let listener = http::listen(settings.listen).await.unwrap();
    let url = format!("http://{}/graphql", listener.local_addr().unwrap());
    RUNTIME.spawn(async move {
        http::serve(listener, service, &settings, stop)
            .await
            .unwrap();
    });
    url
}

/// The settings that differ between the services of the tests.
#[derive(Clone, Copy)]
pub struct ServiceOptions {
    pub pool_size: u32,
    pub acquire_timeout: Duration,
    pub operation_timeout: Duration,
    pub receive_timeout: Duration,
}

impl Default for ServiceOptions {
    fn default() -> Self {
        Self {
            pool_size: 8,
            acquire_timeout: Duration::from_secs(30),
            operation_timeout: Duration::from_mins(1),
            receive_timeout: Duration::from_secs(10),
        }
    }
}

pub fn settings(options: ServiceOptions) -> ServiceSettings {
    ServiceSettings {
        listen: "127.0.0.1:0".parse().unwrap(),
        pool: PoolSettings {
            size: options.pool_size,
            acquire_timeout: options.acquire_timeout,
        },
        tokens: token_settings(),
        operation_timeout: options.operation_timeout,
        receive_timeout: options.receive_timeout,
        max_connections: 1_000,
        max_cost: 20_000,
        document_cache_bytes: 33_554_432,
        memory: MemorySettings::default(),
        // One user of a test sends many requests at the same time.
        traffic: TrafficSettings {
            tenant_slots: Some(2 * options.pool_size),
            ..TrafficSettings::default()
        },
        connections: ConnectionSettings {
            // The client opens some connections before it needs them. With the shorter default, it could send a request
            // on a connection that the service is closing.
            first_byte_timeout: options.receive_timeout,
            ..ConnectionSettings::default()
        },
        // Some tests switch off one layer of the isolation.
        isolation_check_interval: None,
    }
}

fn token_settings() -> TokenSettings {
    TokenSettings {
        jwt_secret: Some(SECRET.into()),
        jwt_previous_secret: None,
        jwt_issuer: "palisade".to_owned(),
        jwt_audience: "palisade".to_owned(),
    }
}

pub fn tokens() -> Tokens {
    Tokens::new(&token_settings()).unwrap()
}
