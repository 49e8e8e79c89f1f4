//! A disk that takes ten seconds for a sync: the answer does not wait for it, and nothing is stored twice.

use hooksink::names::SourceType;
use rusqlite::Connection;

use crate::echo::{SECRET, echo};
use crate::programs::strace_or_skip;
use crate::support::runtime;
use crate::support::senders::{SOURCE, stored};
use crate::support::server::{TestServer, eventually};
use crate::support::strace::Strace;

#[test]
fn a_stalled_sync_is_a_503_whose_append_completes_and_whose_retry_is_a_duplicate() {
    let name = "faults::stalled_disk::a_stalled_sync_is_a_503_whose_append_completes_and_whose_retry_is_a_duplicate";
    let Some(strace) = strace_or_skip(name) else { return };
    let runtime = runtime();
    let config = format!("{SOURCE}\n[server]\nack_timeout = \"1s\"\n[journal]\npath = \"journal.db\"\n");
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let server = TestServer::start_with(folder, &config, &[]);
    let send = |mid: &str| runtime.block_on(server.post(SourceType::Meta, "messenger", SECRET, echo(mid, "ann")));
    assert_eq!(send("m1").status, 200);

    let stalled = Strace::attach(&strace, &server, &["-e", "inject=fsync,fdatasync:delay_enter=10000000:when=1"]);
    let refused = send("m2");
    // What ends in (DELAYED) was held up and has ended: the answer came while the sync was still held up.
    let seen = stalled.seen();
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert!(refused.headers.contains_key("retry-after"));
    assert!(!seen.contains("(DELAYED)"), "the answer waited for the disk:\n{seen}");
    // The sender comes again too early, and another event comes: neither is answered 200 before its sync.
    assert_eq!(send("m2").status, 503);
    assert_eq!(send("m3").status, 503);
    assert!(!stalled.seen().contains("(DELAYED)"), "three answers within one stall");

    eventually("the disk goes on", || stalled.seen().contains("(DELAYED)").then_some(()));
    eventually("what was refused is stored", || {
        let status = send("m4").status;
        assert!(matches!(status, 200 | 503));
        (status == 200).then_some(())
    });
    stalled.detach();
    for mid in ["m2", "m3"] {
        let again = send(mid);
        assert_eq!((again.status, again.body.as_str()), (200, r#"{"accepted":0,"duplicates":1}"#), "{mid}");
    }
    let folder = server.stop();
    let stored = stored(&Connection::open(folder.path().join("journal.db")).unwrap());
    let mids: Vec<_> = stored.iter().map(|(_, mid)| mid.as_str()).collect();
    assert_eq!(mids, ["m1", "m2", "m3", "m4"]);
}
