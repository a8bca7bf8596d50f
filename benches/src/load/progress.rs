//! The bar that moves while a run goes on. Only on a terminal; a log or a pipe gets nothing of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What the threads add to as they go, for the bar to read.
#[derive(Debug, Default)]
pub struct Counters {
    /// Operations that ended well.
    pub done: AtomicU64,
    /// Operations that failed.
    pub failed: AtomicU64,
}

/// See the module.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    unit: &'static str,
    last: u64,
}

/// Whether anybody looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// If standard error is a terminal.
    OnTerminal,
    /// Not at all.
    Never,
}

impl Progress {
    /// A bar of this many steps of 100 ms.
    pub fn start(show: Show, what: &str, length: Duration, unit: &'static str) -> Self {
        let target = match show {
            Show::OnTerminal => ProgressDrawTarget::stderr(),
            Show::Never => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(tenths(length)), target);
        let style = ProgressStyle::with_template("{prefix:>12} [{bar:40}] {msg}");
        if let Ok(style) = style {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(what.to_owned());
        Self { bar, unit, last: 0 }
    }

    /// So much time has passed, the last `step` since it was told before.
    pub fn tell(&mut self, passed: Duration, step: Duration, counters: &Counters) {
        let (done, failed) = (counters.done.load(Ordering::Relaxed), counters.failed.load(Ordering::Relaxed));
        let millis = step.as_millis().max(1);
        let rate = u128::from(done.saturating_sub(self.last)) * 1000 / millis;
        self.last = done;
        self.bar.set_position(tenths(passed));
        let failures = if failed == 0 { String::new() } else { format!(", {failed} failed") };
        self.bar.set_message(format!("{rate} {}s/s{failures}", self.unit));
    }

    /// Takes the bar away.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}

fn tenths(time: Duration) -> u64 {
    u64::try_from(time.as_millis() / 100).unwrap_or(u64::MAX)
}
