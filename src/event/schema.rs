//! The JSON Schema of events as they leave, made from the Rust types.

use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Value, json};

use super::Kind;
use crate::model::Unrecognized;
use crate::model::meta::{Delivery, Message, MessageEcho, MessageEdit, MetaFields, Postback, Reaction, Read};
use crate::model::webex_connect::{ConnectEvent, DeliveryNotification};
use crate::names::SourceType;

/// The JSON Schema (draft 2020-12) of an event in CloudEvents form; its `data` by `type`.
pub fn event_schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let by_kind: Vec<Value> = Kind::ALL.iter().map(|kind| of_kind(*kind, &mut generator)).collect();
    let kinds: Vec<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
    let senders: Vec<&str> = SourceType::ALL.iter().map(|source_type| source_type.as_str()).collect();
    let definitions = generator.take_definitions(true);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "hooksink event",
        "description": "An event in CloudEvents 1.0 form. Fields may be added by later versions.",
        "type": "object",
        "required": ["specversion", "id", "source", "type", "time", "datacontenttype", "receivedtime", "sourcetype"],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": {"type": "string", "format": "uuid", "description": "The same for every copy of the event."},
            "source": {"type": "string", "pattern": "^/webhooks/[a-z0-9][a-z0-9_-]{0,31}$"},
            "type": {"enum": kinds, "description": "What the event is."},
            "subject": {"type": "string", "minLength": 1, "description": "The person it concerns."},
            "time": {"type": "string", "format": "date-time", "description": "When it happened, else when it was received."},
            "datacontenttype": {"type": "string"},
            "receivedtime": {"type": "string", "format": "date-time"},
            "sourcetype": {"enum": senders},
            "data": {"type": "object", "description": "The typed event, by `type`."},
            "data_base64": {"type": "string", "description": "A body that is not JSON."},
        },
        "oneOf": by_kind,
        "$defs": definitions,
    })
}

/// What an event of this kind holds.
fn of_kind(kind: Kind, generator: &mut SchemaGenerator) -> Value {
    let data = match kind {
        Kind::ConnectDeliveryNotification => generator.subschema_for::<DeliveryNotification>(),
        Kind::ConnectMessage | Kind::ConnectPostback | Kind::ConnectEvent => generator.subschema_for::<ConnectEvent>(),
        Kind::ConnectUnrecognized => generator.subschema_for::<Unrecognized>(),
        Kind::MetaMessageEcho => generator.subschema_for::<MessageEcho>(),
        Kind::MetaMessage => generator.subschema_for::<Message>(),
        Kind::MetaMessageEdit => generator.subschema_for::<MessageEdit>(),
        Kind::MetaReaction => generator.subschema_for::<Reaction>(),
        Kind::MetaDelivery => generator.subschema_for::<Delivery>(),
        Kind::MetaRead => generator.subschema_for::<Read>(),
        Kind::MetaPostback => generator.subschema_for::<Postback>(),
        Kind::MetaReferral
        | Kind::MetaOptin
        | Kind::MetaAccountLinking
        | Kind::MetaHandover
        | Kind::MetaChange
        | Kind::MetaEvent
        | Kind::MetaUnrecognized => generator.subschema_for::<MetaFields>(),
    };
    // A later version may find that a stored item no longer fits its model: it is shown as it was sent.
    let as_sent = match kind.source_type() {
        SourceType::WebexConnect => generator.subschema_for::<Unrecognized>(),
        SourceType::Meta => generator.subschema_for::<MetaFields>(),
    };
    let data = if data == as_sent { json!(data) } else { json!({"anyOf": [data, as_sent]}) };
    match kind {
        Kind::ConnectUnrecognized | Kind::MetaUnrecognized => json!({
            "properties": {"type": {"const": kind.as_str()}, "data": data},
            "oneOf": [{"required": ["data"]}, {"required": ["data_base64"]}],
        }),
        _ => json!({"properties": {"type": {"const": kind.as_str()}, "data": data}, "required": ["data"]}),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use chrono::DateTime;

    use super::*;
    use crate::auth::Received;
    use crate::config::{Auth, MetaConfig, SourceConfig, WebexConnectConfig};
    use crate::event::{Event, Format};
    use crate::json::repair;
    use crate::secret::Secrets;
    use crate::sources::Sources;

    fn sources() -> Sources {
        let auth = || Auth { none: true, ..Auth::default() };
        let meta = MetaConfig {
            verify_token: Secrets::default(),
            auth: auth(),
            own_app_ids: Vec::new(),
            page_inbox_app_ids: Vec::new(),
            max_body: 1 << 20,
        };
        let connect = WebexConnectConfig { auth: auth(), timezone: None, max_body: 1 << 20 };
        Sources::new(
            &[
                ("meta".parse().unwrap(), SourceConfig::Meta(meta)),
                ("webex-connect".parse().unwrap(), SourceConfig::WebexConnect(connect)),
            ]
            .into(),
        )
    }

    /// The events of a body that comes to this source.
    fn events(sources: &Sources, source: &str, body: Vec<u8>) -> Vec<Event> {
        let request = Received {
            headers: http::HeaderMap::new(),
            query: String::new(),
            body: body.into(),
            client_address: [127, 0, 0, 1].into(),
            request_id: "r".to_owned(),
        };
        let source = sources.get(source).unwrap();
        let verified = source.authenticate(request).unwrap();
        let records = source.split(&verified, DateTime::UNIX_EPOCH).records;
        records.into_iter().map(|record| sources.decode(record.into())).collect()
    }

    #[test]
    fn every_emitted_event_fits_the_schema() {
        let validator = jsonschema::draft202012::new(&event_schema()).unwrap();
        let sources = sources();
        let mut seen = 0;
        for folder in ["meta", "webex-connect"] {
            for file in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(folder)).unwrap()
            {
                let file = file.unwrap().path();
                if file.extension().is_none_or(|extension| extension != "json") {
                    continue;
                }
                for event in events(&sources, folder, std::fs::read(&file).unwrap()) {
                    for include_raw in [false, true] {
                        // `raw` keeps lone surrogates, which the parser of this test does not take, and is as deep
                        // as what was sent, which has a test of its own.
                        let Ok(json) =
                            serde_json::from_slice(&repair(&event.to_json(Format::Cloudevents, include_raw)))
                        else {
                            assert!(file.to_string_lossy().contains("deep"), "{}", file.display());
                            continue;
                        };
                        let errors: Vec<_> =
                            validator.iter_errors(&json).map(|e| format!("{e} at {}", e.instance_path())).collect();
                        assert!(errors.is_empty(), "{}: {errors:?}\n{json:#}", file.display());
                        seen += 1;
                    }
                }
            }
        }
        assert!(seen > 300, "only {seen} events were looked at");
        let opaque = &events(&sources, "meta", b"not JSON".to_vec())[0];
        let json = serde_json::from_slice(&opaque.to_json(Format::Cloudevents, true)).unwrap();
        assert!(validator.is_valid(&json), "{json}");
    }

    #[test]
    fn the_schema_is_one() {
        assert!(jsonschema::meta::is_valid(&event_schema()));
    }

    #[test]
    fn the_schema_refuses_what_no_event_is() {
        let validator = jsonschema::draft202012::new(&event_schema()).unwrap();
        let body = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/meta/echo.text.json")).unwrap();
        let event = &events(&sources(), "meta", body)[0];
        let good: Value = serde_json::from_slice(&event.to_json(Format::Cloudevents, false)).unwrap();
        assert!(validator.is_valid(&good));
        for (path, wrong) in [
            ("/type", json!("meta.unheard_of")),
            ("/type", json!("meta.read")),
            ("/source", json!("messenger")),
            ("/data/app_id", json!(862914073551208u64)),
            ("/data/origin", json!("elsewhere")),
            ("/data/attachments", json!(null)),
            ("/data", json!(null)),
        ] {
            let mut bad = good.clone();
            *bad.pointer_mut(path).unwrap() = wrong;
            assert!(!validator.is_valid(&bad), "{path}");
        }
    }
}
