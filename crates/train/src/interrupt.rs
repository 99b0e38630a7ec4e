//! Ctrl-C and SIGTERM: the first asks the run to save and end, the second ends the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::error::{Error, Result};

/// The signals that are listened to, each with the exit code of a run that it ended.
const SIGNALS: [(i32, i32); 2] = [(SIGINT, 130), (SIGTERM, 143)];

/// Whether somebody asked the run to end. Clones share the answer.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    /// The exit code that was asked for; 0 while nobody has asked.
    code: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Listens to Ctrl-C and SIGTERM from here to the end of the process. Call it once.
    ///
    /// # Errors
    /// The system refuses to hand over the signals.
    pub fn install() -> Result<Interrupt> {
        let interrupt = Interrupt::default();
        let asked = Arc::new(AtomicBool::new(false));
        for (signal, code) in SIGNALS {
            // In this order: the shutdown looks at `asked` before this signal's own registration sets it.
            flag::register_conditional_shutdown(signal, code, Arc::clone(&asked))
                .and_then(|_| flag::register_usize(signal, Arc::clone(&interrupt.code), code as usize))
                .and_then(|_| flag::register(signal, Arc::clone(&asked)))
                .map_err(|reason| Error::failed(format!("cannot listen to Ctrl-C: {reason}")))?;
        }
        Ok(interrupt)
    }

    /// One that listens to no signal: only [`Interrupt::request`] sets it.
    pub fn detached() -> Interrupt {
        Interrupt::default()
    }

    /// Asks the run to end with an exit code above 0, as a signal would.
    pub fn request(&self, exit_code: i32) {
        self.code.store(usize::try_from(exit_code).unwrap_or(1), Ordering::SeqCst);
    }

    /// The exit code to end with once the run is saved, if somebody asked: 130 after Ctrl-C, 143 after SIGTERM.
    pub fn requested(&self) -> Option<i32> {
        match self.code.load(Ordering::SeqCst) {
            0 => None,
            code => i32::try_from(code).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const CHILD: &str = "GEARTRAIN_TEST_INTERRUPT";

    #[test]
    fn a_request_is_seen_by_all_clones() {
        let interrupt = Interrupt::detached();
        let clone = interrupt.clone();
        assert_eq!(clone.requested(), None);
        interrupt.request(143);
        assert_eq!(clone.requested(), Some(143));
    }

    /// Does nothing by itself: the next test runs it in a process of its own, because signals belong to the process.
    #[test]
    fn child() {
        let Ok(signals) = std::env::var(CHILD) else { return };
        let interrupt = Interrupt::install().unwrap();
        assert_eq!(interrupt.requested(), None);
        for name in signals.split(' ') {
            let (signal, code) = if name == "INT" { SIGNALS[0] } else { SIGNALS[1] };
            signal_hook::low_level::raise(signal).unwrap();
            assert_eq!(interrupt.requested(), Some(code));
        }
        std::process::exit(77);
    }

    #[test]
    fn the_first_signal_asks_and_the_second_ends() {
        for (signals, code) in [("INT", 77), ("TERM", 77), ("INT INT", 130), ("INT TERM", 143), ("TERM INT", 130)] {
            let status = Command::new(std::env::current_exe().unwrap())
                .args(["interrupt::tests::child", "--exact"])
                .env(CHILD, signals)
                .output()
                .unwrap()
                .status;
            assert_eq!(status.code(), Some(code), "{signals}");
        }
    }
}
