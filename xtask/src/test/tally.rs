//! Counts what test runners say of themselves.

/// Tests of one or more runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) ignored: u64,
}

impl Tally {
    /// Takes one line of a runner's output; only libtest's `test result:` lines count.
    pub(super) fn read(&mut self, line: &str) {
        let Some(result) = line.trim().strip_prefix("test result: ") else { return };
        for part in result.split([';', '.']) {
            let mut words = part.split_whitespace();
            let (Some(number), Some(what)) = (words.next(), words.next()) else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }

    /// Closes one level. A runner that failed without a failed test (it did not compile, it was killed) is one failure;
    /// so is a level that ran no test, unless a filter was asked to leave tests out.
    pub(super) fn conclude(&mut self, succeeded: bool, filtered: bool) {
        if !succeeded && self.failed == 0 {
            eprintln!("error: the runner failed, although no test of it did; see above");
            self.failed = 1;
        }
        if self.passed + self.failed == 0 && !filtered {
            eprintln!("error: no test ran");
            self.failed = 1;
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }

    /// `N passed, N failed`, and `, N skipped` if tests were marked to be ignored.
    pub(super) fn closing_line(&self) -> String {
        let Self { passed, failed, ignored } = self;
        if *ignored == 0 {
            format!("{passed} passed, {failed} failed")
        } else {
            format!("{passed} passed, {failed} failed, {ignored} skipped")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn results_of_several_runners_add_up() {
        let mut tally = Tally::default();
        tally.read("running 3 tests\n");
        tally.read("test a ... ok\n");
        tally.read(
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s\n",
        );
        tally.read("test result: FAILED. 4 passed; 2 failed; 1 ignored; 0 measured; 5 filtered out; finished in 1.00s");
        assert_eq!(tally, Tally { passed: 7, failed: 2, ignored: 1 });
        assert_eq!(tally.closing_line(), "7 passed, 2 failed, 1 skipped");
    }

    #[test]
    fn a_line_that_only_mentions_results_counts_nothing() {
        let mut tally = Tally::default();
        tally.read("the test result: ok. 9 passed; 0 failed");
        tally.read("9 passed, 0 failed");
        assert_eq!(tally, Tally::default());
    }

    #[test]
    fn a_runner_that_fails_without_a_failed_test_is_one_failure() {
        let mut tally = Tally { passed: 5, ..Tally::default() };
        tally.conclude(false, false);
        assert_eq!(tally.closing_line(), "5 passed, 1 failed");
    }

    #[test]
    fn a_level_without_a_test_is_a_failure_unless_it_was_filtered() {
        let mut empty = Tally::default();
        empty.conclude(true, false);
        assert_eq!(empty.failed, 1);
        let mut filtered = Tally::default();
        filtered.conclude(true, true);
        assert_eq!(filtered.failed, 0);
    }

    #[test]
    fn failed_tests_are_not_counted_again_when_the_runner_fails() {
        let mut tally = Tally { passed: 1, failed: 2, ignored: 0 };
        tally.conclude(false, false);
        assert_eq!(tally.failed, 2);
    }
}
