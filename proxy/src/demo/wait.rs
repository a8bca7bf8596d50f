//! Waiting for something to come about, with a deadline, and saying what was there instead.

use std::time::{Duration, Instant};

use super::error::DemoError;

/// What a look found.
pub(super) enum Look<T> {
    /// It has come about.
    Done(T),
    /// Not yet; this is there.
    NotYet(String),
}

/// Looks again and again until it is done. An error of the look itself ends the wait.
pub(super) async fn eventually<T>(
    what: &'static str,
    mut look: impl AsyncFnMut() -> Result<Look<T>, DemoError>,
) -> Result<T, DemoError> {
    let started = Instant::now();
    loop {
        let seen = match look().await? {
            Look::Done(value) => return Ok(value),
            Look::NotYet(seen) => seen,
        };
        if started.elapsed() > LIMIT {
            return Err(DemoError::Waited { what, limit: LIMIT, seen });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Everything that is waited for takes milliseconds; this is for a machine that is busy with other things.
const LIMIT: Duration = Duration::from_secs(5);
/// Finer than anything that is measured with it.
const PAUSE: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_until_it_is_done() {
        let mut left = 3;
        let looked = eventually("the last look", async || {
            left -= 1;
            Ok(if left == 0 { Look::Done("done") } else { Look::NotYet(left.to_string()) })
        });
        assert_eq!(looked.await.unwrap(), "done");
    }

    #[tokio::test]
    async fn an_error_of_the_look_ends_the_wait() {
        let looked: Result<(), _> = eventually("nothing", async || Err(DemoError::Broken { broken: 1 })).await;
        assert!(matches!(looked, Err(DemoError::Broken { broken: 1 })));
    }
}
