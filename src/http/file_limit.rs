//! Each connection is a file descriptor, and systems start processes with a soft limit of about a thousand.

use std::io;

use rustix::process::{Resource, getrlimit, setrlimit};

/// Where raising stops: some systems allow a billion, for which no configuration of ours has a use.
const ENOUGH: u64 = 1 << 20;

/// Raises the soft limit of file descriptors as far as the hard limit allows, to about a million at most, and returns
/// what it is then.
pub fn raise_fd_limit() -> io::Result<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    // `None` stands for no limit.
    let target = limit.maximum.unwrap_or(ENOUGH).min(ENOUGH);
    match limit.current {
        Some(current) if current < target => {
            limit.current = Some(target);
            setrlimit(Resource::Nofile, limit)?;
            Ok(target)
        }
        current => Ok(current.unwrap_or(u64::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_reaches_the_hard_one() {
        let raised = raise_fd_limit().unwrap();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current.unwrap_or(u64::MAX), raised);
        assert!(raised >= limit.maximum.unwrap_or(ENOUGH).min(ENOUGH));
        assert_eq!(raise_fd_limit().unwrap(), raised, "a second call changes nothing");
    }
}
