//! Every fixture, sent through the door of one running server as its sender would send it, and what a sink receives of
//! it: a snapshot each, in `snapshots/<sender>/`, with the answer in its first line. After a change of the models,
//! `INSTA_UPDATE=always cargo test --test it fixtures::` writes them anew, to be read in the diff.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use hooksink::event::Kind;
use hooksink::names::SourceType;
use serde_json::Value;

use crate::support::server::{TestServer, eventually};

const CONFIG: &str = r#"
    [sources.messenger]
    type = "meta"
    verify_token = "verify"
    app_secrets = ["app secret"]
    own_app_ids = ["1517776481860111"]
    [sources.connect]
    type = "webex-connect"
    signature_secrets = ["signature secret"]
    timezone = "Asia/Kolkata"
    [sinks.archive]
    type = "file"
    path = "events.jsonl"
    [journal]
    disk_reserve = "1 MiB"
    [log]
    level = "info,hooksink::http::request_log=warn"
"#;

/// A payload of `fixtures/`.
#[derive(Debug)]
pub(crate) struct Fixture {
    pub(crate) sender: SourceType,
    /// The name of its file without `.json`.
    pub(crate) name: String,
    pub(crate) body: Vec<u8>,
}

/// All of them, in the order of their names.
pub(crate) fn fixtures() -> Vec<Fixture> {
    let mut fixtures = Vec::new();
    for sender in SourceType::ALL.iter().copied() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(sender.as_str());
        for name in names(&folder, ".json") {
            let body = fs::read(folder.join(format!("{name}.json"))).expect("a file of the folder");
            fixtures.push(Fixture { sender, name, body });
        }
    }
    fixtures
}

/// The names of a folder's files without this ending, which all but a README must have. Snapshots that wait for review
/// are passed over.
fn names(folder: &Path, ending: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).expect("the folder is there");
    let files = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name in UTF-8"));
    files
        .filter(|file| file != "README.md" && !file.ends_with(".snap.new"))
        .map(|file| match file.strip_suffix(ending) {
            Some(name) => name.to_owned(),
            None => panic!("{file} in {}, where files end with {ending}", folder.display()),
        })
        .collect()
}

fn snapshots(sender: SourceType) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/snapshots").join(sender.as_str())
}

#[tokio::test]
async fn every_fixture_reaches_a_sink_as_its_snapshot_shows() {
    let server = TestServer::start(CONFIG);
    let mut sink = Lines::new(server.folder().join("events.jsonl"));
    let (mut differ, mut kinds, mut seen) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for Fixture { sender, name, body } in fixtures() {
        let (source, secret) = match sender {
            SourceType::Meta => ("messenger", "app secret"),
            SourceType::WebexConnect => ("connect", "signature secret"),
        };
        let answer = server.post(sender, source, secret, body).await;
        assert_eq!(answer.status, 200, "{sender} {name}: {}", answer.body);
        let counts = answer.json();
        assert_eq!(counts["duplicates"], 0, "{sender} {name} holds an event that an earlier one holds");
        let mut shown = answer.body;
        for event in sink.read(counts["accepted"].as_u64().expect("a count")) {
            let json: Value = serde_json::from_str(&event).expect("a CloudEvent in JSON");
            let received = json["receivedtime"].to_string();
            shown.push('\n');
            shown.push_str(&laid_out(&event.replace(&received, "\"<received>\"")));
            kinds.insert(json["type"].as_str().expect("a type").parse::<Kind>().expect("a kind"));
            note(&json, &mut seen);
        }
        insta::with_settings!({
            snapshot_path => snapshots(sender),
            prepend_module_to_snapshot => false,
            omit_expression => true,
        }, {
            // All that differ are shown, and not only the first.
            let same = catch_unwind(AssertUnwindSafe(|| insta::assert_snapshot!(name.clone(), shown)));
            differ.extend(same.is_err().then(|| format!("{sender}/{name}")));
        });
    }
    assert!(differ.is_empty(), "these differ from their snapshots: {differ:#?}");
    let missing: Vec<_> = Kind::ALL.iter().filter(|kind| !kinds.contains(*kind)).collect();
    assert!(missing.is_empty(), "kinds without a fixture: {missing:?}");
    let covered = COVERED.lines().filter_map(|line| line.split_once(": "));
    let covered = covered.flat_map(|(what, values)| values.split(", ").map(move |value| format!("{what} {value}")));
    let missing: Vec<_> = covered.filter(|known| !seen.contains(known)).collect();
    assert!(missing.is_empty(), "the senders' pages name these, and no fixture has them: {missing:#?}");
}

#[test]
fn every_fixture_has_a_snapshot_and_every_snapshot_a_fixture() {
    for sender in SourceType::ALL.iter().copied() {
        let fixtures: BTreeSet<_> = fixtures().into_iter().filter(|f| f.sender == sender).map(|f| f.name).collect();
        assert_eq!(names(&snapshots(sender), ".snap"), fixtures, "{sender}");
    }
}

/// What the senders are known to send, as sinks see it: each value must come from some fixture. Names of channels and of
/// types are compared in lower case.
const COVERED: &str = "
meta attachment: image, audio, video, file, template, fallback, sticker, appointment_booking, location, share
meta attachment: story_mention, like_heart, ephemeral, reel, ig_reel, post, unsupported_type, null
meta attachment read as: image, audio, video, file, template, fallback, sticker, location, product, other
meta template: button, media, generic, receipt, list, airline_boardingpass, airline_update
meta origin: own_app, page_inbox, other_app, unattributed
meta standby: true, false
meta field: referral, optin, account_linking, pass_thread_control, take_thread_control, request_thread_control
meta field: app_roles, policy_enforcement, policy-enforcement, game_play, response_feedback, messaging_feedback
meta field: order, message_request
delivery channel: fb, sms, whatsapp, rcs, applebusinesschat, email, rt, push, voice, mms, instagram, twitter, gbm
delivery channel: appmessaging
delivery destination: psid, msisdn, waid, bsuid, email, emailid, customerid, userid, igsid, twitterid, conversationid
delivery destination: android_pushid, ios_pushid, null
delivery status text: Submited, Submitted, Delivered, Read, Failed, Un-Delivered, Undelivered, Clicked, Bounce
delivery status text: Complaint, Not Verified, OFFERED, ACCEPTED, ANSWERED, DROPPED, REJECTED, Released, DISCONNECTED
delivery status text: TROMBONE_CONNECTED, TROMBONE_RELEASED
delivery status: submitted, delivered, read, clicked, failed, undelivered, bounced, complaint, not_verified, other
delivery code: fb 7501, fb 7500, fb 7502, fb 7528, fb 7010, fb 7011, fb 7005, fb 7006, fb 7301, fb 7303, fb 7313
delivery code: fb 7526, fb 2018336, fb 2018047, instagram 7303
connect attachment: image, video, audio, file, sticker, location, link, fallback
connect user: psid, waid, bsuid, userhandle, msisdn, abcuserid, userid, email, igsid
connect event: facebook MO, facebook OnPostback, facebook OnOptin, facebook messenger MO
connect event: whatsapp MO, whatsapp postback, whatsapp list, whatsapp reply, whatsapp user_preference
connect event: rcs MO, rcs ATTACHMENT, rcs Location, rcs postback, rcs SUBSCRIBE, rcs UNSUBSCRIBE
connect event: applebusinesschat MO, applebusinesschat INTERACTIVERESPONSE, applebusinesschat QuickReplyResponse
connect event: applebusinesschat FormResponse, applebusinesschat TYPINGINDICATOR
connect event: applebusinesschat CONVERSATIONCLOSED, applebusinesschat PaymentResponse
connect event: rtm MO, rtm OnPostback, rtm OnProfileCreate, rtm OnProfileUpdate, rtm OnFormResponse, rtm TypingIndicator
connect event: sms null, mms null, email MO, email Inbound Message, email Subscribe, email Unsubscribe
connect event: instagram MO, instagram OnPostback
";

/// Notes what an event shows of the things in [`COVERED`].
fn note(event: &Value, seen: &mut BTreeSet<String>) {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let lower = |value: &Value| text(value).to_lowercase();
    let data = &event["data"];
    let meta = event["sourcetype"] == "meta";
    for attachment in data["attachments"].as_array().into_iter().flatten() {
        let sender = if meta { "meta" } else { "connect" };
        seen.insert(format!("{sender} attachment {}", lower(&attachment["type_text"])));
        seen.insert(format!("{sender} attachment read as {}", text(&attachment["type"])));
        seen.insert(format!("{sender} template {}", text(&attachment["template"]["template_type"])));
    }
    if meta {
        seen.insert(format!("meta origin {}", text(&data["origin"])));
        seen.insert(format!("meta standby {}", data["standby"]));
        let fields = data["fields"].as_object().into_iter().flatten();
        seen.extend(fields.map(|(name, _)| format!("meta field {name}")));
    } else if event["type"] == Kind::ConnectDeliveryNotification.as_str() {
        let channel = lower(&data["channel"]);
        seen.insert(format!("delivery code {channel} {}", text(&data["code"])));
        seen.insert(format!("delivery destination {}", lower(&data["destination_type"])));
        seen.insert(format!("delivery status text {}", text(&data["status_text"])));
        seen.insert(format!("delivery status {}", text(&data["status"])));
        seen.insert(format!("delivery channel {channel}"));
    } else {
        seen.insert(format!("connect event {} {}", lower(&data["channel"]), text(&data["event"])));
        seen.insert(format!("connect user {}", text(&data["user"]["id_type"])));
    }
}

/// The lines of a file that is being written, in their order.
struct Lines {
    path: PathBuf,
    file: Option<BufReader<File>>,
    /// The beginning of a line whose end is not there yet.
    line: String,
}

impl Lines {
    fn new(path: PathBuf) -> Self {
        Self { path, file: None, line: String::new() }
    }

    /// The next so many lines, waiting for them.
    fn read(&mut self, count: u64) -> Vec<String> {
        let file = self
            .file
            .get_or_insert_with(|| BufReader::new(eventually("the file of the sink", || File::open(&self.path).ok())));
        let next = |_| {
            eventually("an event in the file", || {
                file.read_line(&mut self.line).expect("UTF-8");
                let line = self.line.strip_suffix('\n').map(str::to_owned)?;
                self.line.clear();
                Some(line)
            })
        };
        (0..count).map(next).collect()
    }
}

/// JSON without white space, laid out for people. Nothing else is changed: digits, escapes and keys that occur twice
/// stay as they are, which a parser would not keep.
fn laid_out(json: &str) -> String {
    /// What nests deeper stands on one line.
    const DEEPEST: usize = 12;
    let (mut out, mut depth, mut in_string, mut escaped) = (String::new(), 0, false, false);
    let newline = |out: &mut String, depth: usize| {
        if depth <= DEEPEST {
            out.push('\n');
            out.extend(std::iter::repeat_n("  ", depth));
        }
    };
    let mut last = ' ';
    for c in json.chars() {
        if in_string {
            (in_string, escaped) = (escaped || c != '"', !escaped && c == '\\');
            out.push(c);
        } else {
            let opened = matches!(last, '{' | '[');
            match c {
                '}' | ']' => {
                    depth -= 1;
                    if !opened {
                        newline(&mut out, depth + usize::from(depth >= DEEPEST));
                    }
                }
                _ if opened => newline(&mut out, depth),
                _ => {}
            }
            out.push(c);
            match c {
                '{' | '[' => depth += 1,
                ',' => newline(&mut out, depth),
                ':' => out.push(' '),
                '"' => in_string = true,
                _ => {}
            }
        }
        last = if in_string { '"' } else { c };
    }
    out
}

#[test]
fn laying_out_changes_white_space_only() {
    let json = r#"{"a":[1.50,{},[]],"a":"{\"b\": [\\\/","c":{"d":null}}"#;
    let expected = "{\n  \"a\": [\n    1.50,\n    {},\n    []\n  ],\n  \"a\": \"{\\\"b\\\": [\\\\\\/\",\n  \"c\": {\n    \"d\": null\n  }\n}";
    assert_eq!(laid_out(json), expected);
    let deep = format!("{}1,2{}", "[".repeat(100), "]".repeat(100));
    assert_eq!(laid_out(&deep).replace([' ', '\n'], ""), deep);
}
