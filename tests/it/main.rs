//! One integration binary; each module says in a sentence what belongs there.
mod journal;
