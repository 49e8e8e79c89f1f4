//! The shipped manifests, as the schemas of Kubernetes and hooksink itself read them, and the shipped file of NATS.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::programs::{find_or_skip, skipped};
use crate::support::shell::Shell;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/kubernetes.yaml");

#[test]
fn the_manifests_fit_the_schemas_of_kubernetes() {
    let test = "kubernetes::the_manifests_fit_the_schemas_of_kubernetes";
    let Some(python) = find_or_skip(test, "python3") else { return };
    // Where `tests/run` puts it.
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/kubernetes-validate");
    if !installed.is_dir() {
        return skipped(test, "kubernetes-validate is not installed");
    }
    let validate = |text: &str| {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("manifests.yaml"), text).expect("a file");
        Command::new(&python)
            .args(["-m", "kubernetes_validate", "--strict", "manifests.yaml"])
            .env("PYTHONPATH", &installed)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .current_dir(folder.path())
            .output()
            .expect("it starts")
    };
    let shipped = fs::read_to_string(FILE).expect("a shipped file");
    let output = validate(&shipped);
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
    for kind in ["configmap", "deployment", "poddisruptionbudget", "service", "networkpolicy"] {
        assert!(said.contains(&format!("passed for resource {kind}/hooksink")), "{kind}: {said}");
    }
    // That it would have said so.
    assert!(!validate(&shipped.replace("readinessProbe:", "readynessProbe:")).status.success());
}

#[test]
fn its_configuration_is_one_and_its_secrets_are_those_it_mounts() {
    let shipped = fs::read_to_string(FILE).expect("a shipped file");
    let block = shipped.split("  hooksink.toml: |\n").nth(1).expect("the file").split("\n---").next().expect("its end");
    let config: String = block.lines().map(|line| line.trim_start().to_owned() + "\n").collect();
    let mut shell = Shell::new();
    for name in config.split("/run/secrets/hooksink/").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(shipped.contains(&format!("--from-file={name}")), "{name} is no part of the secret");
        shell = shell.file(name, "user:secret");
    }
    let here = shell.path().display().to_string();
    let shell = shell.file("hooksink.toml", &config.replace("/run/secrets/hooksink", &here));
    let ran = shell.run("check").status(0);
    // The network between pods is taken for private, which is said and nothing else.
    let said = ran.out();
    let warnings: Vec<_> = said.lines().filter(|line| line.starts_with("warning: ")).collect();
    let expected = "warning: journal.password: goes to nats-0.nats without TLS";
    assert!(warnings.len() == 1 && warnings[0].starts_with(expected), "{warnings:?}");
    // Its ports are those that the manifests name.
    assert!(shipped.contains("containerPort: 8080") && shipped.contains("containerPort: 9090"));
    assert!(ran.out().contains("0.0.0.0:8080") && ran.out().contains("0.0.0.0:9090"), "{}", ran.out());
}

#[test]
fn nats_server_reads_the_shipped_file() {
    let Some(server) = find_or_skip("kubernetes::nats_server_reads_the_shipped_file", "nats-server") else { return };
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config/nats.conf");
    let output = Command::new(server)
        .args(["-c", file, "-t"])
        .envs([("NATS_NAME", "nats-1"), ("NATS_HOOKSINK_PASSWORD", "a-password")])
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("is valid"), "{said}");
}
