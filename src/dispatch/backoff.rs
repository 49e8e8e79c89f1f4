//! How long to wait before the next try. Pure: the randomness comes in.

use std::time::Duration;

/// The longest wait that a target may ask for, unless `retry_max` is longer.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// Exponential back-off with full jitter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Backoff {
    /// The bound of the first wait.
    pub(super) initial: Duration,
    /// The bound of the longest wait.
    pub(super) max: Duration,
}

impl Backoff {
    /// The wait after so many failures in a row, `jitter` being a random number from 0 to 1.
    pub(super) fn delay(&self, failures: u32, jitter: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let bound = self.initial.saturating_mul(1 << doublings).min(self.max);
        bound.mul_f64(jitter.clamp(0.0, 1.0))
    }

    /// The wait after a failure, not shorter than what the target asked for, within reason.
    pub(super) fn delay_asked(&self, failures: u32, jitter: f64, asked: Option<Duration>) -> Duration {
        self.delay(failures, jitter).max(self.asked(asked))
    }

    /// What the target asked for, within reason: a wrong date must not stop a sink for a year.
    pub(super) fn asked(&self, asked: Option<Duration>) -> Duration {
        asked.unwrap_or_default().min(self.max.max(LONGEST_RETRY_AFTER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(60) };

    #[test]
    fn doubles_up_to_the_maximum() {
        let bounds: Vec<u64> = (1..=8).map(|failures| BACKOFF.delay(failures, 1.0).as_secs()).collect();
        assert_eq!(bounds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(BACKOFF.delay(u32::MAX, 1.0).as_secs(), 60);
    }

    #[test]
    fn jitter_is_full() {
        assert_eq!(BACKOFF.delay(3, 0.0), Duration::ZERO);
        assert_eq!(BACKOFF.delay(3, 0.5), Duration::from_secs(2));
    }

    #[test]
    fn the_target_may_ask_for_longer_within_reason() {
        let asked = |seconds| BACKOFF.delay_asked(2, 1.0, Some(Duration::from_secs(seconds))).as_secs();
        assert_eq!(asked(0), 2);
        assert_eq!(asked(120), 120);
        assert_eq!(asked(u64::MAX), 3600);
    }
}
