//! Secrets: a text, `{ env = "NAME" }` or `{ file = "/path" }`, or a list of these.

use toml::Value;

use super::errors::Origin;
use super::reader::Reader;
use crate::secret::{Secret, Secrets};

/// What else a secret must be. The error never holds the value.
pub(crate) type Check = fn(&[u8]) -> Result<(), &'static str>;

const FORMS: &str = "write \"the secret\", { env = \"NAME\" } or { file = \"/path\" }, or a list of these";

/// The secrets that a value gives or refers to. What is wrong has been noted.
pub(crate) fn resolve(reader: &Reader<'_>, key: &str, value: &Value, check: Check) -> Secrets {
    if reader.origins.of(key) == Origin::Flag {
        reader.error(
            key,
            "a secret on the command line is seen by every user of the machine; use a file or the environment",
        );
        return Secrets::default();
    }
    let one = |at: &str, value: &Value, raw: Option<&str>| match bytes(reader, value, raw).and_then(|bytes| {
        // What is only white space is what an empty variable or file left behind, and anyone's first guess.
        if bytes.trim_ascii().is_empty() {
            return Err(format!("{}this secret is empty", whence(value)));
        }
        check(&bytes).map_err(|reason| format!("{}{reason}", whence(value)))?;
        Ok(Secret::new(bytes))
    }) {
        Ok(secret) => Some(secret),
        Err(message) => {
            reader.error(at, message);
            None
        }
    };
    let secrets = match value {
        Value::Array(list) if list.is_empty() => {
            reader.error(key, format!("the list is empty; {FORMS}, or leave the key out"));
            Vec::new()
        }
        Value::Array(list) => list
            .iter()
            .enumerate()
            .filter_map(|(position, value)| one(&format!("{key}[{position}]"), value, None))
            .collect(),
        value => one(key, value, reader.origins.text(key)).into_iter().collect(),
    };
    Secrets::new(secrets)
}

fn whence(value: &Value) -> String {
    let Value::Table(table) = value else { return String::new() };
    let source = |key: &str| table.get(key).and_then(Value::as_str);
    match (source("env"), source("file")) {
        (Some(name), _) => format!("environment variable {name}: "),
        (_, Some(path)) => format!("file {path}: "),
        _ => String::new(),
    }
}

fn bytes(reader: &Reader<'_>, value: &Value, raw: Option<&str>) -> Result<Vec<u8>, String> {
    let table = match (value, raw) {
        (Value::Table(table), _) => table,
        (Value::String(text), _) => return Ok(text.clone().into_bytes()),
        (Value::Array(_), _) | (_, None) => return Err(format!("this is no secret; {FORMS}")),
        (_, Some(text)) => return Ok(text.as_bytes().to_vec()),
    };
    let mut entries = table.iter();
    match (entries.next(), entries.next()) {
        (Some((form, Value::String(name))), None) if form == "env" => match reader.inputs.environment.get(name) {
            Some(text) => Ok(text.clone().into_bytes()),
            None => Err(format!("environment variable {name} is not set")),
        },
        (Some((form, Value::String(path))), None) if form == "file" => {
            let mut bytes = (reader.inputs.read_secret)(path.as_ref())
                .map_err(|error| format!("file {path} cannot be read: {error}"))?;
            // Editors end a file with a newline, which is not part of the secret.
            if bytes.last() == Some(&b'\n') {
                bytes.pop();
            }
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
            Ok(bytes)
        }
        _ => Err(format!("this is no secret; {FORMS}")),
    }
}

/// Any bytes.
pub(crate) fn any(_: &[u8]) -> Result<(), &'static str> {
    Ok(())
}

/// Text without control characters: a password or token as clients take it.
pub(crate) fn text(bytes: &[u8]) -> Result<(), &'static str> {
    match std::str::from_utf8(bytes) {
        Err(_) => Err("this secret is no text (UTF-8)"),
        Ok(text) if text.chars().any(char::is_control) => Err("this secret has a control character in it"),
        Ok(_) => Ok(()),
    }
}

/// What fits into a header: visible ASCII and inner spaces.
pub(crate) fn header_value(bytes: &[u8]) -> Result<(), &'static str> {
    let visible = |b: &u8| matches!(b, b' '..=b'~');
    let ends = bytes.first() != Some(&b' ') && bytes.last() != Some(&b' ');
    if bytes.iter().all(visible) && ends {
        Ok(())
    } else {
        Err("this secret has a character that cannot stand in a header (check for a stray space or newline)")
    }
}

/// `user:password` that is asked of others; without a password everyone who knows the user's name has it.
pub(crate) fn basic_with_password(bytes: &[u8]) -> Result<(), &'static str> {
    basic(bytes)?;
    if bytes.ends_with(b":") && bytes.iter().filter(|b| **b == b':').count() == 1 {
        return Err("the password is empty");
    }
    Ok(())
}

/// `user:password`
pub(crate) fn basic(bytes: &[u8]) -> Result<(), &'static str> {
    match bytes.iter().position(|b| *b == b':') {
        None | Some(0) => Err("this must be \"user:password\""),
        Some(_) if bytes.iter().any(u8::is_ascii_control) => Err("this has a control character in it"),
        Some(_) => Ok(()),
    }
}
