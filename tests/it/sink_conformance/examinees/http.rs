//! A target of the `http` sink that answers what it is told to.

use std::sync::Arc;

use async_trait::async_trait;
use hooksink::sinks::Sink;
use tokio::sync::Notify;

use super::super::{Examinee, Trouble, numbers};
use crate::support::mock_target::{Answer, MockTarget};
use crate::support::{sink_config, until};

pub(crate) struct HttpExaminee {
    target: MockTarget,
    release: Arc<Notify>,
}

impl HttpExaminee {
    pub(crate) async fn new() -> Self {
        Self { target: MockTarget::start().await, release: Arc::default() }
    }
}

#[async_trait]
impl Examinee for HttpExaminee {
    fn name(&self) -> &'static str {
        "http"
    }

    fn sink(&self) -> Arc<dyn Sink> {
        let config = sink_config(&format!("type = \"http\"\nurl = \"{}\"\ntimeout = \"60s\"", self.target.url("/in")));
        config.kind.build(&"it".parse().unwrap(), [0; 32]).unwrap()
    }

    async fn trouble(&mut self, trouble: Trouble) {
        let status = |status, headers| Some(Answer::Status(status, headers));
        self.target.otherwise(match trouble {
            Trouble::Nothing => None,
            Trouble::Slow => Some(Answer::Wait(self.release.clone())),
            Trouble::Status500 => status(500, vec![]),
            Trouble::Status429 => status(429, vec![("retry-after", "7".to_owned())]),
            Trouble::Status400 => status(400, vec![]),
            Trouble::Dropped => Some(Answer::Drop),
        });
    }

    async fn reached(&mut self) {
        until("a request comes", || !self.target.requests().is_empty()).await;
    }

    async fn mend(&mut self) {
        self.target.otherwise(None);
        self.release.notify_one();
    }

    async fn settle_down(&mut self) {
        until("the killed call ends", || self.target.taken().len() == 1).await;
    }

    async fn arrived(&mut self) -> Vec<u64> {
        numbers(self.target.taken().into_iter().map(|request| String::from_utf8(request.body).unwrap()))
    }
}
