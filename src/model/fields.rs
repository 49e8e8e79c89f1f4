//! Taking fields out of an object one by one; what is left is `extra`.

use super::Extra;
use crate::json::{Json, Members};

/// An object whose known fields are taken out. A field of an unexpected type is left in, so that nothing is lost.
#[derive(Default)]
pub struct Fields<'a>(Members<'a>);

impl<'a> Fields<'a> {
    /// The fields of this object.
    pub fn new(object: Members<'a>) -> Self {
        Self(object)
    }

    /// Where a field stands. Objects are small, so that looking is faster than a map would be.
    fn position(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|(field, _)| field == name)
    }

    /// The fields, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Json<'a>)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    /// Whether no field is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is a field of this name, null or not.
    pub fn has(&self, name: &str) -> bool {
        self.position(name).is_some()
    }

    /// A look at a field, which stays in.
    pub fn peek(&self, name: &str) -> Option<&Json<'a>> {
        self.0.iter().find(|(field, _)| field == name).map(|(_, value)| value)
    }

    /// A scalar as text; ids come out digit for digit. An empty string is none.
    pub fn text(&mut self, name: &str) -> Option<String> {
        let at = self.position(name)?;
        match &self.0[at].1 {
            Json::List(_) | Json::Object(_) => None,
            _ => self.0.remove(at).1.into_scalar(),
        }
    }

    /// The text of the first of these fields that has one. Of the others those that say the same or nothing go too.
    pub fn first_text(&mut self, names: &[&str]) -> Option<String> {
        let mut first: Option<String> = None;
        for name in names {
            let Some(at) = self.position(name) else { continue };
            match (&first, self.0[at].1.scalar()) {
                (None, _) => first = self.text(name),
                (Some(text), Some(other)) if text == other => _ = self.0.remove(at),
                (Some(_), None) => _ = self.text(name),
                _ => {}
            }
        }
        first
    }

    /// A boolean, also one sent as text ("true") or as 0 or 1.
    pub fn truth(&mut self, name: &str) -> Option<bool> {
        let at = self.position(name)?;
        let truth = match self.0[at].1.scalar()? {
            "true" | "True" | "TRUE" | "1" => true,
            "false" | "False" | "FALSE" | "0" => false,
            _ => return None,
        };
        self.0.remove(at);
        Some(truth)
    }

    /// A whole number, also one sent as text.
    pub fn integer(&mut self, name: &str) -> Option<i64> {
        let integer = self.peek(name)?.scalar()?.parse().ok()?;
        self.value(name);
        Some(integer)
    }

    /// A finite number, also one sent as text.
    pub fn number(&mut self, name: &str) -> Option<f64> {
        let number: f64 = self.peek(name)?.scalar()?.parse().ok()?;
        number.is_finite().then(|| self.value(name))?;
        Some(number)
    }

    /// An object.
    pub fn object(&mut self, name: &str) -> Option<Fields<'a>> {
        let at = self.position(name)?;
        let Json::Object(object) = &mut self.0[at].1 else { return None };
        let object = std::mem::take(object);
        self.0.remove(at);
        Some(Self(object))
    }

    /// A list.
    pub fn array(&mut self, name: &str) -> Option<Vec<Json<'a>>> {
        let at = self.position(name)?;
        let Json::List(list) = &mut self.0[at].1 else { return None };
        let list = std::mem::take(list);
        self.0.remove(at);
        Some(list)
    }

    /// A list of scalars as text. A list that holds anything else stays in.
    pub fn texts(&mut self, name: &str) -> Option<Vec<String>> {
        let at = self.position(name)?;
        let Json::List(list) = &self.0[at].1 else { return None };
        let texts = list.iter().map(|item| item.scalar().map(str::to_owned)).collect::<Option<Vec<_>>>()?;
        self.0.remove(at);
        Some(texts)
    }

    /// The value, whatever it is.
    pub fn value(&mut self, name: &str) -> Option<Json<'a>> {
        self.position(name).map(|at| self.0.remove(at).1)
    }

    /// Puts a value (back) in, over one of the same name.
    pub fn put(&mut self, name: &str, value: Json<'a>) {
        match self.position(name) {
            Some(at) => self.0[at].1 = value,
            None => self.0.push((name.to_owned().into(), value)),
        }
    }

    /// Puts what is left of an object back in, unless nothing is.
    pub fn put_rest(&mut self, name: &str, mut rest: Fields<'a>) {
        rest.0.retain(|(_, value)| !value.is_null());
        if !rest.is_empty() {
            self.put(name, Json::Object(rest.0));
        }
    }

    /// What nobody took; nulls are no information and left out.
    pub fn into_extra(self) -> Extra {
        let said = self.0.into_iter().filter(|(_, value)| !value.is_null());
        said.map(|(name, value)| (name.into_owned(), value.into())).collect()
    }
}

crate::model::veil::veiled!(Fields<'_>);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Scanner;

    fn fields(json: &str) -> Fields<'_> {
        match Json::read(&mut Scanner::new(json), &mut 1000) {
            Ok(Json::Object(members)) => Fields::new(members),
            _ => panic!("{json}"),
        }
    }

    fn extra(fields: Fields<'_>) -> String {
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
