//! What `strace -f -y` wrote, read call by call, and the check that an event is synced before its 200 is written.

use std::collections::HashMap;

/// The calls that [`acknowledged`] needs to see.
pub(crate) const CALLS: &str =
    "read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg,pwrite64,pwritev,pwritev2,fsync,fdatasync";

/// One system call. The lines give the order in which calls were seen to begin and to end, over all threads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call<'a> {
    pub(crate) name: &'a str,
    /// The file or socket behind the first argument, such as `/data/journal.db-wal` or `socket:[52003]`.
    pub(crate) target: String,
    pub(crate) arguments: String,
    pub(crate) result: String,
    pub(crate) began: usize,
    pub(crate) ended: usize,
    pub(crate) ok: bool,
}

/// Reads a trace. Signals and exits are left out; calls that were not seen to end come last.
pub(crate) fn calls(trace: &str) -> Vec<Call<'_>> {
    let mut unfinished = HashMap::new();
    let mut calls = Vec::new();
    for (number, line) in trace.lines().enumerate() {
        let Some((thread, rest)) = line.trim_start().split_once(' ') else { continue };
        let rest = rest.trim_start();
        // The time of day, where `-tt` put it.
        let rest = match rest.split_once(' ') {
            Some((time, rest)) if time.starts_with(|first: char| first.is_ascii_digit()) => rest.trim_start(),
            _ => rest,
        };
        if let Some(resumed) = rest.strip_prefix("<... ") {
            let Some((_, end)) = resumed.split_once(" resumed>") else { continue };
            if let Some((began, start)) = unfinished.remove(thread) {
                calls.extend(call(start, end, began, number));
            }
        } else if let Some((start, "unfinished ...>" | "detached ...>")) = rest.rsplit_once('<') {
            unfinished.insert(thread, (number, start));
        } else {
            calls.extend(call(rest, "", number, number));
        }
    }
    // strace left between their beginning and their end; a client may well have its answer by then.
    calls.extend(unfinished.into_values().filter_map(|(began, start)| call(start, " = ?", began, usize::MAX)));
    calls
}

fn call<'a>(start: &'a str, end: &str, began: usize, ended: usize) -> Option<Call<'a>> {
    let (name, first) = start.split_once('(')?;
    let (arguments, result) = format!("{first}{end}").rsplit_once(" = ").map(|(a, r)| (a.to_owned(), r.to_owned()))?;
    let descriptor = arguments.trim_start_matches(|digit: char| digit.is_ascii_digit());
    let target = descriptor.strip_prefix('<').and_then(|rest| rest.split_once('>')).map_or("", |(target, _)| target);
    let ok = !result.starts_with(['-', '?']);
    Some(Call { name, target: target.to_owned(), began, ended, ok, arguments, result })
}

/// Checks every 200 of a trace, and says how many events they acknowledged.
///
/// Which event a 200 belongs to is told by its mark, a text that stands in the request, and in the journal's log, as it
/// is. The event must have been written to a file whose name ends in `log`, then a sync of that file must have begun
/// and succeeded, and only then may the 200 have begun to be written to the socket that the request was read from.
pub(crate) fn acknowledged(trace: &str, log: &str, marks: &[String]) -> Result<usize, String> {
    let calls = calls(trace);
    let mut count = 0;
    for (at, answer) in calls.iter().enumerate().filter(|(_, call)| is_ok_answer(call)) {
        let requests = asked(&calls, at);
        let mut any = false;
        for mark in marks.iter().filter(|mark| requests.iter().any(|request| request.arguments.contains(*mark))) {
            any = true;
            let written = calls.iter().filter(|call| {
                call.name.starts_with("pwrite")
                    && call.ok
                    && call.target.ends_with(log)
                    && call.arguments.contains(mark)
            });
            let synced = |written: &Call<'_>| {
                calls.iter().any(|call| {
                    matches!(call.name, "fsync" | "fdatasync")
                        && call.ok
                        && call.target == written.target
                        && call.began > written.ended
                        && call.ended < answer.began
                })
            };
            if !written.clone().any(synced) {
                let line = answer.began + 1;
                return Err(match written.count() {
                    0 => format!("line {line}: 200 for {mark}, which was never written to the log"),
                    _ => format!("line {line}: 200 for {mark} before a sync that covers it"),
                });
            }
            count += 1;
        }
        if !any {
            return Err(format!("line {}: a 200 for a request without a mark", answer.began + 1));
        }
    }
    Ok(count)
}

/// What was read from the socket of this answer since the answer before it.
fn asked<'a, 'b>(calls: &'b [Call<'a>], at: usize) -> Vec<&'b Call<'a>> {
    let answer = &calls[at];
    let before = calls[..at].iter().rev().filter(|call| call.target == answer.target && call.began < answer.began);
    before.take_while(|call| !is_answer(call)).filter(|call| is_read(call)).collect()
}

/// The marks of the events that were answered 200, each with the line where its answer began.
pub(crate) fn answered(calls: &[Call<'_>], marks: &[String]) -> Vec<(usize, String)> {
    let answers = calls.iter().enumerate().filter(|(_, call)| is_ok_answer(call));
    let marked = |(at, answer): (usize, &Call<'_>)| {
        let requests = asked(calls, at);
        let found = marks.iter().filter(|mark| requests.iter().any(|request| request.arguments.contains(*mark)));
        found.map(|mark| (answer.began, mark.clone())).collect::<Vec<_>>()
    };
    answers.flat_map(marked).collect()
}

/// The trace without its syncs: what it would be, had they been forgotten.
pub(crate) fn without_syncs(trace: &str) -> String {
    let kept = trace.lines().filter(|line| !line.contains("fsync") && !line.contains("fdatasync"));
    kept.flat_map(|line| [line, "\n"]).collect()
}

/// How many answers of any status a trace holds.
pub(crate) fn answers(trace: &str) -> usize {
    calls(trace).iter().filter(|call| is_answer(call)).count()
}

fn is_read(call: &Call<'_>) -> bool {
    call.ok && matches!(call.name, "read" | "readv" | "recvfrom" | "recvmsg")
}

fn is_answer(call: &Call<'_>) -> bool {
    matches!(call.name, "write" | "writev" | "sendto" | "sendmsg") && call.arguments.contains("\"HTTP/1.1 ")
}

/// Calls that failed count too: what was offered to the kernel was meant to be sent.
fn is_ok_answer(call: &Call<'_>) -> bool {
    is_answer(call) && call.arguments.contains("\"HTTP/1.1 200")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
70 03:16:48.269956 recvfrom(5<socket:[1]>,  <unfinished ...>
71 03:16:48.370220 futex(0x7f, FUTEX_WAKE, 1) = 1
70 03:16:48.370433 <... recvfrom resumed>"POST /webhooks/m HTTP/1.1\r\n\r\n{\"mid\":\"mark-1\"}", 8192, 0, NULL, NULL) = 48
72 03:16:48.370844 pwrite64(6</data/journal.db-wal>, "\0\1mark-1\377 = 4", 8, 4096) = 8
72 03:16:48.371208 fdatasync(6</data/journal.db-wal> <unfinished ...>
70 03:16:48.371209 --- SIGCHLD {si_signo=SIGCHLD} ---
72 03:16:48.371651 <... fdatasync resumed>) = 0
70 03:16:48.372445 writev(5<socket:[1]>, [{iov_base="HTTP/1.1 200 OK\r\n", iov_len=17}], 1) = 17
70 03:16:48.372724 +++ exited with 0 +++
"#;

    fn check(trace: &str) -> Result<usize, String> {
        acknowledged(trace, "-wal", &["mark-1".into(), "mark-2".into()])
    }

    #[test]
    fn a_call_is_read_from_its_two_halves() {
        let calls = calls(GOOD);
        assert_eq!(
            calls.iter().map(|call| call.name).collect::<Vec<_>>(),
            ["futex", "recvfrom", "pwrite64", "fdatasync", "writev"]
        );
        assert_eq!((calls[3].began, calls[3].ended), (5, 7));
        assert_eq!(calls[3].target, "/data/journal.db-wal");
        assert_eq!(calls[1].target, "socket:[1]");
        assert!(calls[1].arguments.contains("mark-1"));
    }

    #[test]
    fn an_answer_after_the_sync_is_right() {
        assert_eq!(check(GOOD), Ok(1));
    }

    #[test]
    fn an_answer_that_was_not_seen_to_end_counts() {
        for end in ["<unfinished ...>", "<detached ...>"] {
            let trace = GOOD.replace(") = 17", end);
            assert_eq!(check(&trace), Ok(1));
            assert!(check(&without_syncs(&trace)).is_err());
        }
    }

    #[test]
    fn without_its_syncs_it_is_not() {
        let error = check(&without_syncs(GOOD)).unwrap_err();
        assert!(error.contains("200 for mark-1 before a sync that covers it"), "{error}");
    }

    #[test]
    fn a_sync_that_failed_does_not_count() {
        let trace = GOOD.replace("fdatasync resumed>) = 0", "fdatasync resumed>) = -1 EIO (Input/output error)");
        assert!(check(&trace).is_err());
    }

    #[test]
    fn a_sync_of_another_file_does_not_count() {
        assert!(check(&GOOD.replace("fdatasync(6</data/journal.db-wal>", "fdatasync(7</data/events.jsonl>")).is_err());
    }

    #[test]
    fn a_sync_that_began_before_the_write_does_not_count() {
        let mut lines: Vec<_> = GOOD.lines().collect();
        lines.swap(4, 5);
        assert!(lines[4].contains("fdatasync"));
        assert!(check(&lines.join("\n")).is_err());
    }

    #[test]
    fn a_sync_that_ended_after_the_answer_does_not_count() {
        let mut lines: Vec<_> = GOOD.lines().collect();
        lines.swap(7, 8);
        assert!(lines[8].contains("fdatasync resumed"));
        assert!(check(&lines.join("\n")).is_err());
    }

    #[test]
    fn an_event_that_was_never_written_is_found() {
        let error = check(&GOOD.replace(r"\0\1mark-1\377", "nothing")).unwrap_err();
        assert!(error.contains("never written"), "{error}");
    }

    #[test]
    fn a_200_that_belongs_to_no_event_is_found() {
        assert!(check(&GOOD.replace("mark-1", "mark-9")).is_err());
    }

    #[test]
    fn the_second_answer_of_a_connection_is_not_covered_by_the_first_event() {
        let second = GOOD.replace("mark-1", "mark-2");
        assert_eq!(check(&format!("{GOOD}{second}")), Ok(2));
        assert!(check(&format!("{GOOD}{}", without_syncs(&second))).is_err());
    }

    #[test]
    fn other_answers_need_no_sync() {
        let trace = without_syncs(GOOD).replace("200 OK", "503 Service Unavailable");
        assert_eq!((check(&trace), answers(&trace)), (Ok(0), 1));
    }
}
