//! What is tried again and again: that it fails is said once, and that it works again once more.

/// Times in a row after which it is said.
const TOLD_AFTER: u32 = 30;

/// How often in a row something failed.
#[derive(Debug, Default)]
pub(super) struct Failing(u32);

/// What is to be said of it now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// It goes on failing.
    Fails,
    /// It was said that it fails, and it works again.
    WorksAgain,
}

impl Failing {
    /// Now and then a server goes, and the next try finds another; only what goes on is news.
    pub(super) fn note(&mut self, works: bool) -> Option<News> {
        if works {
            let was_told = std::mem::take(&mut self.0) >= TOLD_AFTER;
            return was_told.then_some(News::WorksAgain);
        }
        self.0 = self.0.saturating_add(1);
        (self.0 == TOLD_AFTER).then_some(News::Fails)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(failing: &mut Failing, works: bool, times: u32) -> Vec<News> {
        (0..times).filter_map(|_| failing.note(works)).collect()
    }

    #[test]
    fn what_goes_on_failing_is_said_once_and_so_is_its_end() {
        let mut failing = Failing::default();
        for _ in 0..3 {
            assert_eq!(note(&mut failing, false, TOLD_AFTER - 1), []);
            assert_eq!(note(&mut failing, true, 2), []);
        }
        for _ in 0..2 {
            assert_eq!(note(&mut failing, false, 3 * TOLD_AFTER), [News::Fails]);
            assert_eq!(note(&mut failing, true, 3), [News::WorksAgain]);
        }
    }
}
