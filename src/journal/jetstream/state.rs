//! Documents by key, in a stream that keeps the newest message of each subject: read from the stream's leader, written
//! on the condition that nobody else wrote since. Beside a document stand the ids of the last changes of it: by them a
//! change is known that was written, and whose acknowledgement got lost, also when others wrote since. Each is made once.
//! (The servers' own ids do not serve: they look at the condition first.)

use std::time::{Duration, Instant};

use async_nats::jetstream::Context;
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::{PublishMessage, StreamMessage};
use async_nats::jetstream::stream::{PurgeError, PurgeResponse, RawMessageErrorKind, Stream};
use futures_util::TryStreamExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{unavailable, unreadable};
use crate::journal::JournalError;

/// Tries of a change that others get in the way of.
const TRIES: usize = 20;
/// How long a change is tried of which nobody says whether it was written.
const UNANSWERED: Duration = Duration::from_secs(12);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(200);
/// Where the ids of the last changes stand, the newest first.
const CHANGES: &str = "Hooksink-Changes";
/// How many: what ten replicas make meanwhile, each of which writes about once a second.
const REMEMBERED: usize = 128;

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
        let Some(message) = self.message(key).await? else { return Ok(None) };
        let value = serde_json::from_slice(&message.payload).map_err(|_| unreadable(key))?;
        Ok(Some(Kept { value, revision: message.sequence }))
    }

    /// A document that is no less right for being passed over when it cannot be read.
    pub(super) async fn get_readable<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, JournalError> {
        Ok(self.message(key).await?.and_then(|message| serde_json::from_slice(&message.payload).ok()))
    }

    async fn message(&self, key: &str) -> Result<Option<StreamMessage>, JournalError> {
        match self.stream.get_last_raw_message_by_subject(&self.subject(key)).await {
            Ok(message) => Ok(Some(message)),
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(unavailable("what replicas share cannot be read", error.kind())),
        }
    }

    /// Writes a document that had this revision when it was read, 0 if there was none; its new revision.
    pub(super) async fn put<T: Serialize>(&self, key: &str, value: &T, revision: u64) -> Result<u64, NotPut> {
        self.publish(key, value, revision, PublishMessage::build()).await
    }

    async fn publish<T: Serialize>(
        &self,
        key: &str,
        value: &T,
        revision: u64,
        message: PublishMessage,
    ) -> Result<u64, NotPut> {
        let failed = |error: String| NotPut::Failed(unavailable("what replicas share cannot be written", error));
        let payload = serde_json::to_vec(value).map_err(|error| failed(error.to_string()))?;
        let bytes = payload.len();
        let message = message.payload(payload.into()).expected_last_subject_sequence(revision);
        let refused = |error: async_nats::jetstream::context::PublishError| match error.kind() {
            PublishErrorKind::WrongLastSequence => NotPut::Changed,
            kind @ PublishErrorKind::MaxPayloadExceeded => failed(format!("{kind}: {key} has {bytes} bytes")),
            kind => failed(kind.to_string()),
        };
        let ack = self.js.send_publish(self.subject(key), message).await.map_err(refused)?;
        let ack = ack.await.map_err(refused)?;
        if ack.sequence == 0 { Err(failed("it was not stored".to_owned())) } else { Ok(ack.sequence) }
    }

    /// Changes a document, from nothing if there is none; the new one. `change` says whether there is anything to write.
    /// It is called again when others got in the way, and what it did is written once.
    ///
    /// # Errors
    /// When nobody says for long whether it was written, too.
    pub(super) async fn change<T: Serialize + DeserializeOwned + Default>(
        &self,
        key: &str,
        mut change: impl FnMut(&mut T) -> Result<bool, JournalError>,
    ) -> Result<T, JournalError> {
        let began = Instant::now();
        // Ids under which it was written, or not.
        let mut unanswered: Vec<String> = Vec::new();
        let mut conflicts = 0;
        while conflicts < TRIES {
            let message = match self.message(key).await {
                Err(_) if !unanswered.is_empty() && began.elapsed() < UNANSWERED => {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                read => read?,
            };
            let (mut value, revision, changes) = match &message {
                Some(message) => {
                    let value = serde_json::from_slice(&message.payload).map_err(|_| unreadable(key))?;
                    let changes = message.headers.get(CHANGES).map(|text| text.as_str()).unwrap_or_default();
                    (value, message.sequence, changes)
                }
                None => (T::default(), 0, ""),
            };
            if changes.split(',').any(|id| unanswered.iter().any(|unanswered| unanswered == id)) {
                return Ok(value);
            }
            if !change(&mut value)? {
                return Ok(value);
            }
            let id = format!("{:08x}", rand::random::<u32>());
            let changes: Vec<&str> = [id.as_str()].into_iter().chain(changes.split(',')).take(REMEMBERED).collect();
            let with_ids = PublishMessage::build().header(CHANGES, changes.join(",").trim_end_matches(','));
            match self.publish(key, &value, revision, with_ids).await {
                Ok(_) => return Ok(value),
                Err(NotPut::Changed) => conflicts += 1,
                // Of this one and the next at most one is written, since both are on the same condition.
                Err(NotPut::Failed(_)) if began.elapsed() < UNANSWERED => {
                    unanswered.push(id);
                    tokio::time::sleep(PAUSE).await;
                }
                Err(NotPut::Failed(error)) => return Err(error),
            }
        }
        Err(JournalError::Unavailable("others keep changing what replicas share".to_owned()))
    }

    /// Removes a document for good.
    pub(super) async fn remove(&self, key: &str) -> Result<(), JournalError> {
        self.purge(self.stream.purge().filter(self.subject(key))).await
    }

    /// Removes a document for good, unless it was written after this revision.
    pub(super) async fn remove_up_to(&self, key: &str, revision: u64) -> Result<(), JournalError> {
        self.purge(self.stream.purge().sequence(revision + 1).filter(self.subject(key))).await
    }

    async fn purge(
        &self,
        purge: impl IntoFuture<Output = Result<PurgeResponse, PurgeError>>,
    ) -> Result<(), JournalError> {
        let purged = purge.await;
        purged.map(|_| ()).map_err(|error| unavailable("what replicas share cannot be removed", error.kind()))
    }

    /// The revision of what was written last, of whichever document.
    pub(super) async fn last_revision(&self) -> Result<u64, JournalError> {
        let info = self.stream.get_info().await;
        Ok(info.map_err(|error| unavailable("what replicas share cannot be read", error.kind()))?.state.last_sequence)
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
