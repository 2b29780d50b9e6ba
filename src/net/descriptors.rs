//! How many files and sockets the process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit of open files as far as this process may, and returns it; `None` stands for no limit.
///
/// Systems set it low for the sake of programs that use `select`, and leave it to the others to raise it.
pub fn open_files() -> Option<u64> {
    let limits = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limits.maximum,
        maximum: limits.maximum,
    };
    if setrlimit(Resource::Nofile, raised).is_ok() {
        return limits.maximum;
    }
    limits.current
}

/// How many connections of clients fit in `limit` open files beside `others`, of those `wanted`.
pub fn connections_within(limit: Option<u64>, others: u64, wanted: u32) -> u32 {
    let left = limit.map_or(u64::MAX, |limit| limit.saturating_sub(others));
    wanted.min(u32::try_from(left).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_the_files_that_the_node_itself_needs() {
        assert_eq!(connections_within(None, 192, 8192), 8192);
        assert_eq!(connections_within(Some(1 << 20), 192, 8192), 8192);
        assert_eq!(connections_within(Some(256), 192, 8192), 64);
        assert_eq!(connections_within(Some(100), 192, 8192), 0);
    }

    #[test]
    fn the_limit_is_raised_as_far_as_it_may_be() {
        let raised = open_files();
        assert_eq!(raised, getrlimit(Resource::Nofile).maximum);
        assert_eq!(getrlimit(Resource::Nofile).current, raised);
    }
}
