//! Waking at a moment, to some microseconds.
//!
//! The timers of tokio are rounded up to a millisecond, which would send an open loop's requests in bunches. One timerfd
//! for each thread does not. Moments must be asked for in ascending order, as tickets are.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, oneshot};

/// See the module. One for each thread; [`Alarm::ring`] must run beside those who wait.
pub struct Alarm {
    timer: AsyncFd<OwnedFd>,
    waiting: RefCell<VecDeque<(Instant, oneshot::Sender<()>)>>,
    first_came: Notify,
}

impl Alarm {
    /// Needs a runtime.
    ///
    /// # Errors
    /// When the process may not open another descriptor.
    pub fn new() -> io::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        #[expect(
            deprecated,
            reason = "its successor is an unsafe function for types that may give up their descriptor, which OwnedFd cannot"
        )]
        let timer = AsyncFd::new(timer)?;
        Ok(Self { timer, waiting: RefCell::default(), first_came: Notify::new() })
    }

    /// Returns at this moment, or at once if it has passed.
    pub async fn at(&self, moment: Instant) {
        if Instant::now() >= moment {
            return;
        }
        let (wake, woken) = oneshot::channel();
        {
            let mut waiting = self.waiting.borrow_mut();
            waiting.push_back((moment, wake));
            if waiting.len() == 1 {
                self.first_came.notify_one();
            }
        }
        // The sender is dropped only with the alarm, when the load is over.
        let _ = woken.await;
    }

    /// Wakes those who wait, for ever.
    ///
    /// # Errors
    /// When the timer fails, which a working kernel does not let happen.
    pub async fn ring(&self) -> io::Result<()> {
        loop {
            let next = self.waiting.borrow().front().map(|(moment, _)| *moment);
            let Some(next) = next else {
                self.first_came.notified().await;
                continue;
            };
            let now = Instant::now();
            if next > now {
                self.sleep(next - now).await?;
                continue;
            }
            if let Some((_, wake)) = self.waiting.borrow_mut().pop_front() {
                // Nobody waits any more when its operation was dropped.
                let _ = wake.send(());
            }
        }
    }

    async fn sleep(&self, length: Duration) -> io::Result<()> {
        let after = Timespec {
            tv_sec: i64::try_from(length.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(length.subsec_nanos()),
        };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: after };
        timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        let mut ready = self.timer.readable().await?;
        let mut expirations = [0; 8];
        match rustix::io::read(self.timer.get_ref(), &mut expirations) {
            Ok(_) => {}
            Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    /// How late the alarm is for moments that are never whole milliseconds apart: the value that three quarters keep.
    async fn lateness(alarm: &Alarm) -> Duration {
        let begun = Instant::now();
        let mut late = Vec::new();
        for step in 1..=100 {
            let moment = begun + step * Duration::from_micros(700);
            alarm.at(moment).await;
            let now = Instant::now();
            assert!(now >= moment, "too early");
            late.push(now - moment);
        }
        late.sort_unstable();
        late[late.len() * 3 / 4]
    }

    #[test]
    fn moments_between_two_milliseconds_are_kept() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let alarm = Rc::new(Alarm::new().unwrap());
            let ringer = Rc::clone(&alarm);
            let ringing = tokio::task::spawn_local(async move { ringer.ring().await });
            // Other tests want the cores too, so the best of many tries counts. Timers of whole milliseconds are late by
            // anything up to one: 0.7 ms at this place in every try.
            let begun = Instant::now();
            let mut best = Duration::MAX;
            while best > Duration::from_micros(400) && begun.elapsed() < Duration::from_secs(20) {
                best = best.min(lateness(&alarm).await);
            }
            assert!(best <= Duration::from_micros(400), "{best:?}");
            ringing.abort();
        });
    }
}
