//! `Viewer.permissions` agrees with the grid of roles, which shows what the database allows.

use std::collections::{BTreeMap, BTreeSet};

use macro_rules_attribute::apply;
use serde_json::Value;

use super::ROLES;
use crate::{
    harness::{Tenant, model, palisade_test},
    samples::{SLICES, samples},
};

/// The grid: the outcome of each mutation for each role.
const GRID: &str = include_str!(
    "snapshots/it__mutations__grid__each_role_may_do_what_the_grid_says_and_writes_nothing_else.snap"
);

/// The permission that a line of the grid requires. `None` if the permission alone is not enough, as for changing
/// another user's comment.
fn permission(line: &str) -> Option<&'static str> {
    let mutation = line.split(' ').next().unwrap();
    let is_narrower = line.contains("owner") || line.contains("(another's row)");
    let mut slices = SLICES.iter();
    let slice = slices.find(|slice| {
        let samples = (slice.mutations)();
        samples.iter().any(|sample| sample.field == mutation)
    });
    (!is_narrower).then_some(slice.unwrap().permission)
}

/// Maps the name of each sample in the grid to the roles whose mutation succeeded.
fn grid() -> BTreeMap<String, BTreeSet<&'static str>> {
    let body = GRID.rsplit("---\n").next().unwrap();
    let mut lines = body.lines();
    let head: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(head, ROLES.map(palisade::auth::role::UserRole::as_str));
    let line = |line: &str| {
        let (name, outcomes) = line.split_at(42);
        let outcomes: Vec<&str> = outcomes.split_whitespace().collect();
        assert_eq!(outcomes.len(), ROLES.len(), "{line}");
        let roles = ROLES.iter().zip(outcomes);
        let allowed = roles.filter(|(_, outcome)| *outcome == "ok");
        let allowed = allowed.map(|(role, _)| role.as_str()).collect();
        (name.trim_end().to_owned(), allowed)
    };
    lines.map(line).collect()
}

/// Maps each permission to the roles that have it, as the API reports them.
async fn holders(tenant: &Tenant) -> BTreeMap<String, BTreeSet<&'static str>> {
    let permissions = model().named("Permission").values.iter();
    let mut holders: BTreeMap<String, BTreeSet<&'static str>> = permissions
        .map(|permission| (permission.clone(), BTreeSet::new()))
        .collect();
    for role in ROLES {
        let response = tenant
            .caller(role)
            .query("{ viewer { permissions } }")
            .await;
        let permissions = response.data()["viewer"]["permissions"].as_array();
        for permission in permissions.unwrap() {
            let roles = holders.get_mut(permission.as_str().unwrap()).unwrap();
            roles.insert(role.as_str());
        }
    }
    holders
}

#[apply(palisade_test)]
async fn the_roles_with_a_permission_are_those_whose_mutations_succeed_in_the_grid(tenant: Tenant) {
    let holders = holders(&tenant).await;
    let grid = grid();
    let of_grid: BTreeSet<&str> = grid
        .keys()
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    let samples = samples();
    let tried: BTreeSet<&str> = samples.iter().map(|sample| sample.field).collect();
    assert_eq!(
        of_grid, tried,
        "the test was compiled with an old snapshot of the grid: run it again"
    );

    let mut used = BTreeSet::new();
    for (line, allowed) in &grid {
        if let Some(permission) = permission(line) {
            assert_eq!(allowed, &holders[permission], "{permission}: {line}");
            used.insert(permission);
        }
    }
    // The audit log has no mutations.
    let audit = "READ_AUDIT_LOG";
    let mut readers = BTreeSet::new();
    for role in ROLES {
        let response = tenant
            .caller(role)
            .query("{ auditLogs { totalCount } }")
            .await;
        if response.body["data"]["auditLogs"] != Value::Null {
            readers.insert(role.as_str());
        }
    }
    assert_eq!(readers, holders[audit], "{audit}");
    used.insert(audit);
    let all: BTreeSet<&str> = holders.keys().map(String::as_str).collect();
    assert_eq!(
        used, all,
        "a permission that no mutation and no query needs"
    );
}
