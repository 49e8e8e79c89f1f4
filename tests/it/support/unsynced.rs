//! What a disk holds of the files in a trace: what was synced, and beside it what was only written, of which a power cut
//! may leave any part.

use std::collections::BTreeMap;
use std::iter;
use std::path::Path;

use crate::trace::Call;

/// What a disk writes as a whole.
pub(crate) const SECTOR: usize = 512;

/// The calls that [`Disk`] needs to see, beside those of `trace::CALLS`.
pub(crate) const CALLS: &str = "openat,ftruncate,fallocate,unlink";

/// Gives a sector whose content was lost other bytes.
pub(crate) type Fill = fn(&mut [u8]);

/// A file of the trace.
#[derive(Debug, Clone, Default)]
pub(crate) struct File {
    /// What was synced.
    pub(crate) durable: Vec<u8>,
    /// What was written after that, oldest first, each with the line where the call ended.
    pending: Vec<(usize, Change)>,
}

#[derive(Debug, Clone)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Length(usize),
}

impl Change {
    fn apply(&self, file: &mut Vec<u8>) {
        match self {
            Self::Write { at, bytes } => {
                if file.len() < at + bytes.len() {
                    file.resize(at + bytes.len(), 0);
                }
                file[*at..at + bytes.len()].copy_from_slice(bytes);
            }
            Self::Length(length) => file.resize(*length, 0),
        }
    }
}

impl File {
    /// What a reader sees: everything that was written.
    pub(crate) fn seen(&self) -> Vec<u8> {
        let mut seen = self.durable.clone();
        self.pending.iter().for_each(|(_, change)| change.apply(&mut seen));
        seen
    }

    /// Whether anything was written and not synced.
    pub(crate) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// A sync that began at this line has ended.
    fn sync(&mut self, began: usize) {
        // Later ones may have come in between, and would be overtaken; but nobody writes a file while it is synced.
        while self.pending.first().is_some_and(|(ended, _)| *ended < began) {
            self.pending.remove(0).1.apply(&mut self.durable);
        }
    }

    /// The sectors that would be lost, in order.
    pub(crate) fn pending_sectors(&self) -> Vec<usize> {
        let seen = self.seen();
        let sectors = seen.chunks(SECTOR).zip(self.durable.chunks(SECTOR).map(Some).chain(iter::repeat(None)));
        sectors.enumerate().filter(|(_, (new, old))| *old != Some(*new)).map(|(number, _)| number).collect()
    }

    /// What a power cut leaves that spares these sectors of what is pending. The others are as they were synced; those
    /// beyond the old end hold what `fill` gives, or are not there where no spared one comes after them.
    pub(crate) fn cut(&self, spared: &[usize], fill: Option<Fill>) -> Vec<u8> {
        let mut left = self.seen();
        let mut end = self.durable.len();
        for number in self.pending_sectors() {
            let at = number * SECTOR..left.len().min((number + 1) * SECTOR);
            if spared.contains(&number) {
                end = end.max(at.end);
                continue;
            }
            let sector = &mut left[at.clone()];
            sector.fill(0);
            if let Some(fill) = fill {
                fill(sector);
                end = end.max(at.end);
            }
            if at.start < self.durable.len() {
                let kept = &self.durable[at.start..self.durable.len().min(at.end)];
                left[at.start..at.start + kept.len()].copy_from_slice(kept);
            }
        }
        left.resize(end.min(left.len()), 0);
        // That it was made shorter is lost too.
        left.extend_from_slice(self.durable.get(left.len()..).unwrap_or_default());
        left
    }
}

/// All files of a folder, by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    pub(crate) files: BTreeMap<String, File>,
}

impl Disk {
    /// Follows a trace of a process that finds the folder empty; `at` is called with what the disk holds when a sync of
    /// a file begins, with the line and the file's name: never is more pending.
    pub(crate) fn follow(folder: &Path, calls: &[Call<'_>], mut at: impl FnMut(&Self, usize, &str)) -> Self {
        // Each call twice: where it begins and where it ends. A write may be on disk once it has begun, a sync counts
        // when it has ended.
        let mut moments: Vec<_> =
            calls.iter().flat_map(|call| [(call.began, false, call), (call.ended, true, call)]).collect();
        moments.sort_by_key(|(line, ended, _)| (*line, *ended));
        let name = |path: &str| {
            Path::new(path)
                .parent()
                .filter(|parent| *parent == folder)
                .and(Path::new(path).file_name()?.to_str())
                .map(str::to_owned)
        };
        let mut disk = Self::default();
        for (line, ended, call) in moments.into_iter().filter(|(.., call)| call.ok) {
            match (call.name, ended) {
                ("openat", true) if call.arguments.contains("O_CREAT") => {
                    let path = call.result.split_once('<').and_then(|(_, path)| path.strip_suffix('>'));
                    if let Some(name) = path.and_then(name) {
                        disk.files.entry(name).or_default();
                    }
                }
                ("unlink", true) => {
                    let path = call.arguments.trim_matches(['"', ')']);
                    if let Some(name) = name(path) {
                        disk.files.remove(&name);
                    }
                }
                (_, ended) => {
                    let Some(name) = name(&call.target) else { continue };
                    match (call.name, ended) {
                        ("fsync" | "fdatasync", false) if disk.files.contains_key(&name) => at(&disk, line, &name),
                        ("fsync" | "fdatasync", true) => {
                            disk.files.get_mut(&name).into_iter().for_each(|file| file.sync(call.began));
                        }
                        (_, false) => {
                            if let Some(file) = disk.files.get_mut(&name)
                                && let Some(change) = change(call, file)
                            {
                                file.pending.push((call.ended, change));
                            }
                        }
                        _ => {}
                    }
                }
            }
        }
        disk
    }
}

/// What a call does to a file.
fn change(call: &Call<'_>, file: &File) -> Option<Change> {
    // Where the call was seen in two halves, spaces stand around the last one.
    let last = |text: &str| -> usize {
        let text = text.trim_end_matches(|end: char| !end.is_ascii_digit());
        text.rsplit(", ").next().and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no number: {text}"))
    };
    match call.name {
        "pwrite64" => {
            let (bytes, rest) = data(&call.arguments);
            Some(Change::Write { at: last(rest), bytes })
        }
        "write" => Some(Change::Write { at: file.seen().len(), bytes: data(&call.arguments).0 }),
        "ftruncate" => Some(Change::Length(last(&call.arguments))),
        "pwritev" | "pwritev2" | "writev" | "fallocate" => panic!("this way of writing is not known here: {call:?}"),
        _ => None,
    }
}

/// The bytes of the first string of these arguments, and what comes after it.
fn data(arguments: &str) -> (Vec<u8>, &str) {
    let start = arguments.find(">, \"").expect("a string") + 4;
    let text = arguments.as_bytes();
    let (mut bytes, mut at) = (Vec::new(), start);
    while text[at] != b'"' {
        if text[at] != b'\\' {
            bytes.push(text[at]);
            at += 1;
            continue;
        }
        at += 1;
        let plain = match text[at] {
            b'n' => Some(b'\n'),
            b't' => Some(b'\t'),
            b'r' => Some(b'\r'),
            b'v' => Some(0x0b),
            b'f' => Some(0x0c),
            b'"' | b'\\' => Some(text[at]),
            _ => None,
        };
        if let Some(byte) = plain {
            bytes.push(byte);
            at += 1;
            continue;
        }
        // Up to three octal digits.
        let digits = text[at..].iter().take(3).take_while(|byte| (b'0'..=b'7').contains(byte)).count();
        let octal = &arguments[at..at + digits];
        bytes.push(u8::try_from(u16::from_str_radix(octal, 8).expect("an octal number")).expect("a byte"));
        at += digits;
    }
    let rest = &arguments[at + 1..];
    assert!(!rest.starts_with("..."), "strace left out the end of a write");
    (bytes, rest)
}
