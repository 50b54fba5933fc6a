//! The schema changes while clients use the service (F21).

use macro_rules_attribute::apply;

use super::{Lab, load::Load, random::seed};
use crate::harness::palisade_test;

#[apply(palisade_test)]
async fn a_changed_table_fails_no_request() {
    let seed = seed("changed table");
    let lab = Lab::start(3, &[]).await;
    let memory = lab.service_memory();
    let load = Load::start(&lab, 8, seed);
    load.wait_for_good(100).await;
    for round in 0..10 {
        // A cached plan whose result changes fails with 0A000, "cached plan must not change result type". As in a
        // migration, the trigger of the audit log learns of the new columns in the same transaction.
        let record = "select app.record_changes('organizations', subject => 'organization')";
        for change in [
            format!(
                "alter table organizations add column extra_{round} integer default 7; {record}"
            ),
            "alter table organizations alter column slug type varchar(63)".to_owned(),
            format!("alter table organizations drop column extra_{round}; {record}"),
            "alter table organizations alter column slug type text".to_owned(),
        ] {
            let change = format!("set lock_timeout = '2s'; {change}");
            lab.execute(&change).await;
            load.wait_for_good(5).await;
        }
    }
    let report = load.finish(&lab).await;
    println!("changed table: {report:?}");
    assert_eq!(
        report.outcomes.keys().collect::<Vec<_>>(),
        ["good"],
        "{report:?}"
    );
    lab.assert_at_rest(8, memory, 64).await;
    lab.finish().await;
}
