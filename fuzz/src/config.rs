//! The configuration from text to value. An input is a configuration file.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use hooksink::config::{self, Inputs, load, load_operator};

use super::request::LONGEST;

/// What no message may hold.
const SECRET: &str = "correct-horse-battery-staple";

/// Text becomes a configuration or a list of errors, and neither says a secret: of the environment, of a file, or of the
/// text itself, whatever stands around it.
pub fn check(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    // A text that has the secret in it would put it where none belongs.
    if text.len() > LONGEST || text.contains("horse") {
        return;
    }
    let with_secrets = format!(
        "{text}\n[sources.marked]\ntype = \"meta\"\nverify_token = \"{SECRET}\"\napp_secrets = [\"{SECRET}\"]\n\
         [sinks.marked]\ntype = \"http\"\nurl = \"https://crm.example/\"\nsigning_secret = \"whsec_{SECRET}\"\n\
         bearer = \"{SECRET}\"\nheaders = {{ x-token = \"{SECRET}\" }}\n"
    );
    for text in [text, &with_secrets] {
        let inputs = inputs(text);
        match load(&inputs) {
            Ok(loaded) => {
                tells_no_secret(&format!("{loaded:?}"));
                loaded.warnings.iter().for_each(|warning| tells_no_secret(&warning.to_string()));
                let changed = loaded.reload(&inputs).expect("what loads once loads again");
                assert_eq!(changed, config::Reloaded::default(), "nothing has changed");
            }
            Err(errors) => {
                assert!(!errors.0.is_empty(), "something is wrong");
                tells_no_secret(&format!("{errors} {errors:?}"));
                let again = load(&inputs).expect_err("what is wrong stays wrong");
                assert_eq!(again, errors);
            }
        }
        if let Err(errors) = load_operator(&inputs) {
            tells_no_secret(&format!("{errors} {errors:?}"));
        }
    }
}

fn tells_no_secret(said: &str) {
    assert!(!said.contains("horse"), "{said}");
}

/// A file with this text, in an environment in which every variable that the documentation names is a secret.
fn inputs(text: &str) -> Inputs<'static> {
    let mut environment: BTreeMap<_, _> = config::DEFAULTS
        .split("env = \"")
        .skip(1)
        .filter_map(|rest| Some((rest.split_once('"')?.0.to_owned(), format!("user:{SECRET}"))))
        .collect();
    environment.insert(format!("{}SOURCES__GIVEN__APP_SECRETS", config::ENVIRONMENT_PREFIX), SECRET.to_owned());
    Inputs {
        file: Some(("hooksink.toml".into(), text.to_owned())),
        environment,
        flags: Vec::new(),
        read_secret: &read_secret,
    }
}

fn read_secret(path: &Path) -> io::Result<Vec<u8>> {
    match path.to_str() {
        Some(path) if path.contains("missing") => Err(io::ErrorKind::NotFound.into()),
        _ => Ok(SECRET.into()),
    }
}
