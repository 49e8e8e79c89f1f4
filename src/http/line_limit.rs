//! How many requests are told of, a line each: under a flood the log says how many more there were. Metrics count all.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bits of the state that count lines; the others tell the second.
const COUNT_BITS: u32 = 32;
const COUNT: u64 = (1 << COUNT_BITS) - 1;

/// The lines of one second.
#[derive(Debug, Default)]
pub(super) struct LineLimit(AtomicU64);

/// What is to be said of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Said {
    /// Whether it gets its line.
    pub(super) line: bool,
    /// How many got none in the last second there were any; said with the first one after it.
    pub(super) untold: u64,
}

impl LineLimit {
    /// A request of this second (counted from any moment) that is to be told of, if there were less than `most`.
    pub(super) fn next(&self, second: u64, most: u32) -> Said {
        let most = u64::from(most);
        let next = |state: u64| {
            let count = if state >> COUNT_BITS == second { (state & COUNT).saturating_add(1).min(COUNT) } else { 1 };
            Some((second << COUNT_BITS) | count)
        };
        // Always Ok, since there is always a next state.
        let (Ok(before) | Err(before)) = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        if before >> COUNT_BITS == second {
            return Said { line: before & COUNT < most, untold: 0 };
        }
        Said { line: most > 0, untold: (before & COUNT).saturating_sub(most) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_lines_a_second_and_then_how_many_more_there_were() {
        let limit = LineLimit::default();
        let lines = |second, requests: usize| -> (usize, u64) {
            let said: Vec<Said> = (0..requests).map(|_| limit.next(second, 3)).collect();
            (said.iter().filter(|said| said.line).count(), said.iter().map(|said| said.untold).sum())
        };
        assert_eq!(lines(0, 2), (2, 0));
        assert_eq!(lines(0, 5), (1, 0));
        assert_eq!(lines(1, 3), (3, 4));
        assert_eq!(lines(7, 1), (1, 0));
    }

    #[test]
    fn none_at_all_are_still_counted() {
        let limit = LineLimit::default();
        assert_eq!(limit.next(5, 0), Said { line: false, untold: 0 });
        assert_eq!(limit.next(5, 0), Said { line: false, untold: 0 });
        assert_eq!(limit.next(6, 0), Said { line: false, untold: 2 });
    }
}
