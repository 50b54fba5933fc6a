//! Attacks with every mutation: the owner of one tenant sends the ids of another tenant.

use macro_rules_attribute::apply;
use palisade::auth::role::UserRole;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{assert_done, document, outcome, send};
use crate::{
    harness::{Response, TestApp, id, model, palisade_test},
    samples::{Rows, id_positions, samples},
};

/// The request id of every attack, so that responses can be compared byte by byte.
const REQUEST: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0002);

/// A random id of the same type, which no row has.
fn random_like(given: &Value) -> Value {
    let prefix = given.as_str().unwrap().split_once('_').unwrap().0;
    id(prefix, Uuid::now_v7()).into()
}

#[apply(palisade_test)]
async fn another_tenants_id_anywhere_in_any_mutation_returns_the_same_as_a_random_one_and_changes_nothing(
    app: &'static TestApp,
) {
    let (victim, attacker) = (app.tenant().await, app.tenant().await);
    let (mut theirs, mut own) = (victim.begin().await, attacker.begin().await);
    let mut attacks = 0;
    for sample in samples() {
        let name = sample.name();
        let document = document(sample.field);
        let rows = Rows::insert(&victim, &mut theirs, UserRole::Owner).await;
        let theirs = (sample.input)(&rows);
        let rows = Rows::insert(&attacker, &mut own, UserRole::Owner).await;
        let own = (sample.input)(&rows);
        let before = (victim.everything().await, attacker.everything().await);

        let positions = id_positions(model().mutation(sample.field), &own);
        // Replace one id at a time, then all ids together.
        let mut chosen: Vec<&[String]> = positions.chunks(1).collect();
        chosen.extend((positions.len() > 1).then_some(&positions[..]));
        for positions in chosen {
            let put = |value: fn(&Value) -> Value| {
                let mut input = own.clone();
                for position in positions {
                    *input.pointer_mut(position).unwrap() =
                        value(theirs.pointer(position).unwrap());
                }
                input
            };
            let mut responses = Vec::new();
            for input in [put(Value::clone), put(random_like)] {
                let variables = json!({ "input": input });
                let (status, body) = attacker.owner().bytes(&document, &variables, REQUEST).await;
                assert_eq!(status, 200, "{name} {positions:?}: {body}");
                for position in positions {
                    let sent = input.pointer(position).unwrap().as_str().unwrap();
                    let uuid = sent.split_once('_').unwrap().1;
                    let dashed = uuid.parse::<Uuid>().unwrap().to_string();
                    let is_echoed = body.contains(uuid) || body.contains(&dashed);
                    assert!(!is_echoed, "{name} {positions:?}: {body}");
                }
                responses.push(body);
            }
            assert_eq!(responses[0], responses[1], "{name} {positions:?}");
            let body: Value = serde_json::from_str(&responses[0]).unwrap();
            let response = Response { status: 200, body };
            assert_eq!(
                outcome(&response, sample.field),
                "NOT_FOUND",
                "{name} {positions:?}"
            );
            attacks += 1;
        }
        let after = (victim.everything().await, attacker.everything().await);
        assert_eq!(after, before, "{name}");

        // The victim's owner succeeds with the same input, so its ids are those of existing rows. Afterwards, another
        // tenant can use the same unique values and the same keys.
        let done = send(victim.owner(), &document, &theirs, REQUEST).await;
        assert_done(&done.response(), sample.field);
        let before = victim.everything().await;
        let mut same = theirs.clone();
        for position in &positions {
            *same.pointer_mut(position).unwrap() = own.pointer(position).unwrap().clone();
        }
        let done = send(attacker.owner(), &document, &same, REQUEST).await;
        assert_done(&done.response(), sample.field);
        assert_eq!(victim.everything().await, before, "{name}");
    }
    assert!(attacks >= 51, "only {attacks} attacks");
}
