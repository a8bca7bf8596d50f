//! Processes and all that they started: a proxy is its workers, too.

use std::collections::BTreeSet;

use procfs::ProcResult;
use procfs::process::all_processes;

/// These processes, their children, theirs, and so on.
///
/// # Errors
/// When the list of processes cannot be read.
pub fn family(pids: &[i32]) -> ProcResult<BTreeSet<i32>> {
    let parents: Vec<(i32, i32)> = all_processes()?
        // One that ends while it is looked at is not of ours.
        .filter_map(|process| process.ok()?.stat().ok().map(|stat| (stat.pid, stat.ppid)))
        .collect();
    let mut family: BTreeSet<i32> = pids.iter().copied().collect();
    loop {
        let children: Vec<i32> = parents
            .iter()
            .filter(|(pid, parent)| family.contains(parent) && !family.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if children.is_empty() {
            return Ok(family);
        }
        family.extend(children);
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn children_belong_to_it_and_parents_do_not() {
        let ours = i32::try_from(std::process::id()).unwrap();
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let theirs = i32::try_from(child.id()).unwrap();
        let (of_ours, of_theirs) = (family(&[ours]).unwrap(), family(&[theirs]).unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(of_ours.contains(&ours) && of_ours.contains(&theirs));
        assert_eq!(of_theirs, [theirs].into());
    }
}
