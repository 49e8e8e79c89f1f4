//! The exam that every sink sits: success, slow peer, 500, 429 with Retry-After, 400, dropped connection, called again
//! after failure, called while another call runs, stopped half-way. What each delivers to stands
//! in `examinees`, what is special to one sink in `sinks.rs`.

mod examinees;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hooksink::config::SinkKind;
use hooksink::event::Event;
use hooksink::sinks::{Blame, Sink, SinkError, Undelivered};
use serde_json::Value;

#[cfg(feature = "kafka")]
use self::examinees::KafkaExaminee;
use self::examinees::{FileExaminee, HttpExaminee, LogExaminee};
use crate::support::{deliver, event, large_events};

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
    deliver(&*examinee.sink(), &large_events()).await.unwrap();
    assert_eq!(examinee.arrived().await, [1, 2, 3]);
}

async fn slow_peer(examinee: &mut dyn Examinee) {
    if !sits(examinee, Trouble::Slow).await {
        return;
    }
    let sink = examinee.sink();
    let call = tokio::spawn(async move { deliver(&*sink, &large_events()[..1]).await });
    examinee.reached().await;
    assert!(!call.is_finished(), "it is not delivered before the target has it");
    examinee.mend().await;
    call.await.unwrap().unwrap();
    assert_eq!(examinee.arrived().await, [1]);
}

async fn status_500(examinee: &mut dyn Examinee) {
    if sits(examinee, Trouble::Status500).await {
        let failure = failure(examinee, &large_events()[..1]).await;
        assert!(matches!(failure.cause, SinkError::Transient { retry_after: None, .. }), "{failure:?}");
    }
}

async fn status_429(examinee: &mut dyn Examinee) {
    if sits(examinee, Trouble::Status429).await {
        let failure = failure(examinee, &large_events()[..1]).await;
        let SinkError::Transient { retry_after, .. } = failure.cause else { panic!("{failure:?}") };
        assert_eq!(retry_after, Some(Duration::from_secs(7)));
        assert_eq!(failure.blame, Blame::Unknown, "it is not about the event");
    }
}

async fn status_400(examinee: &mut dyn Examinee) {
    if sits(examinee, Trouble::Status400).await {
        let failure = failure(examinee, &large_events()[..1]).await;
        assert!(matches!(failure.cause, SinkError::Permanent { .. }), "{failure:?}");
        assert_eq!(failure.blame, Blame::Event);
    }
}

async fn dropped_connection(examinee: &mut dyn Examinee) {
    assert!(sits(examinee, Trouble::Dropped).await);
    let failure = failure(examinee, &large_events()[..1]).await;
    assert!(matches!(failure.cause, SinkError::Transient { retry_after: None, .. }), "{failure:?}");
    assert_eq!(failure.blame, Blame::Unknown);
}

async fn called_again_after_failure(examinee: &mut dyn Examinee) {
    assert!(sits(examinee, Trouble::Dropped).await);
    let sink = examinee.sink();
    for _ in 0..3 {
        deliver(&*sink, &large_events()).await.expect_err("the target is in trouble");
    }
    examinee.mend().await;
    deliver(&*sink, &large_events()).await.unwrap();
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
    examinee.killed_half_way(&large_events()).await;
    let sink = examinee.sink();
    deliver(&*sink, &large_events()).await.unwrap();
    sink.close().await.unwrap();
    let mut arrived = examinee.arrived().await;
    // Of Kafka it is person by person: what came twice of one stands side by side.
    arrived.dedup();
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
