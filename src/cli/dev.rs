//! `palisade dev`: everything for development in one process.

use std::{
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use chrono::TimeDelta;
use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

use super::Failure;
use crate::{
    auth::jwt::Tokens,
    config::{EmbeddedSettings, ServiceSettings},
    db::{
        ConnectError, TenantDb,
        admin_tx::AdminDb,
        context::{ContextKey, Signing},
        migrate::{self, MigrateError, RolePasswords},
        sign_in::{DirectoryEntry, SignInDb},
    },
    demo::{self, Amounts},
    embedded::{self, Embedded},
    http::{self, Features, Listeners, Service},
    ids::EntityId as _,
};

/// The options of `palisade dev`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    embedded: EmbeddedSettings,
    #[command(flatten)]
    service: ServiceSettings,
}

/// The file in the data directory with the key that signs contexts.
const CONTEXT_KEY_FILE: &str = "context.key";
/// The name of the database in the private cluster.
const DATABASE: &str = "palisade";
/// The lifetime of the printed tokens.
const TOKEN_LIFETIME: TimeDelta = TimeDelta::days(7);

/// The data directory of `dev`, with its running database.
pub struct DevHome {
    dir: PathBuf,
    server: Embedded,
}

impl DevHome {
    /// Starts the private server or attaches to it, and brings the schema of its database up to date.
    pub async fn open(settings: &EmbeddedSettings) -> Result<Self, Failure> {
        let dir = match &settings.data_dir {
            Some(dir) => std::path::absolute(dir).map_err(|error| {
                Failure::Usage(format!(
                    "cannot use the directory {}: {error}",
                    dir.display()
                ))
            })?,
            None => embedded::default_data_dir().map_err(Failure::failed)?,
        };
        let server = Embedded::start(&embedded::Options {
            data_dir: dir.clone(),
            durable: true,
            bin_dir: settings.pg_bin.clone(),
            user: settings.pg_user.clone(),
            cache_dir: settings.cache_dir.clone(),
            archive_url: settings.pg_archive_url.clone(),
        })
        .await
        .map_err(Failure::failed)?;
        let home = Self { dir, server };
        match home.prepare().await {
            Ok(()) => Ok(home),
            Err(failure) => Self::close_after(Some(home), Err(failure)).await,
        }
    }

    /// Closes the home, if there is one. Returns the failure of the work, or else the failure of closing.
    pub async fn close_after<T>(
        home: Option<Self>,
        result: Result<T, Failure>,
    ) -> Result<T, Failure> {
        let closed = match home {
            Some(home) => home.close().await,
            None => Ok(()),
        };
        let value = result?;
        closed?;
        Ok(value)
    }

    async fn prepare(&self) -> Result<(), Failure> {
        migrate::create_database(&self.server.url("postgres", "postgres"), DATABASE)
            .await
            .map_err(Failure::failed)?;
        let url = self.url("postgres");
        match migrate::run(&url, &RolePasswords::default(), Some(&self.signing()?)).await {
            Ok(_) => Ok(()),
            Err(MigrateError::Connect(ConnectError::BeforeFirstRelease)) => {
                Err(Failure::Failed(format!(
                    "the development database in {0} was created by an unreleased version of palisade and \
                     cannot be upgraded: stop palisade, delete {0}, and start again",
                    self.dir.display()
                )))
            }
            Err(error) => Err(Failure::failed(error)),
        }
    }

    /// The URL of the database for a role.
    #[must_use]
    pub fn url(&self, role: &str) -> String {
        self.server.url(role, DATABASE)
    }

    /// The secret that signs the tokens of `dev`. The first call creates the secret.
    pub fn secret(&self) -> Result<String, Failure> {
        let fresh = [Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4()]
            .map(|part| part.simple().to_string())
            .concat();
        self.stored("jwt.secret", fresh)
    }

    /// The key that signs the contexts of `dev`. The first call creates the key.
    pub fn context_key(&self) -> Result<ContextKey, Failure> {
        let stored = self.stored(CONTEXT_KEY_FILE, ContextKey::generate().to_hex())?;
        ContextKey::parse(&stored).map_err(|_| {
            let path = self.dir.join(CONTEXT_KEY_FILE);
            Failure::Failed(format!(
                "{} does not contain a key: delete it",
                path.display()
            ))
        })
    }

    /// How the contexts of `dev` are signed.
    pub fn signing(&self) -> Result<Signing, Failure> {
        self.context_key().map(Signing::On)
    }

    /// Replaces the key that signs the contexts of `dev`.
    pub fn replace_context_key(&self, key: &ContextKey) -> Result<(), Failure> {
        let path = self.dir.join(CONTEXT_KEY_FILE);
        replace_private(&path, &key.to_hex())
            .map_err(|error| Failure::Failed(format!("cannot write {}: {error}", path.display())))
    }

    /// Returns the secret in this file of the data directory. If there is none, stores `fresh` in it.
    fn stored(&self, name: &str, fresh: String) -> Result<String, Failure> {
        let path = self.dir.join(name);
        let failed = |error: std::io::Error| {
            Failure::Failed(format!(
                "cannot store a secret in {}: {error}",
                path.display()
            ))
        };
        // The file is written under another name and then linked, so no process reads an incomplete file.
        let draft = self.dir.join(format!("{name}.{}", Uuid::new_v4().simple()));
        write_private(&draft, &fresh).map_err(failed)?;
        let linked = std::fs::hard_link(&draft, &path);
        std::fs::remove_file(&draft).map_err(failed)?;
        match linked {
            Ok(()) => Ok(fresh),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                std::fs::read_to_string(&path).map_err(failed)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Stops the server if this process started it.
    pub async fn close(self) -> Result<(), Failure> {
        self.server.stop().await.map_err(Failure::failed)
    }
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(options: Options) -> Result<(), Failure> {
    if std::env::var_os("DATABASE_URL").is_some() {
        println!("DATABASE_URL is set, but `palisade dev` does not use it. `palisade serve` does.");
    }
    // The fastest check first: if the port is taken, no database is started.
    let listeners = listen(&options.service).await?;
    let stop = http::shutdown_signal();
    tokio::pin!(stop);
    let home = tokio::select! {
        home = DevHome::open(&options.embedded) => home?,
        () = &mut stop => return Ok(()),
    };
    let settings = options.service.clone();
    let prepared = tokio::select! {
        prepared = prepare(&home, options.service, &listeners) => prepared.map(Some),
        () = &mut stop => Ok(None),
    };
    let served = match prepared {
        Ok(Some(service)) => http::serve(listeners, service, &settings, stop)
            .await
            .map_err(Failure::failed),
        Ok(None) => Ok(()),
        Err(failure) => Err(failure),
    };
    home.close().await?;
    served
}

async fn listen(settings: &ServiceSettings) -> Result<Listeners, Failure> {
    let api = http::listen(settings.listen)
        .await
        .map_err(Failure::failed)?;
    let health_checks = match settings.connections.health_listen {
        Some(address) => {
            let listener = http::listen_for_health_checks(address).await;
            Some(listener.map_err(Failure::failed)?)
        }
        None => None,
    };
    Ok(Listeners { api, health_checks })
}

/// Creates the demo tenants, writes `dev.env` and prints the URLs and tokens.
async fn prepare(
    home: &DevHome,
    mut settings: ServiceSettings,
    listeners: &Listeners,
) -> Result<Service, Failure> {
    if settings.tokens.jwt_secret.is_none() {
        settings.tokens.jwt_secret = Some(home.secret()?.into());
    }
    let tokens = Tokens::new(&settings.tokens).map_err(Failure::usage)?;
    let address = listeners.api.local_addr().map_err(Failure::failed)?;
    let health_address = match &listeners.health_checks {
        Some(listener) => Some(listener.local_addr().map_err(Failure::failed)?),
        None => None,
    };

    let db = TenantDb::connect(&home.url("palisade_app"), settings.pool, &home.signing()?)
        .await
        .map_err(Failure::failed)?
        .recording_statements();
    db.check_isolation().await.map_err(Failure::failed)?;
    let mut admin = AdminDb::connect(&home.url("palisade_admin"))
        .await
        .map_err(Failure::failed)?;
    demo::create_tenants(&db, &mut admin, Amounts::default(), false).await?;
    let directory = SignInDb::connect(&home.url("palisade_auth"))
        .await
        .map_err(Failure::failed)?;
    directory.check_isolation().await.map_err(Failure::failed)?;

    let mut logins = Vec::new();
    for (slug, email) in demo::owners(Amounts::default().tenants) {
        if let Some(entry) = directory.find(&slug, &email).await? {
            let token = tokens
                .issue(entry.tenant, entry.user, TOKEN_LIFETIME)
                .map_err(Failure::failed)?;
            logins.push(Login {
                entry,
                email,
                token,
            });
        }
    }
    let secret = settings.tokens.jwt_secret.as_ref();
    let secret = secret.map(SecretString::expose_secret).unwrap_or_default();
    let env_file = home.dir.join("dev.env");
    write_env(
        &env_file,
        home,
        address,
        [secret, &home.context_key()?.to_hex()],
        &logins,
    )?;
    print_summary(home, address, health_address, &env_file, &logins);

    let features = Features {
        introspection: true,
        explorer: true,
        development: true,
        // The user picker issues tokens without a login, so other machines must not reach it.
        people: http::is_loopback_address(address.ip()),
    };
    Service::new(db, Some(directory), tokens, &settings, features).map_err(Failure::usage)
}

/// A user of a demo tenant, with a token.
struct Login {
    entry: DirectoryEntry,
    email: String,
    token: String,
}

fn print_summary(
    home: &DevHome,
    address: SocketAddr,
    health_address: Option<SocketAddr>,
    env_file: &Path,
    logins: &[Login],
) {
    let server = &home.server;
    let started = if server.is_attached() {
        "attached to the server of another process"
    } else {
        "started"
    };
    println!(
        "PostgreSQL  {} {started}, {}",
        server.version(),
        server.origin()
    );
    println!("data        {}", server.cluster_dir().display());
    println!(
        "psql        psql -h {} -U palisade_app -d {DATABASE}",
        server.socket_dir().display()
    );
    println!("settings    {}", env_file.display());
    for Login {
        entry,
        email,
        token,
    } in logins
    {
        println!();
        println!(
            "tenant      {} ({}), as {email}, {}",
            entry.tenant_name,
            entry.tenant_slug,
            entry.role.as_str()
        );
        println!("token       {token}");
        println!("explorer    http://{address}/graphiql#token={token}");
    }
    println!();
    if let Some(address) = health_address {
        println!("health      http://{address}/health/ready");
    }
    println!("explorer    http://{address}/graphiql");
    println!("API         http://{address}/graphql");
    std::io::stdout().flush().ok();
}

/// Writes the URLs, tokens and the secret as environment variables, for a shell to source.
fn write_env(
    path: &Path,
    home: &DevHome,
    address: SocketAddr,
    [secret, context_key]: [&str; 2],
    logins: &[Login],
) -> Result<(), Failure> {
    let mut lines = vec![
        (
            "PALISADE_GRAPHQL_URL".to_owned(),
            format!("http://{address}/graphql"),
        ),
        (
            "PALISADE_EXPLORER_URL".to_owned(),
            format!("http://{address}/graphiql"),
        ),
        ("PALISADE_JWT_SECRET".to_owned(), secret.to_owned()),
        ("PALISADE_CONTEXT_KEY".to_owned(), context_key.to_owned()),
    ];
    for role in ["app", "owner", "auth", "admin"] {
        let name = format!("PALISADE_{}_DATABASE_URL", role.to_uppercase());
        lines.push((name, home.url(&format!("palisade_{role}"))));
    }
    for (letter, Login { entry, token, .. }) in ('A'..='Z').zip(logins) {
        lines.push((
            format!("PALISADE_TENANT_{letter}"),
            entry.tenant.uuid().to_string(),
        ));
        lines.push((format!("PALISADE_TOKEN_{letter}"), token.clone()));
    }
    let quoted = |value: &str| format!("'{}'", value.replace('\'', r"'\''"));
    let lines = lines
        .iter()
        .map(|(name, value)| format!("export {name}={}\n", quoted(value)));
    let script = lines.collect::<Vec<_>>().concat();

    replace_private(path, &script)
        .map_err(|error| Failure::Failed(format!("cannot write {}: {error}", path.display())))
}

/// Creates or replaces a file that only its owner can read. No process reads an incomplete file.
fn replace_private(path: &Path, content: &str) -> std::io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}", Uuid::new_v4().simple()));
    write_private(Path::new(&draft), content)?;
    std::fs::rename(&draft, path)
}

/// Creates a file that only its owner can read.
fn write_private(path: &Path, content: &str) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(content.as_bytes())
}
