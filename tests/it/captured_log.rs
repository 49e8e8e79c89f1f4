//! What hooksink says while a test runs, as JSON lines. It is the log of the test's own thread, so that tests do not see
//! each other's; a test that reads it runs its server on the same thread (`flavor = "current_thread"`, the default).

use std::cell::RefCell;
use std::io;
use std::sync::Once;

use tracing::Level;

thread_local! {
    static CAPTURED: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Begins to capture what this thread says at info and above.
pub(crate) fn begin() {
    // One subscriber for all threads: with one a thread, `tracing` may decide on another thread, which has none, that
    // nobody wants a line, and remember it.
    static SUBSCRIBER: Once = Once::new();
    SUBSCRIBER.call_once(|| {
        tracing_subscriber::fmt().json().with_max_level(Level::INFO).with_writer(|| ThreadLog).init();
    });
    CAPTURED.with_borrow_mut(|captured| *captured = Some(Vec::new()));
}

/// What this thread has said since.
pub(crate) fn end() -> String {
    let captured = CAPTURED.with_borrow_mut(Option::take).expect("`begin` came first");
    String::from_utf8(captured).expect("lines are UTF-8")
}

struct ThreadLog;

impl io::Write for ThreadLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        CAPTURED.with_borrow_mut(|captured| {
            if let Some(captured) = captured {
                captured.extend_from_slice(bytes);
            }
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
