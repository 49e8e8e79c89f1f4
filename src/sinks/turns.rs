//! Many events at once over a client that pipelines, and yet each person's one after the other.
//!
//! A client that sends everything it is given without waiting loses the order as soon as one send in the middle fails:
//! the person's later events are there, and the failed one comes after them. So the next event of a lane is sent when
//! the one before is acknowledged, and after a failure no further event of its lane.

use std::collections::VecDeque;
use std::pin::pin;

use futures_util::stream::{FuturesUnordered, StreamExt as _};

use super::{Blame, SinkError, Undelivered};
use crate::event::{Event, LaneMap};

/// Sends each event with `send`, at most `at_once` at a time and one of a lane, until `over` says why no further answer is
/// waited for: once for all events, where each would have to look at the clock otherwise. What failed is told of the first
/// event, in the order of `events`, that did not get through; those behind it are sent again with the same ids.
///
/// A failure that is `Permanent` is taken to be about its event, one that is `Transient` about none in particular.
pub(super) async fn send_in_turns<'a, F>(
    events: &'a [Event],
    at_once: usize,
    send: impl Fn(&'a Event) -> F,
    over: impl Future<Output = SinkError>,
) -> Result<(), Undelivered>
where
    F: Future<Output = Result<(), SinkError>>,
{
    let mut turns = Turns::new(events);
    let mut sending = FuturesUnordered::new();
    let mut over = pin!(over);
    let ended = loop {
        while sending.len() < at_once.max(1) {
            let Some(position) = turns.next() else { break };
            let sent = send(&events[position]);
            sending.push(async move { (position, sent.await) });
        }
        tokio::select! {
            biased;
            answered = sending.next() => match answered {
                Some((position, result)) => turns.answered(position, result),
                None => break None,
            },
            why = &mut over => break Some(why),
        };
    };
    turns.outcome(ended)
}

/// Whose turn it is among the events of a call, known by their positions, and what became of those that had theirs. A sink
/// whose client returns a future for each event has [`send_in_turns`] around it; one that hears of answers by a callback
/// uses it directly.
pub(super) struct Turns {
    /// Of each event, the next of its lane.
    following: Vec<Option<usize>>,
    /// The first of each lane that is not under way and did not fail.
    due: VecDeque<usize>,
    through: Vec<bool>,
    failures: Vec<(usize, SinkError)>,
    /// A target in trouble is not sent the rest.
    stopped: bool,
}

impl Turns {
    pub(super) fn new(events: &[Event]) -> Self {
        let mut following: Vec<Option<usize>> = vec![None; events.len()];
        let mut due = VecDeque::with_capacity(events.len());
        let mut last = LaneMap::with_capacity_and_hasher(events.len(), Default::default());
        for (position, event) in events.iter().enumerate() {
            match last.insert(event.record.lane_ref(), position) {
                Some(before) => following[before] = Some(position),
                None => due.push_back(position),
            }
        }
        Self { following, due, through: vec![false; events.len()], failures: Vec::new(), stopped: false }
    }

    /// An event to be sent now; none while all others wait for answers, or are not to be sent.
    pub(super) fn next(&mut self) -> Option<usize> {
        if self.stopped { None } else { self.due.pop_front() }
    }

    /// Gives back the turn of an event that could not be sent yet: it is the next again.
    #[cfg(feature = "kafka")]
    pub(super) fn not_yet(&mut self, position: usize) {
        self.due.push_front(position);
    }

    /// Takes in what became of an event that had its turn. One that is refused for itself holds up only its lane.
    pub(super) fn answered(&mut self, position: usize, result: Result<(), SinkError>) {
        match result {
            Ok(()) => {
                self.through[position] = true;
                self.due.extend(self.following[position]);
            }
            Err(cause) => {
                self.stopped |= matches!(cause, SinkError::Transient { .. });
                self.failures.push((position, cause));
            }
        }
    }

    /// What the dispatcher is told of the call, which this ended if it did not end by itself.
    pub(super) fn outcome(self, ended: Option<SinkError>) -> Result<(), Undelivered> {
        outcome(&self.through, self.failures, ended)
    }
}

/// What the dispatcher is told of a call, by what got through, what failed, and what ended the call: the first event that
/// did not get through. What did behind it is sent again.
pub(super) fn outcome(
    through: &[bool],
    mut failures: Vec<(usize, SinkError)>,
    ended: Option<SinkError>,
) -> Result<(), Undelivered> {
    let Some(delivered) = through.iter().position(|through| !through) else { return Ok(()) };
    failures.sort_by_key(|(position, _)| *position);
    let (blame, cause) = match (failures.into_iter().next(), ended) {
        (Some((position, cause @ SinkError::Permanent { .. })), _) if position == delivered => (Blame::Event, cause),
        (Some((position, cause)), _) if position == delivered => (Blame::Unknown, cause),
        (_, Some(cause)) | (Some((_, cause)), None) => (Blame::Unknown, not_its_own(cause)),
        (None, None) => (Blame::Unknown, SinkError::transient("it was not sent")),
    };
    Err(Undelivered { delivered, blame, cause })
}

/// The failure of another event is no refusal of this one.
fn not_its_own(cause: SinkError) -> SinkError {
    match cause {
        SinkError::Permanent { source } => SinkError::Transient { retry_after: None, source },
        transient @ SinkError::Transient { .. } => transient,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::RefCell;
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;

    use bytes::Bytes;
    use chrono::DateTime;
    use uuid::Uuid;

    use super::*;
    use crate::event::{Arrival, Context, EventId, Kind, Record, Subject};
    use crate::model::Payload;
    use crate::names::SourceType;

    pub(in super::super) fn event(number: u128, person: &str) -> Event {
        let arrival = Arrival {
            request_id: String::new(),
            client_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            proofs: Vec::new(),
            content_type: None,
            content_encoding: None,
            user_agent: None,
            wx_gtrid: None,
        };
        let record = Record {
            id: EventId(Uuid::from_u128(number)),
            source: "m".parse().unwrap(),
            source_type: SourceType::Meta,
            kind: Kind::MetaMessageEcho,
            subject: Subject::new(person),
            occurred_at: None,
            received_at: DateTime::UNIX_EPOCH,
            context: Arc::new(Context::bare(Arc::new(arrival))),
            raw: Bytes::from_static(b"{}"),
        };
        Event { record: Arc::new(record), payload: Arc::new(Payload::Opaque) }
    }

    fn number(event: &Event) -> u128 {
        event.record.id.0.as_u128()
    }

    /// What was sent, in order, and what became of the call, when these events fail.
    async fn run(events: &[Event], at_once: usize, fail: &[(u128, bool)]) -> (Vec<u128>, Result<(), (usize, Blame)>) {
        let sent = RefCell::new(Vec::new());
        let send = |event| {
            let sent = &sent;
            async move {
                sent.borrow_mut().push(number(event));
                // Others are sent in the meantime, if they may.
                tokio::task::yield_now().await;
                match fail.iter().find(|(failing, _)| *failing == number(event)) {
                    Some((_, true)) => Err(SinkError::Permanent { source: "refused".into() }),
                    Some((_, false)) => Err(SinkError::Transient { retry_after: None, source: "broken".into() }),
                    None => Ok(()),
                }
            }
        };
        let result = send_in_turns(events, at_once, send, std::future::pending()).await;
        (sent.into_inner(), result.map_err(|failure| (failure.delivered, failure.blame)))
    }

    #[tokio::test]
    async fn one_person_waits_for_oneself_and_for_nobody_else() {
        let events = [event(1, "ann"), event(2, "ann"), event(3, "bob"), event(4, "cyd"), event(5, "ann")];
        assert_eq!(run(&events, 10, &[]).await, (vec![1, 3, 4, 2, 5], Ok(())));
        assert_eq!(run(&events, 1, &[]).await.0, [1, 3, 4, 2, 5]);
        assert_eq!(run(&[], 10, &[]).await, (vec![], Ok(())));
    }

    #[cfg(feature = "kafka")]
    #[test]
    fn a_turn_that_is_given_back_is_the_next() {
        let events = [event(1, "ann"), event(2, "bob"), event(3, "ann")];
        let mut turns = Turns::new(&events);
        assert_eq!(turns.next(), Some(0));
        turns.not_yet(0);
        assert_eq!([turns.next(), turns.next(), turns.next()], [Some(0), Some(1), None]);
        turns.answered(0, Ok(()));
        assert_eq!(turns.next(), Some(2), "ann's next, once her first is there");
    }

    #[tokio::test]
    async fn what_has_no_answer_in_the_end_is_not_delivered() {
        let events = [event(1, "ann"), event(2, "bob"), event(3, "ann"), event(4, "cyd")];
        for (silent, expected) in [(1, 0), (2, 1), (3, 2), (4, 3)] {
            let send = async |event| if number(event) == silent { std::future::pending().await } else { Ok(()) };
            let over = std::future::ready(SinkError::transient("late"));
            let failure = send_in_turns(&events, 10, send, over).await.unwrap_err();
            assert_eq!((failure.delivered, failure.blame), (expected, Blame::Unknown));
            assert_eq!(failure.cause.to_string(), "late");
        }
        // A refusal before what has no answer is about its event.
        let send = async |event| match number(event) {
            1 => Err(SinkError::permanent("refused")),
            2 => std::future::pending().await,
            _ => Ok(()),
        };
        let over = std::future::ready(SinkError::transient("late"));
        let failure = send_in_turns(&events, 10, send, over).await.unwrap_err();
        assert_eq!((failure.delivered, failure.blame), (0, Blame::Event));
    }

    #[tokio::test]
    async fn after_a_failure_nothing_of_that_person_is_sent() {
        let events = [event(1, "ann"), event(2, "ann"), event(3, "bob"), event(4, "bob")];
        // A refusal is about its event, and holds up nobody else.
        assert_eq!(run(&events, 10, &[(1, true)]).await, (vec![1, 3, 4], Err((0, Blame::Event))));
        assert_eq!(run(&events, 10, &[(3, true)]).await, (vec![1, 3, 2], Err((2, Blame::Event))));
        // A broken connection ends the call.
        assert_eq!(run(&events, 1, &[(1, false)]).await, (vec![1], Err((0, Blame::Unknown))));
        // What was not sent yet stands before what failed: the failure of the latter is not its fault.
        assert_eq!(run(&events, 1, &[(3, false)]).await, (vec![1, 3], Err((1, Blame::Unknown))));
        let events = [event(1, "ann"), event(2, "bob"), event(3, "ann"), event(4, "cyd")];
        assert_eq!(run(&events, 2, &[(2, false)]).await.1, Err((1, Blame::Unknown)));
    }
}
