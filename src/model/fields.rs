//! Taking fields out of an object one by one; what is left is `extra`.

use serde_json::{Map, Value};

use super::{Extra, scalar_text};

/// An object whose known fields are taken out. A field of an unexpected type is left in, so that nothing is lost.
#[derive(Default)]
pub struct Fields(Map<String, Value>);

impl Fields {
    /// The fields of this object.
    pub fn new(object: Map<String, Value>) -> Self {
        Self(object)
    }

    /// Whether no field is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is a field of this name, null or not.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// A look at a field, which stays in.
    pub fn peek(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// A scalar as text; ids come out digit for digit. An empty string is none.
    pub fn text(&mut self, name: &str) -> Option<String> {
        let value = self.0.get(name)?;
        let text = scalar_text(value);
        if text.is_some() || matches!(value, Value::Null | Value::String(_)) {
            self.0.shift_remove(name);
        }
        text
    }

    /// The text of the first of these fields that has one. Of the others those that say the same or nothing go too.
    pub fn first_text(&mut self, names: &[&str]) -> Option<String> {
        let mut first: Option<String> = None;
        for name in names {
            match (&first, self.0.get(*name).map(scalar_text)) {
                (None, Some(_)) => first = self.text(name),
                (Some(text), Some(Some(other))) if *text == other => _ = self.0.shift_remove(*name),
                (Some(_), Some(None)) => _ = self.text(name),
                _ => {}
            }
        }
        first
    }

    /// A boolean, also one sent as text ("true") or as 0 or 1.
    pub fn truth(&mut self, name: &str) -> Option<bool> {
        let truth = match self.0.get(name)? {
            Value::Bool(truth) => *truth,
            other => match scalar_text(other)?.as_str() {
                "true" | "True" | "TRUE" | "1" => true,
                "false" | "False" | "FALSE" | "0" => false,
                _ => return None,
            },
        };
        self.0.shift_remove(name);
        Some(truth)
    }

    /// A whole number, also one sent as text.
    pub fn integer(&mut self, name: &str) -> Option<i64> {
        let integer = scalar_text(self.0.get(name)?)?.parse().ok()?;
        self.0.shift_remove(name);
        Some(integer)
    }

    /// A finite number, also one sent as text.
    pub fn number(&mut self, name: &str) -> Option<f64> {
        let number: f64 = scalar_text(self.0.get(name)?)?.parse().ok()?;
        number.is_finite().then(|| self.0.shift_remove(name))?;
        Some(number)
    }

    /// An object.
    pub fn object(&mut self, name: &str) -> Option<Fields> {
        self.0.get(name)?.as_object()?;
        match self.0.shift_remove(name) {
            Some(Value::Object(object)) => Some(Self(object)),
            _ => None,
        }
    }

    /// A list.
    pub fn array(&mut self, name: &str) -> Option<Vec<Value>> {
        self.0.get(name)?.as_array()?;
        match self.0.shift_remove(name) {
            Some(Value::Array(array)) => Some(array),
            _ => None,
        }
    }

    /// A list of scalars as text. A list that holds anything else stays in.
    pub fn texts(&mut self, name: &str) -> Option<Vec<String>> {
        let texts = self.0.get(name)?.as_array()?.iter().map(scalar_text).collect::<Option<Vec<_>>>()?;
        self.0.shift_remove(name);
        Some(texts)
    }

    /// The value, whatever it is.
    pub fn value(&mut self, name: &str) -> Option<Value> {
        self.0.shift_remove(name)
    }

    /// Puts a value (back) in, over one of the same name.
    pub fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// Puts what is left of an object back in, unless nothing is.
    pub fn put_rest(&mut self, name: &str, rest: Fields) {
        let rest = rest.into_extra();
        if !rest.is_empty() {
            self.put(name, rest);
        }
    }

    /// What nobody took; nulls are no information and left out.
    pub fn into_extra(mut self) -> Extra {
        self.0.retain(|_, value| !value.is_null());
        self.0
    }
}

crate::model::veil::veiled!(Fields);

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(json: &str) -> Fields {
        Fields::new(serde_json::from_str(json).unwrap())
    }

    fn extra(fields: Fields) -> String {
        serde_json::to_string(&fields.into_extra()).unwrap()
    }

    #[test]
    fn text_is_digit_for_digit() {
        let mut f = fields(r#"{"a":90071992547409931234,"b":"x","c":"","d":null,"e":{},"f":1.50,"g":true}"#);
        assert_eq!(f.text("a").as_deref(), Some("90071992547409931234"));
        assert_eq!(f.text("b").as_deref(), Some("x"));
        assert_eq!(f.text("c"), None);
        assert_eq!(f.text("d"), None);
        assert_eq!(f.text("e"), None);
        assert_eq!(f.text("f").as_deref(), Some("1.50"));
        assert_eq!(f.text("g").as_deref(), Some("true"));
        assert_eq!(extra(f), r#"{"e":{}}"#, "only the field of an unexpected type is left");
    }

    #[test]
    fn the_first_name_with_a_text_counts() {
        let mut f = fields(r#"{"url":"","URL":"u","link":"u","href":"other","src":null}"#);
        assert_eq!(f.first_text(&["url", "URL", "link", "href", "src"]).as_deref(), Some("u"));
        assert_eq!(extra(f), r#"{"href":"other"}"#, "what says something else stays");
    }

    #[test]
    fn what_is_of_another_type_stays() {
        let json = r#"{"t":"yes","i":"1.5","n":"inf","o":[],"a":{},"l":["x",{}]}"#;
        let mut f = fields(json);
        assert_eq!(f.truth("t"), None);
        assert_eq!(f.integer("i"), None);
        assert_eq!(f.number("n"), None);
        assert!(f.object("o").is_none());
        assert!(f.array("a").is_none());
        assert!(f.texts("l").is_none());
        assert_eq!(extra(f), json);
    }

    #[test]
    fn what_fits_is_taken() {
        let mut f = fields(r#"{"t":"true","u":0,"i":"-7","n":"12.5","o":{"p":1},"a":[1],"l":["x",2],"z":null}"#);
        assert_eq!(f.truth("t"), Some(true));
        assert_eq!(f.truth("u"), Some(false));
        assert_eq!(f.integer("i"), Some(-7));
        assert_eq!(f.number("n"), Some(12.5));
        assert_eq!(f.object("o").unwrap().integer("p"), Some(1));
        assert_eq!(f.array("a").unwrap().len(), 1);
        assert_eq!(f.texts("l").unwrap(), ["x", "2"]);
        assert_eq!(extra(f), "{}");
    }
}
