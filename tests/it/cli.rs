//! Every subcommand as a user meets it: the real binary in an empty folder, its output, its errors and its status.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hooksink::names::SourceType;
use http::StatusCode;
use rustix::process::Signal;

use crate::support::mock_target::{Answer, MockTarget, Place};
use crate::support::runtime;
use crate::support::server::{TestServer, eventually};
use crate::support::shell::{Shell, run_in};

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

    let ran = shell.run("check --set journal.max_size=1000TiB").status(0);
    let warning = "\nwarning: journal.max_size: 1000.0 TiB is more than the disk has room for (";
    assert!(ran.out().contains(warning), "{}", ran.out());
}

#[test]
fn check_connect_reaches_every_target() {
    let runtime = runtime();
    let target = runtime.block_on(MockTarget::start());
    let refusing = runtime.block_on(MockTarget::start());
    refusing.otherwise(Some(Answer::Status(403, vec![])));
    let nobody = Place::take();
    let config = |crm: &str| {
        let url = target.url("/hooks?marker=query");
        format!(
            "[sources.messenger]\ntype = \"meta\"\nverify_token = \"t\"\napp_secrets = [\"s\"]\nown_app_ids = [\"1\"]\n\
             [sinks.archive]\ntype = \"file\"\npath = \"data/events.jsonl\"\n\
             [sinks.console]\ntype = \"log\"\n[sinks.other]\ntype = \"http\"\nurl = \"{url}\"\n\
             [sinks.crm]\ntype = \"http\"\nurl = \"{crm}\"\nbearer = \"marker-bearer\"\n\
             [journal]\nmax_size = \"1 GiB\"\ndisk_reserve = \"1 MiB\"\n"
        )
    };
    let origin = target.url("").trim_end_matches('/').to_owned();
    let shell = Shell::new().file("hooksink.toml", &config(&target.url("/crm")));
    let ran = shell.run("check --connect").status(0);
    let expected = format!(
        "the configuration is valid\n\
         sink archive: ok, data/events.jsonl may be made\n\
         sink console: ok, stdout\n\
         sink crm: ok, {origin} answers 200 to HEAD; whether it takes a POST is not tried\n\
         sink other: ok, {origin} answers 200 to HEAD; whether it takes a POST is not tried\n"
    );
    assert!(ran.out().ends_with(&expected), "{}", ran.out());
    assert_eq!(std::fs::read_dir(shell.path()).unwrap().count(), 1, "it writes nothing");
    assert!(target.taken().iter().all(|request| request.line.starts_with("HEAD ")), "it delivers nothing");

    for (crm, expected) in [
        (refusing.url("/"), "answers 403 to HEAD: it refuses these credentials".to_owned()),
        (format!("http://{}/", nobody.address()), "cannot connect: Connection refused".to_owned()),
    ] {
        let shell = Shell::new().file("hooksink.toml", &config(&crm)).file("data", "no folder");
        let ran = shell.run("check --connect").status(69);
        assert!(ran.out().contains("\nsink crm: FAILED, ") && ran.out().contains(&expected), "{}", ran.out());
        assert!(ran.out().contains("\nsink archive: FAILED, data is no folder\n"), "{}", ran.out());
        assert!(!ran.out().contains("marker"), "{}", ran.out());
        assert_eq!(ran.err(), "hooksink: 2 sinks cannot be delivered to\n");
    }
}

/// A line for each setting, which names it and whom it goes to, and never what it is.
#[test]
fn check_warns_of_secrets_that_travel_in_clear() {
    let sinks = "[sources.messenger]\ntype = \"meta\"\nverify_token = \"t\"\napp_secrets = [\"s\"]\nown_app_ids = [\"1\"]\n\
                 [sinks.crm]\ntype = \"http\"\nurl = \"http://HOST:1/in\"\nheaders = { x-token = \"marker\" }\n\
                 [sinks.rows]\ntype = \"postgres\"\nurl = \"postgres://HOST:1/d\"\nsslmode = \"disable\"\n\
                 username = \"u\"\npassword = \"marker\"\n\
                 [sinks.stream]\ntype = \"redis\"\nurl = \"redis://HOST:1\"\npassword = \"marker\"\n\
                 [sinks.subjects]\ntype = \"nats\"\nurl = \"nats://HOST:1\"\ntoken = \"marker\"\n\
                 [sinks.exchange]\ntype = \"rabbitmq\"\nurl = \"amqp://HOST:1\"\nexchange = \"e\"\n\
                 username = \"u\"\npassword = \"marker\"\n\
                 [journal]\nmax_size = \"16 MiB\"\ndisk_reserve = \"1 MiB\"\n";
    let check = |host: &str| {
        let ran = Shell::new().file("hooksink.toml", &sinks.replace("HOST", host)).run("check").status(0);
        assert!(!ran.out().contains("marker"), "{}", ran.out());
        let said = ran.out();
        said.lines().filter(|line| line.starts_with("warning: ")).map(str::to_owned).collect::<Vec<_>>()
    };
    let why = "goes to far.example without TLS, where whoever sees the traffic can read or guess it";
    let expected = [
        ("crm.headers.x-token", "begin url with https://"),
        ("exchange.password", "begin url with amqps://"),
        ("rows.password", "leave sslmode out"),
        ("stream.password", "begin url with rediss://"),
        ("subjects.token", "begin the addresses with tls://, since nats:// leaves TLS to the servers"),
    ];
    assert_eq!(check("far.example"), expected.map(|(key, instead)| format!("warning: sinks.{key}: {why}: {instead}")));
    assert_eq!(check("127.0.0.1"), [""; 0]);
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
    let closed = ClosedPort::new();
    let nobody = closed.address();
    for command in ["healthcheck", "sinks list", "dead-letters list", "replay --sink a --from 1h"] {
        let ran = shell.run(&format!("{command} --set admin.listen={nobody}")).status(69);
        let said = format!("hooksink: http://{nobody}/");
        assert!(ran.err().starts_with(&said) && ran.err().contains("Connection refused"), "{command}: {}", ran.err());
    }
    let ran = shell
        .file("body.json", "{}")
        .env("HOOKSINK_SEND_SECRET", "marker-secret")
        .run(&format!("send webex-connect body.json --url http://{nobody}/webhooks/x?key=marker-key"))
        .status(69);
    assert!(ran.err().contains("Connection refused") && !ran.err().contains("marker"), "{}", ran.err());
}

/// A port that is taken and not listened on, so that connections to it are refused for as long as this is held.
struct ClosedPort(tokio::net::TcpSocket);

impl ClosedPort {
    fn new() -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Self(socket)
    }

    fn address(&self) -> std::net::SocketAddr {
        self.0.local_addr().unwrap()
    }
}

const SERVER: &str = r#"
    [sources.messenger]
    type = "meta"
    verify_token = "verify"
    app_secrets = ["old-secret", { file = "app_secret" }]
    [sources.connect]
    type = "webex-connect"
    signature_secrets = ["connect-secret"]
    basic = "user:password"
    api_key = { header = "x-key", values = "key" }
    timezone = "UTC"
    [sinks.archive]
    type = "file"
    path = "events.jsonl"
    [sinks.gone]
    type = "log"
    [journal]
    backup_dir = "copies"
    disk_reserve = "1 MiB"
    [admin]
    token = { env = "ADMIN_TOKEN" }
"#;

/// A server with a token, and a shell that knows both.
fn server_and_shell() -> (TestServer, Shell) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("app_secret"), "app-secret\n").unwrap();
    let server = TestServer::start_with(folder, SERVER, &[("ADMIN_TOKEN", "admin-token")]);
    let shell = Shell::new()
        .env("HOOKSINK_ADMIN_URL", &format!("http://{}", server.admin))
        .env("HOOKSINK_ADMIN_TOKEN", "admin-token");
    (server, shell)
}

/// The ids in the file sink, when it has as many.
fn delivered(server: &TestServer, count: usize) -> Vec<String> {
    eventually("the events are in the file", || {
        let text = std::fs::read_to_string(server.folder().join("events.jsonl")).ok()?;
        let ids = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].to_string());
        let ids: Vec<_> = ids.collect();
        (ids.len() >= count).then_some(ids)
    })
}

#[test]
fn send_signs_like_the_sender_and_says_what_became_of_it() {
    let (server, shell) = server_and_shell();
    let messenger = server.url("messenger");
    let shell = shell.env("HOOKSINK_SEND_SECRET", "app-secret");
    let listed = shell.run("send meta --list").status(0).out();
    assert!(listed.lines().any(|name| name == "echo.text"), "{listed}");
    for (arguments, said) in [
        ("echo.text", "echo.text: accepted\n"),
        ("echo.text", "echo.text: accepted\n"),
        ("echo.text --exact --count 2", "echo.text: accepted\necho.text: duplicate\n"),
        ("echo.text --secret old-secret", "echo.text: accepted\n"),
    ] {
        assert_eq!(shell.run(&format!("send meta {arguments} --url {messenger}")).status(0).out(), said);
    }
    let wrong = shell.run(&format!("send meta echo.text --url {messenger} --secret wrong")).status(69);
    assert_eq!(wrong.err(), "hooksink: answered 401 Unauthorized: The request is not authentic.\n");

    let shell = shell.file("own.json", r#"{"channel":"rcs","event":"MO","msisdn":"1","message":"hi"}"#);
    let connect =
        format!("--url {} --basic user:password --api-key x-key=key --secret connect-secret", server.url("connect"));
    for algorithm in ["sha256", "sha512"] {
        let ran = shell.run(&format!("send webex-connect own.json {connect} --algorithm {algorithm}")).status(0);
        assert_eq!(ran.out(), "own.json: accepted\n");
    }
    shell.run(&format!("send webex-connect own.json {connect} --algorithm sha1")).status(69);
    delivered(&server, 6);
}

#[test]
fn operators_see_and_move_a_running_server() {
    let (server, shell) = server_and_shell();
    assert_eq!(shell.run("healthcheck").status(0).out(), "");
    let ran = shell.run(&format!("send meta echo.text --url {} --secret app-secret", server.url("messenger")));
    ran.status(0);
    let once = delivered(&server, 1);

    let sinks = shell.run("sinks list").status(0).out();
    assert!(sinks.starts_with("SINK     CURSOR  BEHIND"), "{sinks}");
    let sinks: serde_json::Value = serde_json::from_str(&shell.run("sinks list --json").status(0).out()).unwrap();
    assert_eq!((sinks[0]["sink"].as_str(), sinks[1]["sink"].as_str()), (Some("archive"), Some("gone")));

    let replay = shell.run("replay --sink archive --from 1h --kinds meta.*").status(0).out();
    assert!(replay.ends_with("1 delivered, finished\n"), "{replay}");
    let twice = delivered(&server, 2);
    assert_eq!(twice, [once[0].clone(), once[0].clone()], "a replayed event keeps its id");

    assert_eq!(shell.run("dead-letters list").status(0).out(), "there are none\n");
    let missing = shell.run("dead-letters show 7").status(69);
    assert!(missing.err().contains("404 Not Found: no dead letter"), "{}", missing.err());
    assert_eq!(shell.run("dead-letters retry --sink archive").status(0).out(), "0 will be tried again\n");
    let refused = shell.run("sinks forget archive").status(69);
    assert!(refused.err().starts_with("hooksink: the server answered 409 Conflict: "), "{}", refused.err());

    let copy = shell.run("journal backup copy.db").status(0).out();
    assert!(copy.trim_end().ends_with("copies/copy.db"), "{copy}");
    assert!(server.folder().join("copies/copy.db").exists());

    let stranger = Shell::new().env("HOOKSINK_ADMIN_URL", &format!("http://{}", server.admin));
    let refused = stranger.run("sinks list").status(69);
    assert!(refused.err().contains("401 Unauthorized"), "{}", refused.err());
    stranger.run("healthcheck").status(0);

    // The sink leaves the configuration: then, and only then, may its place be given away or forgotten.
    let config = SERVER.replace("[sinks.gone]", "[sinks.new]");
    let server = TestServer::start_with(server.stop(), &config, &[("ADMIN_TOKEN", "admin-token")]);
    let shell = shell.env("HOOKSINK_ADMIN_URL", &format!("http://{}", server.admin));
    assert_eq!(shell.run("sinks rename gone new").status(0).out(), "new goes on where gone was\n");
    let folder = server.stop();

    // Without a server the journal is opened here.
    let closed = ClosedPort::new();
    let nobody = closed.address().to_string();
    let environment = [("ADMIN_TOKEN", "x"), ("HOOKSINK__ADMIN__LISTEN", nobody.as_str())];
    let ran = run_in(folder.path(), "journal backup alone.db", &environment).status(0);
    assert!(ran.out().trim_end().ends_with("copies/alone.db"), "{}", ran.out());
    assert!(folder.path().join("copies/alone.db").exists());
}

#[test]
fn a_hang_up_rotates_secrets_and_names_what_needs_a_restart() {
    let (server, shell) = server_and_shell();
    let send = format!("send meta echo.text --url {} --secret", server.url("messenger"));
    shell.run(&format!("{send} app-secret")).status(0);
    shell.run(&format!("{send} new-secret")).status(69);
    let said = |text: &str| eventually(text, || server.stderr().contains(text).then_some(()));

    std::fs::write(server.folder().join("app_secret"), "new-secret\n").unwrap();
    std::fs::write(server.folder().join("hooksink.toml"), SERVER.replace("1 MiB", "2 MiB")).unwrap();
    server.signal(Signal::HUP);
    said("this setting has changed, which needs a restart key=\"journal.disk_reserve\"");
    shell.run(&format!("{send} new-secret")).status(0);
    shell.run(&format!("{send} app-secret")).status(69);

    std::fs::write(server.folder().join("hooksink.toml"), "colour = 1").unwrap();
    server.signal(Signal::HUP);
    said("the configuration is wrong; the old one stays error=hooksink.toml: colour: unknown key");
    shell.run(&format!("{send} new-secret")).status(0);
    assert!(!server.stderr().contains("-secret"), "{}", server.stderr());
}

#[test]
fn a_taken_port_or_journal_is_69() {
    let server = TestServer::start("");
    let taken = format!("serve --set server.listen={}", server.public);
    let ran = Shell::new().run(&taken).status(69);
    assert!(
        ran.err().contains(&format!("hooksink: cannot listen on {} (server.listen): ", server.public)),
        "{}",
        ran.err()
    );
    let ran = run_in(server.folder(), "serve --set server.listen=127.0.0.1:0", &[]).status(69);
    assert!(ran.err().contains("holds the journal data/journal.db"), "{}", ran.err());
    let ran = Shell::new().file("data", "not a folder").run("serve").status(69);
    assert!(ran.err().contains("hooksink: the journal data/journal.db cannot be used"), "{}", ran.err());
}

#[test]
fn the_demo_delivers_every_sample_and_does_so_again() {
    let shell = Shell::new();
    for run in 1..=2 {
        let ran = shell.run("demo --exit").status(0);
        let out = ran.out();
        let (_, said) = out.split_once(" payloads sent, ").unwrap();
        let (accepted, rest) = said.split_once(" events accepted").unwrap();
        assert!(rest.ends_with(&format!(", {accepted} arrived.\n")), "{said}");
        assert!(accepted.parse::<usize>().unwrap() > 100, "{said}");
        for kind in hooksink::event::Kind::ALL {
            assert!(out.contains(&format!("\n  {kind} ")), "run {run}: no {kind}");
        }
        assert_eq!(ran.err(), "");
    }
    assert!(shell.path().join("data/demo/events.jsonl").exists());
}

/// A target that takes everything but what has `poison` in it, until it is told to take that too.
async fn picky_target(pure: Arc<AtomicBool>) -> std::net::SocketAddr {
    let taste = async move |body: String| {
        if body.contains("poison") && !pure.load(Ordering::SeqCst) { StatusCode::BAD_REQUEST } else { StatusCode::OK }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let target = axum::Router::new().fallback(taste);
    tokio::spawn(async move { axum::serve(listener, target).await });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_shown_retried_and_dropped() {
    let pure = Arc::new(AtomicBool::new(false));
    let target = picky_target(Arc::clone(&pure)).await;
    let config = format!(
        "[sources.connect]\ntype = \"webex-connect\"\nsignature_secrets = \"secret\"\ntimezone = \"UTC\"\n\
         [sinks.crm]\ntype = \"http\"\nurl = \"http://{target}\"\nretry_initial = \"1ms\"\nretry_max = \"5ms\"\n\
         [journal]\ndisk_reserve = \"1 MiB\""
    );
    let server = TestServer::start(&config);
    let shell = Shell::new().env("HOOKSINK_ADMIN_URL", &format!("http://{}", server.admin));
    let letters = || shell.run("dead-letters list --json").status(0).out();
    let post = async |text: &str| {
        let body = format!(r#"{{"channel":"SMS","oa":"{text}","da":"2","message":"{text}"}}"#);
        assert_eq!(server.post(SourceType::WebexConnect, "connect", "secret", body).await.status, 200);
    };
    // An event is given up only while others pass.
    let mut others = 0;
    for poison in ["poison-1", "poison-2"] {
        let before = letters().lines().count();
        post(poison).await;
        while letters().lines().count() == before {
            others += 1;
            assert!(others < 2_000, "{}", server.stderr());
            post(&format!("other-{others}")).await;
        }
    }
    let ids: Vec<_> = letters()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].to_string())
        .collect();
    let [first, second] = ids.as_slice() else { panic!("{ids:?}") };
    let list = shell.run("dead-letters list --sink crm").status(0).out();
    assert!(
        list.starts_with("ID  SINK  KIND") && list.contains("webex_connect.message") && list.contains("400"),
        "{list}"
    );
    assert!(!list.contains("poison"), "{list}");
    let shown: serde_json::Value =
        serde_json::from_str(&shell.run(&format!("dead-letters show {first}")).status(0).out()).unwrap();
    assert_eq!(shown["event"]["data"]["text"], "poison-1");

    assert_eq!(shell.run(&format!("dead-letters drop {second}")).status(0).out(), "1 dropped\n");
    pure.store(true, Ordering::SeqCst);
    assert_eq!(shell.run(&format!("dead-letters retry {first}")).status(0).out(), "1 will be tried again\n");
    eventually("the letter is delivered", || letters().is_empty().then_some(()));
}
