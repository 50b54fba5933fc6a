//! A tenant that a test creates, with a user of each role.

use palisade::{
    auth::role::UserRole,
    ids::{EntityId as _, TenantId, UserId},
};
use uuid::Uuid;

use super::{
    app::TestApp,
    client::Caller,
    context::{enter, session_context},
    database::{TenantSql, TenantTable, tenant_tables},
};

/// The tables of the seals, which the service writes in the background. Other tests prove that no role can write them.
const SEALS: [&str; 3] = ["audit_seal_entries", "audit_seals", "audit_unsealed"];

/// A tenant of one test.
pub struct Tenant {
    pub app: &'static TestApp,
    pub id: TenantId,
    pub slug: String,
    pub(super) callers: Vec<Caller>,
}

impl Tenant {
    /// The user with a role.
    pub fn caller(&self, role: UserRole) -> &Caller {
        self.callers
            .iter()
            .find(|caller| caller.role == role)
            .unwrap()
    }

    /// The caller with the role OWNER, who may read all rows of the tenant.
    pub fn owner(&self) -> &Caller {
        self.caller(UserRole::Owner)
    }

    /// Connects as `palisade_app` in this tenant, to insert rows for a test. The user is the owner.
    pub async fn begin(&self) -> TenantSql {
        self.begin_as(UserRole::Owner).await
    }

    /// Like [`Tenant::begin`], as the user with a role.
    pub async fn begin_as(&self, role: UserRole) -> TenantSql {
        self.connect_as("palisade_app", role).await
    }

    /// Connects as the database role `login`, in this tenant, as the user with the tenant role `role`.
    pub async fn connect_as(&self, login: &str, role: UserRole) -> TenantSql {
        let mut connection = self.app.connect(login).await;
        enter(&mut connection, &self.context(role)).await;
        TenantSql(connection)
    }

    /// The context of the user with a role.
    pub fn context(&self, role: UserRole) -> String {
        session_context(self.id, Some(self.caller(role).user), Some(role))
    }

    /// The number of the tenant's rows and a hash of them, one line for each table. Row level security does not apply
    /// to the reading role, so the hash includes idempotency keys, which are visible only to their user. Seals are left
    /// out, because the service writes them some time after a change.
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

    /// Creates an identity that is a user of this tenant and of another. Returns the user of this tenant as a caller.
    pub async fn share_member_with(&self, other: &Self, role: UserRole) -> Caller {
        let mut admin = self.app.connect("palisade_admin").await;
        let identity: Uuid =
            sqlx::query_scalar("insert into identities (id, email) values ($1, $2) returning id")
                .bind(Uuid::now_v7())
                .bind(format!("shared@{}.example", self.slug))
                .fetch_one(&mut admin)
                .await
                .unwrap();
        let mut users = Vec::new();
        for tenant in [self, other] {
            let user = UserId::generate();
            // Only the admin role may set the identity of a user.
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
}
