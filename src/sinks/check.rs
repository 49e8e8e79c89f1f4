//! What `hooksink check --connect` is told by a sink.

/// A target that was reached and will take events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// What was found, for people: "Redis 7.0.15, XADD to hooksink allowed". No secret.
    pub found: String,
    /// What is allowed and yet probably not meant: "appendonly is off: …". No secret.
    pub warnings: Vec<String>,
    /// Bytes of the largest event that the target takes, as this sink sends it; `None` if there is no such limit, or the
    /// target does not say.
    pub max_event_bytes: Option<u64>,
}
