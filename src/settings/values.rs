//! What can be made of a single value. Each error says what is allowed.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use toml::Value;

use super::reader::Given;
use crate::filter::Pattern;

/// A text that is not empty.
pub(crate) fn text(given: &Given<'_>) -> Result<String, String> {
    match given.text() {
        Some("") => Err("this is empty".into()),
        Some(text) => Ok(text.to_owned()),
        None => Err("this must be a text in quotes".into()),
    }
}

/// A text, perhaps empty.
pub(crate) fn any_text(given: &Given<'_>) -> Result<String, String> {
    given.text().map(ToOwned::to_owned).ok_or_else(|| "this must be a text in quotes".into())
}

/// `true` or `false`
pub(crate) fn boolean(given: &Given<'_>) -> Result<bool, String> {
    given.value.as_bool().ok_or_else(|| "this must be true or false, without quotes".into())
}

/// A whole number from `MIN` to `MAX`.
pub(crate) fn number<T: TryFrom<i64>, const MIN: i64, const MAX: i64>(given: &Given<'_>) -> Result<T, String> {
    let allowed = || format!("this must be a whole number from {MIN} to {MAX}");
    let number = given.value.as_integer().filter(|number| (MIN..=MAX).contains(number)).ok_or_else(allowed)?;
    T::try_from(number).map_err(|_| allowed())
}

/// `127.0.0.1:8080`, `[::]:8080`
pub(crate) fn address(given: &Given<'_>) -> Result<SocketAddr, String> {
    let text = text(given)?;
    text.parse().map_err(|_| {
        format!(
            "{text:?} is no address to listen on; write it like \"0.0.0.0:8080\", \"127.0.0.1:9090\" or \"[::1]:8080\""
        )
    })
}

/// A path of a file or folder.
pub(crate) fn path(given: &Given<'_>) -> Result<PathBuf, String> {
    text(given).map(PathBuf::from)
}

/// One of `allowed`.
pub(crate) fn choice<T: Copy>(given: &Given<'_>, allowed: &[(&str, T)]) -> Result<T, String> {
    let found = given.text().and_then(|text| allowed.iter().find(|(name, _)| *name == text));
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<_> = allowed.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let given = given.text().map(|text| format!("{text:?} is not allowed; ")).unwrap_or_default();
        format!("{given}this must be {}", names.join(" or "))
    })
}

/// A list of what `one` makes of each item, or a single item.
pub(crate) fn list<T>(given: &Given<'_>, one: fn(&Given<'_>) -> Result<T, String>) -> Result<Vec<T>, String> {
    match given.value {
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(position, item)| {
                one(&Given::item(item)).map_err(|message| format!("item {}: {message}", position + 1))
            })
            .collect(),
        _ => one(given).map(|item| vec![item]),
    }
}

/// The same with at least one in it.
pub(crate) fn some<T>(given: &Given<'_>, one: fn(&Given<'_>) -> Result<T, String>) -> Result<Vec<T>, String> {
    let list = list(given, one)?;
    if list.is_empty() { Err("the list is empty; name at least one".into()) } else { Ok(list) }
}

/// A list of texts.
pub(crate) fn texts(given: &Given<'_>) -> Result<Vec<String>, String> {
    list(given, text)
}

/// A list of address ranges.
pub(crate) fn networks(given: &Given<'_>) -> Result<Vec<IpNet>, String> {
    list(given, |given| {
        let text = text(given)?;
        text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_| {
            format!("{text:?} is no address range; write it like \"10.0.0.0/8\", \"203.0.113.7\" or \"2001:db8::/32\"")
        })
    })
}

/// The same with at least one in it: an empty list of who may come is no list at all.
pub(crate) fn some_networks(given: &Given<'_>) -> Result<Vec<IpNet>, String> {
    let networks = networks(given)?;
    if networks.is_empty() {
        Err("the list is empty; leave the key out if every address may send".into())
    } else {
        Ok(networks)
    }
}

/// A list of patterns with `*`.
pub(crate) fn patterns(given: &Given<'_>) -> Result<Vec<Pattern>, String> {
    list(given, |given| text(given).map(Pattern::new))
}

/// A list of ids, which people also write as numbers.
pub(crate) fn ids(given: &Given<'_>) -> Result<Vec<String>, String> {
    list(given, |given| match given.value {
        Value::Integer(number) if *number >= 0 => Ok(number.to_string()),
        _ => text(given),
    })
}
