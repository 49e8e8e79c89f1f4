//! The samples: every file of `fixtures/`, embedded by `build.rs`.

use std::path::Path;

use hooksink::names::SourceType;

use super::exit::Failure;

/// A payload as its sender would send it.
pub(crate) struct Sample {
    /// Who would send it.
    pub(crate) source_type: &'static str,
    /// Its case, such as `echo.template.media`.
    pub(crate) name: &'static str,
    /// The body.
    pub(crate) body: &'static [u8],
}

/// Every sample.
pub(crate) const SAMPLES: &[Sample] = include!(concat!(env!("OUT_DIR"), "/samples.rs"));

/// The body of a sample, or of a file where there is one of that name.
pub(crate) fn body(source_type: SourceType, name: &str) -> Result<Vec<u8>, Failure> {
    let of_type = || SAMPLES.iter().filter(|sample| sample.source_type == source_type.as_str());
    if let Some(sample) = of_type().find(|sample| sample.name == name) {
        return Ok(sample.body.to_vec());
    }
    if Path::new(name).exists() {
        return std::fs::read(name).map_err(|error| Failure::usage(format!("{name} cannot be read: {error}")));
    }
    let near = of_type().filter(|sample| sample.name.contains(name)).map(|sample| sample.name);
    let names: Vec<_> = near.take(20).collect();
    let hint = match names.as_slice() {
        [] => format!("`hooksink send {source_type} --list` shows the samples"),
        names => format!("samples with it in their name: {}", names.join(", ")),
    };
    Err(Failure::usage(format!("there is no {source_type} sample and no file {name:?}; {hint}")))
}
