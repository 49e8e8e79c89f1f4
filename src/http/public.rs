//! The way of a request: what it is asked in which order, and by whom it is answered. The order is that of the table in
//! the README: 404, 405, busy or draining 503, 413, 401, empty or unreadable 400, busy or journal 503, 200. A body whose
//! length is not announced is found too large only when it is read, after the 401 that needs no body.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::response::Response;
use bytes::Bytes;
use chrono::Utc;
use futures_util::FutureExt as _;
use http::{Method, Request};
use hyper::body::Body;
use percent_encoding::percent_decode_str;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use uuid::Uuid;

use super::answer::Answer;
use super::body::{self, Budget};
use super::client_address::ClientAddress;
use super::outcome::Outcome;
use super::request_log::RequestLog;
use super::tally::Tally;
use crate::auth::{Received, Refusal, Verified};
use crate::config::ServerConfig;
use crate::event::{Kind, Record};
use crate::journal::{Journal, JournalError};
use crate::metrics::Metrics;
use crate::names::SourceName;
use crate::sources::{Handshake, Source, Sources, Split};

/// Bodies larger than this are authenticated and split on a thread of their own: it takes long enough to hold up others.
const LARGE_BODY: usize = 256 * 1024;

/// A source, and what is counted of its requests.
struct At {
    source: Arc<dyn Source>,
    tally: Tally,
}

/// The public door's state: everything that a request needs, and the bounds on all of them together.
pub struct Public {
    sources: BTreeMap<SourceName, At>,
    /// What is counted of requests at no source.
    elsewhere: Tally,
    journal: Arc<dyn Journal>,
    client_address: ClientAddress,
    prefix: String,
    body_read_timeout: Duration,
    ack_timeout: Duration,
    in_flight: Semaphore,
    buffered: Arc<Budget>,
    draining: AtomicBool,
}

impl Public {
    /// A door to this journal for these sources, which logs so many lines a second for each source and outcome.
    pub fn new(
        sources: &Sources,
        journal: Arc<dyn Journal>,
        metrics: &Arc<Metrics>,
        config: &ServerConfig,
        lines: u32,
    ) -> Self {
        let trusted_proxies = config.trusted_proxies.clone();
        let at = |source: &Arc<dyn Source>| {
            let name = source.name().clone();
            let tally = Tally::new(metrics.clone(), Some(name.clone()), lines);
            (name, At { source: source.clone(), tally })
        };
        Self {
            sources: sources.iter().map(at).collect(),
            elsewhere: Tally::new(metrics.clone(), None, lines),
            journal,
            client_address: ClientAddress::new(config.client_address_header, trusted_proxies),
            prefix: config.public_url_prefix.trim_end_matches('/').to_owned(),
            body_read_timeout: config.body_read_timeout,
            ack_timeout: config.ack_timeout,
            in_flight: Semaphore::new(config.max_in_flight.min(Semaphore::MAX_PERMITS)),
            buffered: Budget::new(usize::try_from(config.max_buffered).unwrap_or(usize::MAX), config.max_connections),
            draining: AtomicBool::new(false),
        }
    }

    /// From now on requests are answered 503; those under way go on.
    pub fn start_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// The source that this path is of.
    fn at(&self, path: &str) -> Option<&At> {
        let name = path.strip_prefix(&self.prefix)?.strip_prefix("/webhooks/")?;
        // A name has no letters that need it, but RFC 3986 has whoever wants encode any.
        let name = percent_decode_str(name.strip_suffix('/').unwrap_or(name)).decode_utf8().ok()?;
        self.sources.get(&*name)
    }

    /// Leads a request to its answer, and tells of it.
    async fn handle<B>(&self, at: Option<&At>, peer: IpAddr, request: Request<B>) -> Response
    where
        B: Body<Data = Bytes, Error: Send> + Send,
    {
        let request_id = Uuid::now_v7();
        let tally = at.map_or(&self.elsewhere, |at| &at.tally);
        let mut log = RequestLog::begin(tally, request_id, request.method().clone(), request.uri().clone());
        let answer = match at {
            Some(At { source, .. }) => {
                let answer = self.answer(source, peer, request, request_id, &mut log);
                // What a panic leaves behind is only the log line, which is whole at every step.
                AssertUnwindSafe(answer).catch_unwind().await.unwrap_or_else(|_| Outcome::Failed.into())
            }
            None => Outcome::NotFound.into(),
        };
        log.finish(answer.outcome);
        answer.into_response(request_id)
    }

    /// The answer to a request at a source's path.
    async fn answer<B>(
        &self,
        source: &Arc<dyn Source>,
        peer: IpAddr,
        request: Request<B>,
        request_id: Uuid,
        log: &mut RequestLog<'_>,
    ) -> Answer
    where
        B: Body<Data = Bytes, Error: Send> + Send,
    {
        if ![Method::HEAD, Method::GET, Method::POST].contains(request.method()) {
            return Outcome::MethodNotAllowed.into();
        }
        if self.draining.load(Ordering::Relaxed) {
            return Outcome::Draining.into();
        }
        // The slots are taken further below, so that no stranger can hold one.
        if self.in_flight.available_permits() == 0 {
            return Outcome::Busy.into();
        }
        match *request.method() {
            Method::HEAD => Answer::empty(),
            Method::GET => handshake(source.handshake(request.uri().query().unwrap_or_default())),
            _ => self.receive(source, peer, request, request_id, log).await.unwrap_or_else(|answer| answer),
        }
    }

    /// A POST: screen, read, authenticate, split, append. What strangers can hold up comes before what is bounded for all:
    /// only an authentic request takes one of `max_in_flight`.
    async fn receive<B>(
        &self,
        source: &Arc<dyn Source>,
        peer: IpAddr,
        request: Request<B>,
        request_id: Uuid,
        log: &mut RequestLog<'_>,
    ) -> Result<Answer, Answer>
    where
        B: Body<Data = Bytes, Error: Send> + Send,
    {
        if self.buffered.is_exhausted() {
            return Err(Outcome::Busy.into());
        }
        let (parts, body) = request.into_parts();
        if !body::may_fit(&body, source.max_body()) {
            return Err(Outcome::TooLarge.into());
        }
        let mut received = Received {
            client_address: self.client_address.resolve(peer, &parts.headers),
            headers: parts.headers,
            query: parts.uri.query().unwrap_or_default().to_owned(),
            body: Bytes::new(),
            request_id: request_id.to_string(),
        };
        source.screen(&received).map_err(|refusal| {
            log.because(refusal);
            Answer::unauthorized(source.challenges()).closing(!body.is_end_stream())
        })?;
        received.body = body::read(body, source.max_body(), self.body_read_timeout, &self.buffered).await?;
        log.body(received.body.len());
        let (verified, split) = judge(source, received).await.map_err(|refusal| {
            log.because(refusal);
            Answer::unauthorized(source.challenges())
        })?;
        log.proven(verified.arrival());
        let split = match split {
            Some(split) if split.json || verified.proven_by_secret() => split,
            Some(_) => return Err(Outcome::NotJson.into()),
            None => return Err(Outcome::EmptyBody.into()),
        };
        // The records hold their slices of the body. Nothing of the rest is needed while the journal works.
        drop(verified);
        let Ok(_slot) = self.in_flight.try_acquire() else { return Err(Outcome::Busy.into()) };
        self.append(split.records, log).await?;
        let (accepted, duplicates) = log.counts();
        Ok(Answer::accepted(accepted, duplicates))
    }

    /// Has the journal store the records. It goes on with that when we stop waiting, because it is slow or because the
    /// client is gone and this future with it: that is [`Journal::append`]'s own promise.
    async fn append(&self, records: Vec<Record>, log: &mut RequestLog<'_>) -> Result<(), Outcome> {
        let kinds: Vec<Kind> = records.iter().map(|record| record.kind).collect();
        let asked = Instant::now();
        let answer = timeout(self.ack_timeout, self.journal.append(records)).await;
        log.journal(asked.elapsed());
        let appended = answer.map_err(|_| Outcome::AckTimeout)?.map_err(|error| {
            log.because(&error);
            match error {
                JournalError::Busy => Outcome::JournalBusy,
                JournalError::Full(_) => Outcome::JournalFull,
                JournalError::Unavailable(_) | JournalError::Closed | JournalError::Refused(_) => {
                    Outcome::JournalUnavailable
                }
            }
        })?;
        log.appended(kinds.into_iter().zip(appended));
        Ok(())
    }
}

/// Authenticates, then splits; without a split where there is nothing in the body.
fn judge_here(source: &dyn Source, received: Received) -> Result<(Verified, Option<Split>), Refusal> {
    let verified = source.authenticate(received)?;
    let split = (!verified.body().is_empty()).then(|| source.split(&verified, Utc::now()));
    Ok((verified, split))
}

/// The same, elsewhere where the body is large.
async fn judge(source: &Arc<dyn Source>, received: Received) -> Result<(Verified, Option<Split>), Refusal> {
    if received.body.len() <= LARGE_BODY {
        return judge_here(&**source, received);
    }
    let source = source.clone();
    let judged = spawn_blocking(move || judge_here(&*source, received)).await;
    // It is never cancelled, and its panic is ours to pass on to who catches ours.
    judged.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// The answer to a GET.
fn handshake(handshake: Handshake) -> Answer {
    match handshake {
        Handshake::Empty => Answer::empty(),
        Handshake::Challenge(bytes) => Answer::challenge(bytes),
        Handshake::Forbidden => Outcome::HandshakeRefused.into(),
        Handshake::Incomplete(missing) => Answer::from(Outcome::HandshakeIncomplete).saying(missing),
    }
}

/// A request on its way to its answer.
pub type Answering = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

/// What the public listener serves: `{public_url_prefix}/webhooks/{source}`, with or without a slash behind it.
pub fn public_door<B>(public: Arc<Public>) -> impl Fn(SocketAddr, Request<B>) -> Answering + Clone
where
    B: Body<Data = Bytes, Error: Send> + Send + 'static,
{
    move |peer, request| {
        let public = public.clone();
        Box::pin(async move {
            let at = public.at(request.uri().path());
            Ok(public.handle(at, peer.ip(), request).await)
        })
    }
}
