//! How much memory processes and all that they started take, shared pages counted once.

use procfs::ProcResult;
use procfs::process::Process;

use super::family::family;

/// Proportional set size of these processes and their descendants, in KiB.
///
/// # Errors
/// When a process is gone or somebody else's.
pub fn proportional_kib(pids: &[i32]) -> ProcResult<f64> {
    let mut bytes = 0;
    for pid in family(pids)? {
        let rollup = Process::new(pid)?.smaps_rollup()?;
        for map in &rollup.memory_map_rollup.0 {
            bytes += map.extension.map.get("Pss").copied().unwrap_or_default();
        }
    }
    // Far below 2^52.
    #[expect(clippy::cast_precision_loss, reason = "a size of memory")]
    Ok(bytes as f64 / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_takes_more_than_nothing_and_less_than_everything() {
        let ours = i32::try_from(std::process::id()).unwrap();
        let kib = proportional_kib(&[ours]).unwrap();
        assert!((100.0..4_000_000.0).contains(&kib), "{kib}");
    }
}
