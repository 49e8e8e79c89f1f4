//! Bodies, within limits: one by one (`max_body`), together (`max_buffered`) and in time (`body_read_timeout`).

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio::time::timeout;

use super::outcome::Outcome;

/// The least that a body's buffer grows by.
const LEAST_GROWTH: usize = 4 * 1024;

/// Bytes of bodies held over all requests together. A byte counts from when it is received until the last slice of its
/// body is gone: an append that outlives its answer still holds what it stores.
#[derive(Debug)]
pub(super) struct Budget {
    limit: usize,
    used: AtomicUsize,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0) })
    }

    /// Whether nothing more can be held.
    pub(super) fn is_exhausted(&self) -> bool {
        self.used.load(Ordering::Relaxed) >= self.limit
    }

    fn take(&self, bytes: usize) -> bool {
        let more = |used: usize| used.checked_add(bytes).filter(|used| *used <= self.limit);
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
            let target = doubled.max(needed);
            if !self.budget.take(target - capacity) {
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

/// Reads a whole body of at most `max` bytes, the exact bytes, in at most `time`. A length that is announced and too
/// large is refused before anything is read. The client is told to go on (`Expect: 100-continue`) by the first read.
pub(super) async fn read(body: Body, max: usize, time: Duration, budget: &Arc<Budget>) -> Result<Bytes, Outcome> {
    let announced = body.size_hint();
    if announced.lower() > max as u64 {
        return Err(Outcome::TooLarge);
    }
    let expected = announced.exact().and_then(|exact| usize::try_from(exact).ok()).unwrap_or(max);
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

    use futures_util::{StreamExt as _, stream};
    use proptest::prelude::*;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn chunks(of: Vec<Vec<u8>>) -> Body {
        Body::from_stream(stream::iter(of).map(|chunk| Ok::<_, Infallible>(Bytes::from(chunk))))
    }

    fn used(budget: &Budget) -> usize {
        budget.used.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn a_body_is_read_to_its_limit_and_not_beyond() {
        let budget = Budget::new(1 << 20);
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
        let budget = Budget::new(1 << 20);
        assert_eq!(read(Body::from_stream(endless), 100_000, LONG, &budget).await, Err(Outcome::TooLarge));
        assert_eq!(used(&budget), 0);
    }

    #[tokio::test]
    async fn a_slow_body_is_given_up_on() {
        let budget = Budget::new(1 << 20);
        let start = stream::once(async { Ok::<_, Infallible>(Bytes::from_static(b"{")) });
        let stuck = Body::from_stream(start.chain(stream::pending()));
        assert_eq!(read(stuck, 100, Duration::from_millis(10), &budget).await, Err(Outcome::SlowBody));
        assert_eq!(used(&budget), 0);
    }

    #[tokio::test]
    async fn a_broken_body_says_so() {
        let broken = stream::iter([Ok(Bytes::from_static(b"{")), Err(std::io::Error::other("gone"))]);
        let read = read(Body::from_stream(broken), 100, LONG, &Budget::new(1 << 20)).await;
        assert_eq!(read, Err(Outcome::BrokenBody));
    }

    #[tokio::test]
    async fn bytes_count_until_the_last_slice_is_gone() {
        let budget = Budget::new(10_000);
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
        let budget = Budget::new(6000);
        assert!(!budget.is_exhausted());
        let _held = read(Body::from(vec![7; 6000]), 10_000, LONG, &budget).await.unwrap();
        assert!(budget.is_exhausted());
    }

    proptest! {
        /// However a body is cut into chunks, its bytes come out as they went in, and nothing stays counted.
        #[test]
        fn bytes_are_exact(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9000), 0..12)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let budget = Budget::new(1 << 20);
            let whole = parts.concat();
            let body = runtime.block_on(read(chunks(parts), 200_000, LONG, &budget)).unwrap();
            prop_assert_eq!(&body[..], &whole[..]);
            prop_assert!(used(&budget) >= whole.len() && used(&budget) <= (whole.len() * 2).max(LEAST_GROWTH));
            drop(body);
            prop_assert_eq!(used(&budget), 0);
        }
    }
}
