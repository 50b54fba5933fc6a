//! One tenant's owner with another tenant's ids, in every mutation.

use macro_rules_attribute::apply;
use palisade::auth::role::UserRole;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    assert_done, document, outcome,
    samples::{Rows, id_places, samples},
    send, tenant_and_schema,
};
use crate::harness::{Answer, id, palisade_test};

/// The request id of every attack, so that answers can be compared byte by byte.
const REQUEST: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0002);

/// An id of the same type that nobody has.
fn random_like(given: &Value) -> Value {
    let prefix = given.as_str().unwrap().split_once('_').unwrap().0;
    id(prefix, Uuid::now_v7()).into()
}

#[apply(palisade_test)]
async fn another_tenants_id_anywhere_in_any_mutation_answers_like_a_random_one_and_changes_nothing()
{
    let (victim, schema) = tenant_and_schema().await;
    let (attacker, _) = tenant_and_schema().await;
    let (mut theirs, mut own) = (victim.begin().await, attacker.begin().await);
    let mut attacks = 0;
    for sample in samples() {
        let name = sample.name();
        let document = document(&schema, sample.field);
        let rows = Rows::new(&victim, &mut theirs, UserRole::Owner).await;
        let theirs = (sample.input)(&rows);
        let rows = Rows::new(&attacker, &mut own, UserRole::Owner).await;
        let own = (sample.input)(&rows);
        let before = (victim.everything().await, attacker.everything().await);

        let places = id_places(&schema, sample.field, &own);
        // One at a time and all together.
        let mut chosen: Vec<&[String]> = places.chunks(1).collect();
        chosen.extend((places.len() > 1).then_some(&places[..]));
        for places in chosen {
            let put = |value: fn(&Value) -> Value| {
                let mut input = own.clone();
                for place in places {
                    *input.pointer_mut(place).unwrap() = value(theirs.pointer(place).unwrap());
                }
                input
            };
            let mut answers = Vec::new();
            for input in [put(Value::clone), put(random_like)] {
                let variables = json!({ "input": input });
                let (status, body) = attacker.owner().bytes(&document, &variables, REQUEST).await;
                assert_eq!(status, 200, "{name} {places:?}: {body}");
                for place in places {
                    let sent = input.pointer(place).unwrap().as_str().unwrap();
                    let uuid = sent.split_once('_').unwrap().1;
                    let dashed = uuid.parse::<Uuid>().unwrap().to_string();
                    let is_echoed = body.contains(uuid) || body.contains(&dashed);
                    assert!(!is_echoed, "{name} {places:?}: {body}");
                }
                answers.push(body);
            }
            assert_eq!(answers[0], answers[1], "{name} {places:?}");
            let body: Value = serde_json::from_str(&answers[0]).unwrap();
            let answer = Answer { status: 200, body };
            assert_eq!(
                outcome(&answer, sample.field),
                "NOT_FOUND",
                "{name} {places:?}"
            );
            attacks += 1;
        }
        let after = (victim.everything().await, attacker.everything().await);
        assert_eq!(after, before, "{name}");

        // The victim's ids are those of rows that were there: for their owner it is done. Then what
        // is unique in the victim's tenant, and its keys, are free for everybody else.
        let done = send(victim.owner(), &document, &theirs, REQUEST).await;
        assert_done(&done.answer(), sample.field);
        let before = victim.everything().await;
        let mut same = theirs.clone();
        for place in &places {
            *same.pointer_mut(place).unwrap() = own.pointer(place).unwrap().clone();
        }
        let done = send(attacker.owner(), &document, &same, REQUEST).await;
        assert_done(&done.answer(), sample.field);
        assert_eq!(victim.everything().await, before, "{name}");
    }
    assert!(attacks > 40, "only {attacks} attacks");
}
