//! Waiting for what has to come.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// Looks again and again until `look` finds what it looks for; `Err` says what it saw instead.
///
/// # Panics
/// When it has not come within [`PATIENCE`], with what was seen last.
pub async fn eventually<T, Seen: Debug>(what: &str, mut look: impl AsyncFnMut() -> Result<T, Seen>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) if Instant::now() >= deadline => panic!("{what}: not within {PATIENCE:?}; seen last: {seen:?}"),
            Err(_) => tokio::time::sleep(BETWEEN).await,
        }
    }
}

/// Waits for something that must come by itself.
///
/// # Panics
/// When it has not come within [`PATIENCE`].
pub async fn soon<T>(what: &str, coming: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, coming).await {
        Ok(come) => come,
        Err(_) => panic!("{what}: not within {PATIENCE:?}"),
    }
}

/// Far longer than anything here takes, the five seconds of grace of the re-check among it, also on a machine that does
/// something else at the same time.
pub const PATIENCE: Duration = Duration::from_secs(20);
const BETWEEN: Duration = Duration::from_millis(5);
