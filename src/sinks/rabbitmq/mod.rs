//! `type = "rabbitmq"`: events published to an exchange over AMQP 0-9-1, each confirmed before it counts.
//!
//! Messages are persistent and mandatory: one that no queue takes comes back, and is a failure. What is confirmed lies on
//! the disks of durable queues. Nothing is declared. <https://www.rabbitmq.com/docs/confirms>
//!
//! A call has a channel for itself and publishes in rounds, of each person one event a round; the next round begins when
//! all of one is confirmed. That keeps a person's events in order whatever fails, and it tells which event came back: a
//! server may confirm several at once, and what it returned lies before that in the stream of the channel, but nothing
//! says which of the confirmations it belongs to.

mod check;
mod connection;
mod failure;
mod settings;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::time::{Instant, timeout_at};

use self::connection::Connection;
pub use self::settings::{AmqpAddress, RabbitmqSinkConfig};
use super::rounds::rounds;
use super::shared::Shared;
use super::turns::outcome;
use super::{BoxError, Checked, Limits, Sink, SinkError, Undelivered};
use crate::event::Event;

/// Survives a restart of the server (AMQP 0-9-1, basic.delivery-mode).
const PERSISTENT: u8 = 2;

/// Publishes events to an exchange.
pub struct RabbitmqSink {
    config: RabbitmqSinkConfig,
    connection: Shared<Connection>,
    /// The node to begin with when the next connection is made.
    next: AtomicUsize,
}

/// What became of the events of a call so far.
struct Call<'a> {
    sink: &'a RabbitmqSink,
    events: &'a [Event],
    deadline: Instant,
    confirmed: Vec<bool>,
    failed: Vec<(usize, SinkError)>,
}

impl RabbitmqSink {
    /// A sink of this configuration. Nothing is connected before the first event.
    pub fn new(config: &RabbitmqSinkConfig) -> Self {
        Self { config: config.clone(), connection: Shared::new(Connection::is_alive), next: AtomicUsize::new(0) }
    }

    fn properties(&self, event: &Event) -> BasicProperties {
        let record = &*event.record;
        let time = record.occurred_at.unwrap_or(record.received_at).timestamp();
        BasicProperties::default()
            .with_message_id(record.id.to_string().into())
            .with_type(record.kind.as_str().into())
            .with_content_type(self.config.encoding.media_type().into())
            .with_timestamp(u64::try_from(time).unwrap_or_default())
            .with_app_id("hooksink".into())
            .with_delivery_mode(PERSISTENT)
    }

    async fn connected(&self, deadline: Instant) -> Result<Arc<Connection>, SinkError> {
        let late = |_| SinkError::transient(format!("not connected within {:?}", self.config.calls.timeout));
        let connecting =
            timeout_at(deadline, self.connection.get(async || Connection::open(&self.config, &self.next).await));
        connecting.await.map_err(late)?.map_err(SinkError::transient)
    }
}

impl Call<'_> {
    /// Publishes round by round, until all is confirmed or something fails.
    async fn run(&mut self) -> Result<(), SinkError> {
        let connection = self.sink.connected(self.deadline).await?;
        if !connection.unblocked(self.deadline).await {
            return Err(SinkError::transient("the server takes nothing: its memory or disk alarm is on".to_owned()));
        }
        let result = timeout_at(self.deadline, self.rounds(&connection)).await;
        let blocked = connection.is_blocked();
        match result {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                if !connection.is_alive() {
                    self.sink.connection.forget(&connection);
                }
                Err(error)
            }
            // What lies in a connection that is only blocked goes out with it; another one would be blocked too.
            Err(_) if blocked => {
                Err(SinkError::transient("the server takes nothing: its memory or disk alarm is on".to_owned()))
            }
            Err(_) => {
                self.sink.connection.forget(&connection);
                Err(SinkError::transient(format!("no confirmation within {:?}", self.sink.config.calls.timeout)))
            }
        }
    }

    async fn rounds(&mut self, connection: &Connection) -> Result<(), SinkError> {
        let channel = connection.channel().await.map_err(|error| SinkError::transient(failure::describe(&error)))?;
        let lanes = self.events.iter().enumerate().map(|(position, event)| (event.record.lane_ref(), position));
        for round in rounds(lanes) {
            self.round(connection, &channel, &round).await?;
            if !self.failed.is_empty() {
                break;
            }
        }
        connection.give_back(channel);
        Ok(())
    }

    /// Publishes these events and notes what became of each. An error ends the channel.
    async fn round(&mut self, connection: &Connection, channel: &Channel, round: &[usize]) -> Result<(), SinkError> {
        let mut bodies = Vec::with_capacity(round.len());
        for &position in round {
            let body = self.sink.config.encoding.encode(&self.events[position]);
            // The limit may have been raised since: an event that is alone in its call asks for it again.
            match connection.max_message().filter(|_| self.events.len() > 1) {
                Some(limit) if body.len() as u64 > limit => self.failed.push((position, too_large(body.len(), limit))),
                _ => bodies.push((position, body)),
            }
        }
        let published = join_all(bodies.iter().map(|(position, body)| self.publish(channel, *position, body))).await;
        let confirmed = join_all(published.into_iter().map(async |published| published?.await)).await;

        let mut returned = HashSet::new();
        let mut broken = None;
        let mut acknowledged = Vec::new();
        for ((position, body), result) in bodies.iter().zip(confirmed) {
            match result {
                Ok(Confirmation::Ack(message)) => {
                    acknowledged.push(*position);
                    if connection.max_message().is_some_and(|limit| body.len() as u64 > limit) {
                        connection.note_max_message(None);
                    }
                    returned.extend(message.and_then(|message| message.delivery.properties.message_id().clone()));
                }
                Ok(Confirmation::Nack(message)) => {
                    returned.extend(message.and_then(|message| message.delivery.properties.message_id().clone()));
                    self.failed
                        .push((*position, SinkError::transient("a queue refuses it; it is full, or cannot store it")));
                }
                Ok(Confirmation::NotRequested) => {
                    self.failed.push((*position, SinkError::transient("the server confirms nothing")))
                }
                Err(error) => {
                    let limit = failure::max_message(&error);
                    if limit.is_some() {
                        connection.note_max_message(limit);
                    }
                    let cause = match limit {
                        Some(limit) if body.len() as u64 > limit => too_large(body.len(), limit),
                        _ => SinkError::transient(failure::describe(&error)),
                    };
                    self.failed.push((*position, cause));
                    broken = Some(SinkError::transient(failure::describe(&error)));
                }
            }
        }
        for position in acknowledged {
            let id = self.events[position].record.id.to_string();
            if returned.iter().any(|returned| returned.as_str() == id) {
                self.failed.push((position, self.unroutable(position)));
            } else {
                self.confirmed[position] = true;
            }
        }
        broken.map_or(Ok(()), Err)
    }

    async fn publish(
        &self,
        channel: &Channel,
        position: usize,
        body: &[u8],
    ) -> Result<lapin::PublisherConfirm, lapin::Error> {
        let (sink, event) = (self.sink, &self.events[position]);
        let exchange = sink.config.exchange.render(&event.record);
        let routing_key = sink.config.routing_key.render(&event.record);
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        channel.basic_publish((*exchange).into(), (*routing_key).into(), options, body, sink.properties(event)).await
    }

    /// Somebody may bind a queue, and then it goes on: nothing is wrong with the event.
    fn unroutable(&self, position: usize) -> SinkError {
        let record = &self.events[position].record;
        let (exchange, key) = (&self.sink.config.exchange, &self.sink.config.routing_key);
        SinkError::transient(format!(
            "no queue is bound to exchange \"{}\" for routing key \"{}\"",
            exchange.render(record),
            key.render(record)
        ))
    }
}

#[async_trait]
impl Sink for RabbitmqSink {
    async fn deliver(&self, events: &[Event]) -> Result<(), Undelivered> {
        let deadline = Instant::now() + self.config.calls.timeout;
        let confirmed = vec![false; events.len()];
        let mut call = Call { sink: self, events, deadline, confirmed, failed: Vec::new() };
        let result = call.run().await;
        outcome(&call.confirmed, call.failed, result.err())
    }

    fn limits(&self) -> Limits {
        self.config.calls.limits(Duration::ZERO)
    }

    async fn check(&self) -> Result<Checked, BoxError> {
        let deadline = Instant::now() + self.config.calls.timeout;
        let connection = self.connected(deadline).await?;
        let late = |_| format!("no answer within {:?}", self.config.calls.timeout);
        let checked = timeout_at(deadline, self.may_publish(&connection)).await.map_err(late)?;
        timeout_at(deadline, connection.close()).await.map_err(late)?;
        checked
    }

    async fn close(&self) -> Result<(), BoxError> {
        if let Some(connection) = self.connection.take() {
            let _ = tokio::time::timeout(self.config.calls.connect_timeout, connection.close()).await;
        }
        Ok(())
    }
}

fn too_large(bytes: usize, limit: u64) -> SinkError {
    SinkError::permanent(format!("{bytes} bytes are more than the server's max_message_size of {limit}"))
}
