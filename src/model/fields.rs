//! Taking fields out of an object one by one; what is left is `extra`.

use serde_json::{Map, Value};

use super::{Extra, scalar_text};

/// An object whose known fields are taken out. A field of an unexpected type is left in, so that nothing is lost.
pub struct Fields(Map<String, Value>);

impl Fields {
    /// The fields of this object.
    pub fn new(object: Map<String, Value>) -> Self {
        Self(object)
    }

    /// A scalar as text; ids come out digit for digit.
    pub fn text(&mut self, name: &str) -> Option<String> {
        let text = scalar_text(self.0.get(name)?);
        if text.is_some() || matches!(self.0.get(name), Some(Value::Null | Value::String(_))) {
            self.0.shift_remove(name);
        }
        text
    }

    /// A boolean.
    pub fn truth(&mut self, name: &str) -> Option<bool> {
        let truth = self.0.get(name)?.as_bool()?;
        self.0.shift_remove(name);
        Some(truth)
    }

    /// An object.
    pub fn object(&mut self, name: &str) -> Option<Fields> {
        self.0.get(name)?.as_object()?;
        match self.0.shift_remove(name) {
            Some(Value::Object(object)) => Some(Self(object)),
            _ => None,
        }
    }

    /// The value, whatever it is.
    pub fn value(&mut self, name: &str) -> Option<Value> {
        self.0.shift_remove(name)
    }

    /// What nobody took; nulls are no information and left out.
    pub fn into_extra(mut self) -> Extra {
        self.0.retain(|_, value| !value.is_null());
        self.0
    }
}
