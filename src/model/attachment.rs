//! Attachments: one shape for both senders.

use schemars::JsonSchema;
use serde::Serialize;

/// Stub.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Attachment {}
/// Stub.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct AttachmentType {}
/// Stub.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Coordinates {}
/// Stub.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Product {}
/// Stub.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Template {}
