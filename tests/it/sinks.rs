//! What is special to one sink: headers and signatures of `http`, rotation and locks of `file`, what `log` hides.

use std::collections::BTreeSet;
use std::io::{Read as _, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use hooksink::config::SinkKind;
use hooksink::event::{Event, Record};
use hooksink::secret::Secret;
use hooksink::sinks::http::standard_webhooks;
use hooksink::sinks::{LogSink, Sink, SinkError, Undelivered};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::mock_target::{Answer, MockTarget};
use crate::support::{decode, event, record, sink_config};

fn build(lines: &str) -> Arc<dyn Sink> {
    sink_config(lines).kind.build(&"it".parse().unwrap(), [7; 32]).unwrap()
}

fn http(target: &MockTarget, lines: &str) -> Arc<dyn Sink> {
    build(&format!("type = \"http\"\nurl = \"{}\"\n{lines}", target.url("/in?token=marker-query")))
}

fn transient(result: Result<(), Undelivered>) -> String {
    match result.unwrap_err().cause {
        SinkError::Transient { source, .. } => source.to_string(),
        SinkError::Permanent { source } => panic!("permanent: {source}"),
    }
}

#[tokio::test]
async fn http_sends_one_cloud_event_with_identity_and_signature() {
    let target = MockTarget::start().await;
    let sink = http(&target, "signing_secret = [\"whsec_AAECAwQF\", \"plain text\"]\nheaders = { x-tenant = \"7\" }");
    sink.deliver(&[event(1, "ann")]).await.unwrap();
    sink.deliver(&[event(1, "ann")]).await.unwrap();
    let requests = target.requests();
    let request = &requests[0];
    assert_eq!(request.line, "POST /in?token=marker-query HTTP/1.1");
    assert_eq!(request.header("content-type"), Some("application/cloudevents+json"));
    assert_eq!(request.header("x-tenant"), Some("7"));
    let id = request.header("webhook-id").unwrap();
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!((body["id"].as_str().unwrap(), body["subject"].as_str().unwrap()), (id, "ann"));
    assert_eq!(requests[1].header("webhook-id"), Some(id), "the same when it is sent again");
    assert_eq!(requests[1].connection, request.connection, "the connection is used again");
    let timestamp = request.header("webhook-timestamp").unwrap().parse().unwrap();
    let signature = request.header("webhook-signature").unwrap();
    for secret in ["whsec_AAECAwQF", "plain text"] {
        let secret = Secret::new(secret);
        assert_eq!(standard_webhooks::verify(&secret, id, timestamp, &request.body, signature), Ok(true));
    }
}

#[tokio::test]
async fn http_without_a_secret_sends_the_id_and_no_signature() {
    let target = MockTarget::start().await;
    http(&target, "format = \"raw\"\nbearer = \"marker-token\"").deliver(&[event(1, "ann")]).await.unwrap();
    let request = target.requests().remove(0);
    assert_eq!(request.body, br#"{"number":1}"#);
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(request.header("authorization"), Some("Bearer marker-token"));
    assert!(request.header("webhook-id").is_some());
    assert_eq!(request.header("webhook-signature"), None);
}

#[tokio::test]
async fn http_sends_batches_under_a_stable_id() {
    let target = MockTarget::start().await;
    let sink = http(&target, "format = \"cloudevents_batch\"\nbatch_events = 7\nbasic = \"user:word\"\ngzip = true");
    assert_eq!(sink.limits().max_events, 7);
    let (one, two) = (vec![event(1, "ann"), event(2, "bob")], vec![event(1, "ann"), event(3, "bob")]);
    for events in [&one, &one, &two] {
        sink.deliver(events).await.unwrap();
    }
    let requests = target.requests();
    let ids: Vec<_> = requests.iter().map(|request| request.header("webhook-id").unwrap()).collect();
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0], ids[2]);
    assert_eq!(requests[0].header("content-type"), Some("application/cloudevents-batch+json"));
    assert_eq!(requests[0].header("authorization"), Some("Basic dXNlcjp3b3Jk"));
    assert_eq!(requests[0].header("content-encoding"), Some("gzip"));
    let mut text = String::new();
    flate2::read::GzDecoder::new(&requests[0].body[..]).read_to_string(&mut text).unwrap();
    let batch: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(batch[1]["data"]["fields"]["number"], 2);
}

#[tokio::test]
async fn http_tells_final_statuses_from_those_that_are_tried_again() {
    let target = MockTarget::start().await;
    let sink = http(&target, "");
    for (status, finally) in [
        (301, false),
        (400, true),
        (401, false),
        (403, false),
        (404, false),
        (408, false),
        (409, true),
        (410, false),
        (413, true),
        (422, true),
        (425, false),
        (429, false),
        (500, false),
        (503, false),
    ] {
        // A redirect would be followed to an address that answers 200.
        target.answer([Answer::Status(status, vec![("location", target.url("/elsewhere"))])]);
        let failure = sink.deliver(&[event(1, "ann")]).await.unwrap_err();
        assert_eq!(matches!(failure.cause, SinkError::Permanent { .. }), finally, "{status}");
        assert_eq!(failure.cause.to_string(), format!("the target answered {status}"));
    }
    assert!(target.taken().is_empty());
    target.answer([Answer::Status(410, vec![])]);
    let failure = http(&target, "permanent_statuses = [410]").deliver(&[event(1, "ann")]).await.unwrap_err();
    assert!(matches!(failure.cause, SinkError::Permanent { .. }));
}

#[tokio::test]
async fn http_failures_name_no_url() {
    let target = MockTarget::start().await;
    let timeouts = "connect_timeout = \"50ms\"\ntimeout = \"50ms\"";
    target.answer([Answer::Wait(Arc::default()), Answer::Drop]);
    let sink = http(&target, timeouts);
    assert_eq!(transient(sink.deliver(&[event(1, "ann")]).await), "no answer within 50ms");
    let dropped = transient(sink.deliver(&[event(1, "ann")]).await);
    assert!(dropped.starts_with("the connection broke"), "{dropped}");
    let address = target.address;
    drop(target);
    let gone = build(&format!("type = \"http\"\nurl = \"http://marker-host.invalid:{}/?marker\"", address.port()));
    let gone = transient(gone.deliver(&[event(1, "ann")]).await);
    assert!(gone.starts_with("cannot connect"), "{gone}");
    for text in [dropped, gone] {
        assert!(!text.contains("marker") && !text.contains("http://"), "{text}");
    }
}

fn file(path: &Path, lines: &str) -> Arc<dyn Sink> {
    build(&format!("type = \"file\"\npath = {path:?}\n{lines}"))
}

fn count_lines(path: &Path) -> usize {
    std::fs::read_to_string(path).unwrap().lines().count()
}

fn names(folder: &Path) -> BTreeSet<String> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test]
async fn file_is_made_for_its_owner_only() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a/b/events.jsonl");
    file(&path, "").deliver(&[event(1, "ann")]).await.unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn file_rotates_by_size_and_keeps_so_many() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("events.jsonl");
    std::fs::write(folder.path().join("events.notes.jsonl"), "someone else's").unwrap();
    let sink = file(&path, "rotate_size = \"1KiB\"\nkeep_files = 3");
    for number in 0..40 {
        sink.deliver(&[event(number, "ann")]).await.unwrap();
        assert!(path.metadata().unwrap().len() <= 1024);
    }
    let mut names = names(folder.path());
    assert!(names.remove("events.jsonl") && names.remove("events.notes.jsonl"));
    assert_eq!(names.len(), 3, "{names:?}");
    // The newest are kept, whole and in order.
    let text: String = names
        .iter()
        .map(|name| folder.path().join(name))
        .chain([path.clone()])
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    let numbers: Vec<u64> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["data"]["fields"]["number"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, (40 - numbers.len() as u64..40).collect::<Vec<_>>());
    assert!(numbers.len() > 6);
}

#[tokio::test]
async fn file_rotates_by_age() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("events");
    let sink = file(&path, "rotate_age = \"1ms\"");
    sink.deliver(&[event(1, "ann")]).await.unwrap();
    let made = path.metadata().unwrap().created().unwrap();
    crate::support::until("a millisecond passes", || made.elapsed().is_ok_and(|age| age.as_millis() > 1)).await;
    sink.deliver(&[event(2, "ann")]).await.unwrap();
    assert_eq!(count_lines(&path), 1);
    assert_eq!(names(folder.path()).len(), 2);
}

#[tokio::test]
async fn file_is_written_by_one_sink_at_a_time() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("events.jsonl");
    let (first, second) = (file(&path, ""), file(&path, ""));
    first.deliver(&[event(1, "ann")]).await.unwrap();
    let refused = transient(second.deliver(&[event(2, "ann")]).await);
    assert_eq!(refused, "the file cannot be written: another process or sink is writing to it");
    first.close().await.unwrap();
    second.deliver(&[event(2, "ann")]).await.unwrap();
    assert_eq!(count_lines(&path), 2);
}

#[tokio::test]
async fn file_follows_its_path() {
    let folder = TempDir::new().unwrap();
    let (path, moved) = (folder.path().join("events.jsonl"), folder.path().join("moved"));
    let sink = file(&path, "");
    sink.deliver(&[event(1, "ann")]).await.unwrap();
    std::fs::rename(&path, &moved).unwrap();
    sink.reopen().await.unwrap();
    sink.deliver(&[event(2, "ann")]).await.unwrap();
    assert_eq!((count_lines(&moved), count_lines(&path)), (1, 1));
    // Removed, or emptied in place, without a word.
    std::fs::remove_file(&path).unwrap();
    sink.deliver(&[event(3, "ann")]).await.unwrap();
    assert_eq!(count_lines(&path), 1);
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    sink.deliver(&[event(4, "ann")]).await.unwrap();
    assert_eq!(count_lines(&path), 1);
    assert!(!std::fs::read(&path).unwrap().contains(&0));
}

#[tokio::test]
async fn file_takes_back_what_a_failed_write_left() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("events.jsonl");
    let sink = file(&path, "");
    sink.deliver(&[event(1, "ann")]).await.unwrap();
    // As after a write that the disk took only in part, and of which nothing was reported.
    std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"id\":\"half a li").unwrap();
    sink.deliver(&[event(2, "ann")]).await.unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 2);
    assert!(text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
}

#[tokio::test]
async fn file_does_not_wait_for_a_pipe() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    let refused = transient(file(&path, "").deliver(&[event(1, "ann")]).await);
    assert_eq!(refused, "the file cannot be written: it is not a regular file");
}

/// An output in memory.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn logged(lines: &str, key: u8) -> String {
    logged_of(lines, key, &[event(4711, "marker-person"), event(2, "marker-person")]).await
}

async fn logged_of(lines: &str, key: u8, events: &[Event]) -> String {
    let SinkKind::Log(config) = sink_config(&format!("type = \"log\"\n{lines}")).kind else { unreachable!() };
    let output = Output::default();
    let sink = LogSink::new(&"it".parse().unwrap(), &config, [key; 32], output.clone()).unwrap();
    sink.deliver(events).await.unwrap();
    let bytes = output.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn log_hides_persons_and_what_they_said() {
    for lines in ["", "format = \"text\""] {
        let text = logged(lines, 1).await;
        assert_eq!(text.lines().count(), 2);
        assert!(!text.contains("marker"), "{text}");
        assert!(!text.replace("-000000001267", "").contains("4711"), "{text}");
        assert!(text.contains("webex_connect.unrecognized"), "{text}");
        assert_ne!(text, logged(lines, 2).await, "hashes are keyed");
    }
    let json = logged("", 1).await;
    let subjects: BTreeSet<String> = json
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["subject"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(subjects.len(), 1, "one person stays recognisable as one");
}

/// What takes too much to be read as a tree must not be a way past the log.
#[tokio::test]
async fn log_tells_of_events_however_deep_or_large() {
    for marker in [format!("{}{}", "[".repeat(1000), "]".repeat(1000)), format!("[{}0]", "0,".repeat(100_000))] {
        let raw = format!(r#"{{"marker":{marker}}}"#).into();
        let large = decode(Arc::new(Record { raw, ..record(1, Some("marker-person")) }));
        let id = large.record.id.to_string();
        for lines in ["", "format = \"text\""] {
            let text = logged_of(lines, 1, std::slice::from_ref(&large)).await;
            assert!(text.contains(&id) && text.contains("webex_connect.unrecognized"), "{text}");
            assert!(text.len() < 1000 && !text.contains("marker"), "{} bytes", text.len());
        }
    }
}

#[tokio::test]
async fn log_reveals_when_asked_to() {
    for lines in ["reveal = true", "reveal = true\nformat = \"text\""] {
        let text = logged(lines, 1).await;
        assert_eq!(text.lines().count(), 2);
        assert!(text.contains("marker-person"), "{text}");
    }
}
