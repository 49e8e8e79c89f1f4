//! What an expression may name: checked when it is compiled, so that a typing error is found before the first event.

/// The variables.
pub(super) const VARIABLES: [&str; 8] =
    ["id", "source", "sourcetype", "kind", "subject", "time", "receivedtime", "data"];

/// Types, which `type(x) == string` names like variables.
const TYPES: [&str; 12] =
    ["bool", "bytes", "double", "duration", "dyn", "int", "list", "map", "null_type", "string", "timestamp", "uint"];

/// The functions of the standard environment that are written by name.
const FUNCTIONS: [&str; 26] = [
    "bool",
    "bytes",
    "contains",
    "double",
    "duration",
    "dyn",
    "endsWith",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getFullYear",
    "getHours",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getSeconds",
    "has",
    "int",
    "matches",
    "size",
    "startsWith",
    "string",
    "timestamp",
    "type",
    "uint",
];

pub(super) fn variable(name: &str) -> Result<(), String> {
    if VARIABLES.contains(&name) || TYPES.contains(&name) {
        return Ok(());
    }
    Err(format!("there is no {name:?}; an expression sees {}", VARIABLES.join(", ")))
}

pub(super) fn function(name: &str) -> Result<(), String> {
    // Operators are functions too, with names that nobody can write, such as `_&&_`.
    if FUNCTIONS.contains(&name) || !name.starts_with(|first: char| first.is_ascii_alphabetic()) {
        return Ok(());
    }
    Err(format!(
        "there is no function {name:?}; there are {} and the macros all, exists, exists_one, filter and map",
        FUNCTIONS.join(", ")
    ))
}
