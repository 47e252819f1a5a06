//! Whether and when a task that ended by itself is started again. Pure: the caller passes the time and gets a verdict.

use std::collections::VecDeque;
use std::time::Duration;

use crate::error::Kind;

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Restarts that are allowed within [`WINDOW`]. After one more the task stays down until a person applies the job
/// again.
const BUDGET: usize = 10;
const WINDOW: Duration = Duration::from_secs(600);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    After(Duration),
    GiveUp,
}

/// The restarts of one task.
#[derive(Default)]
pub struct Restarts {
    counted: VecDeque<Duration>,
    pub total: u32,
}

impl Restarts {
    /// `now` never goes back; `jitter` is between 0 and 1.
    pub fn judge(&mut self, kind: Option<Kind>, now: Duration, jitter: f64) -> Verdict {
        self.total += 1;
        match kind {
            // Stored bytes are damaged, or the job cannot run as it is: another try would fail in the same way.
            Some(Kind::Corrupt | Kind::Invalid | Kind::NotFound) => return Verdict::GiveUp,
            // The task's last claim is another process's. Taking over again would make the two fence each other for
            // ever.
            Some(Kind::Fenced) => return Verdict::GiveUp,
            _ => {}
        }
        while self.counted.front().is_some_and(|at| now.saturating_sub(*at) > WINDOW) {
            self.counted.pop_front();
        }
        if self.counted.len() >= BUDGET {
            return Verdict::GiveUp;
        }
        let pause = FIRST_PAUSE * 2_u32.pow(self.counted.len() as u32);
        self.counted.push_back(now);
        Verdict::After(pause.min(LONGEST_PAUSE).mul_f64(0.75 + 0.5 * jitter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_until_the_budget_is_spent() {
        let mut restarts = Restarts::default();
        let pauses: Vec<_> =
            (0..BUDGET as u64).map(|i| restarts.judge(Some(Kind::Retry), Duration::from_secs(i), 0.5)).collect();
        assert_eq!(pauses[..3], [200, 400, 800].map(|ms| Verdict::After(Duration::from_millis(ms))));
        assert_eq!(pauses[BUDGET - 1], Verdict::After(LONGEST_PAUSE));
        assert_eq!(restarts.judge(Some(Kind::Bug), Duration::from_secs(20), 0.5), Verdict::GiveUp);
        let later = WINDOW + Duration::from_secs(60);
        assert_eq!(restarts.judge(Some(Kind::Retry), later, 0.5), Verdict::After(FIRST_PAUSE));
    }

    #[test]
    fn a_task_that_somebody_else_owns_and_damage_are_never_tried_again() {
        let mut restarts = Restarts::default();
        assert_eq!(restarts.judge(Some(Kind::Fenced), Duration::ZERO, 0.0), Verdict::GiveUp);
        assert_eq!(restarts.judge(Some(Kind::Corrupt), Duration::ZERO, 0.0), Verdict::GiveUp);
    }
}
