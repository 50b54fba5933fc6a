//! What each mutation writes: the given fields, nothing else, and only if no rule forbids it.

mod archive_and_delete;
mod bulk;
mod fields;
mod slugs;
mod versions_and_ids;

use serde_json::{Value, json};

use crate::{
    create::read,
    harness::{Caller, user_errors},
};

/// The mutations that create and update an object, their inputs, and the expected object after each step.
struct Lifecycle {
    root: &'static str,
    object: &'static str,
    selection: &'static str,
    create: &'static str,
    input: Value,
    created: Value,
    update: &'static str,
    changes: Vec<(Value, Value)>,
    /// The fields that cannot be cleared.
    fixed: &'static [&'static str],
}

impl Lifecycle {
    async fn check(self, caller: &Caller) {
        let Self {
            root,
            object,
            create,
            update,
            ..
        } = self;
        let selection = format!("id version {}", self.selection);
        let of_payload = format!("{object} {{ {selection} }}");
        let payload = caller.mutate_ok(create, self.input, &of_payload).await;
        let mut stored = payload[object].clone();
        assert_eq!(
            without(&stored, &["id", "version"]),
            self.created,
            "{create}"
        );
        let id = stored["id"].as_str().unwrap().to_owned();
        assert_eq!(read(caller, root, &id, &selection).await, stored);

        for (mut input, effect) in self.changes {
            let given = input.clone();
            input["id"] = json!(id);
            let payload = caller.mutate_ok(update, input, &of_payload).await;
            stored["version"] = json!(stored["version"].as_i64().unwrap() + 1);
            for (field, value) in effect.as_object().unwrap() {
                stored[field] = value.clone();
            }
            assert_eq!(payload[object], stored, "{update} {given}");
            assert_eq!(read(caller, root, &id, &selection).await, stored);
        }

        let payload = caller
            .mutate_ok(update, json!({ "id": id }), &of_payload)
            .await;
        assert_eq!(payload[object], stored, "{update} of nothing");
        for field in self.fixed {
            let input = json!({ "id": id, *field: null });
            let payload = caller.mutate(update, input, &of_payload).await;
            let expected = vec![("REQUIRED", format!("input.{field}"))];
            assert_eq!(user_errors(&payload), expected, "{update} {field}");
            assert!(payload[object].is_null(), "{payload}");
        }
        assert_eq!(read(caller, root, &id, &selection).await, stored);
    }
}

fn without(object: &Value, fields: &[&str]) -> Value {
    let mut object = object.clone();
    for field in fields {
        object.as_object_mut().unwrap().remove(*field);
    }
    object
}
