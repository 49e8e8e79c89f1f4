//! The exam that every sink sits: success, slow peer, 500, 429 with Retry-After, 400, dropped connection, called again
//! after failure, called while another call runs, stopped half-way. What is special to one sink stands in `sinks.rs`.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, PipeReader, PipeWriter, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hooksink::config::SinkKind;
use hooksink::event::{Event, Record};
use hooksink::sinks::{Blame, LogSink, Sink, SinkError, Undelivered};
#[cfg(feature = "kafka")]
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::Notify;

#[cfg(feature = "kafka")]
use crate::support::mock_kafka::MockKafka;
use crate::support::mock_target::{Answer, MockTarget};
use crate::support::{decode, event, record, sink_config, until};

/// What is wrong with the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Nothing,
    /// It takes what it is sent, but not yet.
    Slow,
    Status500,
    /// With a Retry-After of seven seconds.
    Status429,
    Status400,
    /// It goes away in the middle.
    Dropped,
}

/// The parts of the exam that make no sense for a sink, and why.
const DOES_NOT_APPLY: &[(&str, Trouble, &str)] = &[
    ("log", Trouble::Status500, "an output has no statuses"),
    ("log", Trouble::Status429, "an output has no statuses"),
    ("log", Trouble::Status400, "an output has no statuses"),
    ("file", Trouble::Slow, "a local file answers at once; that a call waits for it is shown by those of other sinks"),
    ("file", Trouble::Status500, "a file has no statuses"),
    ("file", Trouble::Status429, "a file has no statuses"),
    ("file", Trouble::Status400, "a file has no statuses"),
    ("kafka", Trouble::Status429, "a broker that is too busy takes its time, and names none"),
];

/// What a sink delivers to, as the exam needs it.
#[async_trait]
trait Examinee: Send + Sync {
    /// The value of `type`.
    fn name(&self) -> &'static str;
    /// A sink on this target, as a new process would make it.
    fn sink(&self) -> Arc<dyn Sink>;
    /// Puts the target in trouble.
    async fn trouble(&mut self, trouble: Trouble);
    /// Waits until a call has reached the target that is slow.
    async fn reached(&mut self);
    /// Ends the trouble.
    async fn mend(&mut self);
    /// Numbers of the events that the target has, whole, in order, as often as they came.
    async fn arrived(&mut self) -> Vec<u64>;
    /// A process delivers these events and is killed in the middle of it.
    async fn killed_half_way(&mut self, events: &[Event]) {
        self.trouble(Trouble::Slow).await;
        let (sink, events) = (self.sink(), events.to_vec());
        let call = tokio::spawn(async move { deliver(&*sink, &events).await });
        self.reached().await;
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled(), "it was under way");
        self.mend().await;
        self.settle_down().await;
    }
    /// Waits until nothing of a process that was killed half-way is under way, as a real kill would see to.
    async fn settle_down(&mut self) {}
}

/// Delivers as the dispatcher would, no more at once than the sink wants.
async fn deliver(sink: &dyn Sink, events: &[Event]) -> Result<(), Undelivered> {
    for events in events.chunks(sink.limits().max_events) {
        sink.deliver(events).await?;
    }
    Ok(())
}

/// Events larger than what pipes and sockets hold.
fn events() -> Vec<Event> {
    let large = |number, person| {
        let raw = format!("{{\"number\":{number},\"text\":\"{}\"}}", "x".repeat(200_000));
        decode(Arc::new(Record { raw: raw.into(), ..record(number, Some(person)) }))
    };
    vec![large(1, "ann"), large(2, "ann"), large(3, "bob")]
}

/// Whether this part of the exam is sat.
async fn sits(examinee: &mut dyn Examinee, trouble: Trouble) -> bool {
    let name = examinee.name();
    if let Some((_, _, why)) = DOES_NOT_APPLY.iter().find(|(sink, other, _)| *sink == name && *other == trouble) {
        println!("{name}: {trouble:?} does not apply: {why}");
        return false;
    }
    examinee.trouble(trouble).await;
    true
}

async fn failure(examinee: &mut dyn Examinee, events: &[Event]) -> Undelivered {
    let sink = examinee.sink();
    let failure = deliver(&*sink, events).await.expect_err("the target is in trouble");
    assert_eq!(failure.delivered, 0);
    failure
}

async fn success(examinee: &mut dyn Examinee) {
    assert!(sits(examinee, Trouble::Nothing).await);
    deliver(&*examinee.sink(), &events()).await.unwrap();
    assert_eq!(examinee.arrived().await, [1, 2, 3]);
}

async fn slow_peer(examinee: &mut dyn Examinee) {
    if !sits(examinee, Trouble::Slow).await {
        return;
    }
    let sink = examinee.sink();
    let call = tokio::spawn(async move { deliver(&*sink, &events()[..1]).await });
    examinee.reached().await;
    assert!(!call.is_finished(), "it is not delivered before the target has it");
    examinee.mend().await;
    call.await.unwrap().unwrap();
    assert_eq!(examinee.arrived().await, [1]);
}

async fn status_500(examinee: &mut dyn Examinee) {
    if sits(examinee, Trouble::Status500).await {
        let failure = failure(examinee, &events()[..1]).await;
        assert!(matches!(failure.cause, SinkError::Transient { retry_after: None, .. }), "{failure:?}");
    }
}

async fn status_429(examinee: &mut dyn Examinee) {
    if sits(examinee, Trouble::Status429).await {
        let failure = failure(examinee, &events()[..1]).await;
        let SinkError::Transient { retry_after, .. } = failure.cause else { panic!("{failure:?}") };
        assert_eq!(retry_after, Some(Duration::from_secs(7)));
        assert_eq!(failure.blame, Blame::Unknown, "it is not about the event");
    }
}

async fn status_400(examinee: &mut dyn Examinee) {
    if sits(examinee, Trouble::Status400).await {
        let failure = failure(examinee, &events()[..1]).await;
        assert!(matches!(failure.cause, SinkError::Permanent { .. }), "{failure:?}");
        assert_eq!(failure.blame, Blame::Event);
    }
}

async fn dropped_connection(examinee: &mut dyn Examinee) {
    assert!(sits(examinee, Trouble::Dropped).await);
    let failure = failure(examinee, &events()[..1]).await;
    assert!(matches!(failure.cause, SinkError::Transient { retry_after: None, .. }), "{failure:?}");
    assert_eq!(failure.blame, Blame::Unknown);
}

async fn called_again_after_failure(examinee: &mut dyn Examinee) {
    assert!(sits(examinee, Trouble::Dropped).await);
    let sink = examinee.sink();
    for _ in 0..3 {
        deliver(&*sink, &events()).await.expect_err("the target is in trouble");
    }
    examinee.mend().await;
    deliver(&*sink, &events()).await.unwrap();
    assert_eq!(examinee.arrived().await, [1, 2, 3]);
}

async fn called_while_another_call_runs(examinee: &mut dyn Examinee) {
    assert!(sits(examinee, Trouble::Nothing).await);
    let sink = examinee.sink();
    let calls: Vec<_> = (0..20)
        .map(|n| {
            let sink = sink.clone();
            tokio::spawn(async move { deliver(&*sink, &[event(2 * n, "ann"), event(2 * n + 1, "bob")]).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    let mut arrived = examinee.arrived().await;
    arrived.sort_unstable();
    assert_eq!(arrived, (0..40).collect::<Vec<_>>());
}

async fn stopped_half_way(examinee: &mut dyn Examinee) {
    examinee.killed_half_way(&events()).await;
    let sink = examinee.sink();
    deliver(&*sink, &events()).await.unwrap();
    sink.close().await.unwrap();
    let arrived = examinee.arrived().await;
    assert!(arrived.ends_with(&[1, 2, 3]), "{arrived:?}");
}

/// One test a sink and part of the exam.
macro_rules! exam {
    ($($sink:ident $part:ident,)+) => { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $part() {
            super::$part(&mut super::$sink::new().await).await;
        }
    )+ };
    ($($(#[$cfg:meta])? $module:ident $sink:ident;)+) => {
        /// The sinks that sit the exam.
        const EXAMINED: &[&str] = &[$($(#[$cfg])? stringify!($module),)+];

        $($(#[$cfg])? mod $module {
            exam! {
                $sink success, $sink slow_peer, $sink status_500, $sink status_429, $sink status_400,
                $sink dropped_connection, $sink called_again_after_failure, $sink called_while_another_call_runs,
                $sink stopped_half_way,
            }
        })+
    };
}

exam! {
    log LogExaminee;
    file FileExaminee;
    http HttpExaminee;
    #[cfg(feature = "kafka")]
    kafka KafkaExaminee;
}

#[test]
fn every_type_sits_the_exam() {
    // Those with a server of their own sit it in `targets`.
    let examined: BTreeSet<_> = EXAMINED.iter().chain(crate::targets::EXAMINED).collect();
    let built = SinkKind::TYPES.iter().filter(|name| cfg!(feature = "kafka") || **name != "kafka");
    assert_eq!(examined, built.collect());
}

fn numbers(lines: impl IntoIterator<Item = String>) -> Vec<u64> {
    let number = |line: String| {
        // What is torn has no number.
        let event: Value = serde_json::from_str(&line).ok()?;
        event["data"]["fields"]["number"].as_u64()
    };
    lines.into_iter().filter_map(number).collect()
}

struct HttpExaminee {
    target: MockTarget,
    release: Arc<Notify>,
}

impl HttpExaminee {
    async fn new() -> Self {
        Self { target: MockTarget::start().await, release: Arc::default() }
    }
}

#[async_trait]
impl Examinee for HttpExaminee {
    fn name(&self) -> &'static str {
        "http"
    }

    fn sink(&self) -> Arc<dyn Sink> {
        let config = sink_config(&format!("type = \"http\"\nurl = \"{}\"\ntimeout = \"60s\"", self.target.url("/in")));
        config.kind.build(&"it".parse().unwrap(), [0; 32]).unwrap()
    }

    async fn trouble(&mut self, trouble: Trouble) {
        let status = |status, headers| Some(Answer::Status(status, headers));
        self.target.otherwise(match trouble {
            Trouble::Nothing => None,
            Trouble::Slow => Some(Answer::Wait(self.release.clone())),
            Trouble::Status500 => status(500, vec![]),
            Trouble::Status429 => status(429, vec![("retry-after", "7".to_owned())]),
            Trouble::Status400 => status(400, vec![]),
            Trouble::Dropped => Some(Answer::Drop),
        });
    }

    async fn reached(&mut self) {
        until("a request comes", || !self.target.requests().is_empty()).await;
    }

    async fn mend(&mut self) {
        self.target.otherwise(None);
        self.release.notify_one();
    }

    async fn settle_down(&mut self) {
        until("the killed call ends", || self.target.taken().len() == 1).await;
    }

    async fn arrived(&mut self) -> Vec<u64> {
        numbers(self.target.taken().into_iter().map(|request| String::from_utf8(request.body).unwrap()))
    }
}

struct FileExaminee {
    folder: TempDir,
}

impl FileExaminee {
    async fn new() -> Self {
        Self { folder: TempDir::new().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("below/events.jsonl")
    }
}

#[async_trait]
impl Examinee for FileExaminee {
    fn name(&self) -> &'static str {
        "file"
    }

    fn sink(&self) -> Arc<dyn Sink> {
        let config = sink_config(&format!("type = \"file\"\npath = {:?}", self.path()));
        config.kind.build(&"it".parse().unwrap(), [0; 32]).unwrap()
    }

    async fn trouble(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Nothing => {}
            // What stands there is a folder, which nobody can write lines to.
            Trouble::Dropped => std::fs::create_dir_all(self.path()).unwrap(),
            _ => unreachable!("does not apply"),
        }
    }

    async fn reached(&mut self) {
        unreachable!("does not apply");
    }

    async fn mend(&mut self) {
        std::fs::remove_dir(self.path()).unwrap();
    }

    async fn arrived(&mut self) -> Vec<u64> {
        let text = std::fs::read_to_string(self.path()).unwrap();
        assert!(text.ends_with('\n'));
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let count = lines.len();
        let numbers = numbers(lines);
        assert_eq!(numbers.len(), count, "no line of a file is torn");
        numbers
    }

    /// What the file system keeps of such a process: a line without its end.
    async fn killed_half_way(&mut self, events: &[Event]) {
        let sink = self.sink();
        deliver(&*sink, &events[..1]).await.unwrap();
        sink.close().await.unwrap();
        let line = events[1].to_json(hooksink::event::Format::Cloudevents, false);
        let mut file = std::fs::OpenOptions::new().append(true).open(self.path()).unwrap();
        file.write_all(&line[..line.len() / 2]).unwrap();
    }
}

/// A pipe in place of stdout.
struct LogExaminee {
    writer: PipeWriter,
    reader: Option<BufReader<PipeReader>>,
    /// What was read, when all of it is read at once.
    lines: Arc<Mutex<Vec<String>>>,
}

impl LogExaminee {
    async fn new() -> Self {
        let (reader, writer) = std::io::pipe().unwrap();
        Self { writer, reader: Some(BufReader::new(reader)), lines: Arc::default() }
    }

    fn set_nonblocking(&self, nonblocking: bool) {
        let flags = if nonblocking { rustix::fs::OFlags::NONBLOCK } else { rustix::fs::OFlags::empty() };
        rustix::fs::fcntl_setfl(&self.writer, flags).unwrap();
    }

    /// Reads all there is and will be, on a thread of its own.
    fn read_on(&mut self) {
        let Some(reader) = self.reader.take() else { return };
        let lines = self.lines.clone();
        std::thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
    }
}

#[async_trait]
impl Examinee for LogExaminee {
    fn name(&self) -> &'static str {
        "log"
    }

    fn sink(&self) -> Arc<dyn Sink> {
        let SinkKind::Log(config) = sink_config("type = \"log\"\nreveal = true").kind else { unreachable!() };
        let writer = self.writer.try_clone().unwrap();
        Arc::new(LogSink::new(&"it".parse().unwrap(), &config, [0; 32], writer).unwrap())
    }

    async fn trouble(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Nothing => self.read_on(),
            // Nobody reads, so that a write waits in the middle of an event.
            Trouble::Slow => {}
            // Nobody reads, and a write that would have to wait fails.
            Trouble::Dropped => self.set_nonblocking(true),
            _ => unreachable!("does not apply"),
        }
    }

    async fn reached(&mut self) {
        let mut reader = self.reader.take().unwrap();
        let reading = tokio::task::spawn_blocking(move || {
            reader.fill_buf().unwrap();
            reader
        });
        self.reader = Some(reading.await.unwrap());
    }

    async fn settle_down(&mut self) {
        until("the killed call ends", || self.lines.lock().unwrap().len() == 3).await;
    }

    async fn mend(&mut self) {
        self.set_nonblocking(false);
        self.read_on();
    }

    async fn arrived(&mut self) -> Vec<u64> {
        self.read_on();
        // The pipe keeps the order: when this line has come, all others have.
        self.writer.write_all(b"the end\n").unwrap();
        until("the last line comes", || self.lines.lock().unwrap().last().is_some_and(|line| line == "the end")).await;
        numbers(self.lines.lock().unwrap().clone())
    }
}

/// A topic of one partition in a mock cluster.
#[cfg(feature = "kafka")]
struct KafkaExaminee {
    cluster: MockKafka,
    /// How long a call may take: short where it is to fail for want of time.
    timeout: &'static str,
}

#[cfg(feature = "kafka")]
impl KafkaExaminee {
    async fn new() -> Self {
        let cluster = MockKafka::start(1);
        cluster.create("exam", 1);
        Self { cluster, timeout: "60s" }
    }

    fn leader(&self, leader: Option<i32>) {
        self.cluster.order(move |cluster| cluster.partition_leader("exam", 0, leader)).unwrap();
    }

    /// Every message is answered with this.
    fn answer(&self, error: RDKafkaRespErr) {
        self.cluster.order(move |cluster| cluster.request_errors(RDKafkaApiKey::Produce, &[error; 50]));
    }

    /// Connections that the broker has.
    fn connections(&self) -> usize {
        let port: u16 = self.cluster.addresses()[0].rsplit_once(':').unwrap().1.parse().unwrap();
        let (local, established) = (format!(":{port:04X}"), "01");
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let open = |line: &&str| {
            let mut fields = line.split_whitespace().skip(1);
            fields.next().is_some_and(|address| address.ends_with(&local)) && fields.nth(1) == Some(established)
        };
        table.lines().filter(open).count()
    }
}

#[cfg(feature = "kafka")]
#[async_trait]
impl Examinee for KafkaExaminee {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn sink(&self) -> Arc<dyn Sink> {
        let config = sink_config(&format!(
            "type = \"kafka\"\nbrokers = {}\ntopic = \"exam\"\ntimeout = \"{}\"\n\
             extra = {{ \"reconnect.backoff.max.ms\" = 100 }}",
            self.cluster.brokers(),
            self.timeout
        ));
        config.kind.build(&"it".parse().unwrap(), [0; 32]).unwrap()
    }

    async fn trouble(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Nothing => {}
            // As in an election.
            Trouble::Slow => self.leader(None),
            Trouble::Status500 => self.answer(RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED),
            Trouble::Status400 => self.answer(RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE),
            Trouble::Dropped => {
                self.timeout = "10s";
                self.cluster.order(|cluster| cluster.broker_down(-1)).unwrap();
            }
            Trouble::Status429 => unreachable!("does not apply"),
        }
    }

    async fn reached(&mut self) {
        until("the sink is connected", || self.connections() > 0).await;
    }

    async fn mend(&mut self) {
        self.cluster.order(|cluster| cluster.broker_up(-1)).unwrap();
        self.leader(Some(1));
    }

    async fn settle_down(&mut self) {
        until("the killed call ends", || self.connections() == 0).await;
    }

    /// In the order of people, since several of them are sent to at once.
    async fn arrived(&mut self) -> Vec<u64> {
        let mut messages = self.cluster.messages("exam");
        messages.sort_by(|one, other| one.key.cmp(&other.key));
        numbers(messages.into_iter().map(|message| String::from_utf8(message.value).unwrap()))
    }
}
