//! Debug forms that tell the type and nothing of what a person wrote or is: models can be printed wherever a type that
//! holds them is.

/// Implements `Debug` for types with payload in them.
macro_rules! veiled {
    ($($type:ty),+) => { $(
        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($type), "(***)"))
            }
        }
    )+ };
}

pub(crate) use veiled;

#[cfg(test)]
mod tests {
    use crate::json::{Json, Scanner};
    use crate::model::Attachment;

    #[test]
    fn nothing_of_a_payload_is_printed() {
        let json = r#"{ "type": "marker", "payload": { "url": "https://marker" } }"#;
        let attachment = Attachment::from_json(Json::read(&mut Scanner::new(json), &mut 10).ok().unwrap());
        assert_eq!(format!("{attachment:?}"), "Attachment(***)");
    }
}
