//! Rejected mutations: the error's code, the field that it names, and that nothing is written.

use std::collections::BTreeSet;

use macro_rules_attribute::apply;
use palisade::auth::role::UserRole;
use serde_json::json;

use crate::{
    create::fingerprint,
    harness::{model, palisade_test, user_errors},
    samples::{Rejected, SLICES, World, rejected},
};

/// Uses a key for an import. Returns the rejection of another import with the same key.
async fn reused_key(world: &World) -> Rejected {
    let import = |asin: &str| json!({ "rows": [{ "asin": asin }], "idempotencyKey": "import" });
    let owner = world.tenant.owner();
    owner
        .mutate_ok("importProducts", import("B000000010"), "")
        .await;
    rejected(
        UserRole::Owner,
        "importProducts",
        import("B000000011"),
        &[("IDEMPOTENCY_MISMATCH", "idempotencyKey")],
    )
}

#[apply(palisade_test)]
async fn a_rejected_mutation_names_the_field_and_the_code_and_writes_nothing(world: World) {
    let mut all = vec![reused_key(&world).await];
    all.extend(SLICES.iter().flat_map(|slice| (slice.rejected)(&world)));
    let before = fingerprint(&world.tenant).await;
    let mut produced = BTreeSet::new();
    let mut wrong = Vec::new();
    for Rejected {
        role,
        field,
        input,
        errors,
    } in all
    {
        let shown: String = input.to_string().chars().take(200).collect();
        let payload = world.tenant.caller(role).mutate(field, input, "").await;
        let returned = user_errors(&payload);
        produced.extend(returned.iter().map(|(code, _)| (*code).to_owned()));
        if returned != errors {
            wrong.push(format!(
                "{role:?} {field} {shown}: {returned:?}, not {errors:?}"
            ));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(
        fingerprint(&world.tenant).await == before,
        "a rejected mutation wrote"
    );
    let codes = &model().named("UserErrorCode").values;
    assert_eq!(produced, codes.iter().cloned().collect());
}
