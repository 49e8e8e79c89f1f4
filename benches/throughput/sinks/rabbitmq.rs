//! A queue of a rabbitmq-server, on disk, with the settings that it has by itself.

use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Confirmation, Connection, ConnectionProperties};

use super::{BATCH, Line, Rival};
use crate::Failure;
use crate::support::rabbitmq_server::{ADMIN, RabbitmqServer, bind_queue, declare_exchange};

impl Rival for RabbitmqServer {
    fn settings(&self, place: &str) -> String {
        let [username, password] = ADMIN;
        format!(
            "url = \"amqp://{}\"\nusername = \"{username}\"\npassword = \"{password}\"\nexchange = \"{place}\"",
            RabbitmqServer::address(self)
        )
    }

    fn address(&self) -> String {
        format!("amqp://{}:{}@{}", ADMIN[0], ADMIN[1], RabbitmqServer::address(self))
    }

    fn prepare(&mut self, place: &str) -> Result<(), Failure> {
        tokio::runtime::Runtime::new()?.block_on(async {
            let (_connection, channel) = self.channel().await;
            declare_exchange(&channel, place).await;
            bind_queue(&channel, place, FieldTable::default(), place, "#").await;
            Ok(())
        })
    }
}

/// A server of its own.
pub(super) fn start() -> Option<RabbitmqServer> {
    RabbitmqServer::start("rabbitmq", &[], "")
}

/// Persistent and mandatory messages on one channel, at most so many batches of them under way.
pub(super) async fn send(address: &str, exchange: &str, lines: &[Line], at_once: usize) -> Result<Duration, Failure> {
    let connection = Connection::connect(address, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let began = Instant::now();
    let mut under_way = FuturesUnordered::new();
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let confirmed = |confirmation: Option<lapin::Result<Confirmation>>| match confirmation {
        Some(Ok(Confirmation::Ack(None))) => Ok::<_, Failure>(()),
        Some(Err(error)) => Err(error.into()),
        _ => Err("a message was not taken".into()),
    };
    for line in lines {
        while under_way.len() >= at_once * BATCH {
            confirmed(under_way.next().await)?;
        }
        let properties = BasicProperties::default()
            .with_message_id(line.id.as_str().into())
            .with_type(line.kind.as_str().into())
            .with_content_type("application/cloudevents+json".into())
            .with_delivery_mode(2);
        let routing_key = format!("messenger.{}", line.kind);
        let published = channel.basic_publish(exchange.into(), routing_key.into(), options, &line.json, properties);
        under_way.push(published.await?);
    }
    while !under_way.is_empty() {
        confirmed(under_way.next().await)?;
    }
    Ok(began.elapsed())
}
