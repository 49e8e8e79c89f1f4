//! Documents by key, in a stream that keeps the newest message of each subject: read from the stream's leader, written
//! on the condition that nobody else wrote since. A change has an id, by which the servers know it when it comes again
//! because its acknowledgement got lost, whatever others wrote meanwhile: each is made once.

use std::time::{Duration, Instant};

use async_nats::jetstream::Context;
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{RawMessageErrorKind, Stream};
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::error::{unavailable, unreadable};
use crate::journal::JournalError;

/// Tries of a change that others get in the way of.
const TRIES: usize = 20;
/// How long a change is tried of which nobody says whether it was written: far shorter than the servers remember ids.
const UNANSWERED: Duration = Duration::from_secs(12);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(200);

/// The documents.
#[derive(Clone)]
pub(super) struct State {
    js: Context,
    stream: Stream<()>,
    prefix: String,
}

/// A document as it was read.
#[derive(Debug, Clone)]
pub(super) struct Kept<T> {
    pub(super) value: T,
    /// What a change of it has to name.
    pub(super) revision: u64,
}

/// Why a document was not written.
#[derive(Debug)]
pub(super) enum NotPut {
    /// Somebody else wrote it since it was read; or this very change arrived, and its acknowledgement did not.
    Changed,
    /// It could not be written, or nobody said that it was.
    Failed(JournalError),
}

impl State {
    /// The documents in this stream, whose subjects begin with `prefix`.
    pub(super) fn new(js: Context, stream: Stream<()>, prefix: String) -> Self {
        Self { js, stream, prefix }
    }

    fn subject(&self, key: &str) -> String {
        format!("{}.{key}", self.prefix)
    }

    /// A document.
    pub(super) async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<Kept<T>>, JournalError> {
        let Some((text, revision)) = self.text(key).await? else { return Ok(None) };
        let value = serde_json::from_slice(&text).map_err(|_| unreadable(key))?;
        Ok(Some(Kept { value, revision }))
    }

    /// A document that is no less right for being passed over when it cannot be read.
    pub(super) async fn get_readable<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, JournalError> {
        Ok(self.text(key).await?.and_then(|(text, _)| serde_json::from_slice(&text).ok()))
    }

    async fn text(&self, key: &str) -> Result<Option<(Bytes, u64)>, JournalError> {
        match self.stream.get_last_raw_message_by_subject(&self.subject(key)).await {
            Ok(message) => Ok(Some((message.payload, message.sequence))),
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(unavailable("what replicas share cannot be read", error.kind())),
        }
    }

    /// Writes a document that had this revision when it was read, 0 if there was none; its new revision.
    pub(super) async fn put<T: Serialize>(&self, key: &str, value: &T, revision: u64) -> Result<u64, NotPut> {
        self.publish(key, written(value)?, revision, PublishMessage::build()).await
    }

    async fn publish(&self, key: &str, payload: Bytes, revision: u64, message: PublishMessage) -> Result<u64, NotPut> {
        let message = message.payload(payload).expected_last_subject_sequence(revision);
        let refused = |error: async_nats::jetstream::context::PublishError| match error.kind() {
            PublishErrorKind::WrongLastSequence => NotPut::Changed,
            kind => NotPut::Failed(not_written(kind)),
        };
        let ack = self.js.send_publish(self.subject(key), message).await.map_err(refused)?;
        let ack = ack.await.map_err(refused)?;
        if ack.sequence == 0 { Err(NotPut::Failed(not_written("it was not stored"))) } else { Ok(ack.sequence) }
    }

    /// The same, until somebody says whether it was written. The servers look for the id before anything else: what they
    /// refuse now did not arrive before either.
    async fn put_surely<T: Serialize>(&self, key: &str, value: &T, revision: u64) -> Result<u64, NotPut> {
        let (payload, id) = (written(value)?, Uuid::new_v4().to_string());
        let began = Instant::now();
        loop {
            match self.publish(key, payload.clone(), revision, PublishMessage::build().message_id(&id)).await {
                Err(NotPut::Failed(_)) if began.elapsed() < UNANSWERED => tokio::time::sleep(PAUSE).await,
                result => return result,
            }
        }
    }

    /// Changes a document, from nothing if there is none; the new one. `change` says whether there is anything to write.
    /// It is called again when others got in the way, and what it did is written once.
    ///
    /// # Errors
    /// When it is not known whether it was written, too.
    pub(super) async fn change<T: Serialize + DeserializeOwned + Default>(
        &self,
        key: &str,
        mut change: impl FnMut(&mut T) -> Result<bool, JournalError>,
    ) -> Result<T, JournalError> {
        for _ in 0..TRIES {
            let (mut value, revision) =
                self.get::<T>(key).await?.map_or_else(|| (T::default(), 0), |kept| (kept.value, kept.revision));
            if !change(&mut value)? {
                return Ok(value);
            }
            match self.put_surely(key, &value, revision).await {
                Ok(_) => return Ok(value),
                Err(NotPut::Changed) => {}
                Err(NotPut::Failed(error)) => return Err(error),
            }
        }
        Err(JournalError::Unavailable("others keep changing what replicas share".to_owned()))
    }

    /// Removes a document for good.
    pub(super) async fn remove(&self, key: &str) -> Result<(), JournalError> {
        let purge = self.stream.purge().filter(self.subject(key)).await;
        purge.map(|_| ()).map_err(|error| unavailable("what replicas share cannot be removed", error.kind()))
    }

    /// The keys below this one, in order.
    pub(super) async fn below(&self, key: &str) -> Result<Vec<String>, JournalError> {
        let failed = |error| unavailable("what replicas share cannot be listed", error);
        let above = self.subject(key) + ".";
        let subjects = self.stream.info_with_subjects(format!("{above}>")).await.map_err(failed)?;
        let subjects: Vec<(String, usize)> = subjects.try_collect().await.map_err(failed)?;
        let mut keys: Vec<String> =
            subjects.into_iter().filter_map(|(subject, _)| Some(subject.strip_prefix(&above)?.to_owned())).collect();
        keys.sort_unstable();
        Ok(keys)
    }
}

fn written<T: Serialize>(value: &T) -> Result<Bytes, NotPut> {
    Ok(serde_json::to_vec(value).map_err(|error| NotPut::Failed(not_written(error)))?.into())
}

fn not_written(why: impl std::fmt::Display) -> JournalError {
    unavailable("what replicas share cannot be written", why)
}
