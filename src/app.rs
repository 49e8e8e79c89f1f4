//! The only place where the parts meet: [`App::build`] makes them from a configuration, [`App::bind`] takes the ports,
//! [`App::serve`] runs them until it is told to stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use crate::admin::{self, Admin};
use crate::config::{Config, DeliveryConfig, Expressions, OnFull, SourceConfig};
use crate::dispatch::{Dispatcher, Sieve, supervise};
use crate::event::Record;
use crate::filter::Filter;
use crate::http::{Listener, Public, public_door};
use crate::journal::copy::{MARK, mark_status};
use crate::journal::{self, ConsumerSpec, Journal, JournalError, OpenError, StartFrom};
use crate::metrics::{KindLabels, Metrics, SinkLabels, SourceLabels};
use crate::names::SinkName;
use crate::sinks::{BoxError, Sink};
use crate::sources::Sources;

/// Time that the journal is left for its last commit when everything else took all of `shutdown_timeout`.
const JOURNAL_CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
const ADMIN_MAX_CONNECTIONS: usize = 64;

/// Why hooksink cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The journal cannot be opened.
    #[error(transparent)]
    Journal(#[from] OpenError),
    /// The journal refuses the configured sinks.
    #[error(transparent)]
    Sinks(#[from] JournalError),
    /// A sink cannot be made.
    #[error("sink {name}: {source}")]
    Sink {
        /// Which.
        name: SinkName,
        /// Why.
        source: BoxError,
    },
    /// A port cannot be taken.
    #[error("cannot listen on {address} ({key}): {source}")]
    Bind {
        /// The configuration key.
        key: &'static str,
        /// Its value.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// A sink of the user's own, beside those of the configuration.
pub struct OwnSink {
    /// Its name; no configured sink may have it.
    pub name: SinkName,
    /// What it wants.
    pub wants: Filter,
    /// Which of these, and what it is sent of them.
    pub expressions: Expressions,
    /// Where it begins when the journal does not know it yet.
    pub from: StartFrom,
    /// What happens at the journal's size limit.
    pub on_full: OnFull,
    /// How the dispatcher treats it.
    pub delivery: DeliveryConfig,
    /// The sink.
    pub sink: Arc<dyn Sink>,
}

impl OwnSink {
    /// A sink that wants everything from now on, with the defaults of configured sinks.
    pub fn new(name: SinkName, sink: Arc<dyn Sink>) -> Self {
        Self {
            name,
            wants: Filter::default(),
            expressions: Expressions::default(),
            from: StartFrom::default(),
            on_full: OnFull::default(),
            delivery: DeliveryConfig::default(),
            sink,
        }
    }
}

/// Bound ports.
pub struct Listeners {
    /// Where webhooks come in.
    pub public: TcpListener,
    /// Health, metrics and the API.
    pub admin: TcpListener,
}

impl Listeners {
    /// The addresses: public, admin.
    pub fn addresses(&self) -> std::io::Result<(SocketAddr, SocketAddr)> {
        Ok((self.public.local_addr()?, self.admin.local_addr()?))
    }
}

/// How a stop went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Every request was answered and every sink finished what it was doing.
    Drained,
    /// `shutdown_timeout` came first. Nothing is lost: what was answered 200 is in the journal.
    TimedOut,
}

/// hooksink, ready to serve.
pub struct App {
    config: Config,
    sources: Arc<Sources>,
    journal: Arc<dyn Journal>,
    metrics: Arc<Metrics>,
    sinks: Vec<OwnSink>,
}

/// Reaches into a running [`App`].
#[derive(Clone)]
pub struct Handle {
    sinks: Vec<(SinkName, Arc<dyn Sink>)>,
}

impl Handle {
    /// Has every sink reopen its files (SIGHUP). A sink that cannot is logged and goes on with what it has.
    pub async fn reopen_sinks(&self) {
        for (name, sink) in &self.sinks {
            if let Err(error) = sink.reopen().await {
                tracing::error!(sink = %name, %error, "sink cannot reopen its files");
            }
        }
    }
}

impl App {
    /// Opens the journal and makes the sources and sinks. `own_sinks` come beside those of the configuration.
    ///
    /// # Errors
    /// The journal cannot be opened, or a sink cannot be made.
    pub async fn build(config: Config, own_sinks: Vec<OwnSink>) -> Result<Self, StartError> {
        let metrics = Arc::new(Metrics::new());
        let sources = Arc::new(Sources::new(&config.sources));
        warn_of_open_doors(&config, &metrics);
        let journal = journal::open(&config.journal, metrics.clone()).await?;
        let mut sinks = Vec::with_capacity(config.sinks.len() + own_sinks.len());
        for (name, sink) in &config.sinks {
            let made = sink
                .kind
                .build(name, journal.key())
                .map_err(|source| StartError::Sink { name: name.clone(), source })?;
            sinks.push(OwnSink {
                name: name.clone(),
                wants: sink.wants.clone(),
                expressions: sink.expressions.clone(),
                from: sink.from,
                on_full: sink.on_full,
                delivery: sink.delivery,
                sink: made,
            });
        }
        for own in own_sinks {
            if sinks.iter().any(|sink| sink.name == own.name) {
                let source = "another sink has this name".into();
                return Err(StartError::Sink { name: own.name, source });
            }
            sinks.push(own);
        }
        if sinks.is_empty() {
            tracing::warn!("no sink is configured: events wait in the journal until one is, or until they are too old");
        }
        journal.configure(sinks.iter().map(consumer_spec).collect()).await?;
        if let Ok(Some(_)) = mark_status(&*journal).await {
            tracing::warn!(
                sink = MARK,
                "a copy of this journal, or into it, is not complete: stop, and call `hooksink journal copy` once more"
            );
        }
        Ok(Self { config, sources, journal, metrics, sinks })
    }

    /// Takes the ports of the configuration.
    ///
    /// # Errors
    /// A port cannot be taken; the error names its key.
    pub async fn bind(&self) -> Result<Listeners, StartError> {
        Ok(Listeners {
            public: bind("server.listen", self.config.server.listen).await?,
            admin: bind("admin.listen", self.config.admin.listen).await?,
        })
    }

    /// What may be done to the app while it serves.
    pub fn handle(&self) -> Handle {
        Handle { sinks: self.sinks.iter().map(|sink| (sink.name.clone(), sink.sink.clone())).collect() }
    }

    /// Serves until `stop`, then: readiness off, accept for `drain_delay` more, finish requests, let sinks finish their
    /// calls, close the journal; all within `shutdown_timeout`.
    pub async fn serve(self, listeners: Listeners, stop: CancellationToken) -> Stopped {
        let server = &self.config.server;
        let admin_address = listeners.admin.local_addr().unwrap_or(self.config.admin.listen);
        if let Ok((public, admin)) = listeners.addresses() {
            tracing::info!(listener = "public", address = %public, "listening");
            tracing::info!(listener = "admin", address = %admin, "listening");
        }
        let public = Arc::new(Public::new(
            &self.sources,
            self.journal.clone(),
            &self.metrics,
            server,
            self.config.log.request_lines,
        ));
        let admin = Arc::new(Admin::new(
            &self.config.admin,
            admin_address,
            self.sources.clone(),
            self.journal.clone(),
            self.metrics.clone(),
        ));
        let [stop_public, stop_sinks, stop_admin] = std::array::from_fn(|_| CancellationToken::new());
        let mut public_task = tokio::spawn(Listener::from(server).serve(
            listeners.public,
            public_door(public.clone()),
            stop_public.clone(),
        ));
        let admin_listener = Listener { max_connections: ADMIN_MAX_CONNECTIONS, ..Listener::from(server) };
        let router = admin::router(admin.clone());
        let admin_door = move |_, request| router.clone().call(request);
        let admin_task = tokio::spawn(admin_listener.serve(listeners.admin, admin_door, stop_admin.clone()));
        let mut dispatchers = self.start_dispatchers(&stop_sinks);

        stop.cancelled().await;
        let deadline = Instant::now() + server.shutdown_timeout;
        tracing::info!(drain_delay = ?server.drain_delay, shutdown_timeout = ?server.shutdown_timeout, "stopping");
        admin.start_draining();
        sleep(server.drain_delay.min(server.shutdown_timeout)).await;
        public.start_draining();
        stop_public.cancel();
        let drained = timeout_at(deadline, async {
            let _ = (&mut public_task).await;
            stop_sinks.cancel();
            while dispatchers.join_next().await.is_some() {}
        })
        .await;
        // Cuts off what is left of either, if the deadline came first.
        public_task.abort();
        stop_sinks.cancel();
        dispatchers.shutdown().await;
        let close_by = deadline.max(Instant::now() + JOURNAL_CLOSE_TIMEOUT);
        let closed = timeout_at(close_by, self.journal.close()).await;
        stop_admin.cancel();
        admin_task.abort();
        if drained.is_ok() && closed.is_ok() {
            tracing::info!("stopped: every request was answered and every sink finished its calls");
            Stopped::Drained
        } else {
            tracing::warn!("stopped at shutdown_timeout; sinks are owed the rest, which is in the journal");
            Stopped::TimedOut
        }
    }

    fn start_dispatchers(&self, stop: &CancellationToken) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for sink in &self.sinks {
            // From the start at zero: a rate over a series that begins with its first failure misses that failure.
            let labels = SinkLabels { sink: sink.name.to_string() };
            for counter in [
                &self.metrics.sink_delivered,
                &self.metrics.sink_retries,
                &self.metrics.sink_skipped,
                &self.metrics.sink_filtered,
            ] {
                drop(counter.get_or_create(&labels));
            }
            let (sources, metrics) = (self.sources.clone(), self.metrics.clone());
            let decode = Arc::new(move |record: Arc<Record>| {
                let event = sources.decode(record);
                if event.payload.has_extra() {
                    let labels =
                        KindLabels { source: event.record.source.to_string(), kind: event.record.kind.as_str() };
                    metrics.unknown_fields.get_or_create(&labels).inc();
                }
                event
            });
            let dispatcher = Dispatcher {
                sink: sink.name.clone(),
                target: sink.sink.clone(),
                delivery: sink.delivery,
                sieve: Arc::new(Sieve::new(sink.name.clone(), sink.expressions.clone(), decode, self.metrics.clone())),
                journal: self.journal.clone(),
                metrics: self.metrics.clone(),
            };
            tasks.spawn(supervise(dispatcher, stop.clone()));
        }
        tasks
    }
}

async fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Bind { key, address, source })
}

fn consumer_spec(sink: &OwnSink) -> ConsumerSpec {
    ConsumerSpec {
        sink: sink.name.clone(),
        wants: sink.wants.clone(),
        from: sink.from,
        skip_when_full: sink.on_full == OnFull::Skip,
    }
}

/// Says which sources take everything from everyone.
fn warn_of_open_doors(config: &Config, metrics: &Metrics) {
    for (name, source) in &config.sources {
        let (SourceConfig::Meta(crate::config::MetaConfig { auth, .. })
        | SourceConfig::WebexConnect(crate::config::WebexConnectConfig { auth, .. })) = source;
        if auth.none {
            tracing::warn!(source = %name, "auth = \"none\": everyone who reaches this source can store events");
            metrics.unauthenticated_source.get_or_create(&SourceLabels { source: name.to_string() }).set(1);
        }
    }
}
