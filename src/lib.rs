//! hooksink receives webhooks from Webex Connect and Meta Messenger, keeps every authentic event in a durable journal
//! before it answers 200, decodes it into typed models, and hands it to sinks.
//!
//! # The way of an event
//! ```text
//! POST /webhooks/{source}
//!   ├─ receive       bounded body, exact bytes kept                     413, 503 when too busy
//!   ├─ authenticate  bytes + headers ──► Verified                       401, nothing stored
//!   ├─ split         Verified ──► records, one per item in the request  total: what does not fit is `unrecognized`
//!   ├─ append        de-duplicated, durable as the journal has it       503, the sender tries again
//!   └─ 200
//!                   ┊ the durable boundary: before it we owe the sender an answer, after it we owe every sink the event
//!   dispatch, one per sink:  read after the cursor ─► lanes by person ─► sink.deliver ─► advance | wait | dead letter
//! ```
//!
//! # Invariants
//! Each with the tests that fail without it: unit tests by their module, the others by theirs in `tests/it`.
//! 1. Only authentication makes a [`auth::Verified`]; only a `Verified` can be split. No handler can see unverified
//!    bytes as an event.
//!    Fails without it: the doc test of `auth`, `auth::tests::only_a_source_that_says_so_is_open`,
//!    `http_statuses::every_scheme_opens_its_own_door_and_no_other`, `faults::wrong_doors`.
//! 2. 200 means: durable, as the journal's engine has it. The embedded one has committed the events of a request in one
//!    transaction, on disk, synced. The distributed one has an acknowledgement of the log's stream for each of them: it
//!    is in the memory of a majority of the servers, and on their disks, synced, if they have `sync_interval: always`,
//!    which `journal.nats_sync` states and hooksink repeats at start. A dead letter is as durable as that before the sink
//!    is done with its event. Nothing but the journal, which may be servers, stands between a verified request and its
//!    answer: no sink, and nothing that a sink needs. A duplicate is answered 200 only when the stored copy is durable
//!    like that; the embedded journal knows copies as long as it holds the event, the distributed one for
//!    `duplicate_window`.
//!    Fails without it: `durability_strace::each_200_follows_a_sync_that_covers_its_event`,
//!    `::without_a_sync_there_is_no_200`, `faults::kill::nothing_acknowledged_is_lost_doubled_or_overtaken`,
//!    `journal::copies_are_stored_once_also_when_they_come_at_the_same_moment`; of the distributed journal
//!    `cluster::faults::the_leader_of_the_log_is_killed`,
//!    `jetstream::servers_sync_before_they_acknowledge_only_if_they_are_told_to`,
//!    `::a_copy_is_known_for_the_duplicate_window_and_new_after_it`.
//! 3. An authentic request is never refused because a model lags behind the sender. Unknown events, fields and values
//!    are data.
//!    Fails without it: `sources::meta::tests::what_has_no_place_in_an_envelope_is_kept_with_the_smallest_part_around_it`,
//!    `::nesting_beyond_what_a_parser_takes_costs_only_what_nests`,
//!    `sources::webex_connect::tests::unrecognized_json_leaves_as_sent_but_for_what_no_text_can_be`.
//! 4. The journal keeps the exact bytes of every event; typed views are computed from them, so an event stored today can
//!    be decoded again by a later version.
//!    Fails without it: `journal::what_was_stored_is_there_after_reopening_field_by_field`,
//!    `sources::webex_connect::tests::a_record_that_no_longer_fits_its_kind_is_kept`,
//!    `sources::tests::a_record_whose_source_left_is_decoded_with_the_defaults_of_its_type`.
//! 5. One slow or dead sink delays only itself. Events of one person reach a sink in the order they were stored; where one
//!    comes again, after a crash or because a replica took over from another, it may come after later ones, and so may
//!    one that waits for a replica of a later version, which alone can read it.
//!    Fails without it: `outage::dead_and_hanging_sinks_delay_no_answer_and_no_other_sink`,
//!    `faults::targets::targets_in_trouble_lose_nothing_and_hold_nobody_up`,
//!    `dispatch::random_failures_keep_each_persons_order_and_lose_nothing`,
//!    `::a_stuck_person_with_a_backlog_larger_than_the_window_holds_nobody_up`.
//! 6. Delivery to sinks is at least once, with the same id every time. Nothing unsent is dropped to make room, except
//!    for a sink that says `on_full = "skip"`, and then as a counted, logged gap.
//!    Fails without it: `dispatch::an_outage_dead_letters_nothing_and_then_everything_arrives_in_order`,
//!    `::what_was_parked_outlives_a_crash`, `journal::a_full_journal_refuses_until_the_sink_has_what_it_is_owed`,
//!    `::a_sink_that_may_be_skipped_loses_its_oldest_events_and_no_other_does`.
//! 7. Everything has a bound: connections, headers, bodies one by one and together, requests in flight, batch, window,
//!    lane, delay, answer time, journal and its write-ahead log, log field.
//!    Fails without it: `http_limits`, `http_evidence`, `faults::clients`, `faults::strangers`, `faults::backlog`,
//!    `auth::tests::the_evidence_of_arrival_is_bounded_text`,
//!    `journal::more_than_the_queue_holds_is_refused_as_busy`, `::a_page_keeps_to_its_limits_but_for_the_first_event`,
//!    `::the_log_stays_within_its_bound_under_load_with_readers`, `dispatch::simulation::no_more_is_parked_than_may_be`,
//!    `dispatch::a_call_that_never_ends_counts_as_failed`.
//! 8. No body, header value, query string, secret or person's id reaches a diagnostic line at info or above.
//!    Fails without it: `privacy::no_mark_is_in_what_a_server_says`,
//!    `http_evidence::each_request_is_one_line_without_anything_of_its_content`,
//!    `auth::tests::refusals_name_the_scheme_and_no_value`, `sinks::http_failures_name_no_url`.
//! 9. Authentication, decoding, splitting and back-off do no I/O and read no clock: time and randomness come in as
//!    arguments.
//!    Fails without it: `map::what_decides_does_no_io_and_reads_no_clock`.
//!
//! # Modules, in reading order
//! What arrives and what it becomes:
//! - [`model`]: typed models of what arrives and of what sinks read.
//! - [`event`]: what the journal keeps and sinks are handed: records, kinds, CloudEvents, their schema.
//! - [`json`]: exact slices of JSON that no parser would take whole.
//! - [`names`]: of sources and sinks.
//! - [`filter`]: which events a sink wants, by source and kind.
//! - [`expression`]: which it wants by what is in them, and what it is sent of them.
//! - [`secret`]: that is compared in constant time, and never printed.
//!
//! The way of an event, from its sender to a sink:
//! - [`http`]: the public listener, from the first byte to the answer.
//! - [`auth`]: the trust boundary.
//! - [`sources`]: how each sender authenticates, splits, decodes and shakes hands.
//! - [`journal`]: the durable log, its trait and its engines.
//! - [`dispatch`]: the loop per sink: lanes, back-off, when to give up.
//! - [`sinks`]: where events go.
//!
//! Around it:
//! - [`settings`]: how settings are read.
//! - [`remote`]: servers of others: addresses, TLS, logging in at NATS.
//! - [`config`]: what there is to set; pure from text to value.
//! - [`metrics`]: what is counted.
//! - [`admin`]: the admin listener: health, metrics and the API.
//! - [`app`]: where all of it meets.
//!
//! Imports point downwards: models know nobody, sinks know events and nothing of HTTP or sources, sources know nothing
//! of sinks, and only [`app`] knows all. `tests/it/map.rs` holds the list of who may know whom. The binary has the
//! subcommands besides, one a file in `src/cli`.

pub mod admin;
pub mod app;
pub mod auth;
pub mod config;
pub mod dispatch;
pub mod event;
pub mod expression;
pub mod filter;
pub mod http;
pub mod journal;
pub mod json;
pub mod metrics;
pub mod model;
pub mod names;
pub mod remote;
pub mod secret;
pub mod settings;
pub mod sinks;
pub mod sources;

/// The examples of the README are compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
