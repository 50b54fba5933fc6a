//! Every mutation, tried by every role. The database decides; `role_rules` tests its policies by SQL.

use std::fmt::Write as _;

use futures_util::future::join_all;
use macro_rules_attribute::apply;
use palisade::auth::role::UserRole;
use uuid::Uuid;

use super::{ROLES, document, outcome, send};
use crate::{
    harness::{Tenant, TestApp, palisade_test},
    samples::{Rows, Sample, samples},
};

/// The author of the comments that a mutation deletes or changes, if there are any.
#[derive(Clone, Copy)]
enum Comments {
    Own,
    OfAnother,
}

impl Comments {
    fn author(self, caller: UserRole) -> UserRole {
        match (self, caller) {
            (Self::Own, caller) => caller,
            (Self::OfAnother, UserRole::Owner) => UserRole::Member,
            (Self::OfAnother, _) => UserRole::Owner,
        }
    }
}

/// One line of the grid: the outcome for each role. A rejected mutation has written nothing.
async fn line(sample: &Sample, comments: Option<Comments>) -> String {
    let name = match comments {
        None => sample.name(),
        Some(Comments::Own) => format!("{} (own comment)", sample.name()),
        Some(Comments::OfAnother) => format!("{} (another's comment)", sample.name()),
    };
    let tenant = TestApp::shared().await.tenant().await;
    let mut sql = tenant.begin().await;
    let document = document(sample.field);
    let mut line = format!("{name:<42}");
    for role in ROLES {
        let author = comments.unwrap_or(Comments::Own).author(role);
        let rows = Rows::insert(&tenant, &mut sql, author).await;
        let before = tenant.everything().await;
        let input = (sample.input)(&rows);
        let reply = send(tenant.caller(role), &document, &input, Uuid::now_v7()).await;
        let answer = reply.answer();
        let outcome = outcome(&answer, sample.field);
        let has_written = tenant.everything().await != before;
        assert_eq!(has_written, outcome == "ok", "{name}: {}", answer.body);
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
    let mut samples = samples();
    samples.sort_by_key(Sample::name);
    let mut cases = Vec::new();
    for sample in &samples {
        if sample.touches_comments(&rows) {
            cases.push((sample, Some(Comments::Own)));
            cases.push((sample, Some(Comments::OfAnother)));
        } else {
            cases.push((sample, None));
        }
    }
    let mut lines = vec![head.trim_end().to_owned()];
    for some in cases.chunks(8) {
        let some = some
            .iter()
            .map(|(sample, comments)| line(sample, *comments));
        lines.extend(join_all(some).await);
    }
    insta::assert_snapshot!(lines.join("\n"));
}
