//! Processes end when they are to, with all that they started.

use std::time::Instant;

use super::*;

fn order(directory: &Path, script: &str) -> Order {
    Order {
        name: "child".to_owned(),
        program: "/bin/sh".into(),
        arguments: vec!["-c".to_owned(), script.to_owned()],
        directory: directory.to_owned(),
        place: Place::Proxies,
    }
}

fn runs(pid: i32) -> bool {
    // A zombie that its new parent has yet to collect counts as ended.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn grandchild(child: &Child) -> i32 {
    eventually("the grandchild is named", || child.output().ends_with('\n')).await;
    child.output().trim().parse().unwrap()
}

fn on_a_runtime(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

#[test]
fn a_dropped_process_ends_with_those_that_it_started() {
    on_a_runtime(async {
        let directory = tempfile::tempdir().unwrap();
        let cores = Cores::divide().unwrap();
        // One that ignores SIGTERM, and has another.
        let child = Child::start(&order(directory.path(), "trap '' TERM; sleep 60 & echo $!; wait"), &cores).unwrap();
        let (pid, grandchild) = (child.pid(), grandchild(&child).await);
        assert!(runs(pid) && runs(grandchild));
        drop(child);
        eventually("both ended", || !runs(pid) && !runs(grandchild)).await;
    });
}

#[test]
fn a_stopped_process_may_end_in_its_own_way() {
    on_a_runtime(async {
        let directory = tempfile::tempdir().unwrap();
        let script = "trap 'echo goodbye; exit 0' TERM; echo $$; while :; do sleep 0.01; done";
        let child = Child::start(&order(directory.path(), script), &Cores::divide().unwrap()).unwrap();
        let pid = grandchild(&child).await;
        child.stop().await;
        assert!(!runs(pid));
        assert!(fs::read_to_string(directory.path().join("child.stdout")).unwrap().ends_with("goodbye\n"));
    });
}

#[test]
fn a_process_that_ended_says_why() {
    on_a_runtime(async {
        let directory = tempfile::tempdir().unwrap();
        let script = "echo line 17 is wrong >&2; exit 3";
        let mut child = Child::start(&order(directory.path(), script), &Cores::divide().unwrap()).unwrap();
        assert_eq!(child.ended(Duration::from_secs(10)).await.unwrap().code(), Some(3));
        let error = child.still_runs().unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("line 17 is wrong"), "{error}");
    });
}

#[test]
fn a_program_that_does_not_exist_is_an_error() {
    on_a_runtime(async {
        let directory = tempfile::tempdir().unwrap();
        let order = Order { program: "/nonexistent/proxy".into(), ..order(directory.path(), "") };
        let error = Child::start(&order, &Cores::divide().unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "`child` cannot be started");
    });
}

#[test]
fn a_process_runs_on_the_cores_of_its_place() {
    on_a_runtime(async {
        let directory = tempfile::tempdir().unwrap();
        let cores = Cores::divide().unwrap();
        let script = "grep Cpus_allowed_list /proc/self/status";
        let mut seen = Vec::new();
        for place in [Place::Proxies, Place::Others] {
            let order = Order { place, ..order(directory.path(), script) };
            let mut child = Child::start(&order, &cores).unwrap();
            child.ended(Duration::from_secs(10)).await.unwrap();
            seen.push(child.output());
        }
        assert_ne!(seen[0], seen[1]);
        assert!(!seen[0].contains([',', '-']), "one core: {}", seen[0]);
    });
}

#[test]
fn a_process_that_ties_itself_to_another_core_is_put_back() {
    on_a_runtime(async {
        let directory = tempfile::tempdir().unwrap();
        let cores = Cores::divide().unwrap();
        // Started on the wrong core, with a child of its own.
        let order = Order { place: Place::Others, ..order(directory.path(), "sleep 60 & echo $!; wait") };
        let child = Child::start(&order, &cores).unwrap();
        let grandchild = grandchild(&child).await;
        let allowed = |pid: i32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            status.lines().find(|line| line.starts_with("Cpus_allowed_list")).unwrap().to_owned()
        };
        let before = allowed(grandchild);
        cores.hold(Place::Proxies, &[child.pid()]).unwrap();
        assert_ne!(allowed(grandchild), before);
        assert_eq!(allowed(grandchild), allowed(child.pid()));
    });
}
