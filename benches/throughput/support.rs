//! How tests start servers.

#[path = "../../tests/it/support/daemon.rs"]
pub(crate) mod daemon;
#[path = "../../tests/it/support/hosts.rs"]
pub(crate) mod hosts;
#[cfg(feature = "kafka")]
#[path = "../../tests/it/support/mock_kafka.rs"]
pub(crate) mod mock_kafka;
#[path = "../../tests/it/support/nats_cluster.rs"]
pub(crate) mod nats_cluster;
#[path = "../../tests/it/support/nats_server.rs"]
pub(crate) mod nats_server;
#[path = "../../tests/it/support/postgres.rs"]
pub(crate) mod postgres;
#[path = "../../tests/it/support/rabbitmq_server.rs"]
pub(crate) mod rabbitmq_server;

/// How long to wait for what must happen.
pub(crate) const DEADLINE: std::time::Duration = std::time::Duration::from_secs(60);

/// What of the module of this name servers are started with.
pub(crate) mod server {
    use std::time::{Duration, Instant};

    /// Waits for a condition, but not for ever.
    pub(crate) fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(value) = condition() {
                return value;
            }
            assert!(began.elapsed() < super::DEADLINE, "this takes far too long: {what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
