//! Journals with a history, which comes through the same door as everything: signed batches.

use std::time::Instant;

use crate::Failure;
use crate::client::Ready;
use crate::payload::Payload;
use crate::servers::Server;

const CONNECTIONS: usize = 64;

/// The runs of a client that fills are none of those that measure.
const FIRST_RUN: u64 = 1_000_000;

/// Sends events until the journal holds so many, a run of so many seconds after the other.
pub(crate) fn fill(server: &Server, events: u64, seconds: f64) -> Result<(), Failure> {
    let began = Instant::now();
    for run in FIRST_RUN.. {
        if server.positions()?.1 >= events {
            break;
        }
        Ready::start(server.address, Payload::Batch, CONNECTIONS, seconds, run)?.go()?;
    }
    server.drain()?;
    let held = server.held()?;
    println!("{held} events put into the journal in {:.0} s", began.elapsed().as_secs_f64());
    Ok(())
}
