//! Stub of `admin`.
