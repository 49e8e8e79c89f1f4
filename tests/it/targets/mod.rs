//! Sinks before real servers: the exam that each of them sits, in trouble of every kind, through the real binary. What
//! is special to one server stands in its own file.

mod exam;
mod faults;

use std::net::SocketAddr;

use rustix::process::Signal;
use serde_json::Value;

/// A real server, of a test's own: in a temporary folder, on a port of its own, ended with the test.
pub(crate) trait Server: Sized {
    /// The value of `type` of the sink that delivers to it.
    const TYPE: &'static str;

    /// Starts one; `None` where its program is missing, which it has said with `programs::skipped` then.
    fn start(test: &str) -> Option<Self>;

    /// Where it listens, also after a restart.
    fn address(&self) -> SocketAddr;

    /// The lines below `[sinks.NAME]`, `type` included, of a sink that reaches the server at `address`, its own or that
    /// of a proxy before it, and delivers CloudEvents into the stream, queue, table, … of this name, also those that are
    /// 200 KB large. With every time-out at 2 s or so, and a connection time-out below that.
    fn settings(&self, address: SocketAddr, place: &str) -> String;

    /// Makes the stream, queue, … of this name, where the sink does not do that itself.
    fn prepare(&mut self, place: &str);

    /// The CloudEvents that it holds there, in the order in which they arrived; copies of an event as often as they
    /// came, or once where the server leaves them out.
    fn events(&mut self, place: &str) -> Vec<Value>;

    /// SIGKILL to all of its processes.
    fn kill(&mut self);

    /// Starts it again after `kill`, with what it had on disk; returns when it takes connections.
    fn restart(&mut self);

    /// Starts it again after `kill`, without anything.
    fn restart_empty(&mut self);

    /// This signal to all of its processes.
    fn signal(&self, signal: Signal);

    /// Stands still until `resume`.
    fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Goes on.
    fn resume(&self) {
        self.signal(Signal::CONT);
    }
}

/// One module of tests a server.
macro_rules! servers {
    ($($module:ident $server:ident;)*) => {
        $(mod $module;)*

        /// The types of sink whose servers sit the exam.
        pub(crate) const EXAMINED: &[&str] = &[$(<$module::$server as Server>::TYPE,)*];

        /// The exam of each server: `targets::sits::NAME::…`.
        mod sits { $(
            mod $module {
                use super::super::{exam, faults, $module::$server};

                #[test]
                fn the_exam() {
                    exam::sit::<$server>(concat!("targets::sits::", stringify!($module), "::the_exam"));
                }

                #[test]
                fn trouble_loses_nothing_and_keeps_the_order() {
                    faults::trouble::<$server>(concat!("targets::sits::", stringify!($module), "::trouble_loses_nothing_and_keeps_the_order"));
                }

                #[test]
                fn a_server_that_lost_everything_gets_what_it_is_owed() {
                    faults::emptied::<$server>(concat!("targets::sits::", stringify!($module), "::a_server_that_lost_everything_gets_what_it_is_owed"));
                }
            }
        )* }
    };
}

servers! {
    nats Nats;
    rabbitmq Rabbitmq;
    redis RedisServer;
    postgres PostgresServer;
    pgbouncer PgBouncer;
}
