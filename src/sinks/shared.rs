//! One connection that all calls to a sink share, made when it is needed and again after it failed.

use std::sync::{Arc, Mutex, PoisonError};

/// The connection of now, if there is one.
pub(super) struct Shared<C> {
    current: Mutex<Option<Arc<C>>>,
    /// Held by who connects; the others wait for what comes of it.
    connecting: tokio::sync::Mutex<()>,
    is_alive: fn(&C) -> bool,
}

impl<C> Shared<C> {
    /// No connection yet; one that is not alive any more is not handed out.
    pub(super) fn new(is_alive: fn(&C) -> bool) -> Self {
        Self { current: Mutex::default(), connecting: tokio::sync::Mutex::default(), is_alive }
    }

    /// The connection of now, or else a new one.
    pub(super) async fn get<E>(&self, connect: impl AsyncFnOnce() -> Result<C, E>) -> Result<Arc<C>, E> {
        if let Some(connection) = self.alive() {
            return Ok(connection);
        }
        // Apart from the calls, each of which would have room for it otherwise.
        Box::pin(async {
            let _turn = self.connecting.lock().await;
            if let Some(connection) = self.alive() {
                return Ok(connection);
            }
            let connection = Arc::new(connect().await?);
            *self.slot() = Some(connection.clone());
            Ok(connection)
        })
        .await
    }

    /// Has the next call connect anew. Calls that run on the old connection may end there.
    pub(super) fn forget(&self, connection: &Arc<C>) {
        let mut current = self.slot();
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, connection)) {
            *current = None;
        }
    }

    /// The connection of now, taken out.
    pub(super) fn take(&self) -> Option<Arc<C>> {
        self.slot().take()
    }

    fn alive(&self) -> Option<Arc<C>> {
        let mut current = self.slot();
        current.take_if(|connection| !(self.is_alive)(connection));
        current.clone()
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Arc<C>>> {
        // Nothing panics while it is held.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;

    struct Line {
        number: usize,
        alive: AtomicBool,
    }

    #[tokio::test]
    async fn calls_share_a_connection_until_it_fails() {
        let shared = Shared::<Line>::new(|line| line.alive.load(Ordering::SeqCst));
        let made = AtomicUsize::new(0);
        let get = || {
            shared.get(async || {
                // Others come while this one connects.
                tokio::task::yield_now().await;
                let number = made.fetch_add(1, Ordering::SeqCst);
                if number == 1 { Err("refused") } else { Ok(Line { number, alive: true.into() }) }
            })
        };
        let (first, second) = tokio::join!(get(), get());
        let (first, second) = (first.unwrap(), second.unwrap());
        assert!(Arc::ptr_eq(&first, &second));
        shared.forget(&first);
        assert_eq!(get().await.err(), Some("refused"), "what fails is not kept");
        let third = get().await.unwrap();
        assert_eq!(third.number, 2);
        shared.forget(&first);
        assert!(Arc::ptr_eq(&get().await.unwrap(), &third), "an older one's failure says nothing of it");
        third.alive.store(false, Ordering::SeqCst);
        assert_eq!(get().await.unwrap().number, 3);
        assert_eq!(shared.take().unwrap().number, 3);
        assert_eq!(get().await.unwrap().number, 4);
    }
}
