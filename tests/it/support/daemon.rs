//! A server program in a process group of its own, which ends with its test however that ends.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::process::{Pid, Signal, kill_process_group};

/// What [`free_port`] chooses from.
const PORTS: Range<u16> = 10_000..32_768;

/// A running program and what it has started, as far as that stays in its process group.
pub(crate) struct Daemon {
    child: Child,
}

impl Daemon {
    /// Starts it, without input. Its output goes where the command says.
    pub(crate) fn start(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).process_group(0).spawn();
        Self { child: child.unwrap_or_else(|error| panic!("{command:?}: {error}")) }
    }

    /// Its id, and that of its group.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it was started").is_some()
    }

    /// Sends a signal to all of its processes: SIGSTOP pauses them, SIGCONT has them go on.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // What has ended is left in peace.
            let _ = kill_process_group(group, signal);
        }
    }

    /// SIGKILL to all of its processes, as in a crash.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that nobody listens on, for programs that cannot say which one they took. It is below those that Linux gives to
/// connections and to whoever asks for any, so that none of these has it when the program starts, or starts again; no
/// other caller in this process is given it.
pub(crate) fn free_port() -> u16 {
    // Processes that run at the same time begin at different places.
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(rand::random()));
    loop {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = PORTS.start + next % (PORTS.end - PORTS.start);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
