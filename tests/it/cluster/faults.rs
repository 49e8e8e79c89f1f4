//! Servers and replicas killed, paused and started again under load: nothing that was answered 200 is lost, copies have
//! one id, each person's events come first in their order, and the time without a 200 stays far below what the senders
//! bear.

use rustix::process::Signal;

use super::load::Load;
use super::{Bench, REPLICAS};

/// Events between two faults.
const SOME: usize = 150;
const LOG: &str = "hooksink_log";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_of_the_log_is_killed() {
    let Some(mut bench) = Bench::start("cluster::faults::the_leader_of_the_log_is_killed", "").await else { return };
    let context = bench.servers.context().await;
    let load = Load::start(&bench);
    load.goes_on(SOME).await;
    for _ in 0..2 {
        let leader = bench.servers.settled(&context, LOG).await;
        bench.servers.kill(leader);
        load.goes_on(SOME).await;
        bench.servers.restart(leader);
        load.goes_on(SOME).await;
    }
    load.check("the leader killed twice", &bench.target).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_of_the_log_is_killed() {
    let Some(mut bench) = Bench::start("cluster::faults::a_follower_of_the_log_is_killed", "").await else { return };
    let context = bench.servers.context().await;
    let load = Load::start(&bench);
    load.goes_on(SOME).await;
    for step in 1..=2 {
        let follower = (bench.servers.settled(&context, LOG).await + step) % 3;
        bench.servers.kill(follower);
        load.goes_on(SOME).await;
        bench.servers.restart(follower);
        load.goes_on(SOME).await;
    }
    load.check("a follower killed twice", &bench.target).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_killed() {
    let Some(mut bench) = Bench::start("cluster::faults::a_replica_is_killed", "").await else { return };
    let load = Load::start(&bench);
    load.goes_on(SOME).await;
    for number in 0..REPLICAS {
        bench.kill(number);
        load.doors(&bench);
        load.goes_on(SOME).await;
        // Also what it had in hand: the others take over its share.
        let took = load.arrives(&bench.target).await;
        println!("a replica killed: {took:.1?} until the target had what was taken until then");
        bench.start_again(number);
        load.doors(&bench);
        load.goes_on(SOME).await;
    }
    load.check("each replica killed in turn", &bench.target).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_and_a_replica_are_paused() {
    let Some(bench) = Bench::start("cluster::faults::a_server_and_a_replica_are_paused", "").await else { return };
    let context = bench.servers.context().await;
    let load = Load::start(&bench);
    load.goes_on(SOME).await;
    let leader = bench.servers.settled(&context, LOG).await;
    bench.servers.signal(leader, Signal::STOP);
    load.goes_on(SOME).await;
    bench.servers.signal(leader, Signal::CONT);
    load.goes_on(SOME).await;
    bench.replica(0).signal(Signal::STOP);
    // Its share is taken over meanwhile, and it does not know.
    load.goes_on(SOME).await;
    let took = load.arrives(&bench.target).await;
    println!("a replica paused: {took:.1?} until the target had what was taken until then");
    bench.replica(0).signal(Signal::CONT);
    load.goes_on(SOME).await;
    load.arrives(&bench.target).await;
    load.check("the leader and a replica paused", &bench.target).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_restarted_in_turn() {
    let Some(mut bench) = Bench::start("cluster::faults::everything_is_restarted_in_turn", "").await else { return };
    let context = bench.servers.context().await;
    let load = Load::start(&bench);
    load.goes_on(SOME).await;
    for number in 0..REPLICAS {
        bench.stop(number);
        load.doors(&bench);
        bench.start_again(number);
        load.doors(&bench);
        load.goes_on(SOME).await;
    }
    for node in 0..3 {
        // As those who roll out a new version of the servers do: the next one when the last one is whole again.
        bench.servers.settled(&context, LOG).await;
        bench.servers.signal(node, Signal::TERM);
        bench.servers.restart(node);
        load.goes_on(SOME).await;
    }
    bench.servers.settled(&context, LOG).await;
    load.check("everything restarted in turn", &bench.target).await;
}
