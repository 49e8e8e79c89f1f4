//! What a failure means, in words of ours: those of PostgreSQL quote the values of a row.

use std::error::Error as _;
use std::io;

use tokio_postgres::Error;

use super::super::failure::of_connection;

/// Why something did not work.
#[derive(Debug)]
pub(super) struct Failure {
    text: String,
    /// The SQLSTATE, where the server gave one.
    code: Option<String>,
}

impl Failure {
    /// In words that hold nothing of an event.
    pub(super) fn about(text: impl Into<String>) -> Self {
        Self { text: text.into(), code: None }
    }

    /// The SQLSTATE.
    pub(super) fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// The class of the SQLSTATE: its first two characters.
    fn class(&self) -> &str {
        self.code().and_then(|code| code.get(..2)).unwrap_or_default()
    }

    /// What a row holds is refused: data exceptions, violated constraints, limits of the program (a JSON nested too
    /// deeply, a row too long).
    pub(super) fn is_about_a_row(&self) -> bool {
        matches!(self.class(), "22" | "23" | "54")
    }

    /// It may be the `data` of the row that is refused, which is not so for constraints of the user's own.
    pub(super) fn may_be_about_data(&self) -> bool {
        matches!(self.class(), "22" | "54")
    }

    /// The table is not what it was.
    pub(super) fn is_about_the_table(&self) -> bool {
        self.class() == "42"
    }

    /// In words.
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

/// What the codes mean that are met most (<https://www.postgresql.org/docs/current/errcodes-appendix.html>), by code or
/// by class.
const CODES: &[(&str, &str)] = &[
    ("22", "it refuses what a row holds"),
    ("23", "a constraint of the table refuses a row"),
    ("25006", "the server takes no writes: it is a standby, or the database is read-only"),
    ("28", "username or password is not accepted, or this user may not connect from here"),
    ("3D000", "there is no such database"),
    ("3F000", "there is no such schema"),
    ("40", "another transaction was in the way"),
    ("42501", "the user has not the rights that are needed"),
    ("42P01", "there is no such table"),
    ("42", "the table is not as it should be"),
    ("53100", "the disk of the server is full"),
    ("53300", "the server has as many connections as it may have"),
    ("53", "the server lacks what it needs"),
    ("54", "a row is more than PostgreSQL takes"),
    ("57014", "it was cancelled"),
    ("57P03", "the server is starting or stopping"),
    ("57", "the server is being stopped"),
    ("58", "the server has trouble with its files"),
    ("08", "the connection is not in order"),
];

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let Some(db) = error.as_db_error() else { return Self::about(connection(&error)) };
        let code = db.code().code();
        // Five characters, by the standard; whatever else stands there is not passed on.
        if code.len() != 5 || !code.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase()) {
            return Self::about("the server answered with an error");
        }
        let text = match CODES.iter().find(|(known, _)| code.starts_with(known)) {
            Some((_, meaning)) => format!("{meaning} (SQLSTATE {code})"),
            None => format!("the server answered SQLSTATE {code}"),
        };
        Self { text, code: Some(code.to_owned()) }
    }
}

fn connection(error: &Error) -> String {
    let Some(cause) = error.source() else {
        return if error.is_closed() {
            "the connection broke".to_owned()
        } else {
            "the answer is none that PostgreSQL gives".to_owned()
        };
    };
    match (error.to_string().as_str(), cause.downcast_ref::<io::Error>()) {
        (_, Some(io)) if io.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => of_connection(io),
        // Words of the client's own.
        ("authentication error" | "invalid configuration", _) => {
            "the server asks for a password, or in a way that is not known".to_owned()
        }
        ("error performing TLS handshake", None) => format!("no TLS connection: {cause}"),
        (_, Some(io)) => of_connection(io),
        _ => "the connection failed".to_owned(),
    }
}
