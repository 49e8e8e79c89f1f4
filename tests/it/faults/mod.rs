//! What goes wrong around hooksink, made to go wrong: the process, the disk, the clock, its targets and its senders. Each
//! fault has a file of its own, and goes through the real binary.

mod backlog;
mod clients;
mod clock;
mod damaged_journal;
mod full_disk;
mod idle;
mod kill;
mod overload;
mod power_cut;
mod second_process;
mod signals_under_load;
mod sink_disk;
mod size_limit;
mod stalled_disk;
mod strangers;
mod targets;
mod tls;
mod unusable_journal;
mod write_ahead_log;
mod wrong_doors;
