//! One integration binary; each module says in a sentence what belongs there.
mod captured_log;
mod cli;
mod dispatch;
mod door;
mod http_evidence;
mod http_framing;
mod http_limits;
mod http_statuses;
mod http_stop;
mod journal;
mod journal_model;
mod serve;
mod sink_conformance;
mod sinks;
mod support;
