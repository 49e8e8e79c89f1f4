//! The shipped compose file, as docker-compose reads it.

use std::fs;
use std::process::Command;

use crate::programs::{find, skipped};
use crate::proxies::proxy::REPLICAS;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/compose.yaml");
const CLUSTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/compose.cluster.yaml");

/// What docker-compose, Debian's or Docker's own, makes of the file: everything written out, keys sorted.
fn read(file: &str, test: &str) -> Option<String> {
    let mut command = match find("docker-compose") {
        Some(program) => Command::new(program),
        None if Command::new("docker").args(["compose", "version"]).output().is_ok_and(|out| out.status.success()) => {
            let mut docker = Command::new("docker");
            docker.arg("compose");
            docker
        }
        None => {
            skipped(test, "neither docker-compose nor docker compose is installed");
            return None;
        }
    };
    let output = command
        .args(["-f", file, "config"])
        .env("NATS_HOOKSINK_PASSWORD", "1e7")
        .env("NATS_ROUTE_PASSWORD", "2468")
        .env("HOOKSINK_CONFIG", "./my.toml")
        .output()
        .expect("docker-compose starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    assert!(!error.to_lowercase().contains("warn"), "{error}");
    Some(String::from_utf8(output.stdout).expect("text"))
}

#[test]
fn docker_compose_reads_the_shipped_file() {
    let Some(read) = read(FILE, "compose::docker_compose_reads_the_shipped_file") else { return };
    // Both services are confined, not only one of them.
    for line in ["read_only: true", "- no-new-privileges:true", "- ALL", "restart: unless-stopped"] {
        assert_eq!(read.matches(line).count(), 2, "{line} in:\n{read}");
    }
    for line in ["stop_grace_period: 15s", "condition: service_healthy", "source: meta_app_secret", "- healthcheck"] {
        assert_eq!(read.matches(line).count(), 1, "{line} in:\n{read}");
    }
    // hooksink believes exactly the proxy that stands in front of it.
    let address = read.lines().find_map(|line| line.trim().strip_prefix("ipv4_address: ")).expect("an address");
    assert!(read.contains(&format!(r#"'["{address}/32"]'"#)), "{read}");
    // No container that Docker gives an address to can have the proxy's: hooksink starts first, and got it.
    assert!(address.starts_with("172.30.80.") && read.contains("ip_range: 172.30.80.128/25"), "{read}");
    // Only the proxy is reachable from outside.
    let hooksink =
        read.split("\n  hooksink:").nth(1).and_then(|rest| rest.split("\nversion:").next()).expect("hooksink");
    assert!(!hooksink.contains("ports:"), "{hooksink}");
}

#[test]
fn docker_compose_reads_the_cluster() {
    let Some(read) = read(CLUSTER, "compose::docker_compose_reads_the_cluster") else { return };
    let mut addresses = Vec::new();
    for name in ["nats-1", "nats-2", "nats-3", "hooksink-1", "hooksink-2", "hooksink-3", "nginx"] {
        let service = read.split(&format!("\n  {name}:\n")).nth(1).unwrap_or_else(|| panic!("{name} in:\n{read}"));
        // Up to the next service.
        let lines: Vec<_> = service.lines().take_while(|line| line.starts_with("    ")).collect();
        addresses.extend(lines.iter().find_map(|line| line.trim().strip_prefix("ipv4_address: ")));
        for line in ["read_only: true", "- no-new-privileges:true", "- ALL", "restart: unless-stopped"] {
            assert!(lines.iter().any(|other| other.trim() == line), "{line} in {name}:\n{}", lines.join("\n"));
        }
        let ports = lines.iter().any(|line| line.trim() == "ports:");
        assert_eq!(ports, name == "nginx", "only the proxy is reachable from outside: {name}");
    }
    // Those that nginx passes requests to, which have no names there, and its own.
    let [replicas @ .., nginx] = &*addresses else { panic!("no addresses in:\n{read}") };
    assert_eq!(REPLICAS.map(|replica| replica.trim_end_matches(":8080")), replicas);
    assert_eq!(read.matches(&format!(r#"'["{nginx}/32"]'"#)).count(), 3, "{read}");
    // No container that Docker gives an address to can have one of them.
    assert!(read.contains("ip_range: 172.30.81.128/25") && read.contains("subnet: 172.30.81.0/24"), "{read}");
    for address in addresses {
        let last = address.strip_prefix("172.30.81.").and_then(|last| last.parse().ok());
        assert!(last.is_some_and(|last: u8| last < 128), "{address}");
    }
    // What nats-server is told, in its own quotation marks.
    for (name, value) in [
        ("HOOKSINK_PASSWORD", "1e7"),
        ("ROUTE_PASSWORD", "2468"),
        ("ROUTE_1", "nats-route://route:2468@nats-1:6222"),
        ("ROUTE_2", "nats-route://route:2468@nats-2:6222"),
        ("ROUTE_3", "nats-route://route:2468@nats-3:6222"),
    ] {
        assert_eq!(read.matches(&format!("NATS_{name}: '\"{value}\"'")).count(), 3, "{name} in:\n{read}");
    }
    assert!(read.contains("config/nginx.cluster.conf:/etc/nginx/nginx.conf:ro"), "{read}");
}

#[test]
fn the_configuration_of_the_cluster_is_one() {
    described_configuration_loads(CLUSTER);
}

#[test]
fn the_configuration_it_describes_is_one() {
    described_configuration_loads(FILE);
}

fn described_configuration_loads(file: &str) {
    let shipped = fs::read_to_string(file).unwrap();
    // The part of its comment that is TOML.
    let described: String = shipped
        .lines()
        .filter_map(|line| line.strip_prefix("#   "))
        .filter(|line| line.starts_with('[') || line.contains(" = "))
        .flat_map(|line| [line, "\n"])
        .collect();
    assert!(described.contains("[sources.messenger]"), "{described}");

    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().display().to_string();
    fs::write(folder.path().join("hooksink.toml"), described.replace("/run/secrets", &here)).unwrap();
    for secret in described.split("/run/secrets/").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(shipped.contains(&format!("  {secret}:\n    file:")), "{secret} is no secret of the file");
        fs::write(folder.path().join(secret), "user:secret").unwrap();
    }
    let variable = "HOOKSINK__SERVER__TRUSTED_PROXIES";
    let value = shipped.lines().find_map(|line| line.trim().strip_prefix(variable)?.strip_prefix(": ")).expect("it");
    let output = Command::new(env!("CARGO_BIN_EXE_hooksink"))
        .arg("check")
        .current_dir(folder.path())
        .env(variable, value.trim_matches('\''))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
