//! Processes and all that they started: a proxy is its workers, too.

use procfs::ProcResult;
use procfs::process::{Process, all_processes};

/// These processes, their children, theirs, and so on. One that has ended is not among them.
///
/// # Errors
/// When the list of processes cannot be read.
pub fn family(pids: &[i32]) -> ProcResult<Vec<Process>> {
    let mut others: Vec<(Process, i32)> = all_processes()?
        // One that ends while it is looked at is not of ours.
        .filter_map(|process| process.ok().and_then(|process| Some((process.stat().ok()?.ppid, process))))
        .map(|(parent, process)| (process, parent))
        .collect();
    let mut known = pids.to_vec();
    let mut members = Vec::new();
    loop {
        let (found, rest): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|(process, parent)| known.contains(&process.pid) || known.contains(parent));
        if found.is_empty() {
            return Ok(members);
        }
        known.extend(found.iter().map(|(process, _)| process.pid));
        members.extend(found.into_iter().map(|(process, _)| process));
        others = rest;
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
        let pids = |of: i32| family(&[of]).unwrap().iter().map(|process| process.pid).collect::<Vec<_>>();
        let (of_ours, of_theirs) = (pids(ours), pids(theirs));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(of_ours.contains(&ours) && of_ours.contains(&theirs));
        assert_eq!(of_theirs, [theirs]);
    }
}
