//! What Meta sends.

use schemars::JsonSchema;
use serde::Serialize;

macro_rules! stub { ($($n:ident)*) => { $(
/// Stub.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct $n {}
)* } }
stub!(MessageEcho Message MessageEdit Reaction Delivery Read Postback MetaFields);
