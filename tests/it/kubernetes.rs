//! The shipped manifests, as the schemas of Kubernetes and hooksink itself read them, and the shipped file of NATS.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::programs::{find_or_skip, skipped};
use crate::support::daemon::{Daemon, free_port};
use crate::support::server::eventually;
use crate::support::shell::Shell;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/kubernetes.yaml");
const NATS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/nats.conf");

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
    let authority = rcgen::generate_simple_self_signed(["nats".to_owned()]).expect("a certificate").cert.pem();
    let mut shell = Shell::new();
    for name in config.split("/run/secrets/hooksink/").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(shipped.contains(&format!("--from-file={name}")), "{name} is no part of the secret");
        shell = shell.file(name, if name == "nats_ca.crt" { &authority } else { "user:secret" });
    }
    let here = shell.path().display().to_string();
    let shell = shell.file("hooksink.toml", &config.replace("/run/secrets/hooksink", &here));
    let ran = shell.run("check").status(0);
    // No secret goes anywhere in clear, and nothing else is worth a word.
    assert!(!ran.out().contains("warning: "), "{}", ran.out());
    // Its ports are those that the manifests name.
    assert!(shipped.contains("containerPort: 8080") && shipped.contains("containerPort: 9090"));
    assert!(ran.out().contains("0.0.0.0:8080") && ran.out().contains("0.0.0.0:9090"), "{}", ran.out());
}

/// With the shipped file; only what differs between machines is replaced.
#[test]
fn nats_servers_know_each_other_by_their_password() {
    let test = "kubernetes::nats_servers_know_each_other_by_their_password";
    let Some(program) = find_or_skip(test, "nats-server") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let [clients, routes, web] = [(); 3].map(|()| [(); 4].map(|()| free_port()));
    let start = |node: usize, password: &str| {
        let mut text = fs::read_to_string(NATS).expect("a shipped file");
        let store = folder.path().join(format!("store-{node}"));
        for (theirs, ours) in [
            ("listen: 0.0.0.0:4222", format!("listen: 127.0.0.1:{}", clients[node])),
            ("http: 127.0.0.1:8222", format!("http: 127.0.0.1:{}", web[node])),
            ("listen: 0.0.0.0:6222", format!("listen: 127.0.0.1:{}", routes[node])),
            ("store_dir: /data", format!("store_dir: {store:?}")),
        ] {
            assert_eq!(text.matches(theirs).count(), 1, "{theirs}");
            text = text.replace(theirs, &ours);
        }
        let file = folder.path().join(format!("{node}.conf"));
        fs::write(&file, text).expect("a file");
        let output = fs::File::create(folder.path().join(format!("{node}.log"))).expect("a file");
        let mut command = Command::new(&program);
        command.arg("-c").arg(file).stdout(Stdio::null()).stderr(output);
        command.env("NATS_NAME", format!("nats-{node}")).env("NATS_HOOKSINK_PASSWORD", "\"1e7\"");
        command.env("NATS_ROUTE_PASSWORD", format!("\"{password}\""));
        for (number, port) in (1..).zip(&routes[..3]) {
            let route = format!("\"nats-route://route:{password}@127.0.0.1:{port}\"");
            command.env(format!("NATS_ROUTE_{number}"), route);
        }
        Daemon::start(&mut command)
    };
    let others = |node: usize| {
        // It answers an older client in one piece, and hangs up.
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, web[node])).ok()?;
        stream.write_all(b"GET /routez HTTP/1.0\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let answer: Value = serde_json::from_str(text.split_once("\r\n\r\n")?.1).ok()?;
        let names =
            answer["routes"].as_array()?.iter().filter_map(|route| Some(route["remote_name"].as_str()?.to_owned()));
        Some(names.collect::<BTreeSet<_>>())
    };
    let whole = |node: usize| {
        let expected: BTreeSet<_> =
            (0..3).filter(|other| *other != node).map(|other| format!("nats-{other}")).collect();
        eventually("the three have found each other", || (others(node)? == expected).then_some(()));
    };
    // Of digits alone, as a password may be.
    let _nodes = [0, 1, 2].map(|node| start(node, "2468"));
    (0..3).for_each(whole);

    let _stranger = start(3, "1357");
    let log = || fs::read_to_string(folder.path().join("3.log")).unwrap_or_default();
    eventually("it is turned away", || log().contains("Authorization Violation").then_some(()));
    // It takes itself for one of them until it hears that it is not; what they say counts.
    (0..3).for_each(whole);
}
