//! The keys of contexts in the database.

use std::time::Duration;

use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection};

use super::MigrateError;
use crate::db::{connect_options, context::ContextKey, unreachable};

/// How long a context key stays valid after another one has replaced it.
pub const KEY_OVERLAP: Duration = Duration::from_hours(24);

/// Installs a new random key. The other keys stay valid for this time. Returns the key.
pub async fn rotate_key(url: &str, keep_previous: Duration) -> Result<ContextKey, MigrateError> {
    let options = connect_options(url)?;
    let mut connection = options
        .connect()
        .await
        .map_err(|error| unreachable(&options, &error))?;
    let rotated = async {
        connection.execute("set role palisade_owner").await?;
        let known: Vec<String> = sqlx::query_scalar!("select id from app.context_keys")
            .fetch_all(&mut connection)
            .await?;
        // A key is found by the first byte of its hash, so the new one must differ from those that are valid.
        let mut key = ContextKey::generate();
        while known.contains(&key.id()) {
            key = ContextKey::generate();
        }
        install_key(&mut connection, &key, keep_previous).await?;
        Ok(key)
    }
    .await;
    connection.close().await.ok();
    rotated
}

/// Makes a key valid without limit, and switches the verification on. Other keys stay valid for at most this time. A key
/// that another one has replaced is rejected: it may have been stolen, and to install it again would end its successor.
pub(super) async fn install_key(
    connection: &mut PgConnection,
    key: &ContextKey,
    keep_previous: Duration,
) -> Result<(), MigrateError> {
    let [inner_pad, outer_pad] = key.pads();
    let mut transaction = connection.begin().await?;
    transaction
        .execute("lock table app.context_keys in share row exclusive mode")
        .await?;
    let replaced = sqlx::query_scalar!(
        r#"
        select to_char(valid_until at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"') as "valid_until!"
        from (select valid_until from app.context_keys where inner_pad = $1 and valid_until is not null
              union all
              select valid_until from app.replaced_context_keys where hash = sha256($1)) as replaced
        limit 1
        "#,
        inner_pad,
    );
    if let Some(valid_until) = replaced.fetch_optional(&mut *transaction).await? {
        return Err(MigrateError::KeyReplaced {
            id: key.id(),
            valid_until,
        });
    }
    sqlx::query!(
        "update app.context_keys
         set valid_until = least(valid_until, now() + make_interval(secs => $2))
         where id <> $1",
        key.id(),
        keep_previous.as_secs_f64(),
    )
    .execute(&mut *transaction)
    .await?;
    sqlx::query!(
        "with expired as (delete from app.context_keys where valid_until <= now() returning inner_pad, valid_until)
         insert into app.replaced_context_keys (hash, valid_until) select sha256(inner_pad), valid_until from expired",
    )
    .execute(&mut *transaction)
    .await?;
    let others = sqlx::query!(
        r#"
        select count(*) filter (where id <> $1) as "valid!",
               coalesce(bool_or(id = $1 and inner_pad <> $2), false) as "have_its_id!"
        from app.context_keys
        "#,
        key.id(),
        inner_pad,
    );
    let others = others.fetch_one(&mut *transaction).await?;
    if others.have_its_id {
        return Err(MigrateError::KeyIdTaken(key.id()));
    }
    if others.valid > 1 {
        return Err(MigrateError::TwoKeys);
    }
    sqlx::query!(
        "insert into app.context_keys (id, inner_pad, outer_pad) values ($1, $2, $3)
         on conflict (id) do nothing",
        key.id(),
        inner_pad,
        outer_pad,
    )
    .execute(&mut *transaction)
    .await?;
    transaction.execute("analyze app.context_keys").await?;
    transaction
        .execute(
            "select app.sign_contexts(true) from pg_proc where oid = 'app.verified()'::regprocedure and not prosecdef",
        )
        .await?;
    Ok(transaction.commit().await?)
}
