//! The corpora of coverage-guided fuzzing, sent through the functions that are fuzzed. Here belongs what keeps the
//! targets, their corpora and `fuzz/Cargo.toml` together; what is checked of an input stands in `fuzz/src`.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use crate::fixtures::fixtures;

#[expect(unreachable_pub, reason = "the targets are a library of their own, which these tests include")]
#[path = "../../fuzz/src/lib.rs"]
mod targets;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// The names in a folder without this ending.
fn names(folder: &Path, ending: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.map(|name| name.strip_suffix(ending).unwrap_or_else(|| panic!("{name}")).to_owned()).collect()
}

/// The inputs on which a target panics, by name, with what it says.
fn failing(target: &str, check: targets::Check, inputs: impl IntoIterator<Item = (String, Vec<u8>)>) -> Vec<String> {
    let fails = |input: &[u8]| catch_unwind(AssertUnwindSafe(|| check(input))).is_err();
    let failing = inputs.into_iter().filter(|(_, input)| fails(input));
    failing.map(|(name, input)| format!("{target}/{name}: {}", input.escape_ascii())).collect()
}

fn corpus(target: &str) -> impl Iterator<Item = (String, Vec<u8>)> {
    let folder = folder().join("corpus").join(target);
    names(&folder, "").into_iter().map(move |name| (name.clone(), fs::read(folder.join(&name)).unwrap()))
}

#[test]
fn every_input_of_the_corpora_keeps_the_promises() {
    let mut failed = Vec::new();
    let mut bytes = 0;
    for (target, check) in targets::TARGETS {
        let inputs: Vec<_> = corpus(target).collect();
        assert!(inputs.len() > 20, "{target} has {} inputs", inputs.len());
        bytes += inputs.iter().map(|(_, input)| input.len()).sum::<usize>();
        failed.extend(failing(target, *check, inputs));
    }
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(bytes < 2 << 20, "{bytes} bytes are more than a repository should carry: minimise them");
}

#[test]
fn every_fixture_keeps_the_promises() {
    let check = |name: &str| targets::TARGETS.iter().find(|(target, _)| *target == name).unwrap().1;
    let inputs = |before: &'static [u8]| {
        fixtures().into_iter().map(move |fixture| (fixture.name, [before, &fixture.body].concat()))
    };
    let mut failed = Vec::new();
    for (target, before) in [
        ("meta", &b""[..]),
        ("webex_connect", b""),
        ("cloud_event", b"\0"),
        ("cloud_event", b"\x01"),
        ("decode", b"\0\0\0"),
    ] {
        failed.extend(failing(target, check(target), inputs(before)));
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn every_target_has_its_program_and_its_corpus() {
    let targets: BTreeSet<_> = targets::TARGETS.iter().map(|(target, _)| (*target).to_owned()).collect();
    assert_eq!(names(&folder().join("fuzz_targets"), ".rs"), targets);
    assert_eq!(names(&folder().join("corpus"), ""), targets);
    let manifest: toml::Table = fs::read_to_string(folder().join("Cargo.toml")).unwrap().parse().unwrap();
    let programs =
        manifest["bin"].as_array().unwrap().iter().map(|program| program["name"].as_str().unwrap().to_owned());
    assert_eq!(programs.collect::<BTreeSet<_>>(), targets);
}
