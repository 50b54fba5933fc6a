//! Every role tries every mutation. The database decides what a role may do; `role_rules` tests its policies with SQL.

use std::{collections::BTreeSet, fmt::Write as _};

use futures_util::future::join_all;
use macro_rules_attribute::apply;
use palisade::{auth::role::UserRole, entities::ENTITIES};
use uuid::Uuid;

use super::{ROLES, document_without, outcome, send};
use crate::{
    harness::{Tenant, TestApp, authored_entities, palisade_test},
    samples::{Rows, Sample, samples},
};

/// The author of the rows that a mutation changes, for rows that belong to their author.
#[derive(Clone, Copy)]
enum Author {
    Caller,
    Another,
}

impl Author {
    fn role(self, caller: UserRole) -> UserRole {
        match (self, caller) {
            (Self::Caller, caller) => caller,
            (Self::Another, UserRole::Owner) => UserRole::Member,
            (Self::Another, _) => UserRole::Owner,
        }
    }
}

/// The types whose rows a role may not read. A list of such a type returns an error to this role.
async fn hidden_from(tenant: &Tenant, role: UserRole) -> BTreeSet<&'static str> {
    let mut sql = tenant.begin_as(role).await.0;
    let mut hidden = BTreeSet::new();
    for entity in ENTITIES {
        let exists = format!("select exists (select from {})", entity.table);
        let exists: bool = sqlx::query_scalar(sqlx::AssertSqlSafe(exists))
            .fetch_one(&mut sql)
            .await
            .unwrap();
        if !exists {
            hidden.insert(entity.type_name);
        }
    }
    hidden
}

/// One line of the grid: the outcome for each role. Asserts that a rejected mutation has written nothing.
async fn line(sample: &Sample, author: Option<Author>) -> String {
    let name = match author {
        None => sample.name(),
        Some(Author::Caller) => format!("{} (own row)", sample.name()),
        Some(Author::Another) => format!("{} (another's row)", sample.name()),
    };
    let tenant = TestApp::shared().await.tenant().await;
    let mut sql = tenant.begin().await;
    let mut line = format!("{name:<42}");
    for role in ROLES {
        let author = author.unwrap_or(Author::Caller).role(role);
        let rows = Rows::insert(&tenant, &mut sql, author).await;
        let before = tenant.everything().await;
        let input = (sample.input)(&rows);
        let document = document_without(sample.field, &hidden_from(&tenant, role).await);
        let reply = send(tenant.caller(role), &document, &input, Uuid::now_v7()).await;
        let response = reply.response();
        let outcome = outcome(&response, sample.field);
        let has_written = tenant.everything().await != before;
        assert_eq!(has_written, outcome == "ok", "{name}: {}", response.body);
        write!(line, "{outcome:<15}").unwrap();
    }
    line.trim_end().to_owned()
}

#[apply(palisade_test)]
async fn each_role_may_do_what_the_grid_says_and_writes_nothing_else(tenant: Tenant) {
    let mut head = format!("{:<42}", "");
    for role in ROLES {
        write!(head, "{:<15}", role.as_str()).unwrap();
    }
    let mut sql = tenant.begin().await;
    let rows = Rows::insert(&tenant, &mut sql, UserRole::Owner).await;
    let authored = authored_entities(&mut sql.0).await;
    let mut samples = samples();
    samples.sort_by_key(Sample::name);
    let mut cases = Vec::new();
    for sample in &samples {
        if sample.changes_rows_of(&authored, &rows) {
            cases.push((sample, Some(Author::Caller)));
            cases.push((sample, Some(Author::Another)));
        } else {
            cases.push((sample, None));
        }
    }
    let mut lines = vec![head.trim_end().to_owned()];
    for some in cases.chunks(8) {
        let some = some.iter().map(|(sample, author)| line(sample, *author));
        lines.extend(join_all(some).await);
    }
    insta::assert_snapshot!(lines.join("\n"));
}
