//! Stub of `app`.
