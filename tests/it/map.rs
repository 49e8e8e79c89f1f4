//! What the repository says about itself: the map and the invariants of lib.rs, the layers of the modules, and the
//! tables of README.md. Here belongs what is read off the sources; no code of hooksink runs but its lists.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use hooksink::config::{DEFAULTS, SinkKind};
use hooksink::event::Kind;

/// What each module may know, from the bottom to the top: a row names only rows above it. `crate` alone is `app`, which
/// knows all. An engine of the journal stands above the journal's trait, since it is configured.
const LAYERS: &[(&str, &[&str])] = &[
    ("names", &[]),
    ("json", &[]),
    ("secret", &[]),
    ("metrics", &[]),
    ("model", &["json"]),
    ("event", &["json", "model", "names"]),
    ("filter", &["event", "names"]),
    ("expression", &["event", "model"]),
    ("journal", &["event", "filter", "names"]),
    ("settings", &["filter", "secret"]),
    ("remote", &["secret", "settings"]),
    ("sinks", &["event", "json", "model", "names", "remote", "secret", "settings"]),
    (
        "config",
        &["event", "expression", "filter", "journal", "model", "names", "remote", "secret", "settings", "sinks"],
    ),
    ("journal::engine", &["config", "metrics"]),
    ("journal::copy", &["config", "event", "filter", "metrics", "names"]),
    ("journal::sqlite", &["config", "event", "filter", "journal", "metrics", "names"]),
    ("journal::jetstream", &["config", "event", "filter", "journal", "metrics", "names", "remote"]),
    ("auth", &["config", "event", "secret"]),
    ("sources", &["auth", "config", "event", "json", "model", "names", "secret"]),
    ("dispatch", &["config", "event", "expression", "journal", "metrics", "names", "sinks"]),
    ("http", &["auth", "config", "event", "journal", "metrics", "names", "sources"]),
    ("admin", &["config", "event", "http", "journal", "metrics", "names", "secret", "sources"]),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// Every Rust file below a folder, with its path as a module: `src/journal/sqlite/mod.rs` is `journal::sqlite`.
fn modules(folder: &str) -> Vec<(String, String)> {
    fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|end| end == "rs") {
                found.push(path);
            }
        }
    }
    let folder = root().join(folder);
    let mut files = Vec::new();
    collect(&folder, &mut files);
    assert!(files.len() > 20, "the walk finds the files");
    let module = |path: &Path| {
        let path = path.strip_prefix(&folder).unwrap().with_extension("").to_str().unwrap().replace('/', "::");
        path.strip_suffix("::mod").unwrap_or(&path).to_owned()
    };
    files.iter().map(|path| (module(path), fs::read_to_string(path).unwrap())).collect()
}

/// The code of a file that is not for tests alone, without comments: tests stand at the end of a file, or in one of
/// their own.
fn code<'a>(module: &str, text: &'a str) -> impl Iterator<Item = &'a str> {
    let last = module.rsplit("::").next().unwrap_or_default();
    let of_tests = matches!(last, "tests" | "simulation");
    let end = if of_tests { 0 } else { text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len()) };
    text[..end].lines().filter(|line| !line.trim_start().starts_with("//"))
}

/// The row a module belongs to; none for `app` and for what only the binary has.
fn layer(module: &str) -> Option<usize> {
    let within = |name: &str| module.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    // The longest name, so that an engine is not taken for the trait.
    (0..LAYERS.len()).filter(|row| within(LAYERS[*row].0)).max_by_key(|row| LAYERS[*row].0.len())
}

#[test]
fn imports_point_downwards() {
    for (row, (name, may_know)) in LAYERS.iter().enumerate() {
        for known in *may_know {
            assert!(
                LAYERS[..row].iter().any(|(above, _)| above == known),
                "{name} would know {known}, which is not below"
            );
        }
    }
    let mut knows: BTreeMap<&str, BTreeSet<&str>> = LAYERS.iter().map(|(name, _)| (*name, BTreeSet::new())).collect();
    for (module, text) in modules("src") {
        let Some(row) = layer(&module) else {
            let top = module.split("::").next().unwrap_or_default();
            assert!(matches!(top, "lib" | "main" | "app" | "cli"), "{module} stands in no layer");
            continue;
        };
        let name = LAYERS[row].0;
        for line in code(&module, &text) {
            for path in line.split("crate::").skip(1) {
                let path: String = path.chars().take_while(|c| c.is_alphanumeric() || "_:".contains(*c)).collect();
                let known = layer(&path).unwrap_or_else(|| panic!("{module}: {line}"));
                if known != row {
                    assert!(LAYERS[row].1.contains(&LAYERS[known].0), "{name} does not know {path}: {module}: {line}");
                    knows.get_mut(name).unwrap().insert(LAYERS[known].0);
                }
            }
        }
    }
    for (name, may_know) in LAYERS {
        assert_eq!(knows[name], may_know.iter().copied().collect(), "{name} may know what it does not use");
    }
}

/// Invariant 9. What gives the time or random numbers, or touches files and sockets, stands in none of these modules.
#[test]
fn what_decides_does_no_io_and_reads_no_clock() {
    const PURE: &[&str] =
        &["auth", "event", "filter", "json", "model", "names", "sources", "config", "settings", "expression"];
    const PURE_TOO: &[&str] =
        &["dispatch::backoff", "dispatch::lanes", "dispatch::health", "journal::jetstream::table"];
    const OUTSIDE: &[&str] = &[
        "Utc::now",
        "Local::now",
        "SystemTime::now",
        "Instant::now",
        "elapsed()",
        "rand::",
        "Uuid::now_v7",
        "Uuid::new_v4",
        "std::fs",
        "fs::",
        "File::",
        "std::env",
        "env::var",
        "tokio::",
        "TcpStream",
        "std::net::Tcp",
    ];
    let mut seen = 0;
    for (module, text) in modules("src") {
        let top = module.split("::").next().unwrap_or_default();
        if PURE.contains(&top) || PURE_TOO.contains(&module.as_str()) || module.ends_with("::settings") {
            seen += 1;
            for line in code(&module, &text) {
                let found = OUTSIDE.iter().find(|outside| line.contains(**outside));
                assert!(found.is_none(), "{module}: {line}");
            }
        }
    }
    assert!(seen > 40);
}

#[test]
fn a_module_with_others_below_it_is_a_folder_with_a_mod_file() {
    for (module, _) in modules("src") {
        let beside = root().join("src").join(module.replace("::", "/"));
        assert!(!beside.is_dir() || beside.join("mod.rs").is_file(), "src/{module}: use mod.rs");
        let last = module.rsplit("::").next().unwrap_or_default();
        assert!(!["util", "utils", "common", "helpers", "types"].contains(&last), "{module} names nothing");
    }
}

#[test]
fn the_map_names_every_module_and_each_says_what_it_is() {
    let lib = read("src/lib.rs");
    let declared: BTreeSet<_> =
        lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let mapped: Vec<_> = lib.lines().filter_map(|line| line.strip_prefix("//! - [`")?.split('`').next()).collect();
    assert_eq!(mapped.iter().copied().collect::<BTreeSet<_>>(), declared);
    assert_eq!(mapped.len(), declared.len(), "each stands there once");
    for (module, text) in modules("tests/it") {
        assert!(text.starts_with("//! "), "tests/it: {module} does not say in a sentence what belongs there");
    }
    for (module, text) in modules("src").iter().filter(|(module, _)| !module.ends_with("::tests")) {
        // A file with one thing says it at the thing; a folder has none.
        let lines: Vec<_> = text.lines().collect();
        let thing = lines.iter().position(|line| line.starts_with("pub") && !line.starts_with("pub use"));
        let mut above = lines[..thing.unwrap_or(0)].iter().rev().take_while(|line| !line.is_empty());
        let at_the_thing = above.any(|line| line.starts_with("///")) && !text.starts_with("mod ");
        assert!(text.starts_with("//! ") || at_the_thing, "{module} does not say in a sentence what it is");
    }
}

/// Every test there is, as `module::name`, and every module that has one.
struct Tests {
    names: BTreeSet<String>,
    modules: BTreeSet<String>,
}

impl Tests {
    fn of_this_repository() -> Self {
        let mut tests = Self { names: BTreeSet::new(), modules: BTreeSet::new() };
        for (module, text) in modules("src").into_iter().chain(modules("tests/it")) {
            // What tests stand in `mod tests` of their file is named so.
            let inner = if text.contains("\nmod tests {") { format!("{module}::tests") } else { module.clone() };
            let lines: Vec<_> = text.lines().map(str::trim_start).filter(|line| !line.starts_with("//")).collect();
            for after in lines.join("\n").replace("#[tokio::test", "#[test]").split("#[test]").skip(1) {
                let name = after.split("fn ").nth(1).and_then(|rest| rest.split('(').next()).unwrap_or_default();
                tests.names.insert(format!("{inner}::{name}"));
                tests.modules.insert(inner.clone());
            }
            if text.lines().any(|line| line.starts_with("//! ```") || line.starts_with("/// ```")) {
                tests.modules.insert(module);
            }
        }
        assert!(tests.names.len() > 300, "{}", tests.names.len());
        tests
    }

    /// What of the names between backticks in this text is no test and no module of tests. `::name` is a test of the
    /// module named before it.
    fn missing(&self, text: &str) -> Vec<String> {
        let mut module = "";
        let mut missing = Vec::new();
        let mut named = 0;
        for name in text.split('`').skip(1).step_by(2) {
            named += 1;
            let full = if name.starts_with("::") { format!("{module}{name}") } else { name.to_owned() };
            if !name.starts_with("::") {
                module = name.rsplit_once("::").map_or(name, |(module, _)| module);
            }
            if !self.names.contains(&full) && !self.modules.contains(&full) {
                missing.push(full);
            }
        }
        if named == 0 {
            missing.push(format!("no test is named: {text}"));
        }
        missing
    }
}

/// The cells of the rows of the table with this heading, without the heading.
fn table(text: &str, heading: &str) -> Vec<Vec<String>> {
    let rows = text.lines().skip_while(|line| *line != heading).skip(2).take_while(|line| line.starts_with('|'));
    let cells = |row: &str| row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
    rows.map(cells).collect()
}

#[test]
fn each_invariant_names_the_test_that_would_fail_without_it() {
    let lib = read("src/lib.rs");
    let section = lib.split("# Invariants").nth(1).unwrap().split("\n//!\n//! # ").next().unwrap();
    let text: String =
        section.lines().map(|line| line.trim_start_matches("//!").trim_start().to_owned() + "\n").collect();
    let tests = Tests::of_this_repository();
    let mut number = 0;
    for paragraph in text.split("\nFails without it: ").skip(1) {
        number += 1;
        // The names end where the next invariant begins.
        let names = paragraph.split(&format!("\n{}. ", number + 1)).next().unwrap();
        assert_eq!(tests.missing(names), [""; 0], "invariant {number}");
    }
    assert_eq!(number, 9, "each invariant names its tests");
}

#[test]
fn each_guarantee_of_the_readme_names_tests_that_exist() {
    let readme = read("README.md");
    let rows = table(&readme, "| guarantee | test |");
    assert!(rows.len() > 15, "{rows:?}");
    let tests = Tests::of_this_repository();
    for row in rows {
        assert_eq!(tests.missing(&row[1]), [""; 0], "{}", row[0]);
    }
}

/// The settings of a type of sink as `config/hooksink.toml` documents them, but for those of every type.
fn documented_settings() -> BTreeMap<String, BTreeSet<String>> {
    let mut settings: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut of_all = BTreeSet::new();
    let lines = DEFAULTS.lines().filter_map(|line| line.strip_prefix('#')).filter(|line| !line.starts_with([' ', '#']));
    let (mut in_sinks, mut sink_type) = (false, None);
    for line in lines {
        if line.starts_with('[') {
            (in_sinks, sink_type) = (line.starts_with("[sinks."), None);
        } else if let Some((key, value)) = line.split_once(" = ").filter(|_| in_sinks) {
            if key == "type" {
                sink_type = value.split('"').nth(1).map(str::to_owned);
                settings.entry(sink_type.clone().unwrap()).or_default();
            } else if let Some(sink_type) = &sink_type {
                settings.get_mut(sink_type).unwrap().insert(key.to_owned());
                // They are explained once, in the first block, up to max_parked.
                if settings.len() == 1 && !of_all.contains("max_parked") {
                    of_all.insert(key.to_owned());
                }
            }
        }
    }
    settings.into_iter().map(|(sink, keys)| (sink, &keys - &of_all)).collect()
}

#[test]
fn every_type_of_sink_is_documented() {
    let documented = documented_settings();
    let types: BTreeSet<_> = SinkKind::TYPES.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(documented.keys().cloned().collect::<BTreeSet<_>>(), types, "the blocks of config/hooksink.toml");
    let rows = table(&read("README.md"), "| type | what it does | its settings |");
    let mut in_readme = BTreeMap::new();
    for row in &rows {
        // What stands in brackets are values.
        let settings = row[2].split(", `").map(|setting| setting.trim_start_matches('`').split('`').next().unwrap());
        let settings = settings.filter(|setting| documented.values().any(|keys| keys.contains(*setting)));
        in_readme.insert(row[0].trim_matches('`').to_owned(), settings.map(str::to_owned).collect());
    }
    assert_eq!(in_readme, documented, "the table of sinks in README.md");
}

#[test]
fn every_kind_of_event_is_in_the_readme() {
    let readme = read("README.md");
    let line = readme.lines().find(|line| line.starts_with("- `type` is the kind.")).unwrap();
    let mut sender = "";
    let mut kinds = Vec::new();
    for name in line.split('`').skip(1).step_by(2).skip(1) {
        match name.split_once('.').unwrap() {
            ("", rest) => kinds.push(format!("{sender}.{rest}")),
            (named, _) => {
                sender = named;
                kinds.push(name.to_owned());
            }
        }
    }
    assert_eq!(kinds, Kind::ALL.iter().map(|kind| kind.as_str().to_owned()).collect::<Vec<_>>());
}

#[test]
fn the_configuration_of_the_readme_is_one() {
    let readme = read("README.md");
    let text = readme.split("```toml\n").nth(1).unwrap().split("```").next().unwrap().to_owned();
    let loaded = hooksink::config::load(&hooksink::config::Inputs {
        file: Some(("README.md".into(), text)),
        environment: BTreeMap::new(),
        flags: Vec::new(),
        read_secret: &|_| Ok(b"a secret".to_vec()),
    })
    .unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!((loaded.config.sources.len(), loaded.config.sinks.len()), (2, 2));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

#[test]
fn every_type_of_sink_has_an_example_in_the_readme_that_loads() {
    let readme = read("README.md");
    let built = |text: &&str| cfg!(feature = "kafka") || !text.contains("kafka");
    let blocks = readme.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut shown = BTreeSet::new();
    for block in blocks.filter(built) {
        let named = block.split("env = \"").skip(1).filter_map(|rest| rest.split('"').next());
        let loaded = hooksink::config::load(&hooksink::config::Inputs {
            file: Some(("README.md".into(), block.to_owned())),
            environment: named.map(|name| (name.to_owned(), "user:secret".to_owned())).collect(),
            flags: Vec::new(),
            read_secret: &|path| match path.extension().and_then(|end| end.to_str()) {
                Some("creds") => Ok(b"BEGIN NATS USER JWT, BEGIN USER NKEY SEED".to_vec()),
                _ => Ok(b"user:secret".to_vec()),
            },
        });
        let loaded = loaded.unwrap_or_else(|errors| panic!("{errors}\n{block}"));
        for (name, sink) in &loaded.config.sinks {
            sink.kind.build(name, [0; 32]).unwrap_or_else(|error| panic!("{error}\n{block}"));
            shown.insert(sink.kind.type_name());
        }
    }
    assert_eq!(shown, SinkKind::TYPES.iter().copied().filter(|name| built(name)).collect());
}
