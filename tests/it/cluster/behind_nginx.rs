//! Three replicas on three servers behind the real nginx with the shipped file, under load: whatever of these is killed,
//! paused or restarted, senders are answered again far sooner than they give up.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tokio::runtime::Handle;

use super::{Bench, REPLICAS};
use crate::proxies::SENDER;
use crate::proxies::proxy::{Kind, Proxy};
use crate::support::senders::{Load, check, has_all, owed, senders, under_load_through};
use crate::support::server::eventually;

/// Events between two faults.
const SOME: usize = 120;

/// Meta unsubscribes a page after an hour of failures, and Webex Connect gives an event up after about four minutes.
const BEARABLE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn senders_are_answered_again_far_sooner_than_they_give_up() {
    let test = "cluster::behind_nginx::senders_are_answered_again_far_sooner_than_they_give_up";
    let Some(mut bench) = Bench::start(test, "").await else { return };
    let upstreams: Vec<_> = (0..REPLICAS).map(|number| bench.replica(number).public).collect();
    let Some(proxy) = Proxy::start_before(Kind::Nginx, &upstreams, test) else { return };
    let mut senders = senders(8);
    let runtime = Handle::current();
    tokio::task::block_in_place(|| {
        under_load_through(
            &mut senders,
            &[502, 503, 504],
            || proxy.connect(SENDER),
            |load| {
                let goes_on = |what: &str| {
                    let enough = load.acknowledged() + SOME;
                    eventually(what, || (load.acknowledged() >= enough).then_some(()));
                    println!("{what}: the longest time without a 200 was {:.1?}", load.longest_without());
                };
                goes_on("all is well");
                replicas(&mut bench, &upstreams, &goes_on);
                servers(&mut bench, &runtime, &goes_on);
                tell(load);
            },
        );
    });
    let owed = owed(&senders);
    let arrived = || -> Vec<Value> {
        let taken = bench.target.taken();
        taken.iter().map(|request| serde_json::from_slice(&request.body).expect("an event")).collect()
    };
    tokio::task::block_in_place(|| {
        eventually("all that was answered 200 arrives", || has_all(&arrived(), &owed).then_some(()));
    });
    check("behind nginx", &arrived(), &owed);
}

/// Killed, paused, and restarted in turn.
fn replicas(bench: &mut Bench, addresses: &[std::net::SocketAddr], goes_on: &impl Fn(&str)) {
    bench.kill(0);
    goes_on("a replica is dead");
    bench.start_again_at(0, addresses[0]);
    goes_on("a replica is back");
    bench.replica(1).signal(Signal::STOP);
    goes_on("a replica hangs");
    bench.replica(1).signal(Signal::CONT);
    goes_on("a replica goes on");
    for (number, address) in addresses.iter().enumerate() {
        bench.stop(number);
        bench.start_again_at(number, *address);
        goes_on("a replica was restarted");
    }
}

/// The leader of the log killed, and another server paused.
fn servers(bench: &mut Bench, runtime: &Handle, goes_on: &impl Fn(&str)) {
    let context = runtime.block_on(bench.servers.context());
    let leader = runtime.block_on(bench.servers.settled(&context, "hooksink_log"));
    bench.servers.kill(leader);
    goes_on("the leader of the log is dead");
    bench.servers.restart(leader);
    goes_on("it is back");
    let leader = runtime.block_on(bench.servers.settled(&context, "hooksink_log"));
    bench.servers.signal(leader, Signal::STOP);
    goes_on("the next leader hangs");
    bench.servers.signal(leader, Signal::CONT);
    goes_on("it goes on");
}

fn tell(load: &Load) {
    let (without, refused, unanswered) = (load.longest_without(), load.refused(), load.unanswered());
    println!(
        "behind nginx: {} answers 200, {refused} of 502, 503 and 504, {unanswered} none; the longest time without a 200 \
         {without:.1?}, the longest that one took {:.1?}",
        load.acknowledged(),
        load.took(1000)
    );
    assert!(without < BEARABLE, "{without:?} without a 200");
}
