use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::time::Duration;

use super::*;

const META: &str = r#"
    [sources.m]
    type = "meta"
    verify_token = "marker-verify"
    app_secrets = ["marker-app"]
    own_app_ids = ["1"]
"#;

/// A file, the environment and the files of secrets, as a test gives them.
#[derive(Default)]
struct Given {
    text: Option<String>,
    environment: BTreeMap<String, String>,
    flags: Vec<(String, String)>,
}

impl Given {
    fn text(text: impl Into<String>) -> Self {
        Self { text: Some(text.into()), ..Self::default() }
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    fn flag(mut self, key: &str, value: &str) -> Self {
        self.flags.push((key.into(), value.into()));
        self
    }

    fn inputs(&self) -> Inputs<'_> {
        Inputs {
            file: self.text.clone().map(|text| ("hooksink.toml".into(), text)),
            environment: self.environment.clone(),
            flags: self.flags.clone(),
            read_secret: &read_secret,
        }
    }

    fn load(&self) -> Result<Loaded, ConfigErrors> {
        load(&self.inputs())
    }

    #[track_caller]
    fn config(&self) -> Config {
        match self.load() {
            Ok(loaded) => loaded.config,
            Err(errors) => panic!("{errors}"),
        }
    }

    #[track_caller]
    fn errors(&self) -> String {
        self.load().expect_err("this must not load").to_string()
    }
}

fn read_secret(path: &Path) -> io::Result<Vec<u8>> {
    match path.to_str() {
        Some("/run/secrets/app") => Ok(b"marker-file\r\n".to_vec()),
        Some("/run/secrets/empty") => Ok(b"\n".to_vec()),
        Some("/run/secrets/hooksink.creds") => Ok(b"BEGIN NATS USER JWT, BEGIN USER NKEY SEED".to_vec()),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

fn meta(config: &Config) -> &MetaConfig {
    match config.sources.values().next() {
        Some(SourceConfig::Meta(meta)) => meta,
        other => panic!("{other:?}"),
    }
}

fn connect(config: &Config) -> &WebexConnectConfig {
    match config.sources.values().next() {
        Some(SourceConfig::WebexConnect(connect)) => connect,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_defaults_load_by_themselves() {
    let config = Given::default().config();
    assert_eq!(config.server.listen.to_string(), "0.0.0.0:8080");
    assert_eq!(config.server.max_header_bytes, 32 * 1024);
    assert_eq!(config.journal.retention, Duration::from_secs(7 * 86_400));
    assert_eq!(config.admin.hosts, ["localhost", "127.0.0.1", "[::1]"]);
    assert!(config.sources.is_empty() && config.sinks.is_empty());
}

#[test]
fn later_layers_rank_above_earlier_ones() {
    let given = Given::text("[server]\nlisten = \"127.0.0.1:1\"\nworker_threads = 3\nmax_in_flight = 5")
        .env("HOOKSINK__SERVER__LISTEN", "127.0.0.1:2")
        .env("HOOKSINK__SERVER__WORKER_THREADS", "4")
        .flag("server.listen", "127.0.0.1:3");
    let config = given.config();
    assert_eq!(config.server.listen.port(), 3);
    assert_eq!(config.server.worker_threads, 4);
    assert_eq!(config.server.max_in_flight, 5);
    assert_eq!(config.server.max_connections, 4096);
}

#[test]
fn the_environment_needs_no_quotes() {
    let config = Given::text(META)
        .env("HOOKSINK__SOURCES__M__VERIFY_TOKEN", "12345")
        .env("HOOKSINK__SOURCES__M__APP_SECRETS", r#"["true", { file = "/run/secrets/app" }]"#)
        .env("HOOKSINK__SOURCES__M__MAX_BODY", "1 MiB")
        .env("HOOKSINK__SOURCES__M__OWN_APP_IDS", "1517776481860111")
        .env("HOOKSINK__SERVER__TRUSTED_PROXIES", "10.0.0.0/8")
        .config();
    let meta = meta(&config);
    assert!(meta.verify_token.first().unwrap().verify(b"12345"));
    assert!(meta.auth.signature_secrets.load()[0].verify(b"true"));
    assert!(meta.auth.signature_secrets.load()[1].verify(b"marker-file"));
    assert_eq!(meta.max_body, 1 << 20);
    assert_eq!(meta.own_app_ids, ["1517776481860111"]);
    assert_eq!(config.server.trusted_proxies[0].to_string(), "10.0.0.0/8");
}

#[test]
fn errors_name_the_file_the_key_and_what_is_allowed() {
    let errors = Given::text(
        r#"
        servers = 1
        [server]
        lisen = "127.0.0.1:1"
        worker_threads = 0
        trusted_proxies = ["10.0.0.0/8", "10.0.0.0/99"]
        client_address_header = "x-real-ip"
        ack_timeout = 4
        max_buffered = 1048576
        shutdown_timeout = "1s"
        [sources.Bad]
        type = "meta"
        [sources.b]
        type = "webex"
        [sinks.c]
        type = "file"
        "#,
    )
    .errors();
    for line in [
        "hooksink.toml: servers: unknown key; did you mean \"server\"? allowed here: server, admin, journal, log, sources, sinks",
        "hooksink.toml: server.lisen: unknown key; did you mean \"listen\"? allowed here: listen, worker_threads, \
         trusted_proxies, client_address_header, public_url_prefix, max_connections, max_header_bytes, \
         header_read_timeout, body_read_timeout, max_in_flight, max_buffered, ack_timeout, drain_delay, \
         shutdown_timeout",
        "hooksink.toml: server.worker_threads: this must be a whole number from 1 to 1024",
        "hooksink.toml: server.trusted_proxies: item 2: \"10.0.0.0/99\" is no address range; write it like \
         \"10.0.0.0/8\", \"203.0.113.7\" or \"2001:db8::/32\"",
        "hooksink.toml: server.client_address_header: \"x-real-ip\" is not allowed; this must be \"x-forwarded-for\" or \
         \"forwarded\" or \"none\"",
        "hooksink.toml: server.ack_timeout: this must be a duration; write it like \"250ms\", \"10s\" or \"7d\"",
        "hooksink.toml: server.max_buffered: this must be a size with its unit; write it like \"64 KiB\" or \"10 GiB\"",
        "hooksink.toml: server.shutdown_timeout: shutdown_timeout (1s) must be longer than drain_delay (2s), \
         which it includes",
        "hooksink.toml: sources.Bad: \"Bad\" is not a name: 1 to 32 characters of a-z, 0-9, '-' and '_', the first a \
         letter or digit",
        "hooksink.toml: sources.Bad.verify_token: this must be set: Meta asks for it before it sends anything",
        "hooksink.toml: sources.Bad: nothing authenticates this source's requests; set app_secrets, or say auth = \
         \"none\" if anyone may send",
        "hooksink.toml: sources.b.type: \"webex\" is not allowed; this must be \"webex-connect\" or \"meta\"",
        "hooksink.toml: sinks.c.path: this must be set",
    ] {
        assert!(errors.lines().any(|said| said == line), "not said: {line}\n\n{errors}");
    }
    assert_eq!(errors.lines().count(), 13, "{errors}");
}

#[test]
fn errors_name_the_environment_variable_and_the_flag() {
    let errors = Given::default()
        .env("HOOKSINK__SERVER__LISTEN", "everywhere")
        .env("HOOKSINK__SERVR__LISTEN", "127.0.0.1:1")
        .flag("log.format", "yaml")
        .errors();
    for line in [
        "environment variable HOOKSINK__SERVER__LISTEN: server.listen: \"everywhere\" is no address to listen on; write \
         it like \"0.0.0.0:8080\", \"127.0.0.1:9090\" or \"[::1]:8080\"",
        "--set: log.format: \"yaml\" is not allowed; this must be \"text\" or \"json\"",
    ] {
        assert!(errors.lines().any(|said| said == line), "not said: {line}\n\n{errors}");
    }
    assert!(
        errors.contains("environment variable HOOKSINK__SERVR__LISTEN: servr: unknown key; did you mean \"server\"?")
    );
    let errors = Given::default().env("HOOKSINK__SERVER____LISTEN", "x").errors();
    assert!(errors.starts_with("environment variable HOOKSINK__SERVER____LISTEN: this names no setting"), "{errors}");
}

#[test]
fn what_is_not_toml_is_located_and_not_shown() {
    let errors = Given::text("[server]\nlisten = \"127.0.0.1:1\"\n  token = \"marker-secret\n").errors();
    assert!(errors.starts_with("hooksink.toml: line 3, column "), "{errors}");
    assert!(!errors.contains("marker"), "{errors}");
}

#[test]
fn an_unset_or_empty_secret_is_an_error() {
    for (secret, message) in [
        (r#""""#, "sources.m.app_secrets: this secret is empty"),
        (
            "[]",
            "sources.m.app_secrets: the list is empty; write \"the secret\", { env = \"NAME\" } or { file = \"/path\" }, or a list of these, or leave the key out",
        ),
        (
            "7",
            "sources.m.app_secrets: this is no secret; write \"the secret\", { env = \"NAME\" } or { file = \"/path\" }, or a list of these",
        ),
        (r#"[{ env = "UNSET" }]"#, "sources.m.app_secrets[0]: environment variable UNSET is not set"),
        (r#"["a", { env = "BLANK" }]"#, "sources.m.app_secrets[1]: environment variable BLANK: this secret is empty"),
        (
            r#"{ file = "/run/secrets/gone" }"#,
            "sources.m.app_secrets: file /run/secrets/gone cannot be read: entity not found",
        ),
        (r#"{ file = "/run/secrets/empty" }"#, "sources.m.app_secrets: file /run/secrets/empty: this secret is empty"),
        (r#"" \n""#, "sources.m.app_secrets: this secret is empty"),
        (
            r#"{ env = "A", file = "b" }"#,
            "sources.m.app_secrets: this is no secret; write \"the secret\", { env = \"NAME\" } or { file = \"/path\" }, or a list of these",
        ),
    ] {
        let text = META.replace(r#"["marker-app"]"#, secret);
        let errors = Given::text(text).env("BLANK", "").errors();
        assert_eq!(errors, format!("hooksink.toml: {message}"));
    }
    let errors = Given::text(META).flag("sources.m.app_secrets", "marker").errors();
    assert_eq!(
        errors,
        "--set: sources.m.app_secrets: a secret on the command line is seen by every user of the machine; use a file or \
         the environment"
    );
}

#[test]
fn secrets_come_from_anywhere_and_are_not_printed() {
    let given = Given::text(
        META.replace(r#"["marker-app"]"#, r#"["marker-app", { env = "APP_SECRET" }, { file = "/run/secrets/app" }]"#),
    )
    .env("APP_SECRET", "marker-env");
    let loaded = given.load().unwrap();
    let secrets = meta(&loaded.config).auth.signature_secrets.load();
    for (secret, value) in secrets.iter().zip(["marker-app", "marker-env", "marker-file"]) {
        assert!(secret.verify(value.as_bytes()), "{value}");
    }
    assert_eq!(secrets.len(), 3);
    assert!(!format!("{loaded:?}").contains("marker"), "{loaded:?}");
}

#[test]
fn a_scheme_that_would_ask_for_nothing_is_an_error() {
    let connect = |keys: &str| Given::text(format!("[sources.c]\ntype = \"webex-connect\"\n{keys}"));
    for (keys, message) in [
        (r#"basic = "hooks:""#, "basic: the password is empty"),
        (r#"basic = ["hooks:x", "hooks:"]"#, "basic[1]: the password is empty"),
        (
            "bearer = \"x\"\nallow_addresses = []",
            "allow_addresses: the list is empty; leave the key out if every address may send",
        ),
    ] {
        assert_eq!(connect(keys).errors(), format!("hooksink.toml: sources.c.{message}"));
    }
    connect(r#"basic = "hooks::""#).config();
}

#[test]
fn a_source_says_how_it_is_authenticated() {
    let connect_with = |keys: &str| Given::text(format!("[sources.c]\ntype = \"webex-connect\"\n{keys}"));
    for (keys, message) in [
        (
            "",
            "sources.c: nothing authenticates this source's requests; set signature_secrets, or say auth = \"none\" if anyone may send",
        ),
        ("auth = \"none\"\nbearer = \"x\"", "sources.c.auth: \"none\" contradicts bearer; remove the one or the other"),
        (
            "auth = \"digest\"",
            "sources.c.auth: Digest is not supported; choose a signature in Webex Connect (signature_secrets), or Basic (basic)",
        ),
        (
            "digest = \"a:b\"",
            "sources.c.digest: Digest is not supported; choose a signature in Webex Connect (signature_secrets), or Basic (basic)",
        ),
        (
            "aws_signature = \"x\"",
            "sources.c.aws_signature: AWS Signature is not supported; choose a signature in Webex Connect (signature_secrets), or a bearer token (bearer)",
        ),
        (
            "auth = \"basic\"",
            "sources.c.auth: the only value is \"none\"; a scheme is switched on by giving its secrets",
        ),
        ("basic = \"user\"", "sources.c.basic: this must be \"user:password\""),
        (
            "basic = \"a:b\"\nbearer = \"x\"",
            "sources.c.basic: this contradicts bearer: both must hold, and a request has only one Authorization",
        ),
        (
            "bearer = \"a\\nb\"",
            "sources.c.bearer: this secret has a character that cannot stand in a header (check for a stray space or newline)",
        ),
        (
            "api_key = { values = \"x\" }",
            "sources.c.api_key: this must have header = \"name\" or query = \"name\", one of the two",
        ),
        ("api_key = { header = \"x-key\" }", "sources.c.api_key.values: this must be set: the key, or a list of keys"),
        (
            "bearer = \"x\"\ntimezone = \"Mars\"",
            "sources.c.timezone: \"Mars\" is no time zone; write an IANA name (\"Asia/Kolkata\") or an offset (\"+05:45\")",
        ),
        (
            "signature_secret = \"x\"\nauth = \"none\"",
            "sources.c.signature_secret: unknown key; did you mean \"signature_secrets\"? allowed here: type, signature_secrets, allow_sha1, basic, bearer, api_key, allow_addresses, auth, timezone, max_body",
        ),
    ] {
        assert_eq!(connect_with(keys).errors(), format!("hooksink.toml: {message}"));
    }
    assert!(connect(&connect_with("auth = \"none\"").config()).auth.none);
    let config = connect_with("bearer = \"x\"\nallow_addresses = \"203.0.113.7\"").config();
    assert_eq!(connect(&config).auth.schemes(), ["bearer", "address"]);
    assert!(!connect(&config).auth.none);
}

#[test]
fn a_sink_is_checked() {
    let sink_with = |keys: &str| Given::text(format!("[sinks.s]\ntype = {keys}"));
    let types: Vec<_> = SinkKind::TYPES.iter().map(|name| format!("\"{name}\"")).collect();
    let unknown = format!("sinks.s.type: \"smtp\" is not allowed; this must be {}", types.join(" or "));
    assert_eq!(sink_with("\"smtp\"").errors(), format!("hooksink.toml: {unknown}"));
    for (keys, message) in [
        ("\"http\"\nurl = \"ftp://h/p\"", "sinks.s.url: this must begin with http:// or https://, not ftp:"),
        (
            "\"http\"\nurl = \"https://marker:marker@h/p\"",
            "sinks.s.url: user and password do not belong in the URL; use basic",
        ),
        (
            "\"http\"\nurl = \"marker\"",
            "sinks.s.url: this is no URL: relative URL without a base; write it like \"https://host/path\"",
        ),
        (
            "\"http\"\nurl = \"https://h\"\nbasic = \"a:b\"\nbearer = \"x\"",
            "sinks.s: basic and bearer each make an Authorization header; keep one of them",
        ),
        (
            "\"http\"\nurl = \"https://h\"\nheaders = { webhook-id = \"x\" }",
            "sinks.s.headers.webhook-id: this header is set by hooksink itself",
        ),
        (
            "\"http\"\nurl = \"https://h\"\nsigning_secret = \"whsec_?\"",
            "sinks.s.signing_secret: what follows whsec_ is not Base64",
        ),
        (
            "\"http\"\nurl = \"https://h\"\npermanent_statuses = [200]",
            "sinks.s.permanent_statuses: item 1: this must be a status from 300 to 599, or a range like \"400-403\"",
        ),
        (
            "\"http\"\nurl = \"https://h\"\nconnect_timeout = \"1m\"",
            "sinks.s.timeout: this must not be shorter than connect_timeout (60s)",
        ),
        ("\"log\"\nretry_max = \"1ms\"", "sinks.s.retry_max: this must not be shorter than retry_initial (500ms)"),
        (
            "\"file\"\npath = \"data/./journal.db\"",
            "sinks.s.path: data/./journal.db is written by journal.path too; each needs a file of its own",
        ),
        (
            "\"file\"\npath = \"a\"\nkeep_files = 1",
            "sinks.s.keep_files: this has no meaning without rotate_size or rotate_age",
        ),
    ] {
        assert_eq!(sink_with(keys).errors(), format!("hooksink.toml: {message}"));
    }
}

#[test]
fn a_redis_sink_is_checked() {
    let errors = |keys: &str| Given::text(format!("[sinks.s]\ntype = \"redis\"\n{keys}")).errors();
    let one = "this must be one URL, unless cluster or sentinel_master is set";
    let form = "write it like \"redis://host:6379\", \"redis://host:6379/2\" or, for TLS, \"rediss://host:6379\"";
    for (keys, message) in [
        ("url = \"http://h\"", "url: this must begin with redis:// or rediss://, not http:"),
        (
            "url = \"redis://marker:marker@h\"",
            "url: user and password do not belong in the URL; use username and password",
        ),
        ("url = \"redis://h/x\"", &format!("url: what follows the host is the number of a database; {form}")),
        ("url = \"rediss://h/#insecure\"", &format!("url: nothing is set by what follows ? or # in a URL; {form}")),
        ("url = \"redis:///0\"", &format!("url: this names no host; {form}")),
        ("url = [\"redis://a\", \"redis://b\"]", &format!("url: {one}")),
        (
            "url = [\"redis://a\", \"rediss://b\"]\ncluster = true",
            "url: all of the list must have the same scheme and the same number of a database",
        ),
        ("url = \"redis://a/1\"\ncluster = true", "url: a cluster has no database but 0"),
        (
            "url = \"redis://a\"\ncluster = true\nsentinel_master = \"m\"",
            "cluster: this contradicts sentinel_master; keep one of them",
        ),
        (
            "url = \"redis://a\"\nsentinel_username = \"m\"",
            "sentinel_username: this has no meaning without sentinel_master",
        ),
        ("url = \"redis://a\"\nusername = \"m\"", "username: this has no meaning without password"),
        ("url = \"redis://a\"\nca_file = \"m\"", "ca_file: this has no meaning without TLS: begin url with rediss://"),
        ("url = \"rediss://a\"\nclient_cert_file = \"m\"", "client_key_file: this must be set beside client_cert_file"),
        (
            "url = \"redis://a\"\nstream = \"{subject}\"",
            "stream: {subject} is not known; in braces stand {source}, {sourcetype} or {kind}",
        ),
    ] {
        assert_eq!(errors(keys), format!("hooksink.toml: sinks.s.{message}"), "{keys}");
    }
    let config = Given::text("[sinks.s]\ntype = \"redis\"\nurl = \"rediss://[::1]:7000/2\"").config();
    assert_eq!(config.sinks.values().next().unwrap().kind.target(), "rediss://[::1]:7000/2, stream hooksink:{source}");
}

/// The types of sink with a server, and the least that each must be told.
const WITH_A_SERVER: &[(&str, &str)] = &[
    ("http", "url = \"http://127.0.0.1:1\""),
    ("redis", "url = \"redis://127.0.0.1:1\""),
    #[cfg(feature = "kafka")]
    ("kafka", "brokers = \"127.0.0.1:1\"\ntopic = \"t\""),
    ("nats", "url = \"nats://127.0.0.1:1\""),
    ("postgres", "url = \"postgres://127.0.0.1:1/d\"\nusername = \"u\""),
    ("rabbitmq", "url = \"amqp://127.0.0.1:1\"\nusername = \"u\"\npassword = \"p\"\nexchange = \"e\""),
];

/// The types of sink that deliver to another machine, as far as they are built.
fn types_with_a_server() -> BTreeSet<&'static str> {
    let here = ["log", "file"];
    let built = |name: &&str| cfg!(feature = "kafka") || *name != "kafka";
    assert!(here.iter().all(|name| SinkKind::TYPES.contains(name)));
    SinkKind::TYPES.iter().copied().filter(|name| !here.contains(name)).filter(built).collect()
}

/// How much a server is handed, and for how long, is bounded alike for all of them; but librdkafka, whose times have
/// bounds of their own, takes less.
#[test]
fn every_server_is_called_within_the_same_bounds() {
    assert_eq!(WITH_A_SERVER.iter().map(|(kind, _)| *kind).collect::<BTreeSet<_>>(), types_with_a_server());
    for (kind, needed) in WITH_A_SERVER {
        let with = |keys: &str| Given::text(format!("[sinks.s]\ntype = \"{kind}\"\n{needed}\n{keys}"));
        for (keys, message) in [
            ("timeout = \"61m\"", "timeout: this must be at most \"1h\""),
            ("connect_timeout = \"0s\"", "connect_timeout: this must be longer than nothing"),
            ("timeout = \"4s\"", "timeout: this must not be shorter than connect_timeout (5s)"),
            ("concurrency = 1025", "concurrency: this must be a whole number from 1 to 1024"),
            ("batch_events = 100001", "batch_events: this must be a whole number from 1 to 100000"),
            ("batch_bytes = \"2 GiB\"", "batch_bytes: this must be at most \"1 GiB\""),
        ] {
            assert_eq!(with(keys).errors(), format!("hooksink.toml: sinks.s.{message}"), "{kind}: {keys}");
        }
        let most = "connect_timeout = \"5m\"\ntimeout = \"10m\"\nconcurrency = 1024\nbatch_events = 100000\nbatch_bytes = \"1 GiB\"";
        let config =
            with(&(format!("{most}\n") + if *kind == "http" { "format = \"cloudevents_batch\"" } else { "" })).config();
        let sink = config.sinks.values().next().unwrap().kind.build(&"s".parse().unwrap(), [0; 32]).unwrap();
        let limits = sink.limits();
        assert_eq!((limits.max_events, limits.max_bytes, limits.concurrency), (100_000, 1 << 30, 1_024), "{kind}");
        assert!(limits.timeout > Duration::from_secs(600), "a sink ends its calls itself");
        let longest = with("timeout = \"1h\"").load();
        assert_eq!(longest.is_ok(), *kind != "kafka", "{kind}");
    }
}

#[test]
fn a_postgres_sink_is_checked() {
    let with = |keys: &str| Given::text(format!("[sinks.s]\ntype = \"postgres\"\nusername = \"u\"\n{keys}"));
    let form = "write it like \"postgres://host:5432/database\", or \"postgres://%2Frun%2Fpostgresql/database\" for a \
                socket in that folder";
    for (keys, message) in [
        ("url = \"mysql://h/d\"", "url: this must begin with postgres://, not mysql:"),
        (
            "url = \"postgres://marker:marker@h/d\"",
            "url: user and password do not belong in the URL; use username and password",
        ),
        ("url = \"postgres://h\"", &format!("url: this names no database; {form}")),
        ("url = \"postgres:///d\"", &format!("url: this names no host; {form}")),
        (
            "url = \"postgres://h/d?sslmode=disable\"",
            &format!("url: nothing is set by what follows ? or # in a URL; {form}"),
        ),
        ("url = [\"postgres://a/d\", \"postgres://b/e\"]", "url: all of the list must name the same database"),
        ("url = []", "url: the list is empty"),
        (
            "url = \"postgres://h/d\"\nsslmode = \"prefer\"",
            "sslmode: \"prefer\" is not allowed; this must be \"verify-full\" or \"require\" or \"disable\"",
        ),
        (
            "url = \"postgres://h/d\"\nsslmode = \"disable\"\nca_file = \"f\"",
            "ca_file: this has no meaning without TLS: sslmode is \"disable\", or url a socket",
        ),
        (
            "url = \"postgres://%2Frun/d\"\nsslmode = \"require\"",
            "sslmode: a socket of this machine has no TLS; leave this out",
        ),
        (
            "url = \"postgres://h/d\"\ntable = \"Events\"",
            "table: this must be \"table\" or \"schema.table\", of a-z, 0-9 and _, with at most 51 characters each",
        ),
    ] {
        assert_eq!(with(keys).errors(), format!("hooksink.toml: sinks.s.{message}"), "{keys}");
    }
    let target = |keys: &str| with(keys).config().sinks.values().next().unwrap().kind.target();
    assert_eq!(target("url = \"postgresql://[::1]/d\""), "postgres://[::1]:5432/d, table hooksink_events");
    assert_eq!(
        target("url = \"postgres://%2Frun%2Fpg:7/d\"\ntable = \"a.b\""),
        "postgres:///run/pg/.s.PGSQL.7/d, table a.b"
    );
}

#[test]
fn beyond_loopback_the_admin_listener_needs_a_token() {
    let open = "[admin]\nlisten = \"0.0.0.0:9090\"\n";
    assert_eq!(
        Given::text(open).errors(),
        "hooksink.toml: admin.token: this must be set, since 0.0.0.0:9090 can be reached from other machines (or listen \
         on 127.0.0.1)"
    );
    assert!(!Given::text(format!("{open}token = \"x\"")).config().admin.token.is_empty());
}

#[test]
fn listeners_and_limits_must_fit_together() {
    let server = "[server]\nlisten = \"127.0.0.1:9090\"\nmax_buffered = \"1 MiB\"\ndrain_delay = \"8s\"";
    assert_eq!(
        Given::text(server).errors(),
        "hooksink.toml: server.drain_delay: shutdown_timeout (8s) must be longer than drain_delay (8s), which it includes\n\
         hooksink.toml: server.listen: 127.0.0.1:9090 would be both server.listen and admin.listen; each needs a port \
         of its own"
    );
    assert_eq!(
        Given::text(format!("[server]\nmax_buffered = \"1 MiB\"\n{META}")).errors(),
        "hooksink.toml: sources.m.max_body: this is more than three quarters of server.max_buffered, so that the \
         largest bodies would never fit"
    );
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    let loaded = Given::text(
        r#"
        [sources.a]
        type = "webex-connect"
        auth = "none"
        [sources.b]
        type = "meta"
        verify_token = "x"
        allow_addresses = ["10.0.0.1"]
        [sinks.s]
        type = "log"
        kinds = ["meta.mesage_echo", "whatsapp.*", "meta.*"]
        sources = ["c"]
        "#,
    )
    .load()
    .unwrap();
    let warnings: Vec<_> = loaded.warnings.iter().map(Warning::to_string).collect();
    let begins = [
        "sources.a.auth: \"none\": whoever reaches",
        "sources.a.timezone: not set:",
        "sources.b.allow_addresses: the address is all that is checked",
        "sources.b.own_app_ids: not set:",
        "sinks.s.sources: \"c\" fits nothing; ",
        "sinks.s.kinds: \"meta.mesage_echo\" fits nothing; did you mean \"meta.message_echo\"?",
        "sinks.s.kinds: \"whatsapp.*\" fits nothing; there are webex_connect.delivery_notification,",
    ];
    assert_eq!(warnings.len(), begins.len(), "{warnings:#?}");
    for (warning, begin) in warnings.iter().zip(begins) {
        assert!(warning.starts_with(begin), "{warning}");
    }
    let bare: Vec<_> = Given::default().load().unwrap().warnings.into_iter().map(|warning| warning.key).collect();
    assert_eq!(bare, ["sources", "sinks"]);
}

/// One warning a setting whose secret would go to another machine as it is, or so that it can be guessed.
#[test]
fn a_secret_that_others_could_read_on_its_way_is_a_warning() {
    let exposed = |text: &str| {
        let loaded = Given::text(text).load().unwrap_or_else(|errors| panic!("{errors}"));
        let warnings: Vec<_> = loaded.warnings.iter().map(Warning::to_string).collect();
        assert!(!format!("{warnings:?}").contains("marker"), "{warnings:?}");
        let exposed = warnings.into_iter().filter_map(|warning| Some(warning.split_once(" without TLS")?.0.to_owned()));
        exposed.collect::<Vec<_>>()
    };
    let user = "username = \"u\"\npassword = \"marker\"\n";
    let mut covered = BTreeSet::new();
    for (lines, keys) in [
        ("type = \"http\"\nurl = \"http://HOST/\"\nbearer = \"marker\"".to_owned(), &["bearer"] as &[&str]),
        (
            "type = \"http\"\nurl = \"http://HOST/\"\nbasic = \"u:marker\"\nheaders = { x-key = \"marker\" }"
                .to_owned(),
            &["basic", "headers.x-key"],
        ),
        (format!("type = \"redis\"\nurl = \"redis://HOST\"\n{user}"), &["password"]),
        (
            "type = \"redis\"\nurl = \"redis://HOST\"\nsentinel_master = \"m\"\nsentinel_password = \"marker\""
                .to_owned(),
            &["sentinel_password"],
        ),
        (format!("type = \"nats\"\nurl = \"nats://HOST\"\n{user}"), &["password"]),
        ("type = \"nats\"\nurl = \"nats://HOST\"\ntoken = \"marker\"".to_owned(), &["token"]),
        (format!("type = \"postgres\"\nurl = \"postgres://HOST/d\"\nsslmode = \"disable\"\n{user}"), &["password"]),
        (format!("type = \"rabbitmq\"\nurl = \"amqp://HOST\"\nexchange = \"e\"\n{user}"), &["password"]),
        #[cfg(feature = "kafka")]
        (
            format!("type = \"kafka\"\nbrokers = \"HOST:1\"\ntopic = \"t\"\nsasl = \"scram-sha-256\"\n{user}"),
            &["password"],
        ),
    ] {
        covered.extend(types_with_a_server().into_iter().filter(|kind| lines.contains(&format!("type = \"{kind}\""))));
        let sink = |lines: &str, host: &str| exposed(&format!("[sinks.s]\n{}", lines.replace("HOST", host)));
        let expected: Vec<_> = keys.iter().map(|key| format!("sinks.s.{key}: goes to far.example")).collect();
        assert_eq!(sink(&lines, "far.example"), expected, "{lines}");
        // On this machine nobody else sees it.
        for host in ["localhost", "127.0.0.1", "[::1]"] {
            assert_eq!(sink(&lines, host), [""; 0], "{lines}");
        }
        // Nor over TLS, nor where there is none.
        let tls = lines
            .replace("http:", "https:")
            .replace("redis:", "rediss:")
            .replace("nats:", "tls:")
            .replace("amqp:", "amqps:")
            .replace("sslmode = \"disable\"", "")
            .replace("topic", "tls = true\ntopic");
        assert_eq!(sink(&tls, "far.example"), [""; 0], "{tls}");
    }
    assert_eq!(covered, types_with_a_server());
    assert_eq!(exposed("[sinks.s]\ntype = \"redis\"\nurl = \"redis://far.example\""), [""; 0]);
    // A key signs, and stays where it is.
    assert_eq!(exposed("[sinks.s]\ntype = \"nats\"\nurl = \"nats://far.example\"\nnkey = \"SU\""), [""; 0]);
    let journal = "[journal]\nengine = \"jetstream\"\nservers = [\"nats://127.0.0.1\", \"nats://far.example\"]\n";
    assert_eq!(exposed(&format!("{journal}{user}")), ["journal.password: goes to far.example"]);
}

#[test]
fn reloading_rotates_secrets_and_names_the_rest() {
    let text = META.replace(r#"["marker-app"]"#, r#"{ env = "APP_SECRET" }"#);
    let loaded = Given::text(text.clone()).env("APP_SECRET", "old").load().unwrap();
    let live = meta(&loaded.config).auth.signature_secrets.clone();

    let same = Given::text(text.clone()).env("APP_SECRET", "old");
    assert_eq!(loaded.reload(&same.inputs()).unwrap(), Reloaded::default());

    let broken = Given::text(format!("{text}colour = 1")).env("APP_SECRET", "new");
    assert!(loaded.reload(&broken.inputs()).is_err());
    assert!(live.first().unwrap().verify(b"old"), "an invalid configuration changes nothing");

    let changed = format!("{}\nallow_sha1 = true\n[server]\nworker_threads = 7\n[admin]\ntoken = \"x\"", text);
    let changed = Given::text(changed.replace("own_app_ids = [\"1\"]", "")).env("APP_SECRET", "new");
    let reloaded = loaded.reload(&changed.inputs()).unwrap();
    assert_eq!(reloaded.rotated, ["sources.m.app_secrets"]);
    assert_eq!(
        reloaded.restart,
        ["admin.token", "server.worker_threads", "sources.m.allow_sha1", "sources.m.own_app_ids"]
    );
    assert!(live.first().unwrap().verify(b"new"));
    assert_eq!(live.load().len(), 1);
}

#[test]
fn operators_need_no_secrets_of_sources() {
    let given = Given::text(
        "[admin]\nlisten = \"127.0.0.1:1\"\n[sources.m]\ntype = \"meta\"\nverify_token = { env = \"UNSET\" }",
    );
    assert!(given.load().is_err());
    let (admin, journal) = load_operator(&given.inputs()).unwrap();
    assert_eq!(admin.listen.port(), 1);
    let Engine::Sqlite(file) = journal.engine else { panic!("the default is another") };
    assert_eq!(file.path, Path::new("data/journal.db"));
}

/// The blocks of `config/hooksink.toml` that stand in it as comments: `#key = value`, where prose is `# text`.
fn blocks() -> Vec<Vec<&'static str>> {
    let mut blocks: Vec<Vec<&str>> = Vec::new();
    for line in DEFAULTS.lines().filter_map(|line| line.strip_prefix('#')).filter(|line| !line.starts_with([' ', '#']))
    {
        match blocks.last_mut() {
            _ if line.starts_with('[') => blocks.push(vec![line]),
            Some(block) => block.push(line),
            // Before the first block: a setting of a section that stands there.
            None => {}
        }
    }
    blocks.retain(|block| !block.is_empty());
    blocks
}

fn block(lines: &[&str]) -> Given {
    let lines = lines.join("\n");
    let mut given = Given::text(lines.clone());
    // Each secret that a block refers to is there.
    for rest in lines.split("env = \"").skip(1) {
        let name = rest.split('"').next().unwrap_or_default();
        let secret = match name {
            "NATS_SEED" => "SU",
            "NATS_CREDENTIALS" => "BEGIN NATS USER JWT, BEGIN USER NKEY SEED",
            _ => "user:secret",
        };
        given.environment.insert(name.into(), secret.into());
    }
    given
}

#[test]
fn every_block_of_the_documentation_loads() {
    let blocks = blocks();
    assert_eq!(blocks.len(), DEFAULTS.matches("\n#[").count(), "{blocks:#?}");
    for lines in &blocks {
        block(lines).config();
    }
    let all: Vec<_> = blocks.concat();
    block(&all).config();
}

#[test]
fn a_documented_default_is_the_default() {
    for lines in blocks() {
        for line in lines.iter().skip(1) {
            let comment = line.rsplit_once(" # ").map(|(_, comment)| comment).unwrap_or_default();
            let without: Vec<_> = lines.iter().copied().filter(|other| other != line).collect();
            if comment.starts_with("default") {
                let same = (format!("{:?}", block(&lines).config()), format!("{:?}", block(&without).config()));
                assert_eq!(same.0, same.1, "{line}");
            } else if comment.starts_with("required") {
                block(&without).errors();
            } else {
                assert!(comment.starts_with("no default"), "what is it? {line}");
            }
        }
    }
}

#[test]
fn every_setting_is_documented() {
    let asked_by = |given: &Given| {
        let inputs = given.inputs();
        let (table, origins) = merge(&inputs).unwrap();
        let reader = Reader::new(&inputs, &origins);
        let _ = read(&reader, &Value::Table(table));
        reader.finish().asked
    };
    let blocks = blocks();
    let all: Vec<_> = blocks.concat();
    // By the type of the block, since that is what decides which keys there are.
    let mut asked = BTreeSet::new();
    let mut documented = BTreeSet::new();
    for lines in &blocks {
        let name = lines[0].trim_matches(['[', ']']);
        let kind =
            name.split('.').next().unwrap_or_default().to_owned() + " " + lines[1].split('#').next().unwrap().trim();
        let below = |key: &String| key.strip_prefix(name)?.strip_prefix('.').map(|key| format!("{kind}: {key}"));
        asked.extend(asked_by(&block(lines)).iter().filter_map(below));
        let keys = lines.iter().skip(1).filter_map(|line| line.split_once(" = "));
        documented.extend(keys.map(|(key, _)| format!("{kind}: {key}")));
    }
    // The settings of all sinks are explained once, with the first.
    let delivery: Vec<_> = asked.iter().filter(|key| key.starts_with("sinks type = \"log\"")).cloned().collect();
    for key in delivery.iter().filter_map(|key| key.strip_prefix("sinks type = \"log\": ")) {
        for kind in SinkKind::TYPES {
            let key = format!("sinks type = \"{kind}\": {key}");
            if asked.contains(&key) {
                documented.insert(key);
            }
        }
    }
    // Within api_key; and `auth`, which contradicts everything else of its block.
    for key in ["api_key.header", "api_key.query", "api_key.values"] {
        documented.insert(format!("sources type = \"webex-connect\": {key}"));
    }
    documented.insert("sources type = \"meta\": auth".into());
    // What both engines of the journal are told stands where the embedded one is described; and other ways to log in.
    let jetstream = "journal engine = \"jetstream\": ";
    for key in ["retention", "dead_letter_retention", "max_size", "queue", "username", "password", "token", "nkey"] {
        documented.insert(format!("{jetstream}{key}"));
    }
    assert_eq!(asked, documented);

    let sections = DEFAULTS.parse::<toml::Table>().unwrap();
    for key in asked_by(&block(&all)).iter().filter(|key| key.matches('.').count() == 1) {
        let (section, setting) = key.split_once('.').unwrap();
        let set = sections.get(section).and_then(|section| section.get(setting)).is_some();
        let in_block = documented.contains(&format!("{jetstream}{setting}"));
        assert!(set || in_block || key == "admin.token", "{key} is not in config/hooksink.toml");
    }
}

/// The settings of the other engine are errors that say so; those that stand there by default are none.
#[test]
fn each_engine_of_the_journal_has_settings_of_its_own() {
    let errors = Given::text("[journal]\nengine = \"jetstream\"\npath = \"x.db\"\n").errors();
    let expected = [
        "hooksink.toml: journal.path: this is a setting of engine = \"sqlite\"",
        "hooksink.toml: journal.servers: this must be set",
    ];
    assert_eq!(errors, expected.join("\n"));
    let errors = Given::text("[journal]\nreplicas = 3\n").errors();
    assert_eq!(errors, "hooksink.toml: journal.replicas: this is a setting of engine = \"jetstream\"");
    let servers = "[journal]\nengine = \"jetstream\"\nservers = [\"nats://me:secret@host\"]\n";
    let expected = "hooksink.toml: journal.servers: item 1: user and password do not belong in the URL; use username and \
                    password, token, nkey or credentials";
    assert_eq!(Given::text(servers).errors(), expected);
    let config = Given::text("[journal]\nengine = \"jetstream\"\nservers = [\"nats://host:4222\"]\n").config();
    let Engine::Jetstream(own) = config.journal.engine else { panic!("it was chosen") };
    assert_eq!((own.replicas, own.partitions, own.nats_sync), (3, 12, NatsSync::Interval));
    assert_eq!(config.journal.largest_body, 0);
}

/// Of servers found through others nothing says that TLS is to be used but that it is used for all.
#[test]
fn tls_is_for_all_servers_of_the_journal_or_for_none() {
    let journal = |lines: &str| Given::text(format!("[journal]\nengine = \"jetstream\"\n{lines}"));
    let mixed = journal("servers = [\"tls://a:4222\", \"nats://b:4222\"]\n").errors();
    assert_eq!(mixed, "hooksink.toml: journal.servers: either all of them begin with tls:// or none");
    for (file, lines) in [
        ("ca_file", "ca_file = \"/ca.pem\""),
        ("client_cert_file", "client_cert_file = \"/c.pem\"\nclient_key_file = \"/k.pem\""),
    ] {
        let expected =
            format!("hooksink.toml: journal.{file}: this has no meaning without TLS: begin servers with tls://");
        assert_eq!(journal(&format!("servers = [\"nats://a:4222\"]\n{lines}")).errors(), expected);
        journal(&format!("servers = [\"tls://a:4222\", \"tls://b:4222\"]\n{lines}")).config();
    }
}
