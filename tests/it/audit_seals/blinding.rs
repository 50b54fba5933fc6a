//! The owner of the schema cannot make `palisade audit verify` overlook a change.

use macro_rules_attribute::apply;
use palisade::auth::role::UserRole;
use serde_json::Value;
use sqlx::PgConnection;

use super::{findings, head, one, seal, verify, write};
use crate::harness::{Tenant, TestApp, attempt, palisade_test};

/// A tenant with two seals in a database of its own, whose objects the test replaces as `palisade_owner`.
struct Attack {
    tenant: Tenant,
    owner: PgConnection,
    /// The head before the attack.
    head: String,
}

impl Attack {
    async fn begin() -> Self {
        let app = TestApp::shared().await.in_own_database(&[]).await;
        let tenant = app.tenant().await;
        tenant.seed(1, 1).await;
        let mut sql = tenant.begin().await.0;
        assert!(seal(&mut sql).await > Some(0));
        write(&mut sql).await;
        assert!(seal(&mut sql).await > Some(0));
        let owner = tenant.connect_as("palisade_owner", UserRole::Owner).await.0;
        let head = head(&verify(&tenant, &[]).await.success()).to_owned();
        Self {
            tenant,
            owner,
            head,
        }
    }

    async fn run(&mut self, sql: &str) {
        attempt(&mut self.owner, sql.to_owned()).await.unwrap();
    }

    /// Changes the action of a sealed row. Returns the id of the row, in the form of the API.
    async fn forge_row(&mut self) -> String {
        let id = one(
            &mut self.owner,
            "select id from audit_seal_entries order by id limit 1",
        )
        .await;
        let forge = format!("update audit_logs set action = action || '.forged' where id = '{id}'");
        assert_eq!(attempt(&mut self.owner, forge).await, Ok(1));
        crate::harness::id("aud", id)
    }

    /// The findings with the head from before the attack.
    async fn findings(&self) -> Vec<String> {
        findings(&self.tenant, &["--expect-head", &self.head]).await
    }

    async fn end(self) {
        drop(self.owner);
        self.tenant.app.drop_database().await;
    }
}

#[apply(palisade_test)]
async fn functions_and_operators_of_the_owner_do_not_hide_a_changed_row() {
    let mut attack = Attack::begin().await;
    let row = attack.forge_row().await;
    let changed = format!("changed {row}: its content does not match its hash");
    assert_eq!(attack.findings().await, [changed.as_str()]);
    for replacement in [
        "create function public.convert_to(value text, encoding text) returns bytea language sql immutable
         as $$ select pg_catalog.convert_to(replace(value, '.forged', ''), 'UTF8') $$",
        "create function public.jsonb_build_array(
             a uuid, b uuid, c text, d text, e uuid, f text, g uuid, h uuid, i jsonb, j text, k uuid)
             returns jsonb language sql immutable
         as $$ select pg_catalog.jsonb_build_array(a, b, c, replace(d, '.forged', ''), e, f, g, h, i, j, k) $$",
        "create function public.sha256(value bytea) returns bytea language sql immutable
         as $$ select pg_catalog.sha256(convert_to(
                   replace(convert_from(value, 'UTF8'), '.forged', ''), 'UTF8')) $$",
        "create function public.hides(a uuid, b uuid) returns boolean language sql immutable
         as $$ select false $$;
         create operator public.= (leftarg = uuid, rightarg = uuid, function = public.hides)",
        "create function public.now() returns timestamptz language sql as $$ select '-infinity'::timestamptz $$",
        "create or replace function app.audit_row_hash(entry audit_logs) returns bytea language sql stable
         as $$ select entry.hash $$",
    ] {
        attack.run(replacement).await;
        assert_eq!(attack.findings().await, [changed.as_str()], "{replacement}");
    }
    attack.end().await;
}

#[apply(palisade_test)]
async fn a_view_in_the_place_of_the_table_is_detected() {
    let mut attack = Attack::begin().await;
    attack.forge_row().await;
    attack
        .run(
            "alter table audit_logs rename to audit_log_rows;
             create view audit_logs with (security_invoker = true) as
                 select tenant_id, id, occurred_at,
                        case when current_user = 'palisade_admin' then replace(action, '.forged', '')
                             else action end as action,
                        actor_id, subject_type, subject_id, project_id, changes, operation_name, request_id, hash
                 from audit_log_rows;
             grant select on audit_logs to palisade_app, palisade_admin",
        )
        .await;
    // The API shows the forged row.
    let document = "{ auditLogs(first: 100) { nodes { action } } }";
    let response = attack.tenant.owner().query(document).await;
    let nodes = response.data()["auditLogs"]["nodes"].as_array().unwrap();
    let is_forged = |node: &Value| node["action"].as_str().unwrap().ends_with(".forged");
    assert_eq!(nodes.iter().filter(|node| is_forged(node)).count(), 1);
    assert_eq!(
        attack.findings().await,
        ["untrusted audit_logs: it is not a table"]
    );
    attack.end().await;
}

#[apply(palisade_test)]
async fn a_deleted_log_is_detected_without_a_head() {
    let mut attack = Attack::begin().await;
    attack
        .run(
            "delete from audit_seal_entries; delete from audit_seals; delete from audit_unsealed;
             delete from audit_logs",
        )
        .await;
    assert_eq!(
        findings(&attack.tenant, &[]).await,
        ["missing tenant.created: the first row of every log records the creation of its tenant"]
    );
    attack.end().await;
}

#[apply(palisade_test)]
async fn a_table_of_the_log_with_other_properties_is_detected() {
    let attack = Attack::begin().await;
    let mut superuser = attack.tenant.app.connect("postgres").await;
    for (change, expected, undo) in [
        (
            "create rule eat as on insert to audit_seals do instead nothing",
            "audit_seals: it has rules",
            "drop rule eat on audit_seals",
        ),
        (
            "create function public.eat() returns trigger language plpgsql as 'begin return null; end';
             create trigger eat before insert on audit_unsealed for each row execute function public.eat()",
            "audit_unsealed: it has triggers",
            "drop trigger eat on audit_unsealed",
        ),
        (
            "create table more_entries () inherits (audit_seal_entries)",
            "audit_seal_entries: other tables inherit from it",
            "drop table more_entries",
        ),
        (
            "alter table audit_logs owner to postgres",
            "audit_logs: its owner is not palisade_owner",
            "alter table audit_logs owner to palisade_owner",
        ),
        (
            "create schema palisade_app; create view palisade_app.audit_logs as select from public.audit_logs",
            "audit_logs: the schema palisade_app contains the same name, so the service reads that",
            "drop schema palisade_app cascade",
        ),
        (
            "create domain public.bytea as pg_catalog.bytea;
             alter table audit_seal_entries alter column hash type public.bytea",
            "audit_seal_entries: it lacks the column hash bytea, or generates it",
            "alter table audit_seal_entries alter column hash type pg_catalog.bytea",
        ),
        (
            "alter table audit_seals rename column hash to true_hash;
             alter table audit_seals add column hash bytea generated always as (true_hash) stored",
            "audit_seals: it lacks the column hash bytea, or generates it",
            "alter table audit_seals drop column hash;
             alter table audit_seals rename column true_hash to hash",
        ),
    ] {
        attempt(&mut superuser, change.to_owned()).await.unwrap();
        assert_eq!(attack.findings().await, [format!("untrusted {expected}")]);
        attempt(&mut superuser, undo.to_owned()).await.unwrap();
        assert_eq!(attack.findings().await, [""; 0], "{undo}");
    }
    attack.end().await;
}
