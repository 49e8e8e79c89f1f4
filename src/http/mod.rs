//! Stub of `http`.
