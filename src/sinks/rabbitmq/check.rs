//! `hooksink check --connect`: whether the exchange is there and may be published to.

use lapin::options::{BasicPublishOptions, ExchangeDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, ExchangeKind};

use super::super::{BoxError, Checked};
use super::connection::Connection;
use super::{RabbitmqSink, failure};

impl RabbitmqSink {
    /// Proves the right to publish with a message that the server refuses for its expiration, after all that is about
    /// rights and before anything is routed.
    pub(super) async fn may_publish(&self, connection: &Connection) -> Result<Checked, BoxError> {
        let exchange = self.config.exchange.sample();
        let described = |error: lapin::Error| failure::describe(&error);
        if !exchange.is_empty() {
            let channel = connection.channel().await.map_err(described)?;
            let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
            let declared =
                channel.exchange_declare(exchange.as_str().into(), ExchangeKind::Topic, passive, FieldTable::default());
            declared.await.map_err(described)?;
            connection.give_back(channel);
        }
        let channel = connection.channel().await.map_err(described)?;
        let properties = BasicProperties::default().with_expiration("hooksink check".into());
        let key = self.config.routing_key.sample();
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let publish = channel.basic_publish(exchange.as_str().into(), key.into(), options, b"", properties);
        let refused = async { publish.await?.await };
        match refused.await {
            Err(error) if failure::is_about_expiration(&error) => Ok(Checked {
                warnings: Vec::new(),
                found: format!(
                    "RabbitMQ, publishing to exchange \"{exchange}\" in vhost {} allowed; which queues are bound shows \
                     with the first event, and the server does not tell its max_message_size",
                    self.config.vhost
                ),
                max_event_bytes: None,
            }),
            Err(error) => Err(failure::describe(&error).into()),
            Ok(_) => Err("the server does not check what it is sent, and is none of RabbitMQ".into()),
        }
    }
}
