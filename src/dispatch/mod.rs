//! Stub of `dispatch`.
