//! Every subcommand as a user meets it: the real binary in an empty folder, its output, its errors and its status.

use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

/// A folder of its own, and the binary in it with an empty environment.
struct Shell {
    folder: TempDir,
    environment: Vec<(String, String)>,
}

impl Shell {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), environment: Vec::new() }
    }

    fn file(self, name: &str, text: &str) -> Self {
        std::fs::write(self.path().join(name), text).unwrap();
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn run(&self, arguments: &str) -> Ran {
        let output = Command::new(env!("CARGO_BIN_EXE_hooksink"))
            .args(arguments.split_whitespace())
            .current_dir(self.path())
            .env_clear()
            .envs(self.environment.iter().cloned())
            .output()
            .unwrap();
        Ran(output)
    }
}

struct Ran(Output);

impl Ran {
    fn out(&self) -> String {
        String::from_utf8(self.0.stdout.clone()).unwrap()
    }

    fn err(&self) -> String {
        String::from_utf8(self.0.stderr.clone()).unwrap()
    }

    #[track_caller]
    fn status(self, status: i32) -> Self {
        assert_eq!(self.0.status.code(), Some(status), "{}{}", self.out(), self.err());
        self
    }
}

const CONFIG: &str = r#"
    [sources.messenger]
    type = "meta"
    verify_token = "marker-verify"
    app_secrets = [{ env = "APP_SECRET" }]
    own_app_ids = ["1517776481860111"]
    [sources.connect]
    type = "webex-connect"
    basic = ["user:marker-basic"]
    api_key = { query = "key", values = ["marker-key"] }
    [sinks.crm]
    type = "http"
    url = "https://crm.example/marker-path?marker=query"
    bearer = "marker-bearer"
    kinds = ["meta.message_echo", "webex_connect.*"]
    [sinks.archive]
    type = "file"
    path = "data/events.jsonl"
    [journal]
    max_size = "1 GiB"
    disk_reserve = "1 MiB"
"#;

#[test]
fn check_says_what_would_run_and_no_secret() {
    let shell = Shell::new().file("hooksink.toml", CONFIG).env("APP_SECRET", "marker-app");
    let ran = shell.run("check").status(0);
    assert_eq!(
        ran.out(),
        "configuration  hooksink.toml\n\
         public         http://0.0.0.0:8080\n\
         admin          http://127.0.0.1:9090, no token\n\
         journal        data/journal.db, kept 7days, at most 1.0 GiB\n\
         source connect    webex-connect  /webhooks/connect      basic and api_key\n\
         source messenger  meta           /webhooks/messenger    signature\n\
         sink archive      file           data/events.jsonl      every event\n\
         sink crm          http           https://crm.example/…  meta.message_echo, webex_connect.*\n\
         warning: sources.connect.timezone: not set: times without a zone are read as UTC, and Webex Connect sends \
         them in the tenant's own\n\
         the configuration is valid\n"
    );
    assert_eq!(ran.err(), "");
    assert_eq!(std::fs::read_dir(shell.path()).unwrap().count(), 1, "check writes nothing");
}

#[test]
fn a_wrong_configuration_is_78_with_everything_that_is_wrong() {
    let shell = Shell::new().file("other.toml", &CONFIG.replace("own_app_ids", "own_app_id"));
    for command in ["check", "serve"] {
        let ran = shell.run(&format!("{command} --config other.toml --set server.worker_threads=0")).status(78);
        assert_eq!(ran.out(), "");
        assert_eq!(
            ran.err(),
            "hooksink: the configuration is wrong\n  \
             --set: server.worker_threads: this must be a whole number from 1 to 1024\n  \
             other.toml: sources.messenger.app_secrets[0]: environment variable APP_SECRET is not set\n  \
             other.toml: sources.messenger.own_app_id: unknown key; did you mean \"own_app_ids\"? allowed here: type, \
             verify_token, app_secrets, allow_sha1, allow_addresses, auth, own_app_ids, page_inbox_app_ids, max_body\n"
        );
    }
    let ran = shell.run("check --config missing.toml").status(78);
    assert!(ran.err().contains("missing.toml: cannot be read: No such file or directory"), "{}", ran.err());
}

#[test]
fn the_configuration_may_be_named_by_the_environment() {
    let shell = Shell::new()
        .file("elsewhere.toml", "[server]\nlisten = \"127.0.0.1:1\"")
        .env("HOOKSINK_CONFIG", "elsewhere.toml")
        .env("HOOKSINK__ADMIN__LISTEN", "127.0.0.1:2");
    let ran = shell.run("check").status(0);
    assert!(ran.out().starts_with(
        "configuration  elsewhere.toml\npublic         http://127.0.0.1:1\nadmin          http://127.0.0.1:2,"
    ));
    assert!(ran.out().contains("warning: sinks: there is none"), "{}", ran.out());
}

#[test]
fn wrong_usage_is_2() {
    for arguments in
        ["", "serv", "check --colour", "send meta", "replay --sink a", "dead-letters retry", "sinks forget"]
    {
        let ran = Shell::new().run(arguments).status(2);
        assert!(ran.err().contains("Usage: hooksink"), "{arguments}: {}", ran.err());
    }
    let ran = Shell::new().run("send meta no.such.sample --url http://127.0.0.1:1/").status(2);
    assert!(ran.err().starts_with("hooksink: there is no meta sample and no file \"no.such.sample\""), "{}", ran.err());
}

#[test]
fn the_version_is_that_of_the_package() {
    let ran = Shell::new().run("--version").status(0);
    assert_eq!(ran.out(), format!("hooksink {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn schemas_and_completions_are_printed() {
    let shell = Shell::new();
    let schema: serde_json::Value = serde_json::from_str(&shell.run("schema events").status(0).out()).unwrap();
    assert!(jsonschema::meta::is_valid(&schema));
    assert!(shell.run("schema kinds").status(0).out().lines().any(|line| line == "meta.message_echo"));
    let config = shell.run("schema config").status(0).out();
    let shell = shell.file("hooksink.toml", &config);
    shell.run("check").status(0);
    for name in ["bash", "zsh", "fish"] {
        assert!(shell.run(&format!("completions {name}")).status(0).out().contains("dead-letters"), "{name}");
    }
}

#[test]
fn without_a_server_its_commands_are_69() {
    let shell = Shell::new();
    let port = closed_port();
    for command in ["healthcheck", "sinks list", "dead-letters list", "replay --sink a --from 1h"] {
        let ran = shell.run(&format!("{command} --set admin.listen=127.0.0.1:{port}")).status(69);
        let said = format!("hooksink: http://127.0.0.1:{port}/");
        assert!(ran.err().starts_with(&said) && ran.err().contains("Connection refused"), "{command}: {}", ran.err());
    }
    let ran = shell
        .file("body.json", "{}")
        .env("HOOKSINK_SEND_SECRET", "marker-secret")
        .run(&format!("send webex-connect body.json --url http://127.0.0.1:{port}/webhooks/x?key=marker-key"))
        .status(69);
    assert!(ran.err().contains("Connection refused") && !ran.err().contains("marker"), "{}", ran.err());
}

/// A port that nothing listens on: it was free a moment ago, and Linux does not hand it out again so soon.
fn closed_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
