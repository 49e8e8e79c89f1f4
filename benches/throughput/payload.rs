//! What is sent: signed requests, each with persons and messages of its own.

use clap::ValueEnum;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// What both sources take for a signature.
pub(crate) const SECRET: &str = "secret of the throughput bench";

const NUMBER: &str = "0000000000";
const RUN: &str = "RUN";
const DIGITS: usize = 64;

/// A kind of request.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Payload {
    /// One Meta echo.
    Echo,
    /// One delivery notification of Webex Connect.
    Delivery,
    /// Ten Meta echoes in one request.
    Batch,
}

impl Payload {
    pub(crate) const ALL: [Self; 3] = [Self::Echo, Self::Delivery, Self::Batch];

    /// Its name, as on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Delivery => "delivery",
            Self::Batch => "batch",
        }
    }

    /// Events in a request.
    pub(crate) fn items(self) -> usize {
        if self == Self::Batch { 10 } else { 1 }
    }

    /// Requests a second that the client is ready for; a faster server ends the round early, and the rate is still right.
    pub(crate) fn prepared_per_second(self) -> usize {
        let optimized = if self == Self::Batch { 15_000 } else { 60_000 };
        if cfg!(debug_assertions) { optimized / 10 } else { optimized }
    }

    /// Where it is sent.
    pub(crate) fn path(self) -> &'static str {
        if self == Self::Delivery { "/webhooks/connect" } else { "/webhooks/messenger" }
    }

    /// The body, with `RUN` and zeros in the place of numbers.
    fn body(self) -> String {
        let item = format!(
            r#"{{"sender":{{"id":"1906385232743451"}},"recipient":{{"id":"{NUMBER}"}},"timestamp":1762000000000,"message":{{"mid":"m_bench-{RUN}-{NUMBER}","is_echo":true,"text":"Your parcel left the depot at 9:40 and will be with you today. Track it at https:\/\/example.com\/t\/8812","app_id":1517776481860111,"metadata":"order 8812"}}}}"#
        );
        match self {
            Self::Echo | Self::Batch => {
                let items = vec![item; self.items()].join(",");
                format!(
                    r#"{{"object":"page","entry":[{{"id":"1906385232743451","time":1762000000123,"messaging":[{items}]}}]}}"#
                )
            }
            Self::Delivery => format!(
                r#"{{"deliveryInfoNotification":{{"deliveryInfo":{{"deliveryChannel":"fb","Description":"Delivered","destinationType":"psid","timeStamp":"2026-03-01T07:00:15.537","code":"7500","deliveryStatus":"Delivered","destination":"{NUMBER}"}},"correlationid":"bench-{RUN}-{NUMBER}","callbackData":"order 8812","transid":"e389acdf-f751-45c1-90da-2262bd252ee6"}}}}"#
            ),
        }
    }
}

/// A request with the places of what differs between one and the next.
#[derive(Clone)]
pub(crate) struct Template {
    pub(crate) bytes: Vec<u8>,
    items: usize,
    signature: usize,
    body: usize,
    /// Where the numbers stand: as many of each item.
    numbers: Vec<usize>,
}

impl Template {
    /// The requests of a run; those of another run are others.
    pub(crate) fn new(payload: Payload, run: u64) -> Self {
        let body = payload.body().replace(RUN, &run.to_string());
        let (signature_header, agent) = match payload {
            Payload::Delivery => ("X-Hub-Signature", "Webex Connect"),
            Payload::Echo | Payload::Batch => ("X-Hub-Signature-256", "facebookexternalua"),
        };
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nUser-Agent: {agent}\r\nContent-Length: {}\r\n{signature_header}: sha256={}\r\n\r\n",
            payload.path(),
            body.len(),
            "0".repeat(DIGITS)
        );
        let numbers = body.match_indices(NUMBER).map(|(at, _)| head.len() + at).collect();
        Self {
            bytes: [head.as_bytes(), body.as_bytes()].concat(),
            items: payload.items(),
            signature: head.len() - 4 - DIGITS,
            body: head.len(),
            numbers,
        }
    }

    /// Makes it the request of this number: each item has its own person and message.
    pub(crate) fn number(&mut self, number: usize) {
        let of_an_item = self.numbers.len() / self.items;
        for (place, at) in self.numbers.iter().enumerate() {
            let digits = format!("{:010}", number * self.items + place / of_an_item);
            self.bytes[*at..*at + NUMBER.len()].copy_from_slice(digits.as_bytes());
        }
    }

    /// The signature of the body as it is now.
    pub(crate) fn sign(&self) -> [u8; DIGITS] {
        let mut signature = [0; DIGITS];
        if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()) {
            mac.update(&self.bytes[self.body..]);
            // 32 bytes are 64 digits.
            let _ = hex::encode_to_slice(mac.finalize().into_bytes(), &mut signature);
        }
        signature
    }

    /// Writes a signature made before.
    pub(crate) fn set_signature(&mut self, signature: &[u8; DIGITS]) {
        self.bytes[self.signature..self.signature + DIGITS].copy_from_slice(signature);
    }
}
