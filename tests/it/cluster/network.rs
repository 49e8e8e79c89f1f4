//! Servers that are cut off from the others and from the replicas, in network namespaces of their own, under load.

use super::Bench;
use super::load::Load;

/// Events between two cuts.
const SOME: usize = 150;
const LOG: &str = "hooksink_log";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_are_cut_off_lose_nothing() {
    let test = "cluster::network::servers_that_are_cut_off_lose_nothing";
    let Some(bench) = Bench::start_apart(test).await else { return };
    let context = bench.servers.context().await;
    let load = Load::start(&bench);
    load.goes_on(SOME).await;
    for step in 0..3 {
        // The leader, and then each of the others of that time.
        let node = (bench.servers.settled(&context, LOG).await + step) % 3;
        bench.servers.connect(node, false);
        load.goes_on(SOME).await;
        bench.servers.connect(node, true);
        load.goes_on(SOME).await;
    }
    load.check("each server cut off in turn", &bench.target).await;
}
