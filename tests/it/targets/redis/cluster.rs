//! A cluster of three nodes, of which one dies, and of which one is given the slots of another.

use std::time::Duration;

use redis::FromRedisValue;
use serde_json::Value;

use super::super::Server as _;
use super::{RedisServer, cloud_events, fields};
use crate::support::daemon::free_port;
use crate::support::senders::{SOURCE, check, has_all, owed, senders, under_gentle_load};
use crate::support::server::{TestServer, eventually};
use crate::support::{runtime, sink_config};

const SLOTS: u32 = 16384;

/// The streams are read whole over and over.
const PACE: Duration = Duration::from_millis(20);

struct Cluster {
    nodes: Vec<RedisServer>,
}

impl Cluster {
    fn start(test: &str) -> Option<Self> {
        let mut nodes = Vec::new();
        let mut bus_ports = Vec::new();
        for _ in 0..3 {
            // Beside the port of a node is one for the others, by default too high for ports that are free.
            let bus_port = free_port().to_string();
            let options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port", &bus_port];
            let partial = ["--cluster-require-full-coverage", "no"];
            nodes.push(RedisServer::with(test, &[&options[..], &partial].concat())?);
            bus_ports.push(bus_port);
        }
        for (number, node) in (0..).zip(&nodes) {
            let (first, last) = (number * SLOTS / 3, (number + 1) * SLOTS / 3 - 1);
            let _: String = node.ask(&format!("CLUSTER ADDSLOTSRANGE {first} {last}"));
            let _: String = node.ask(&format!("CLUSTER SET-CONFIG-EPOCH {}", number + 1));
        }
        for (node, bus_port) in nodes.iter().zip(&bus_ports).skip(1) {
            let _: String = nodes[0].ask(&format!("CLUSTER MEET 127.0.0.1 {} {bus_port}", node.port()));
        }
        let cluster = Self { nodes };
        cluster.settled();
        Some(cluster)
    }

    /// All nodes know of all slots, and of each other.
    fn settled(&self) {
        for node in &self.nodes {
            eventually("the cluster is whole", || {
                let info: String = node.ask("CLUSTER INFO");
                let whole = ["cluster_state:ok", "cluster_slots_ok:16384", "cluster_known_nodes:3"];
                whole.iter().all(|fact| info.contains(fact)).then_some(())
            });
        }
    }

    /// Which node has the key.
    fn owner(&self, key: &str) -> usize {
        let slot: i64 = self.nodes[0].ask(&format!("CLUSTER KEYSLOT {key}"));
        let ids: Vec<String> = self.nodes.iter().map(|node| node.ask("CLUSTER MYID")).collect();
        let ranges: Vec<Vec<redis::Value>> = self.nodes[0].ask("CLUSTER SLOTS");
        let id = ranges.into_iter().find_map(|range| {
            let [redis::Value::Int(first), redis::Value::Int(last), redis::Value::Array(node)] = &range[..] else {
                panic!("a range of slots: {range:?}");
            };
            let id = redis::from_redis_value::<String>(node[2].clone()).expect("an id");
            (*first..=*last).contains(&slot).then_some(id)
        });
        let id = id.expect("each slot has a node");
        ids.iter().position(|other| *other == id).expect("a node")
    }

    /// What the node answers that has the key.
    #[track_caller]
    fn ask<T: FromRedisValue>(&self, key: &str, command: &str) -> T {
        // The node that is asked for the owner may not have heard yet of a slot that has moved.
        let answer = eventually("its node is known", || match self.nodes[self.owner(key)].try_ask(command) {
            Err(error) if error.code() == Some("MOVED") => None,
            answer => Some(answer),
        });
        answer.expect(command)
    }

    fn events(&self, stream: &str) -> Vec<Value> {
        cloud_events(&fields(self.ask(stream, &format!("XRANGE {stream} - +"))))
    }

    /// Further events arrive.
    fn get_on(&self, stream: &str) {
        let length = || self.ask::<usize>(stream, &format!("XLEN {stream}"));
        let before = length();
        eventually("its events go on", || (length() > before).then_some(()));
    }

    /// The others know that this node is dead.
    fn missed(&self, number: usize) {
        for (_, node) in self.nodes.iter().enumerate().filter(|(other, _)| *other != number) {
            eventually("the node is missed", || {
                let info: String = node.ask("CLUSTER INFO");
                (!info.contains("cluster_slots_fail:0\r")).then_some(())
            });
        }
    }

    /// Gives the slot of a key, with all that is in it, to the next node, as `redis-cli --cluster reshard` does.
    fn pass_on(&self, key: &str) {
        let slot: i64 = self.nodes[0].ask(&format!("CLUSTER KEYSLOT {key}"));
        let from = self.owner(key);
        let [from, to, other] = [0, 1, 2].map(|further| &self.nodes[(from + further) % 3]);
        let (from_id, to_id): (String, String) = (from.ask("CLUSTER MYID"), to.ask("CLUSTER MYID"));
        let _: String = to.ask(&format!("CLUSTER SETSLOT {slot} IMPORTING {from_id}"));
        let _: String = from.ask(&format!("CLUSTER SETSLOT {slot} MIGRATING {to_id}"));
        let _: String = from.ask(&format!("MIGRATE 127.0.0.1 {} {key} 0 60000", to.port()));
        for node in [to, from, other] {
            let _: String = node.ask(&format!("CLUSTER SETSLOT {slot} NODE {to_id}"));
        }
        // Two nodes that are given slots in one epoch would quarrel.
        eventually("the nodes agree on the epoch", || {
            let infos = [to, from, other].map(|node| node.ask::<String>("CLUSTER INFO"));
            let epochs = infos.each_ref().map(|info| info.lines().find(|line| line.starts_with("cluster_current_epoch")));
            (epochs[0] == epochs[1] && epochs[1] == epochs[2]).then_some(())
        });
    }
}

fn settings(cluster: &Cluster, stream: &str) -> String {
    let [first, second, _] = &cluster.nodes[..] else { unreachable!("three nodes") };
    format!(
        "type = \"redis\"\nurl = [\"redis://127.0.0.1:{}\", \"redis://127.0.0.1:{}\"]\ncluster = true\nstream = \"{stream}\"\nconnect_timeout = \"1s\"\ntimeout = \"2s\"\nretry_initial = \"5ms\"\nretry_max = \"50ms\"\n",
        first.port(),
        second.port()
    )
}

#[test]
fn nodes_that_die_and_slots_that_move_lose_nothing_and_keep_the_order() {
    let test = "targets::redis::cluster::nodes_that_die_and_slots_that_move_lose_nothing_and_keep_the_order";
    let Some(mut cluster) = Cluster::start(test) else { return };
    // One stream of each node.
    let mut streams: Vec<String> = Vec::new();
    for stream in (0..).map(|number| format!("events-{number}")) {
        if cluster.owner(&stream) == streams.len() {
            streams.push(stream);
        }
        if streams.len() == 3 {
            break;
        }
    }
    let sinks = streams.iter().map(|stream| format!("\n[sinks.{stream}]\n{}", settings(&cluster, stream)));
    let server = TestServer::start(&format!("{SOURCE}{}", sinks.collect::<String>()));
    let mut senders = senders(4);
    under_gentle_load(&mut senders, server.public, PACE, |load| {
        let more = |what: &str| {
            let enough = load.acknowledged() + 100;
            eventually(what, || (load.acknowledged() >= enough).then_some(()));
        };
        more("requests are answered");
        for (number, stream) in streams.iter().enumerate() {
            cluster.nodes[number].kill();
            more("requests are answered while a node is dead");
            cluster.missed(number);
            more("requests are answered while the cluster knows of it");
            cluster.nodes[number].restart();
            cluster.settled();
            cluster.get_on(stream);
        }
        for stream in &streams {
            cluster.pass_on(stream);
            cluster.get_on(stream);
        }
    });
    let owed = owed(&senders);
    for stream in &streams {
        eventually("all that is owed arrives", || has_all(&cluster.events(stream), &owed).then_some(()));
        check(stream, &cluster.events(stream), &owed);
    }
    runtime().block_on(server.no_dead_letters());
}

/// With no rights but those that the README names.
#[test]
fn check_reaches_a_cluster_and_names_one_that_is_not_said_to_be() {
    let test = "targets::redis::cluster::check_reaches_a_cluster_and_names_one_that_is_not_said_to_be";
    let Some(cluster) = Cluster::start(test) else { return };
    for node in &cluster.nodes {
        let _: String = node.ask("ACL SETUSER few on >s3cr3t ~events +xadd +multi +exec +cluster|slots +ping");
    }
    let check = |settings: &str| {
        let sink = sink_config(settings).kind.build(&"it".parse().unwrap(), [0; 32]).unwrap();
        runtime().block_on(sink.check()).map(|checked| checked.found).map_err(|error| error.to_string())
    };
    let settings = settings(&cluster, "events") + "username = \"few\"\npassword = \"s3cr3t\"\n";
    assert!(check(&settings).unwrap().contains("XADD to events is allowed"));
    let other = &cluster.nodes[(cluster.owner("events") + 1) % 3];
    let single = format!("type = \"redis\"\nurl = \"redis://127.0.0.1:{}\"\nstream = \"events\"", other.port());
    let error = check(&single).unwrap_err();
    assert!(error.contains("cluster = true") && error.ends_with("(MOVED)"), "{error}");
}
