//! Hosts of a test's own on this machine: network namespaces on a bridge, whose links can be cut.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;

use crate::programs::{find_or_skip, skipped};

/// Hosts that reach each other and this one. They go when this is dropped.
pub(crate) struct Hosts {
    ip: PathBuf,
    /// Tells them from those of other processes.
    number: u32,
    count: usize,
}

impl Hosts {
    /// So many of them; `None` where they cannot be made, which was said then.
    pub(crate) fn make(test: &str, count: usize) -> Option<Self> {
        let ip = find_or_skip(test, "ip")?;
        // What is left of it goes, also when this fails half-way.
        let hosts = Self { ip, number: std::process::id() % 50_000, count };
        let made = hosts.set_up();
        if let Err(why) = &made {
            skipped(test, &format!("network namespaces cannot be made here: {why}"));
        }
        made.is_ok().then_some(hosts)
    }

    /// The address of a host; the one before the first is this machine's.
    pub(crate) fn address(&self, host: usize) -> Ipv4Addr {
        let last = u8::try_from(host + 2).expect("a few hosts");
        let [.., third, fourth] = self.number.to_be_bytes();
        Ipv4Addr::new(10, 200_u8.wrapping_add(third % 50), fourth, last)
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
        self.run(&format!("link set {} {way}", self.link(host))).expect("the link is there");
    }

    fn set_up(&self) -> Result<(), String> {
        let bridge = self.bridge();
        self.run(&format!("link add {bridge} type bridge"))?;
        let [first, second, third, _] = self.address(0).octets();
        self.run(&format!("addr add {first}.{second}.{third}.1/24 dev {bridge}"))?;
        self.run(&format!("link set {bridge} up"))?;
        for host in 0..self.count {
            let (name, link, address) = (self.name(host), self.link(host), self.address(host));
            self.run(&format!("netns add {name}"))?;
            self.run(&format!("link add {link} type veth peer name eth0 netns {name}"))?;
            self.run(&format!("link set {link} master {bridge} up"))?;
            self.run(&format!("-n {name} addr add {address}/24 dev eth0"))?;
            self.run(&format!("-n {name} link set eth0 up"))?;
            self.run(&format!("-n {name} link set lo up"))?;
        }
        Ok(())
    }

    fn run(&self, arguments: &str) -> Result<(), String> {
        let output = Command::new(&self.ip).args(arguments.split(' ')).output().map_err(|error| error.to_string())?;
        let said = || String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if output.status.success() { Ok(()) } else { Err(format!("ip {arguments}: {}", said())) }
    }

    fn name(&self, host: usize) -> String {
        format!("hooksink-{}-{host}", self.number)
    }

    // Names of links have fifteen characters at most.
    fn link(&self, host: usize) -> String {
        format!("hs{}-{host}", self.number)
    }

    fn bridge(&self) -> String {
        format!("hs{}", self.number)
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for host in 0..self.count {
            // Its link goes with it; what was not made is left.
            let _ = self.run(&format!("link del {}", self.link(host)));
            let _ = self.run(&format!("netns del {}", self.name(host)));
        }
        let _ = self.run(&format!("link del {}", self.bridge()));
    }
}
