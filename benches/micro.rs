//! What hooksink itself computes for an event, each step beside its floor, in one run.
//!
//! `cargo bench --bench micro`
//!
//! | step | what it does | its floor |
//! | --- | --- | --- |
//! | verify | `Source::authenticate` of a signed request, its headers at hand | HMAC-SHA-256 of the same bytes, key and all |
//! | split | `Source::split`: records with id, kind, person, time and context | `serde_json::Value` of the same bytes |
//! | decode | `Sources::decode` of each record: the typed payload | `serde_json::Value` of the same bytes |
//! | cloud_event | `Event::to_json` of each event | writing the same events from a ready `serde_json::Value` |
//!
//! serde_json is built here as hooksink needs it, with `arbitrary_precision` and `preserve_order`: a number in a `Value`
//! is text, and an object an index map. Its floor is as much slower than that of a plain serde_json. Bodies are fixtures
//! as they come over the wire, without white space between their parts.

use std::error::Error;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::DateTime;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use hmac::{Hmac, KeyInit, Mac};
use hooksink::auth::hmac_signature::{Algorithm, sign};
use hooksink::auth::{Received, SignatureRules, Verified};
use hooksink::config::{Auth, MetaConfig, SourceConfig, WebexConnectConfig};
use hooksink::event::{Event, Format, Record};
use hooksink::json;
use hooksink::names::SourceType;
use hooksink::secret::{Secret, Secrets};
use hooksink::sources::{Source, Sources};
use http::{HeaderMap, HeaderValue};
use serde_json::Value;
use sha2::Sha256;

/// That of the program, for the floors too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SECRET: &str = "secret of the micro-benchmarks";

/// The bodies, as sender and name of the fixture.
const BODIES: &[(SourceType, &str)] = &[
    (SourceType::Meta, "echo.text"),
    (SourceType::Meta, "echo.wire"),
    (SourceType::Meta, "echo.template.generic"),
    (SourceType::Meta, "batch.ten-mixed"),
    (SourceType::WebexConnect, "delivery.submitted"),
    (SourceType::WebexConnect, "message.messenger.text"),
    (SourceType::WebexConnect, "message.messenger.location"),
];

/// The most that split and decode together may cost, in floors.
const TARGET: f64 = 1.5;

fn main() -> Result<(), Box<dyn Error>> {
    let results = Path::new(env!("CARGO_TARGET_TMPDIR")).join("micro");
    let mut criterion = Criterion::default()
        .without_plots()
        .output_directory(&results)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(50)
        .configure_from_args();
    let sources = sources()?;
    let cases =
        BODIES.iter().map(|(sender, name)| Case::new(&sources, *sender, name)).collect::<Result<Vec<_>, _>>()?;
    for case in &cases {
        case.measure(&mut criterion, &sources);
    }
    criterion.final_summary();
    print_ratios(&results, &cases);
    Ok(())
}

/// A request, and what becomes of it at each step.
struct Case {
    name: String,
    source: Arc<dyn Source>,
    headers: HeaderMap,
    body: Bytes,
}

impl Case {
    fn new(sources: &Sources, sender: SourceType, name: &str) -> Result<Self, Box<dyn Error>> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(sender.as_str());
        let body = json::compact(&fs::read(file.join(format!("{name}.json")))?);
        let rules = match sender {
            SourceType::Meta => SignatureRules::Meta,
            SourceType::WebexConnect => SignatureRules::WebexConnect,
        };
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", "hooks.example.com"),
            ("user-agent", "facebookexternalua"),
            ("accept", "*/*"),
            ("content-type", "application/json"),
            ("x-forwarded-for", "192.0.2.7"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let signature = sign(Algorithm::Sha256, &Secret::new(SECRET), &body);
        headers.insert(rules.header(Algorithm::Sha256), signature.parse()?);
        let source = sources.get(sender.as_str()).ok_or("a source of each type is configured")?.clone();
        Ok(Self { name: name.to_owned(), source, headers, body: body.into() })
    }

    fn received(&self) -> Received {
        Received {
            headers: self.headers.clone(),
            query: String::new(),
            body: self.body.clone(),
            client_address: [192, 0, 2, 7].into(),
            request_id: "01890a5d-ac96-774b-bcce-b302099a8057".to_owned(),
        }
    }

    fn verified(&self) -> Verified {
        self.source.authenticate(self.received()).expect("it is signed")
    }

    fn records(&self, verified: &Verified) -> Vec<Record> {
        self.source.split(verified, DateTime::UNIX_EPOCH).records
    }

    fn measure(&self, criterion: &mut Criterion, sources: &Sources) {
        let verified = self.verified();
        let records: Vec<_> = self.records(&verified).into_iter().map(Arc::new).collect();
        let events: Vec<_> = records.iter().map(|record| sources.decode(record.clone())).collect();
        let lines: Vec<_> = events.iter().map(line).collect();
        let values: Vec<Value> =
            lines.iter().map(|line| serde_json::from_slice(line).expect("an event is JSON")).collect();

        let mut group = criterion.benchmark_group(&self.name);
        group.throughput(Throughput::Bytes(self.body.len() as u64));
        group.bench_function("verify", |bench| {
            bench.iter_batched(
                || self.received(),
                |received| self.source.authenticate(received),
                BatchSize::SmallInput,
            );
        });
        group.bench_function("verify_floor", |bench| bench.iter(|| hmac(black_box(&self.body))));
        group.bench_function("split", |bench| bench.iter(|| self.records(black_box(&verified))));
        group.bench_function("decode", |bench| {
            bench.iter_batched(
                || records.clone(),
                |records| records.into_iter().map(|record| sources.decode(record)).collect::<Vec<_>>(),
                BatchSize::SmallInput,
            );
        });
        group.bench_with_input(BenchmarkId::from_parameter("json_floor"), &self.body, |bench, body| {
            bench.iter(|| serde_json::from_slice::<Value>(black_box(body)).expect("a fixture is JSON"));
        });
        group.bench_function("cloud_event", |bench| {
            bench.iter(|| black_box(&events).iter().map(line).collect::<Vec<_>>());
        });
        group.bench_function("cloud_event_floor", |bench| {
            bench.iter(|| {
                let written = black_box(&values).iter().map(|value| serde_json::to_vec(value).expect("it was JSON"));
                written.collect::<Vec<_>>()
            });
        });
        group.finish();
    }
}

fn line(event: &Event) -> Vec<u8> {
    event.to_json(Format::Cloudevents, false)
}

fn hmac(body: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(body);
    mac.finalize().into_bytes().into()
}

/// One source of each type, of the type's name.
fn sources() -> Result<Sources, Box<dyn Error>> {
    let auth = Auth { signature_secrets: Secrets::new(vec![Secret::new(SECRET)]), ..Auth::default() };
    let meta = MetaConfig {
        verify_token: Secrets::default(),
        auth: auth.clone(),
        own_app_ids: vec!["1517776481860111".to_owned()],
        page_inbox_app_ids: vec!["26390203743090".to_owned(), "263902037430900".to_owned()],
        max_body: 4 << 20,
    };
    let connect = WebexConnectConfig { auth, timezone: None, max_body: 16 << 20 };
    let config = [
        (SourceType::Meta.as_str().parse()?, SourceConfig::Meta(meta)),
        (SourceType::WebexConnect.as_str().parse()?, SourceConfig::WebexConnect(connect)),
    ];
    Ok(Sources::new(&config.into()))
}

/// The medians that criterion has just written, in nanoseconds, and their ratios. Nothing where it only tested.
fn print_ratios(results: &Path, cases: &[Case]) {
    let median = |case: &Case, step: &str| -> Option<f64> {
        let text = fs::read(results.join(&case.name).join(step).join("new/estimates.json")).ok()?;
        serde_json::from_slice::<Value>(&text).ok()?["median"]["point_estimate"].as_f64()
    };
    println!("\nmicroseconds (and floors); the target for split plus decode is {TARGET} floors\n");
    println!("| body | bytes | verify | split | decode | split + decode | of `Value` | cloud_event |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for case in cases {
        let row = || {
            let [verify, hmac, split, decode, json, written, write] =
                ["verify", "verify_floor", "split", "decode", "json_floor", "cloud_event", "cloud_event_floor"]
                    .map(|step| median(case, step));
            let (verify, hmac, split, decode, json) = (verify?, hmac?, split?, decode?, json?);
            let cell = |nanos: f64, floor: f64| format!("{:.2} ({:.2})", nanos / 1e3, nanos / floor);
            Some(format!(
                "| {} | {} | {} | {} | {} | {} | {:.2} | {} |",
                case.name,
                case.body.len(),
                cell(verify, hmac),
                cell(split, json),
                cell(decode, json),
                cell(split + decode, json),
                json / 1e3,
                cell(written?, write?),
            ))
        };
        println!("{}", row().unwrap_or_else(|| format!("| {} | not measured", case.name)));
    }
}
