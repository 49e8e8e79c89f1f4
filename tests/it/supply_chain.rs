//! What comes into the build and why, read off the manifests and the lock file. What needs the network or cargo-deny
//! stands in `tests/run --long`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The crates of a section of Cargo.toml, each with the reason behind its line.
fn reasons(manifest: &str, section: &str) -> Vec<(String, String)> {
    let lines = manifest.lines().skip_while(|line| *line != format!("[{section}]")).skip(1);
    let lines = lines.take_while(|line| !line.starts_with('[')).filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let (name, rest) = line.split_once(" = ").unwrap_or_else(|| panic!("one line a crate: {line}"));
            let (_, reason) = rest.rsplit_once(" # ").unwrap_or_else(|| panic!("{name} is here for no reason"));
            (name.to_owned(), reason.trim().to_owned())
        })
        .collect()
}

#[test]
fn every_dependency_stands_in_the_readme_with_its_reason() {
    let manifest = read("Cargo.toml");
    let reasons_given = reasons(&manifest, "dependencies");
    assert!(reasons_given.len() > 30, "{reasons_given:?}");
    let readme = read("README.md");
    let rows = readme.lines().skip_while(|line| *line != "| crate | why |").skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    let rows: Vec<_> = rows
        .map(|row| {
            let (name, reason) = row.trim_matches('|').split_once(" | ").expect("two cells");
            (name.trim().trim_matches('`').to_owned(), reason.trim().to_owned())
        })
        .collect();
    assert_eq!(rows, reasons_given, "README.md and Cargo.toml give the same crates and reasons");
    assert!(reasons(&manifest, "dev-dependencies").len() > 3);
    // The parsed manifest has no dependency that the lines above do not show, such as one for a single platform.
    let parsed: toml::Table = manifest.parse().unwrap();
    assert_eq!(parsed["dependencies"].as_table().unwrap().len(), rows.len());
    assert!(!parsed.contains_key("target") && !parsed.contains_key("build-dependencies"));
}

#[test]
fn the_lock_files_are_part_of_the_repository() {
    for (folder, package) in [("", "hooksink"), ("fuzz/", "hooksink-fuzz")] {
        let lock: toml::Table = read(&format!("{folder}Cargo.lock")).parse().unwrap();
        let packages = lock["package"].as_array().unwrap();
        assert!(packages.iter().any(|locked| locked["name"].as_str() == Some(package)));
        for locked in packages {
            // What is no registry's is ours, and stands in this repository.
            let source = locked.get("source").and_then(toml::Value::as_str);
            let ours = locked["name"].as_str().unwrap().starts_with("hooksink");
            assert_eq!(source.is_none(), ours, "{locked}");
            assert!(ours || source == Some("registry+https://github.com/rust-lang/crates.io-index"), "{locked}");
        }
    }
    let ignored = read(".gitignore");
    assert!(!ignored.lines().any(|line| line.contains("lock")), "{ignored}");
}

#[test]
fn cargo_deny_refuses_whatever_is_not_named() {
    let deny: toml::Table = read("deny.toml").parse().unwrap();
    assert_eq!(deny["bans"]["multiple-versions"].as_str(), Some("deny"));
    assert_eq!(deny["bans"]["wildcards"].as_str(), Some("deny"));
    for key in ["unknown-registry", "unknown-git"] {
        assert_eq!(deny["sources"][key].as_str(), Some("deny"));
    }
    let lock = read("Cargo.lock");
    for exception in deny["bans"]["skip"].as_array().unwrap() {
        let (name, version) = exception["crate"].as_str().unwrap().split_once('@').expect("a version");
        assert!(exception["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{exception}");
        let locked = format!("name = \"{name}\"\nversion = \"{version}.");
        assert!(lock.contains(&locked), "{name} {version} is no longer there: the exception can go");
    }
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_code_of_ours_is_unsafe() {
    for manifest in ["Cargo.toml", "fuzz/Cargo.toml"] {
        let parsed: toml::Table = read(manifest).parse().unwrap();
        assert_eq!(parsed["lints"]["rust"]["unsafe_code"].as_str(), Some("forbid"), "{manifest}");
    }
    let mut files = vec![root().join("build.rs")];
    for folder in ["src", "tests", "benches", "fuzz"] {
        rust_files(&root().join(folder), &mut files);
    }
    assert!(files.len() > 150, "{}", files.len());
    // Written so that this line is none itself.
    let keyword = ["un", "safe"].concat();
    let mut found = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let words = |line: &str| {
            let word = |char: char| char.is_alphanumeric() || char == '_';
            line.split(|char| !word(char)).any(|word| word == keyword)
        };
        // The lint does not see what a lint can be told not to see.
        found.extend(
            code.filter(|line| words(line) && !line.contains('"')).map(|line| format!("{}: {line}", file.display())),
        );
    }
    assert!(found.is_empty(), "{found:#?}");
}
