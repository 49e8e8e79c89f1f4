//! What goes wrong around hooksink, made to go wrong: the process, the disk, the clock, its targets and its senders. Each
//! fault has a file of its own, and goes through the real binary.

mod kill;
mod overload;
mod strangers;
mod wrong_doors;
