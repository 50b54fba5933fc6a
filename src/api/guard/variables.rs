//! The size of the variables: their nesting and the number of their values.

use async_graphql::{Value, Variables};

use super::{Limits, Reason, check_limit, to_u64};

/// Checks the nesting of lists and objects and the number of values. The map of the variables itself is
/// not a level.
pub(super) fn check(variables: &Variables, limits: &Limits) -> Result<(), Reason> {
    // Values are counted before they are pushed, so the stack never holds more than the limit.
    let mut values = 0_u64;
    let mut count = |more: usize| {
        values = values.saturating_add(to_u64(more));
        check_limit(values, limits.variable_values, "values in its variables")
    };
    count(variables.len())?;
    let mut stack: Vec<(&Value, u64)> = variables.values().map(|value| (value, 1)).collect();
    while let Some((value, depth)) = stack.pop() {
        if let Value::List(_) | Value::Object(_) = value {
            let levels = "levels of nested lists and objects in its variables";
            check_limit(depth, limits.variable_depth, levels)?;
        }
        match value {
            Value::List(items) => {
                count(items.len())?;
                stack.extend(items.iter().map(|item| (item, depth + 1)));
            }
            Value::Object(fields) => {
                count(fields.len())?;
                stack.extend(fields.values().map(|field| (field, depth + 1)));
            }
            _ => {}
        }
    }
    Ok(())
}
