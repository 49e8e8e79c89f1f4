//! The image as the Dockerfile describes it. What only the built image can show stands in `tests/run --long`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The instructions of a Dockerfile, each in one line, and the stages that they belong to.
fn stages() -> Vec<Vec<(String, String)>> {
    let text = read("Dockerfile").replace("\\\n", " ");
    let mut stages = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (instruction, arguments) = line.split_once(' ').expect("an instruction has arguments");
        if instruction == "FROM" {
            stages.push(Vec::new());
        }
        stages.last_mut().expect("FROM comes first").push((instruction.to_owned(), arguments.trim().to_owned()));
    }
    stages
}

/// The arguments of an instruction of a stage.
fn all<'a>(stage: &'a [(String, String)], instruction: &str) -> Vec<&'a str> {
    stage.iter().filter(|(name, _)| name == instruction).map(|(_, arguments)| arguments.as_str()).collect()
}

#[test]
fn the_image_has_no_shell_and_needs_none() {
    let stages = stages();
    let last = stages.last().unwrap();
    // Distroless has no shell and no package manager, and without RUN nothing can put one in.
    assert_eq!(all(last, "FROM"), ["gcr.io/distroless/cc-debian12:nonroot"]);
    assert!(all(last, "RUN").is_empty());
    let copied = all(last, "COPY");
    assert_eq!(copied.len(), 2, "the program and an empty folder: {copied:?}");
    assert!(copied.iter().all(|files| files.starts_with("--from=build ")), "{copied:?}");
    // In their other form these are handed to a shell.
    for instruction in ["ENTRYPOINT", "CMD"] {
        let arguments = all(last, instruction);
        assert_eq!(arguments.len(), 1);
        let words: Vec<String> = serde_json::from_str(arguments[0]).expect("a list in JSON");
        assert!(!words.is_empty());
    }
    let check = all(last, "HEALTHCHECK")[0].split_once("CMD ").unwrap().1;
    assert_eq!(serde_json::from_str::<Vec<String>>(check).unwrap(), ["/usr/local/bin/hooksink", "healthcheck"]);
}

#[test]
fn the_image_runs_without_root_and_writes_to_its_volume_alone() {
    let stages = stages();
    let last = stages.last().unwrap();
    let users = all(last, "USER");
    // A number, so that Kubernetes can see that it is not root.
    assert_eq!(users, ["65532:65532"]);
    assert_eq!(all(last, "VOLUME"), [r#"["/data"]"#]);
    let data = *all(last, "COPY").last().unwrap();
    assert_eq!(data, "--from=build --chown=65532:65532 /out/data /data");
    // The journal's default path is relative.
    assert_eq!(all(last, "WORKDIR"), ["/"]);
    assert!(hooksink::config::DEFAULTS.contains("\npath = \"data/journal.db\""));
    // A variable in the image would rank above a user's file.
    assert!(all(last, "ENV").is_empty());
    assert_eq!(all(last, "EXPOSE"), ["8080"], "the admin listener stays inside");
}

#[test]
fn the_build_knows_every_target_of_the_manifest() {
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let stages = stages();
    let build = &stages[0];
    let rust = manifest["package"]["rust-version"].as_str().unwrap();
    assert_eq!(all(build, "FROM"), [format!("docker.io/library/rust:{rust}-bookworm AS build")]);
    // Cargo reads no manifest that names a file which is not there: the folders come in later, or not at all.
    let stubs = all(build, "RUN").into_iter().find_map(|run| run.split_once("| tee ")).unwrap();
    let stubs = stubs.1.split(" && ").next().unwrap();
    let stubs: BTreeSet<_> = stubs.split_whitespace().filter(|word| word.ends_with(".rs")).collect();
    let mut needed = BTreeSet::from([manifest["lib"]["path"].as_str().unwrap().to_owned()]);
    for kind in ["bin", "test", "bench"] {
        for target in manifest[kind].as_array().unwrap() {
            let named = || format!("{kind}es/{}.rs", target["name"].as_str().unwrap());
            needed.insert(target.get("path").map_or_else(named, |path| path.as_str().unwrap().to_owned()));
        }
    }
    assert_eq!(stubs, needed.iter().map(String::as_str).collect());
    // What the program embeds must be sent to the builder.
    let sent = read(".dockerignore");
    for needed in ["!Cargo.toml", "!Cargo.lock", "!src", "!config/hooksink.toml", "!fixtures", "!build.rs"] {
        assert!(sent.lines().any(|line| line == needed), "{needed}");
    }
}

#[test]
fn the_image_has_every_feature_and_needs_no_library_but_that_of_c() {
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let features: Vec<_> = manifest["features"].as_table().unwrap().keys().map(String::as_str).collect();
    let stages = stages();
    let build = &stages[0];
    let builds: Vec<_> = all(build, "RUN").into_iter().filter(|run| run.contains("cargo build")).collect();
    // Those of the dependencies alone, and of everything: with other features the first would be for nothing.
    assert_eq!(builds.len(), 2);
    for run in builds {
        let named = run.split_once("--features ").expect("they are named").1.split(' ').next().unwrap();
        assert_eq!(named.split(',').collect::<Vec<_>>(), features);
    }
    assert!(all(build, "ENV")[0].contains("OPENSSL_STATIC=1"));
    // The check stands after the last build. It is tried here on programs that need more.
    let check = all(build, "RUN").last().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    let folder = tempfile::tempdir().unwrap();
    let needed = folder.path().join("needed");
    let check = check.split_once("readelf -d /out/hooksink > /out/needed && ").expect("it comes first").1;
    let check = check.replace("/out/needed", needed.to_str().unwrap());
    let run = |libraries: &[&str]| {
        let line = |name: &&str| format!(" 0x0000000000000001 (NEEDED)             Shared library: [{name}]\n");
        fs::write(&needed, libraries.iter().map(line).collect::<String>()).unwrap();
        Command::new("/bin/sh").args(["-c", &check]).output().expect("a shell").status.success()
    };
    let ours = ["libgcc_s.so.1", "libm.so.6", "libc.so.6", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"];
    assert!(run(&ours) && !run(&[]));
    for other in ["libssl.so.3", "libcrypto.so.3", "libz.so.1", "libsasl2.so.2", "libcurl.so.4", "librdkafka.so.1"] {
        assert!(!run(&[&ours[..], &[other]].concat()), "{other}");
    }
}
