//! The contexts of tests: of the services under test, and of the connections that a test opens itself.

use std::time::{SystemTime, UNIX_EPOCH};

use palisade::{
    auth::role::UserRole,
    db::{
        Purpose, TenantContext,
        context::{ContextKey, ContextSigner, Signing},
        migrate::{self, MigrationSummary, RolePasswords},
    },
    ids::{TenantId, UserId},
};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use super::database::attempt;

/// The key of the services under test.
pub const CONTEXT_KEY: &str = "7c1f0e5a94d2b86833e7a1c05f9d4b2e6a80f3c7d91e54b20a6f8d3c7b15e942";
/// The key of the connections that tests open. A test may run for longer than the 30 seconds for which a context of the
/// service is valid, so a context of this key is valid for an hour.
const SESSION_KEY: &str = "b2d94f6017ae83c5520c9e7fd3164ab8f0957c3e28da61b44d8e20f7a5b3c619";
const SESSION_AGE_MS: u32 = 3_600_000;

/// How the services under test sign contexts.
pub fn signing() -> Signing {
    Signing::On(ContextKey::parse(CONTEXT_KEY).unwrap())
}

/// Applies the migrations as a superuser, and installs both keys.
pub async fn migrate(url: &str) -> MigrationSummary {
    let done = migrate::run(url, &RolePasswords::default(), Some(&signing())).await;
    let mut superuser = PgConnection::connect(url).await.unwrap();
    let key = ContextKey::parse(SESSION_KEY).unwrap();
    let pad = |byte: u8| {
        let mut block = base16ct::lower::decode_vec(SESSION_KEY).unwrap();
        block.resize(64, 0);
        for part in &mut block {
            *part ^= byte;
        }
        base16ct::lower::encode_string(&block)
    };
    let insert = format!(
        "insert into app.context_keys (id, inner_pad, outer_pad, max_age)
         values ('{}', '\\x{}', '\\x{}', {SESSION_AGE_MS}) on conflict do nothing",
        key.id(),
        pad(0x36),
        pad(0x5c),
    );
    attempt(&mut superuser, insert).await.unwrap();
    done.unwrap()
}

/// A context for the connection of a test.
pub fn session_context(tenant: TenantId, user: Option<UserId>, role: Option<UserRole>) -> String {
    let signer = ContextSigner::new(&Signing::On(ContextKey::parse(SESSION_KEY).unwrap()));
    let context = TenantContext { tenant, user, role };
    signer.write(&context, Purpose::Write, Uuid::nil(), now())
}

/// The present time in milliseconds since 1970. The database runs on the same machine.
pub fn now() -> i64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    time.as_millis().try_into().unwrap()
}

/// Sets the context of a connection until it is closed. Only one test uses the connection.
pub async fn enter(connection: &mut PgConnection, context: &str) {
    attempt(connection, format!("set app.context = '{context}'"))
        .await
        .unwrap();
}
