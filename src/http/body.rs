//! Bodies, within limits: one by one (`max_body`), together (`max_buffered`) and in time (`body_read_timeout`).

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Body;
use tokio::time::timeout;

use super::outcome::Outcome;

/// The least that a body's buffer grows by.
const LEAST_GROWTH: usize = 4 * 1024;

/// One part in so many of the budget is for small bodies alone.
const KEPT_FOR_SMALL: usize = 4;

/// Bytes of bodies held over all requests together. A byte counts from when it is received until the last slice of its
/// body is gone: an append that outlives its answer still holds what it stores.
///
/// Whether a signature holds shows only when the whole body is there, so that strangers can hold what they send for as
/// long as a body may take. A few large bodies must not take the place of everybody's small ones: a quarter of the limit
/// is shared out over all connections there may be, and what is within its share always finds room.
#[derive(Debug)]
pub(super) struct Budget {
    limit: usize,
    /// A body of at most this size is small.
    share: usize,
    /// How much may be in use when a body grows beyond its share.
    limit_beyond: usize,
    used: AtomicUsize,
}

impl Budget {
    /// A budget of `limit` bytes for the bodies of at most so many connections.
    pub(super) fn new(limit: usize, connections: usize) -> Arc<Self> {
        let share = limit / KEPT_FOR_SMALL / connections.max(1);
        Arc::new(Self { limit, share, limit_beyond: limit - share * connections, used: AtomicUsize::new(0) })
    }

    /// Whether nothing more can be held.
    pub(super) fn is_exhausted(&self) -> bool {
        self.used.load(Ordering::Relaxed) >= self.limit
    }

    /// Takes so many bytes more for a body that will then hold `whole`.
    fn take(&self, bytes: usize, whole: usize) -> bool {
        let limit = if whole <= self.share { self.limit } else { self.limit_beyond };
        let more = |used: usize| used.checked_add(bytes).filter(|used| *used <= limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }
}

/// A buffer whose capacity counts in a budget for as long as it lives.
struct Counted {
    bytes: Vec<u8>,
    budget: Arc<Budget>,
}

impl Counted {
    fn new(budget: Arc<Budget>) -> Self {
        Self { bytes: Vec::new(), budget }
    }

    /// Appends, or says that there is no room. `expected` is how long the whole will be as far as one can tell.
    fn extend(&mut self, data: &[u8], expected: usize) -> bool {
        let (needed, capacity) = (self.bytes.len() + data.len(), self.bytes.capacity());
        if needed > capacity {
            // At least doubling, so that a long body is not copied often; but no more than will be needed. Capacity is
            // taken for what was received, not for what was announced: announcing costs a stranger nothing.
            let doubled = (capacity * 2).max(LEAST_GROWTH).min(expected.max(needed));
            // What is needed may be within the share when twice as much is not.
            let within = if needed <= self.budget.share { doubled.min(self.budget.share) } else { doubled };
            let target = within.max(needed);
            if !self.budget.take(target - capacity, target) {
                return false;
            }
            self.bytes.reserve_exact(target - self.bytes.len());
            // Vec may round up, which the budget follows without a limit: it is a matter of a few bytes.
            self.budget.used.fetch_add(self.bytes.capacity() - target, Ordering::Relaxed);
        }
        self.bytes.extend_from_slice(data);
        true
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes.capacity(), Ordering::Relaxed);
    }
}

/// Whether the body may be of at most `max` bytes, as far as its announced length tells.
pub(super) fn may_fit(body: &impl Body, max: usize) -> bool {
    body.size_hint().lower() <= max as u64
}

/// Reads a whole body of at most `max` bytes, the exact bytes, in at most `time`. The client is told to go on
/// (`Expect: 100-continue`) by the first read.
pub(super) async fn read(
    body: impl Body<Data = Bytes>,
    max: usize,
    time: Duration,
    budget: &Arc<Budget>,
) -> Result<Bytes, Outcome> {
    if !may_fit(&body, max) {
        return Err(Outcome::TooLarge);
    }
    let expected = body.size_hint().exact().and_then(|exact| usize::try_from(exact).ok()).unwrap_or(max);
    let whole = async {
        let mut body = pin!(body);
        let mut counted = Counted::new(budget.clone());
        while let Some(frame) = body.frame().await {
            // Trailers are nothing that a sender signs: they are passed over.
            let Ok(data) = frame.map_err(|_| Outcome::BrokenBody)?.into_data() else { continue };
            if data.len() > max - counted.bytes.len() {
                return Err(Outcome::TooLarge);
            }
            if !counted.extend(&data, expected) {
                return Err(Outcome::Busy);
            }
        }
        Ok(counted)
    };
    let counted = timeout(time, whole).await.unwrap_or(Err(Outcome::SlowBody))?;
    Ok(if counted.bytes.is_empty() { Bytes::new() } else { Bytes::from_owner(counted) })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body::Body;
    use futures_util::{StreamExt as _, stream};
    use proptest::prelude::*;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn chunks(of: Vec<Vec<u8>>) -> Body {
        Body::from_stream(stream::iter(of).map(|chunk| Ok::<_, Infallible>(Bytes::from(chunk))))
    }

    /// For so many connections that there is no share for each.
    fn budget_of(limit: usize) -> Arc<Budget> {
        Budget::new(limit, usize::MAX)
    }

    fn used(budget: &Budget) -> usize {
        budget.used.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn a_body_is_read_to_its_limit_and_not_beyond() {
        let budget = budget_of(1 << 20);
        for (length, expected) in [(0, Ok(0)), (9, Ok(9)), (10, Ok(10)), (11, Err(Outcome::TooLarge))] {
            let announced = read(Body::from(vec![7; length]), 10, LONG, &budget).await.map(|body| body.len());
            assert_eq!(announced, expected, "announced");
            let chunked = read(chunks(vec![vec![7]; length]), 10, LONG, &budget).await.map(|body| body.len());
            assert_eq!(chunked, expected, "chunked");
        }
        assert_eq!(used(&budget), 0);
    }

    #[tokio::test]
    async fn an_endless_body_ends() {
        let endless = stream::repeat(()).map(|()| Ok::<_, Infallible>(Bytes::from_static(&[7; 1000])));
        let budget = budget_of(1 << 20);
        assert_eq!(read(Body::from_stream(endless), 100_000, LONG, &budget).await, Err(Outcome::TooLarge));
        assert_eq!(used(&budget), 0);
    }

    #[tokio::test]
    async fn a_slow_body_is_given_up_on() {
        let budget = budget_of(1 << 20);
        let start = stream::once(async { Ok::<_, Infallible>(Bytes::from_static(b"{")) });
        let stuck = Body::from_stream(start.chain(stream::pending()));
        assert_eq!(read(stuck, 100, Duration::from_millis(10), &budget).await, Err(Outcome::SlowBody));
        assert_eq!(used(&budget), 0);
    }

    #[tokio::test]
    async fn a_broken_body_says_so() {
        let broken = stream::iter([Ok(Bytes::from_static(b"{")), Err(std::io::Error::other("gone"))]);
        let read = read(Body::from_stream(broken), 100, LONG, &budget_of(1 << 20)).await;
        assert_eq!(read, Err(Outcome::BrokenBody));
    }

    #[tokio::test]
    async fn bytes_count_until_the_last_slice_is_gone() {
        let budget = budget_of(10_000);
        let body = read(Body::from(vec![7; 6000]), 10_000, LONG, &budget).await.unwrap();
        assert!((6000..7000).contains(&used(&budget)));
        let other = read(Body::from(vec![7; 6000]), 10_000, LONG, &budget).await;
        assert_eq!(other, Err(Outcome::Busy), "together they are over the limit");
        let slice = body.slice(10..20);
        drop(body);
        assert!(used(&budget) >= 6000, "a slice keeps all of it");
        drop(slice);
        assert_eq!(used(&budget), 0);
        assert!(read(Body::from(vec![7; 6000]), 10_000, LONG, &budget).await.is_ok());
    }

    #[tokio::test]
    async fn an_exhausted_budget_says_so() {
        let budget = budget_of(6000);
        assert!(!budget.is_exhausted());
        let _held = read(Body::from(vec![7; 6000]), 10_000, LONG, &budget).await.unwrap();
        assert!(budget.is_exhausted());
    }

    #[tokio::test]
    async fn large_bodies_leave_each_connection_its_share() {
        let budget = Budget::new(80_000, 10);
        let mut held = Vec::new();
        while let Ok(body) = read(Body::from(vec![7; 10_000]), 10_000, LONG, &budget).await {
            held.push(body);
        }
        assert_eq!(held.len(), 6, "three quarters of it");
        for number in 0..10 {
            // Announced or not.
            let body = if number % 2 == 0 { Body::from(vec![7; 2000]) } else { chunks(vec![vec![7; 500]; 4]) };
            held.push(read(body, 10_000, LONG, &budget).await.unwrap());
            let beyond = read(Body::from(vec![7; 2001]), 10_000, LONG, &budget).await;
            assert_eq!(beyond, Err(Outcome::Busy), "more than its share");
        }
        assert_eq!(used(&budget), 80_000);
        drop(held);
        assert_eq!(used(&budget), 0);
    }

    proptest! {
        /// However a body is cut into chunks, its bytes come out as they went in, and nothing stays counted.
        #[test]
        fn bytes_are_exact(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9000), 0..12)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let budget = budget_of(1 << 20);
            let whole = parts.concat();
            let body = runtime.block_on(read(chunks(parts), 200_000, LONG, &budget)).unwrap();
            prop_assert_eq!(&body[..], &whole[..]);
            prop_assert!(used(&budget) >= whole.len() && used(&budget) <= (whole.len() * 2).max(LEAST_GROWTH));
            drop(body);
            prop_assert_eq!(used(&budget), 0);
        }
    }
}
