//! When to look at the interfaces again: soon after news, and now and then without any.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::kernel::watch::{PACE, SETTLE};

/// The next look. All that was heard is kept here and not in a future, because the control loop gives its futures up
/// whenever something else happens first.
#[derive(Debug)]
pub(super) struct Attention {
    /// News came and were not looked at yet.
    heard: bool,
    look_at: Instant,
    looked_at: Instant,
}

impl Attention {
    /// Somebody looked just now; the next look without news is after `again`.
    pub(super) fn new(again: Duration) -> Self {
        let now = Instant::now();
        Self { heard: false, look_at: now + again, looked_at: now }
    }

    /// Waits until it is worth a look. `news` is ready when something changed, and is then used up. May be given up and called
    /// again at any time.
    pub(super) async fn due(&mut self, news: impl Future<Output = ()>) {
        if !self.heard {
            tokio::select! {
                () = news => {
                    // No await between hearing and noting. What changes in bursts is looked at once, and a host on which
                    // something changes all the time is not looked at all the time.
                    self.heard = true;
                    self.look_at = (Instant::now() + SETTLE).max(self.looked_at + PACE);
                }
                () = sleep_until(self.look_at) => return,
            }
        }
        sleep_until(self.look_at).await;
    }

    /// Notes a look; the next without news is after `again`.
    pub(super) fn looked(&mut self, again: Duration) {
        *self = Self::new(again);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use tokio::sync::Notify;
    use tokio::time::{Instant, interval, sleep_until};

    use super::{Attention, PACE, SETTLE};

    const IDLE: Duration = Duration::from_secs(10);
    const MILLISECOND: Duration = Duration::from_millis(1);

    /// Runs a loop like the agent's on a clock of its own: news at `news`, while something else happens each
    /// millisecond, at the very same moments too. Gives the times of the looks.
    fn looks(news: &[u64], until: u64) -> Vec<u64> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let start = Instant::now();
            let bell = Notify::new();
            let told = Cell::new(0);
            let ring = async {
                for at in news {
                    sleep_until(start + MILLISECOND * u32::try_from(*at).unwrap()).await;
                    bell.notify_one();
                    told.set(told.get() + 1);
                }
                std::future::pending::<()>().await;
            };
            let control = async {
                let mut attention = Attention::new(IDLE);
                let mut other = interval(MILLISECOND);
                let mut looks = Vec::new();
                while start.elapsed() < MILLISECOND * u32::try_from(until).unwrap() {
                    tokio::select! {
                        () = attention.due(bell.notified()) => {
                            looks.push(u64::try_from(start.elapsed().as_millis()).unwrap());
                            attention.looked(IDLE);
                        }
                        _ = other.tick() => {}
                    }
                }
                looks
            };
            tokio::select! {
                () = ring => unreachable!("it goes on"),
                looks = control => {
                    assert_eq!(told.get(), news.len(), "all news were told");
                    looks
                }
            }
        })
    }

    #[test]
    fn news_at_the_very_moment_of_something_else_are_looked_at_however_often_the_wait_is_given_up() {
        // Which branch of a select is asked first is a matter of chance: each way has to end well.
        for round in 0..50 {
            let at = 1000 + round;
            let looks = looks(&[at], 3000);
            assert_eq!(looks.len(), 1, "news at {at} ms: {looks:?}");
            let settled = at + u64::try_from(SETTLE.as_millis()).unwrap();
            assert!((settled..=settled + 1).contains(&looks[0]), "news at {at} ms, looked at {looks:?}");
        }
    }

    #[test]
    fn a_burst_is_a_look_or_two_and_endless_news_are_looked_at_at_a_pace() {
        // The second is for what came after the first was due.
        assert!(looks(&[1000, 1001, 1005, 1019], 3000).len() <= 2);
        let endless: Vec<u64> = (1000..3000).collect();
        let looks = looks(&endless, 3500);
        let pace = u64::try_from(PACE.as_millis()).unwrap();
        assert!((8..=12).contains(&looks.len()), "{looks:?}");
        assert!(looks.windows(2).all(|two| two[1] - two[0] >= pace), "{looks:?}");
        assert!(*looks.last().unwrap() > 2999, "the last news were looked at: {looks:?}");
    }

    #[test]
    fn without_news_it_looks_now_and_then() {
        assert_eq!(looks(&[], 25_000), [10_000, 20_000]);
    }
}
