use schemars::JsonSchema;
use serde::Serialize;

/// What became of a message, from the sender's `deliveryStatus`.
///
/// None of them is documented as final: a bounce, a complaint or a failure can follow `delivered`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Handed to the channel; interim. Also sent as "Submited".
    Submitted,
    /// Reached the person.
    Delivered,
    /// The person opened it.
    Read,
    /// The person followed a link in it.
    Clicked,
    /// Was not sent.
    Failed,
    /// Was sent and did not arrive.
    Undelivered,
    /// The mailbox refused it.
    Bounced,
    /// The person reported it as unwanted.
    Complaint,
    /// The sender's address is not verified.
    NotVerified,
    /// Any other word, those of voice calls among them; `status_text` has it.
    Other,
}

impl Status {
    /// The status that this text names, whatever its case and whether it is written with spaces, `-` or `_`.
    pub fn parse(text: &str) -> Self {
        match fold(text).as_str() {
            "submitted" | "submited" => Self::Submitted,
            "delivered" => Self::Delivered,
            "read" => Self::Read,
            "clicked" => Self::Clicked,
            "failed" => Self::Failed,
            "undelivered" => Self::Undelivered,
            "bounce" | "bounced" => Self::Bounced,
            "complaint" => Self::Complaint,
            "notverified" => Self::NotVerified,
            _ => Self::Other,
        }
    }
}

/// A name as it is compared: without case, white space, `-` and `_`. Names longer than any known one are cut, since
/// they equal none of them anyway.
pub(super) fn fold(name: &str) -> String {
    const LONGEST: usize = 64;
    if name.is_ascii() {
        let letters = name.bytes().filter(|byte| !byte.is_ascii_whitespace() && !matches!(byte, b'-' | b'_' | 0xb));
        return letters.take(LONGEST).map(|byte| char::from(byte.to_ascii_lowercase())).collect();
    }
    name.chars()
        .filter(|c| !c.is_whitespace() && !matches!(c, '-' | '_'))
        .take(LONGEST)
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_word_has_its_status() {
        for (text, status) in [
            ("Submited", Status::Submitted),
            ("Submitted", Status::Submitted),
            ("Delivered", Status::Delivered),
            ("Read", Status::Read),
            ("Failed", Status::Failed),
            ("Un-Delivered", Status::Undelivered),
            ("Undelivered", Status::Undelivered),
            ("Clicked", Status::Clicked),
            ("Bounce", Status::Bounced),
            ("Bounced", Status::Bounced),
            ("Complaint", Status::Complaint),
            ("Not Verified", Status::NotVerified),
            ("OFFERED", Status::Other),
            ("ACCEPTED", Status::Other),
            ("ANSWERED", Status::Other),
            ("DROPPED", Status::Other),
            ("REJECTED", Status::Other),
            ("Released", Status::Other),
            ("DISCONNECTED", Status::Other),
            ("TROMBONE_CONNECTED", Status::Other),
            ("TROMBONE_RELEASED", Status::Other),
            ("", Status::Other),
        ] {
            assert_eq!(Status::parse(text), status, "{text}");
        }
    }

    #[test]
    fn case_and_separators_do_not_matter() {
        for text in ["not verified", "NOT_VERIFIED", "Not-Verified", "notverified", " Not  Verified "] {
            assert_eq!(Status::parse(text), Status::NotVerified, "{text}");
        }
    }
}
