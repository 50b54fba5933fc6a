//! Every mutation, tried by every role. The answer is the database's: `role_rules` asks it by SQL.

use std::fmt::Write as _;

use palisade::users::UserRole;
use uuid::Uuid;

use super::{
    ROLES, document, outcome,
    samples::{Rows, Sample, samples},
    send, tenant_and_schema,
};
use crate::harness::run;

/// Whose comments a mutation meets, if it meets any.
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

/// One line of the grid: what each role is answered. Whoever is refused has written nothing.
async fn line(name: &str, sample: &Sample, comments: Comments) -> String {
    let (tenant, schema) = tenant_and_schema().await;
    let mut sql = tenant.begin().await;
    let document = document(&schema, sample.field);
    let mut line = format!("{name:<42}");
    for role in ROLES {
        let rows = Rows::new(&tenant, &mut sql, comments.author(role)).await;
        let before = tenant.everything().await;
        let input = (sample.input)(&rows);
        let sent = send(tenant.caller(role), &document, &input, Uuid::now_v7()).await;
        let outcome = outcome(&sent.answer, sample.field);
        let has_written = tenant.everything().await != before;
        assert_eq!(has_written, outcome == "ok", "{name}: {}", sent.answer.body);
        write!(line, "{outcome:<15}").unwrap();
    }
    line.trim_end().to_owned()
}

#[test]
fn each_role_may_do_what_the_grid_says_and_writes_nothing_else() {
    run(async {
        let mut grid = format!("{:<42}", "");
        for role in ROLES {
            write!(grid, "{:<15}", role.as_str()).unwrap();
        }
        let mut lines = vec![grid.trim_end().to_owned()];
        let (tenant, _) = tenant_and_schema().await;
        let mut sql = tenant.begin().await;
        let rows = Rows::new(&tenant, &mut sql, UserRole::Owner).await;
        let mut samples = samples();
        samples.sort_by_key(Sample::name);
        for sample in samples {
            let name = sample.name();
            if sample.touches_comments(&rows) {
                let own = format!("{name} (own comment)");
                lines.push(line(&own, &sample, Comments::Own).await);
                let other = format!("{name} (another's comment)");
                lines.push(line(&other, &sample, Comments::OfAnother).await);
            } else {
                lines.push(line(&name, &sample, Comments::Own).await);
            }
        }
        insta::assert_snapshot!(lines.join("\n"));
    });
}
