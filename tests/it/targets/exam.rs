//! What `sink_conformance` asks of every sink, asked of one with a real server: success, slow peer, dropped
//! connection, called again after failure, called while another call runs, stopped half-way; and
//! whether `check` tells the truth. Statuses are of HTTP: what each server refuses stands in its own file.

use std::sync::Arc;
use std::time::Duration;

use hooksink::event::Event;
use hooksink::sinks::{Blame, Sink, SinkError, Undelivered};
use tokio::runtime::Runtime;

use super::Server;
use crate::support::server::eventually;
use crate::support::tcp_proxy::{TcpProxy, Way};
use crate::support::{deliver, event, large_events, runtime, sink_config};

struct Exam<S> {
    server: S,
    proxy: TcpProxy,
    /// Where the sinks run.
    runtime: Runtime,
    /// Parts sat so far: each has a place of its own.
    parts: usize,
}

/// All of it, one part after another on one server, since starting one takes seconds.
pub(super) fn sit<S: Server>(test: &str) {
    let Some(server) = S::start(test) else { return };
    let proxy = TcpProxy::start(server.address());
    let mut exam = Exam { server, proxy, runtime: runtime(), parts: 0 };
    exam.success();
    exam.check();
    exam.slow_peer();
    exam.dropped_connection();
    exam.called_again_after_failure();
    exam.called_while_another_call_runs();
    exam.stopped_half_way();
}

impl<S: Server> Exam<S> {
    /// A new place, and a sink for it.
    fn next(&mut self) -> (String, Arc<dyn Sink>) {
        self.parts += 1;
        self.proxy.set(Way::Open);
        let place = format!("part{}", self.parts);
        self.server.prepare(&place);
        let sink = self.sink(&place);
        (place, sink)
    }

    /// A sink as a new process would make it.
    fn sink(&self, place: &str) -> Arc<dyn Sink> {
        let config = sink_config(&self.server.settings(self.proxy.address(), place));
        // Nothing that connects may need a runtime before the first call.
        config.kind.build(&"it".parse().expect("a name"), [0; 32]).expect("a sink")
    }

    fn deliver(&self, sink: &Arc<dyn Sink>, events: &[Event]) -> Result<(), Undelivered> {
        self.runtime.block_on(deliver(&**sink, events))
    }

    /// The numbers of the events there, each the first time.
    fn arrived(&mut self, place: &str) -> Vec<u64> {
        let mut numbers = Vec::new();
        for event in self.server.events(place) {
            let number = event["data"]["fields"]["number"].as_u64().expect("made by `record`");
            if !numbers.contains(&number) {
                numbers.push(number);
            }
        }
        numbers
    }

    /// All of `large_events()` has arrived, each person's in order.
    #[track_caller]
    fn all_arrived(&mut self, place: &str) {
        let arrived = self.arrived(place);
        let at = |number| arrived.iter().position(|other| *other == number);
        assert!(arrived.len() == 3 && at(1) < at(2), "{}: {arrived:?}", S::TYPE);
    }

    fn success(&mut self) {
        let (place, sink) = self.next();
        self.deliver(&sink, &large_events()).expect("all is well");
        self.all_arrived(&place);
        let ids: Vec<_> = self.server.events(&place).iter().map(|event| event["id"].clone()).collect();
        assert!(ids.contains(&large_events()[0].record.id.to_string().into()), "{ids:?}");
        self.runtime.block_on(sink.close()).expect("it closes");
    }

    /// `hooksink check --connect` finds a server that is there, and one that is not, and leaves nothing behind.
    fn check(&mut self) {
        let (place, sink) = self.next();
        let found = self.runtime.block_on(sink.check()).expect("all is well");
        assert!(!found.found.is_empty());
        assert_eq!(self.server.events(&place).len(), 0, "it leaves nothing behind");
        self.proxy.set(Way::Cut);
        let error = self.runtime.block_on(self.sink(&place).check()).expect_err("nobody answers");
        assert!(!error.to_string().is_empty());
    }

    fn slow_peer(&mut self) {
        let (place, sink) = self.next();
        // Connected, so that it is the event that waits.
        self.deliver(&sink, &[event(9, "cyd")]).expect("all is well");
        let before = self.proxy.sent();
        self.proxy.set(Way::Held);
        let delivering = sink.clone();
        let call = self.runtime.spawn(async move { deliver(&*delivering, &large_events()[..1]).await });
        eventually("the call reaches the server", || (self.proxy.sent() > before).then_some(()));
        assert!(!call.is_finished(), "it is not delivered before the server has it");
        self.proxy.set(Way::Slow(Duration::from_millis(5)));
        self.runtime.block_on(call).expect("no panic").expect("slow is no failure");
        assert_eq!(self.arrived(&place), [9, 1]);
    }

    fn dropped_connection(&mut self) {
        let (_, sink) = self.next();
        self.proxy.set(Way::Cut);
        let failure = self.deliver(&sink, &large_events()[..1]).expect_err("nobody answers");
        assert!(matches!(failure.cause, SinkError::Transient { .. }), "{failure:?}");
        assert_eq!((failure.delivered, failure.blame), (0, Blame::Unknown));
    }

    fn called_again_after_failure(&mut self) {
        let (place, sink) = self.next();
        for _ in 0..2 {
            // Once before there is a connection, and once with one.
            self.proxy.set(Way::Cut);
            self.deliver(&sink, &large_events()).expect_err("nobody answers");
            self.proxy.set(Way::Open);
            // A client may still be about to notice; the dispatcher tries again too.
            eventually("it delivers again", || self.deliver(&sink, &large_events()).ok());
            self.all_arrived(&place);
        }
    }

    fn called_while_another_call_runs(&mut self) {
        let (place, sink) = self.next();
        self.runtime.block_on(async {
            let call = |n: u64| {
                let sink = sink.clone();
                tokio::spawn(async move { deliver(&*sink, &[event(2 * n, "ann"), event(2 * n + 1, "bob")]).await })
            };
            let calls: Vec<_> = (0..20).map(call).collect();
            for call in calls {
                call.await.expect("no panic").expect("all is well");
            }
        });
        let mut arrived = self.arrived(&place);
        arrived.sort_unstable();
        assert_eq!(arrived, (0..40).collect::<Vec<_>>());
    }

    fn stopped_half_way(&mut self) {
        let (place, sink) = self.next();
        let before = self.proxy.sent();
        self.proxy.set(Way::Slow(Duration::from_millis(5)));
        let delivering = sink.clone();
        let call = self.runtime.spawn(async move { deliver(&*delivering, &large_events()).await });
        eventually("the call reaches the server", || (self.proxy.sent() > before).then_some(()));
        call.abort();
        let _ = self.runtime.block_on(call);
        // The same sink, as after a call that took too long, and then a new one, as after a crash.
        self.proxy.set(Way::Open);
        eventually("it delivers again", || self.deliver(&sink, &large_events()).ok());
        self.runtime.block_on(sink.close()).expect("it closes");
        let sink = self.sink(&place);
        self.deliver(&sink, &large_events()).expect("all is well");
        self.all_arrived(&place);
    }
}
