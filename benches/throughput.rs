//! Durable POST beside a bare axum handler, in one run.

fn main() {}
