//! One PostgreSQL, one database, one service for the whole binary, and callers to talk to it.

use std::{
    cell::RefCell,
    collections::HashMap,
    future::{Future, pending},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::LazyLock,
    time::Duration,
};

use palisade::{
    auth::jwt::{TokenSettings, Tokens},
    auth::role::UserRole,
    config::{ServiceSettings, TrafficSettings},
    db::{
        PoolSettings, TenantDb,
        admin_tx::{AdminDb, NewMember, NewTenant},
        migrate::{self, RolePasswords},
        sign_in::SignInDb,
    },
    embedded::{self, Embedded},
    http::{self, Features, Service},
    ids::{EntityId as _, OrganizationId, TenantId, UserId},
};
use reqwest::header::{HeaderMap, HeaderValue};
use serde_json::{Value, json, value::RawValue};
use sqlx::{Connection as _, PgConnection, Row as _};
use tokio::{
    runtime::Runtime,
    sync::{OnceCell, oneshot},
};
use uuid::Uuid;

/// Connections belong to the runtime that opened them, so all tests share one.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
static APP: OnceCell<TestApp> = OnceCell::const_new();

thread_local! {
    /// What ends the services that the test of this thread has started, when it is dropped.
    static ENDINGS: RefCell<Vec<oneshot::Sender<()>>> = const { RefCell::new(Vec::new()) };
}

/// Runs a test on the shared runtime. The services that it starts end with it: each holds connections,
/// of which PostgreSQL has no more than it was started with.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    let done = RUNTIME.block_on(test);
    drop(ENDINGS.take());
    done
}

/// A value that a test takes as a parameter.
pub trait Fixture {
    async fn create() -> Self;
}

impl Fixture for &'static TestApp {
    async fn create() -> Self {
        TestApp::shared().await
    }
}

impl Fixture for Tenant {
    async fn create() -> Self {
        TestApp::shared().await.tenant().await
    }
}

/// The attribute `#[apply(palisade_test)]`: runs an async function as a test with [`run`]. Each parameter
/// is a [`Fixture`], created before the test starts.
macro_rules! palisade_test {
    (
        $(#[$attribute:meta])*
        async fn $name:ident($($argument:ident: $fixture:ty),* $(,)?) $body:block
    ) => {
        #[test]
        $(#[$attribute])*
        fn $name() {
            async fn $name($($argument: $fixture),*) $body

            $crate::harness::run(async {
                $(let $argument = <$fixture as $crate::harness::Fixture>::create().await;)*
                $name($($argument),*).await;
            });
        }
    };
}
pub(crate) use palisade_test;

/// A client that lets go of idle connections before the service does, which closes them after 10 s: a
/// request on one that is being closed is nobody's fault.
fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .pool_idle_timeout(Duration::from_secs(5))
        .build()
        .unwrap()
}

/// The secret of the tests' tokens.
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
    /// Starts everything when the first test asks.
    pub async fn shared() -> &'static Self {
        APP.get_or_init(Self::start).await
    }

    async fn start() -> Self {
        let (server, database) = database().await;
        // Never dropped, like the static that holds it: the server ends by its own watchdog.
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

    /// The same service over a migrated database of its own, for tests that change the schema. The
    /// steps run as a superuser before the service connects.
    pub async fn in_own_database(&self, steps: &[&str]) -> &'static Self {
        let database = format!("palisade_test_{}", Uuid::now_v7().simple());
        let postgres = self.server.url("postgres", "postgres");
        create_database(
            &mut PgConnection::connect(&postgres).await.unwrap(),
            &database,
        )
        .await;
        let url = self.server.url("postgres", &database);
        migrate::run(&url, &RolePasswords::default()).await.unwrap();
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

    /// Drops a database of a test's own: its service keeps connections that others need.
    pub async fn drop_database(&self) {
        let postgres = self.server.url("postgres", "postgres");
        let mut superuser = PgConnection::connect(&postgres).await.unwrap();
        let drop = format!("drop database {} with (force)", self.database);
        attempt(&mut superuser, drop).await.unwrap();
    }

    /// Another service over the same database; answers the address of its API.
    pub async fn serve(&self, options: ServiceOptions) -> String {
        self.serve_database(&self.database, options).await
    }

    /// A service over a database that [`TestApp::own_database`] made.
    pub async fn serve_database(&self, database: &str, options: ServiceOptions) -> String {
        self.serve_with(database, settings(options)).await
    }

    /// A service over a database, with settings of the test's own.
    pub async fn serve_with(&self, database: &str, settings: ServiceSettings) -> String {
        let (ending, ended) = oneshot::channel();
        ENDINGS.with_borrow_mut(|endings| endings.push(ending));
        serve(self.server, database, settings, async { drop(ended.await) }).await
    }

    /// Another migrated database, for a test whose rows or settings the others must not see.
    pub async fn own_database(&self) -> String {
        let mut connection = PgConnection::connect(&self.server.url("postgres", "postgres"))
            .await
            .unwrap();
        let database = format!("palisade_test_{}", Uuid::now_v7().simple());
        create_database(&mut connection, &database).await;
        let url = self.server.url("postgres", &database);
        migrate::run(&url, &RolePasswords::default()).await.unwrap();
        database
    }

    /// A user at a service, with a token of an hour.
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

    /// The address of the tests' database as a role.
    pub fn database_url(&self, role: &str) -> String {
        self.server.url(role, &self.database)
    }

    /// A connection as a role, with no context.
    pub async fn connect(&self, role: &str) -> PgConnection {
        PgConnection::connect(&self.database_url(role))
            .await
            .unwrap()
    }

    /// Row level security tests prove nothing as a role that it does not bind.
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

    /// A new tenant with one user of each role.
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
        assert!(admin.create_tenant(&tenant, &members).await.unwrap());
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

/// Serves a database until `stop`; answers the address of the API.
async fn serve(
    server: &Embedded,
    database: &str,
    settings: ServiceSettings,
    stop: impl Future<Output = ()> + Send + 'static,
) -> String {
    let app = server.url("palisade_app", database);
    let db = TenantDb::connect(&app, settings.pool).await.unwrap();
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

/// What differs between the services of the tests.
#[derive(Clone, Copy)]
pub struct ServiceOptions {
    pub pool_size: u32,
    pub acquire_timeout_ms: u64,
    pub operation_timeout_ms: u64,
    pub receive_timeout_ms: u64,
}

impl Default for ServiceOptions {
    fn default() -> Self {
        Self {
            pool_size: 8,
            acquire_timeout_ms: 30_000,
            operation_timeout_ms: 60_000,
            receive_timeout_ms: 10_000,
        }
    }
}

pub fn settings(options: ServiceOptions) -> ServiceSettings {
    ServiceSettings {
        listen: "127.0.0.1:0".parse().unwrap(),
        pool: PoolSettings {
            size: options.pool_size,
            acquire_timeout_ms: options.acquire_timeout_ms,
        },
        tokens: token_settings(),
        operation_timeout: options.operation_timeout_ms,
        receive_timeout: options.receive_timeout_ms,
        max_connections: 1_000,
        max_cost: 20_000,
        traffic: TrafficSettings::default(),
    }
}

fn token_settings() -> TokenSettings {
    TokenSettings {
        jwt_secret: Some(SECRET.to_owned()),
        jwt_issuer: "palisade".to_owned(),
        jwt_audience: "palisade".to_owned(),
    }
}

pub fn tokens() -> Tokens {
    Tokens::new(&token_settings()).unwrap()
}

/// A place below `target/` for a test's files, or below the system's temporary directory if the
/// account that runs PostgreSQL for root cannot enter `target/`.
pub async fn scratch(name: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    match embedded::check_reachable(target, None).await {
        Ok(()) => target.join(name),
        Err(_) => AWAY.join(name),
    }
}

/// The place below the temporary directory, gone when this process is.
static AWAY: LazyLock<PathBuf> = LazyLock::new(|| {
    let dir = std::env::temp_dir().join(format!("palisade-tests-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    // The account that runs PostgreSQL passes through it.
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    // Its input ends with this process; the server that lives there ends at the same time.
    let script = r#"read -r _; i=0
        while [ -e "$0" ] && [ "$i" -lt 100 ]; do rm -rf "$0" 2>/dev/null; i=$((i+1)); sleep 0.1; done"#;
    let cleaner = Command::new("/bin/sh")
        .args(["-c", script])
        .arg(&dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    // Held open for as long as this process lives.
    std::mem::forget(cleaner);
    dir
});

/// A migrated database of its own in the tests' cluster.
async fn database() -> (Embedded, String) {
    let server = Embedded::start(&embedded::Options {
        data_dir: scratch("postgres").await,
        durable: false,
        bin_dir: None,
        user: None,
        cache_dir: None,
        archive_url: None,
    })
    .await
    .unwrap();
    let postgres = server.url("postgres", "postgres");
    let mut connection = PgConnection::connect(&postgres).await.unwrap();
    drop_old_databases(&mut connection).await;
    let database = format!("palisade_test_{}", Uuid::now_v7().simple());
    create_database(&mut connection, &database).await;
    let passwords = RolePasswords::default();
    migrate::run(&server.url("postgres", &database), &passwords)
        .await
        .unwrap();
    (server, database)
}

pub async fn create_database(connection: &mut PgConnection, name: &str) {
    let sql = format!("create database {name}");
    sqlx::query(sqlx::AssertSqlSafe(sql))
        .execute(connection)
        .await
        .unwrap();
}

/// Databases of earlier runs. One that somebody uses belongs to a run that goes on.
async fn drop_old_databases(connection: &mut PgConnection) {
    let old: Vec<String> = sqlx::query_scalar(
        "select datname::text from pg_database d where datname like 'palisade\\_test\\_%'
         and not exists (select from pg_stat_activity a where a.datid = d.oid)",
    )
    .fetch_all(&mut *connection)
    .await
    .unwrap();
    for name in old {
        let sql = format!("drop database if exists {name}");
        sqlx::query(sqlx::AssertSqlSafe(sql))
            .execute(&mut *connection)
            .await
            .ok();
    }
}

/// What the service writes in its own time. That nobody else does hold the tests of the seals.
const SEALS: [&str; 3] = ["audit_seal_entries", "audit_seals", "audit_unsealed"];

/// A tenant of one test.
pub struct Tenant {
    pub app: &'static TestApp,
    pub id: TenantId,
    pub slug: String,
    callers: Vec<Caller>,
}

impl Tenant {
    /// The user with a role.
    pub fn caller(&self, role: UserRole) -> &Caller {
        self.callers
            .iter()
            .find(|caller| caller.role == role)
            .unwrap()
    }

    /// The owner, who sees everything of the tenant.
    pub fn owner(&self) -> &Caller {
        self.caller(UserRole::Owner)
    }

    /// A transaction as `palisade_app` in this tenant, for fixtures. The user is the owner.
    pub async fn begin(&self) -> TenantSql {
        self.begin_as(UserRole::Owner).await
    }

    /// The same as the user with a role.
    pub async fn begin_as(&self, role: UserRole) -> TenantSql {
        self.connect_as("palisade_app", role).await
    }

    /// A connection as a role of the database, in the context of the user with a role of the tenant.
    pub async fn connect_as(&self, login: &str, role: UserRole) -> TenantSql {
        let mut connection = self.app.connect(login).await;
        for (name, value) in [
            ("app.tenant_id", self.id.uuid().to_string()),
            ("app.user_id", self.caller(role).user.uuid().to_string()),
            ("app.role", role.as_str().to_owned()),
        ] {
            // For the session: the connection is this test's own and closed afterwards.
            sqlx::query("select set_config($1, $2, false)")
                .bind(name)
                .bind(value)
                .execute(&mut connection)
                .await
                .unwrap();
        }
        TenantSql(connection)
    }

    /// All rows of the tenant in all tables, each table in one line: as the role that no policy binds,
    /// so that not even a key which only its user sees can change unnoticed. Without the seals of the
    /// audit log, which the service puts there a moment behind the writers.
    pub async fn everything(&self) -> Vec<String> {
        let mut admin = self.app.connect("palisade_admin").await;
        let tenant = self.id.uuid();
        let sums = tenant_tables(&mut admin).await;
        let sums: Vec<String> = sums
            .iter()
            .filter(|table| !SEALS.contains(&table.name.as_str()))
            .map(
                |TenantTable {
                     name,
                     tenant_column,
                 }| {
                    format!(
                        "select '{name} ' || count(*) || ' ' ||
                            coalesce(md5(string_agg(to_jsonb(t)::text, ',' order by id)), '')
                     from {name} t where {tenant_column} = '{tenant}'"
                    )
                },
            )
            .collect();
        let query = sqlx::AssertSqlSafe(sums.join(" union all "));
        let mut sums: Vec<String> = sqlx::query_scalar(query)
            .fetch_all(&mut admin)
            .await
            .unwrap();
        sums.sort();
        sums
    }

    /// The same person as a member here and there; the answer is who they are here.
    pub async fn share_member_with(&self, other: &Self, role: UserRole) -> Caller {
        let mut auth = self.app.connect("palisade_auth").await;
        let identity: Uuid =
            sqlx::query_scalar("insert into identities (id, email) values ($1, $2) returning id")
                .bind(Uuid::now_v7())
                .bind(format!("shared@{}.example", self.slug))
                .fetch_one(&mut auth)
                .await
                .unwrap();
        let mut users = Vec::new();
        for tenant in [self, other] {
            let user = UserId::generate();
            // A tenant does not choose who signs in as its user.
            let mut sql = tenant.connect_as("palisade_admin", UserRole::Owner).await;
            sqlx::query(
                "insert into users (id, tenant_id, identity_id, email, role, status)
                 values ($1, $2, $3, $4, $5, 'ACTIVE')",
            )
            .bind(user)
            .bind(tenant.id.uuid())
            .bind(identity)
            .bind(format!("shared@{}.example", self.slug))
            .bind(role.as_str())
            .execute(&mut sql.0)
            .await
            .unwrap();
            users.push(user);
        }
        self.app.caller(&self.app.url, self.id, users[0], role)
    }

    /// An organization, `projects` projects in it, each with `invoices` invoices of two lines, and
    /// one comment on each project. Every text holds the tenant's slug, its canary.
    pub async fn seed(&self, projects: i32, invoices: i32) -> Seed {
        let mut sql = self.begin().await;
        let mut tx = sql.0.begin().await.unwrap();
        let organization = OrganizationId::generate();
        let owner = self.owner().user;
        sqlx::query("insert into organizations (id, name, slug) values ($1, $2, $3)")
            .bind(organization)
            .bind(format!("Organization {}", self.slug))
            .bind(&self.slug)
            .execute(&mut *tx)
            .await
            .unwrap();
        let product: Uuid = sqlx::query_scalar(
            "insert into products (id, asin, title, price_minor, currency)
             values (app.uuid_v7(), 'B000000001', $1, 1999, 'EUR') returning id",
        )
        .bind(format!("Product {}", self.slug))
        .fetch_one(&mut *tx)
        .await
        .unwrap();
        let project_ids: Vec<Uuid> = sqlx::query_scalar(
            "insert into projects (id, organization_id, owner_id, name)
             select app.uuid_v7(), $1, $2, 'Project ' || n || ' ' || $3
             from generate_series(1, $4) n returning id",
        )
        .bind(organization)
        .bind(owner)
        .bind(&self.slug)
        .bind(projects)
        .fetch_all(&mut *tx)
        .await
        .unwrap();
        let invoice_ids: Vec<Uuid> = sqlx::query_scalar(
            "insert into invoices (id, organization_id, project_id, currency)
             select app.uuid_v7(), $1, p, 'EUR'
             from unnest($2::uuid[]) p, generate_series(1, $3) returning id",
        )
        .bind(organization)
        .bind(&project_ids)
        .bind(invoices)
        .fetch_all(&mut *tx)
        .await
        .unwrap();
        sqlx::query(
            "insert into invoice_line_items (id, invoice_id, product_id, position, description,
                                             quantity, unit_price_minor, amount_minor, currency)
             select app.uuid_v7(), i, $1, n, 'Line ' || $2, 1, 1999, 1999, 'EUR'
             from unnest($3::uuid[]) i, generate_series(1, 2) n",
        )
        .bind(product)
        .bind(&self.slug)
        .bind(&invoice_ids)
        .execute(&mut *tx)
        .await
        .unwrap();
        // The database works out the totals whenever a draft changes.
        sqlx::query("update invoices set currency = currency")
            .execute(&mut *tx)
            .await
            .unwrap();
        // Seals, entries of seals and, after the comments, rows that wait for one.
        sqlx::query("select app.seal_audit_log()")
            .execute(&mut *tx)
            .await
            .unwrap();
        sqlx::query(
            "insert into comments (id, author_id, project_id, body)
             select app.uuid_v7(), $1, p, 'Comment ' || $2 from unnest($3::uuid[]) p",
        )
        .bind(owner)
        .bind(&self.slug)
        .bind(&project_ids)
        .execute(&mut *tx)
        .await
        .unwrap();
        tx.commit().await.unwrap();
        Seed {
            organization: organization.uuid(),
            product,
            projects: project_ids,
            invoices: invoice_ids,
        }
    }
}

/// A row in every table: the seed, an issued invoice beside its drafts, and each user's idempotency key.
pub async fn seed_every_table(tenant: &Tenant, projects: i32, invoices: i32) -> Seed {
    let seed = tenant.seed(projects, invoices).await;
    let mut sql = tenant.begin().await.0;
    for statement in [
        "insert into invoices (id, organization_id, currency)
         select app.uuid_v7(), id, 'EUR' from organizations",
        "insert into invoice_line_items (id, invoice_id, position, description, quantity,
                                         unit_price_minor, amount_minor, currency)
         select app.uuid_v7(), id, 1, 'One', 1, 100, 100, 'EUR' from invoices where project_id is null",
        "update invoices set status = 'OPEN' where project_id is null",
    ] {
        assert_eq!(attempt(&mut sql, statement.to_owned()).await, Ok(1));
    }
    for caller in &tenant.callers {
        let mut own = tenant.begin_as(caller.role).await.0;
        let key =
            "insert into idempotency_keys (id, request) values (app.uuid_v7(), sha256('one'))";
        assert_eq!(attempt(&mut own, key.to_owned()).await, Ok(1));
    }
    seed
}

/// A connection in the context of a tenant.
pub struct TenantSql(pub PgConnection);

/// What [`Tenant::seed`] made.
pub struct Seed {
    pub organization: Uuid,
    pub product: Uuid,
    pub projects: Vec<Uuid>,
    pub invoices: Vec<Uuid>,
}

/// The id of a row in the API.
pub fn id(prefix: &str, uuid: Uuid) -> String {
    format!("{prefix}_{}", uuid.simple())
}

/// Somebody who calls the API.
#[derive(Clone)]
pub struct Caller {
    pub app: &'static TestApp,
    pub url: String,
    pub user: UserId,
    pub role: UserRole,
    pub token: String,
}

impl Caller {
    /// The same caller at another service.
    pub fn at(&self, url: &str) -> Self {
        Self {
            url: url.to_owned(),
            ..self.clone()
        }
    }

    /// Sends an operation without variables.
    pub async fn query(&self, document: &str) -> Answer {
        self.graphql(document, json!({})).await
    }

    /// Sends an operation under a request id of the caller's choice; answers the status and every
    /// byte of the body.
    pub async fn bytes(&self, document: &str, variables: &Value, request: Uuid) -> (u16, String) {
        let response = self
            .app
            .client
            .post(&self.url)
            .bearer_auth(&self.token)
            .header("x-request-id", request.to_string())
            .json(&json!({ "query": document, "variables": variables }))
            .send()
            .await
            .unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// Sends an operation with further headers. No answer may hold words of the database, but for the
    /// statements that a trace lists.
    pub async fn send(&self, document: &str, variables: &Value, headers: &[(&str, &str)]) -> Reply {
        let mut request = self.app.client.post(&self.url).bearer_auth(&self.token);
        for (name, value) in headers {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            request = request.header(*name, value);
        }
        let body = json!({ "query": document, "variables": variables });
        let response = request.json(&body).send().await.unwrap();
        let reply = Reply {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            text: response.text().await.unwrap(),
        };
        if headers.iter().all(|(name, _)| *name != TRACE) {
            let lower = reply.text.to_lowercase();
            for word in DATABASE_WORDS {
                assert!(!lower.contains(word), "{word}: {}", reply.text);
            }
        }
        reply
    }

    /// Sends one mutation by its name; answers its payload. `selection` is what is asked of it besides
    /// the errors.
    pub async fn mutate(&self, name: &str, input: Value, selection: &str) -> Value {
        let variables = json!({ "input": input });
        let reply = self.send(&mutation(name, selection), &variables, &[]).await;
        reply.answer().data()[name].clone()
    }

    /// The same for one that is not refused.
    pub async fn does(&self, name: &str, input: Value, selection: &str) -> Value {
        let payload = self.mutate(name, input.clone(), selection).await;
        assert_eq!(payload["userErrors"], json!([]), "{name} {input}");
        payload
    }

    /// Sends an operation.
    pub async fn graphql(&self, document: &str, variables: Value) -> Answer {
        let response = self
            .app
            .client
            .post(&self.url)
            .bearer_auth(&self.token)
            .header(TRACE, "1")
            .json(&json!({ "query": document, "variables": variables }))
            .send()
            .await
            .unwrap();
        let status = response.status().as_u16();
        let body: Value = response.json().await.unwrap();
        Answer { status, body }
    }
}

/// The header that asks for the cost of an operation.
pub const TRACE: &str = "palisade-trace";

/// What no answer holds: the database speaking of its tables and rules.
const DATABASE_WORDS: [&str; 12] = [
    "constraint",
    "violates",
    "relation",
    "duplicate key",
    "sqlstate",
    "postgres",
    "_fkey",
    "_pkey",
    "audit_logs",
    "idempotency_keys",
    "invoice_counters",
    "invoice_line_items",
];

/// The document of one mutation, with its input as the variable `input`.
pub fn mutation(name: &str, selection: &str) -> String {
    let (first, rest) = name.split_at(1);
    let input = format!("{}{rest}Input", first.to_uppercase());
    format!(
        "mutation ($input: {input}!) {{ {name}(input: $input) {{
            {selection} userErrors {{ code field message }} }} }}"
    )
}

/// The code and the field of each error of a payload.
pub fn refusals(payload: &Value) -> Vec<(&str, String)> {
    let errors = payload["userErrors"].as_array().unwrap().iter();
    let told = errors.map(|error| {
        assert!(!error["message"].as_str().unwrap().is_empty(), "{error}");
        let path = error["field"].as_array().into_iter().flatten();
        let path: Vec<&str> = path.map(|part| part.as_str().unwrap()).collect();
        (error["code"].as_str().unwrap(), path.join("."))
    });
    told.collect()
}

/// An answer of the API with everything that HTTP says of it.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Reply {
    pub fn answer(&self) -> Answer {
        Answer {
            status: self.status,
            body: serde_json::from_str(&self.text).unwrap(),
        }
    }

    /// The bytes of the data.
    pub fn data_text(&self) -> String {
        let members: HashMap<String, Box<RawValue>> = serde_json::from_str(&self.text).unwrap();
        members["data"].get().to_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// An answer of the API.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

impl Answer {
    /// The data of an answer without errors.
    pub fn data(&self) -> &Value {
        assert_eq!(self.status, 200, "{}", self.body);
        assert!(
            self.body.get("errors").is_none(),
            "unexpected errors: {}",
            self.body
        );
        &self.body["data"]
    }

    /// The code of the first error.
    pub fn code(&self) -> &str {
        self.body["errors"][0]["extensions"]["code"]
            .as_str()
            .unwrap_or_default()
    }

    /// Waits for the database, as the transaction itself counted them.
    pub fn round_trips(&self) -> u64 {
        self.body["extensions"]["palisade"]["roundTrips"]
            .as_u64()
            .unwrap()
    }

    /// The statements, in order.
    pub fn statements(&self) -> Vec<String> {
        let statements = self.body["extensions"]["palisade"]["statements"].as_array();
        let statements = statements.unwrap().iter();
        statements
            .map(|statement| statement["sql"].as_str().unwrap().to_owned())
            .collect()
    }

    /// The answer without what differs between any two: the request's id and the cost.
    pub fn comparable(&self) -> Value {
        let mut body = self.body.clone();
        if let Some(body) = body.as_object_mut() {
            body.remove("extensions");
        }
        for error in body["errors"].as_array_mut().into_iter().flatten() {
            error["extensions"]
                .as_object_mut()
                .unwrap()
                .remove("requestId");
        }
        body
    }
}

/// Waits until a condition holds, at most 30 s.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(
            tokio::time::Instant::now() < deadline,
            "never came true: {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Runs a statement: the number of rows that it touched, or the SQLSTATE by which it was refused.
pub async fn attempt(connection: &mut PgConnection, sql: String) -> Result<u64, String> {
    match sqlx::raw_sql(sqlx::AssertSqlSafe(sql.clone()))
        .execute(connection)
        .await
    {
        Ok(done) => Ok(done.rows_affected()),
        Err(sqlx::Error::Database(error)) => Err(error.code().unwrap().into_owned()),
        Err(error) => panic!("{sql}: {error}"),
    }
}

/// A statement that inserts a copy of a row the caller sees, with other values in some columns.
///
/// A copied invoice is a draft, and a copied user nobody who signs in: the database lets a tenant make
/// no others.
pub fn insert_copy(table: &str, with: &Value) -> String {
    let mut changed = match table {
        "invoices" => json!({ "status": "DRAFT", "number": null }),
        "users" => json!({ "identity_id": null }),
        _ => json!({}),
    };
    let given = with.as_object().unwrap().clone();
    changed.as_object_mut().unwrap().extend(given);
    let with = changed.to_string().replace('\'', "''");
    format!(
        "insert into {table}
         select (jsonb_populate_record(null::{table}, to_jsonb(row) || '{with}')).*
         from {table} row order by row.id limit 1"
    )
}

/// A table whose rows belong to tenants.
#[derive(Clone, Debug)]
pub struct TenantTable {
    pub name: String,
    /// The column that holds the tenant: the tenants' own table calls it `id`.
    pub tenant_column: String,
}

/// Every table that belongs to tenants, as the catalogue knows them.
pub async fn tenant_tables(connection: &mut PgConnection) -> Vec<TenantTable> {
    let rows = sqlx::query(
        "select c.oid::regclass::text, coalesce(a.attname, 'id')::text
         from pg_class c
         join pg_namespace n on n.oid = c.relnamespace
         left join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
         where c.relkind in ('r', 'p') and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
           and (a.attname is not null or c.oid = 'public.tenants'::regclass)
         order by 1",
    )
    .fetch_all(connection)
    .await
    .unwrap();
    rows.iter()
        .map(|row| TenantTable {
            name: row.get(0),
            tenant_column: row.get(1),
        })
        .collect()
}
