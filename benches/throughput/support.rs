//! How tests start servers.

#[path = "../../tests/it/support/daemon.rs"]
pub(crate) mod daemon;
#[cfg(feature = "kafka")]
#[path = "../../tests/it/support/mock_kafka.rs"]
pub(crate) mod mock_kafka;

/// How long to wait for what must happen.
#[cfg(feature = "kafka")]
pub(crate) const DEADLINE: std::time::Duration = std::time::Duration::from_secs(60);
