//! hooksink: arguments, telemetry, configuration, build, serve, drain.

fn main() {}
