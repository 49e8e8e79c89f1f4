//! Hosts of a test's own on this machine: network namespaces on a bridge, whose links can be cut.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::programs::{find_or_skip, skipped};

/// The addresses are of RFC 2544's network for tests, which nobody else has: fourteen for each instance.
const NETWORK: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
const NUMBERS: u32 = 1 << 13;

/// Hosts that reach each other and this one. They go when this is dropped.
pub(crate) struct Hosts {
    ip: PathBuf,
    /// Tells them from those of others, with the id of this process.
    number: u32,
    /// What takes back what was made, the last of it first.
    undo: Vec<String>,
}

impl Hosts {
    /// So many of them; `None` where they cannot be made, which was said then.
    pub(crate) fn make(test: &str, count: usize) -> Option<Self> {
        let ip = find_or_skip(test, "ip")?;
        remove_those_of_the_dead(&ip);
        let mut why = String::new();
        // Another process may be about to take the same addresses.
        for _ in 0..5 {
            let number = rand::random_range(0..NUMBERS);
            // What was made goes with it, also when this fails half-way.
            let mut hosts = Self { ip: ip.clone(), number, undo: Vec::new() };
            match hosts.set_up(count) {
                Ok(()) => return Some(hosts),
                Err(error) => why = error,
            }
        }
        skipped(test, &format!("network namespaces cannot be made here: {why}"));
        None
    }

    /// The address of a host; the one before the first is this machine's.
    pub(crate) fn address(&self, host: usize) -> Ipv4Addr {
        let last = u32::try_from(host + 2).ok().filter(|last| *last < 15).expect("a few hosts");
        Ipv4Addr::from_bits(NETWORK.to_bits() + self.number * 16 + last)
    }

    /// A command that runs a program on a host, as the process that is started.
    pub(crate) fn command(&self, host: usize) -> Command {
        let mut command = Command::new(&self.ip);
        command.args(["netns", "exec", &self.name(host)]);
        command
    }

    /// Cuts a host off from all others, or connects it again.
    pub(crate) fn connect(&self, host: usize, connected: bool) {
        let way = if connected { "up" } else { "down" };
        self.run(&format!("link set {} {way}", self.name(host))).expect("the link is there");
    }

    fn set_up(&mut self, count: usize) -> Result<(), String> {
        let first = self.address(0).to_bits();
        let (network, here) = (Ipv4Addr::from_bits(first - 2), Ipv4Addr::from_bits(first - 1));
        let taken = run(&self.ip, &format!("-o -4 addr show to {network}/28"))?;
        if !taken.is_empty() {
            return Err(format!("{network} is taken"));
        }
        let bridge = self.bridge();
        self.make_and("link", &bridge, "type bridge")?;
        self.run(&format!("addr add {here}/28 dev {bridge}"))?;
        self.run(&format!("link set {bridge} up"))?;
        for host in 0..count {
            let (name, address) = (self.name(host), self.address(host));
            self.make_and("netns", &name, "")?;
            self.make_and("link", &name, &format!("type veth peer name eth0 netns {name}"))?;
            self.run(&format!("link set {name} master {bridge} up"))?;
            self.run(&format!("-n {name} addr add {address}/28 dev eth0"))?;
            self.run(&format!("-n {name} link set eth0 up"))?;
            self.run(&format!("-n {name} link set lo up"))?;
        }
        Ok(())
    }

    /// Adds a thing, and notes that it is ours.
    fn make_and(&mut self, what: &str, name: &str, rest: &str) -> Result<(), String> {
        self.run(format!("{what} add {name} {rest}").trim_end())?;
        self.undo.push(format!("{what} del {name}"));
        Ok(())
    }

    fn run(&self, arguments: &str) -> Result<(), String> {
        run(&self.ip, arguments).map(drop)
    }

    /// A host's name, and that of the link to it. Those of links have fifteen characters at most.
    fn name(&self, host: usize) -> String {
        format!("{}-{host:x}", self.bridge())
    }

    fn bridge(&self) -> String {
        format!("hs{:x}-{:x}", std::process::id(), self.number)
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for undo in self.undo.iter().rev() {
            let _ = self.run(undo);
        }
    }
}

fn run(ip: &Path, arguments: &str) -> Result<String, String> {
    let output = Command::new(ip).args(arguments.split(' ')).output().map_err(|error| error.to_string())?;
    let said = || String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if !output.status.success() {
        return Err(format!("ip {arguments}: {}", said()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What processes left that were killed goes now, as far as their names say that they are gone.
fn remove_those_of_the_dead(ip: &Path) {
    for (list, what) in [("-br link show", "link"), ("netns list", "netns")] {
        for line in run(ip, list).unwrap_or_default().lines() {
            // A link that has another end is listed with it: `name@other`.
            let name = line.split([' ', '@']).next().unwrap_or_default();
            if maker(name).is_some_and(|process| !Path::new("/proc").join(process.to_string()).exists()) {
                let _ = run(ip, &format!("{what} del {name}"));
            }
        }
    }
}

/// The process that made what has this name, if one of these did.
fn maker(name: &str) -> Option<u32> {
    let (process, number) = name.strip_prefix("hs")?.split_once('-')?;
    let hexadecimal = |text: &str| text.split('-').all(|part| u32::from_str_radix(part, 16).is_ok());
    hexadecimal(number).then(|| u32::from_str_radix(process, 16).ok())?
}

#[test]
fn each_has_its_own_and_takes_nothing_else_away() {
    let test = "support::hosts::each_has_its_own_and_takes_nothing_else_away";
    let Some(first) = Hosts::make(test, 2) else { return };
    let second = Hosts::make(test, 2).expect("the first could be made");
    assert_ne!(first.address(0), second.address(0));
    let ip = first.ip.clone();
    let is_there = |name: &str| run(&ip, &format!("link show {name}")).is_ok();
    let answers = |hosts: &Hosts, host: usize| run(&ip, &format!("netns exec {} ip link", hosts.name(host))).is_ok();

    // One that cannot be made for its name is taken leaves what has the name.
    let mut third = Hosts { ip: ip.clone(), number: first.number, undo: Vec::new() };
    assert!(third.set_up(2).unwrap_err().contains("is taken"));
    third.make_and("link", &first.bridge(), "type bridge").unwrap_err();
    drop(third);
    let gone = [second.bridge(), second.name(0), second.name(1)];
    drop(second);
    assert!(gone.iter().all(|name| !is_there(name)), "{gone:?}");
    assert!(is_there(&first.bridge()) && is_there(&first.name(1)) && answers(&first, 0) && answers(&first, 1));

    // Nor does the next one, but for what a dead process left: none has this id, which is above what Linux gives.
    let left = "hsffffff-1";
    run(&ip, &format!("link add {left} type bridge")).expect("another bridge");
    run(&ip, &format!("netns add {left}-0")).expect("another namespace");
    remove_those_of_the_dead(&ip);
    assert!(!is_there(left) && !run(&ip, "netns list").unwrap().contains(left));
    assert!(is_there(&first.bridge()) && is_there(&first.name(1)) && answers(&first, 0) && answers(&first, 1));

    assert_eq!(maker("hs400000-1fff-2"), Some(0x40_0000));
    assert_eq!((maker("hs0"), maker("hsxyz-1"), maker("hs12-eth"), maker("eth0")), (None, None, None, None));
}
