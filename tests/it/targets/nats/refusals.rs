//! What servers and streams refuse, and what is said of it.

use std::collections::BTreeSet;

use async_nats::jetstream::stream;
use futures_util::StreamExt as _;

use super::{USERS, admin, hooks, large, login, numbers, refused, sink, sink_at, waits};
use crate::support::mock_target::MockTarget;
use crate::support::nats_server::{NatsServer, add_stream};
use crate::support::{event, runtime};

#[test]
fn what_no_stream_takes_waits_and_says_what_to_do() {
    let test = "targets::nats::refusals::what_no_stream_takes_waits_and_says_what_to_do";
    let Some(nats) = NatsServer::start(test, USERS) else { return };
    let one = [event(1, "ann")];
    runtime().block_on(async {
        let context = nats.context(admin()).await;
        let least = sink_at(&nats, &login("hooksink", "marker-word"));
        waits(least.deliver(&one).await, "add one: nats stream add HOOKS --subjects 'hooks.>'");
        let missing = least.check().await.unwrap_err().to_string();
        assert!(missing.contains("no stream listens on hooks.check.meta.message_echo; add one"), "{missing}");

        // Another program that answers is no stream.
        let client = context.client();
        let mut asked = client.subscribe("hooks.>").await.unwrap();
        // The server has read the subscription when it answers what comes after it.
        context.query_account().await.unwrap();
        let answering = tokio::spawn(async move {
            while let Some(message) = asked.next().await {
                client.publish(message.reply.unwrap(), "thanks".into()).await.unwrap();
            }
        });
        waits(least.deliver(&one).await, "is no stream");
        answering.abort();
        assert!(answering.await.unwrap_err().is_cancelled());

        let discard = stream::DiscardPolicy::New;
        let small = stream::Config { max_bytes: 20_000, max_message_size: 6_000, discard, ..hooks() };
        add_stream(&context, "HOOKS", small.clone()).await;
        // What is too large is its own fault alone, and the others of the call get through.
        let mixed = [event(1, "ann"), large(2, "bob", 9_000), event(3, "cyd")];
        refused(least.deliver(&mixed).await, 1, "larger than the stream's max_msg_size");
        let arrived: BTreeSet<_> = numbers(&context, "HOOKS").await.into_iter().collect();
        assert_eq!(arrived, [1, 3].into());
        let mut full = None;
        for number in 4..10 {
            full = full.or(least.deliver(&[large(number, "ann", 4_000)]).await.err());
        }
        waits(full.map_or(Ok(()), Err), "maximum bytes exceeded");
        context.update_stream(stream::Config { name: "HOOKS".into(), max_bytes: -1, ..small }).await.unwrap();
        least.deliver(&[large(21, "ann", 4_000)]).await.unwrap();
        assert!(numbers(&context, "HOOKS").await.ends_with(&[21]));
    });
}

#[test]
fn missing_rights_and_wrong_targets_are_named_and_nothing_secret() {
    let test = "targets::nats::refusals::missing_rights_and_wrong_targets_are_named_and_nothing_secret";
    let Some(nats) = NatsServer::start(test, USERS) else { return };
    let one = [event(1, "ann")];
    runtime().block_on(async {
        let context = nats.context(admin()).await;
        add_stream(&context, "HOOKS", hooks()).await;
        // What the server says beside the line is no wait for the time-out.
        let patient = "timeout = \"10m\"\n";
        for (user, why) in [
            ("elsewhere", "the user may not publish to hooks.connect.webex_connect.unrecognized"),
            ("deaf", "the user may not subscribe to its inbox (inbox_prefix)"),
            ("nobody", "the server refuses the credentials"),
        ] {
            let sink = sink_at(&nats, &(login(user, "marker-word") + patient));
            waits(sink.deliver(&one).await, why);
            let unchecked = sink.check().await.unwrap_err().to_string();
            assert!(unchecked.contains(why.split(" hooks.").next().unwrap()), "{unchecked}");
        }
        let deaf = login("deaf", "marker-word") + "inbox_prefix = \"other.answers\"";
        sink_at(&nats, &deaf).deliver(&one).await.unwrap();

        let silent = stream::Config { subjects: vec!["silent.>".into()], no_ack: true, ..Default::default() };
        add_stream(&context, "SILENT", silent).await;
        let short = "subject = \"silent.{kind}\"\nconnect_timeout = \"300ms\"\ntimeout = \"300ms\"";
        waits(sink_at(&nats, &(login("admin", "admin") + short)).deliver(&one).await, "a stream with no_ack gives none");

        let other = MockTarget::start().await;
        waits(sink(&format!("url = \"nats://{}\"", other.address)).deliver(&one).await, "cannot connect");
        waits(sink("url = \"nats://no-such-host.invalid\"").deliver(&one).await, "the server's name has no address");
        let lines = "ca_file = \"/nowhere/authority.pem\"";
        waits(sink_at(&nats, lines).deliver(&one).await, "ca_file /nowhere/authority.pem cannot be read");
        let lines = format!("ca_file = {:?}", nats.folder().join("nats.conf"));
        waits(sink_at(&nats, &lines).deliver(&one).await, "ca_file holds no certificate (PEM)");
    });
}
