//! Log lines that outsiders can cause, at a bounded rate.

use std::time::Duration;

use tokio::time::Instant;

/// Lets one event in ten seconds through and counts the others.
#[derive(Debug, Default)]
pub struct RateLimitedLog {
    last: Option<Instant>,
    suppressed: u64,
}

impl RateLimitedLog {
    const PERIOD: Duration = Duration::from_secs(10);

    /// `Some` if this event may be logged: how many were not since the last one that was.
    pub fn pass(&mut self) -> Option<u64> {
        let now = Instant::now();
        if self
            .last
            .is_some_and(|last| now.duration_since(last) < Self::PERIOD)
        {
            self.suppressed += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_event_in_ten_seconds_passes() {
        let mut log = RateLimitedLog::default();
        assert_eq!(log.pass(), Some(0));
        assert_eq!(log.pass(), None);
        assert_eq!(log.pass(), None);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(log.pass(), Some(2));
    }
}
