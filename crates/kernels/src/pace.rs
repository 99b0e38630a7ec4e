//! Whether a tape's next run is for its team or for one worker alone.
//!
//! A worker that shares its core with another process stands still for milliseconds, and at the next barrier the team
//! stands still with it: then one worker is faster than two. Which it is shows only by trying, so runs that waited long
//! are followed by runs alone, and the clock decides how many. Bits do not depend on it.

use std::time::Duration;

/// The part of a run, as a divisor, that waiting must take before a run alone is tried.
const LATE: u32 = 5;
/// Most runs in a row without another try.
const LONGEST: u32 = 16;

/// The pace of one tape.
#[derive(Default)]
pub(crate) struct Pace {
    /// Runs still to be made alone.
    alone: u32,
    /// Late runs of the team still to be suffered, because a run alone took longer.
    suffer: u32,
    /// How many runs the next such stay takes.
    stay: u32,
    /// How long the team's last late run took.
    together: Duration,
}

impl Pace {
    /// Whether the next run is for one worker.
    pub(crate) fn alone(&self) -> bool {
        self.alone > 0
    }

    /// Learns that a run took so long, and that its first worker waited `late` of it for others.
    pub(crate) fn ran(&mut self, took: Duration, late: Duration) {
        if self.alone() {
            self.alone -= 1;
            if took > self.together {
                (self.alone, self.suffer) = (0, self.stay);
            }
        } else if late * LATE < took {
            self.stay /= 2;
        } else if self.suffer > 0 {
            self.suffer -= 1;
        } else {
            self.together = took;
            self.stay = (2 * self.stay).clamp(1, LONGEST);
            self.alone = self.stay;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `steps` times; `alone` and `team` are what a run takes in ms, `late` how much of the team's it waits.
    /// Gives the runs alone.
    fn drive(pace: &mut Pace, steps: u32, [alone, team, late]: [u64; 3]) -> u32 {
        let ms = Duration::from_millis;
        (0..steps)
            .map(|_| match pace.alone() {
                true => {
                    pace.ran(ms(alone), ms(0));
                    1
                }
                false => {
                    pace.ran(ms(team), ms(late));
                    0
                }
            })
            .sum()
    }

    #[test]
    fn a_team_on_cores_of_its_own_stays_together() {
        assert_eq!(drive(&mut Pace::default(), 1000, [20, 11, 1]), 0);
    }

    #[test]
    fn a_team_that_waits_and_is_slower_mostly_gives_way() {
        let mut pace = Pace::default();
        let alone = drive(&mut pace, 1000, [20, 28, 12]);
        assert!((900..1000).contains(&alone), "{alone}");
        // The other process ends: soon they are together again, and for good.
        assert!(drive(&mut pace, 1000, [20, 11, 0]) <= LONGEST);
        assert_eq!(drive(&mut pace, 1000, [20, 11, 0]), 0);
    }

    #[test]
    fn a_team_that_waits_and_is_faster_mostly_stays() {
        let alone = drive(&mut Pace::default(), 1000, [20, 15, 6]);
        assert!((1..100).contains(&alone), "{alone}");
    }

    #[test]
    fn one_late_run_costs_one_run_alone() {
        let mut pace = Pace::default();
        assert_eq!(drive(&mut pace, 1, [20, 40, 30]) + drive(&mut pace, 100, [20, 11, 0]), 1);
    }
}
