//! The copy of the last good policy in the state directory, across restarts.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use portcullis::app::Stop;
use tempfile::TempDir;

use crate::backend::{Backend, Raw};
use crate::client::{Http, is_served};
use crate::eventually::eventually;
use crate::pki::{API, CALLER, OTHER, Pki, write_volume};
use crate::sidecar::{OPEN, Plan, Sidecar};
use crate::tcp::CALLER_ONLY;

const BROKEN: &str = "apiVersion: policy.portcullis.dev/v1\nkind: AuthorizationPolicy\nmetadata: {nam: x}\n";
const COPIED: &str = "portcullis_policy_copies_total{result=\"success\",reason=\"\"}";

/// What outlives a sidecar: the policy directory and the state directory.
struct Place {
    folder: TempDir,
    pki: Pki,
}

impl Place {
    fn new(policy: &str) -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap(), pki: Pki::new() };
        place.write(policy);
        place
    }

    fn policy(&self) -> PathBuf {
        self.folder.path().join("policy")
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("var/state")
    }

    fn copy(&self) -> PathBuf {
        self.state().join("last-good-policy")
    }

    fn write(&self, policy: &str) {
        write_volume(&self.policy(), &[("policy.yaml", policy), ("git-revision", "1a2b3c4\n")]);
    }

    fn plan(&self, protocol: &str, application: SocketAddr) -> Plan {
        let plan = Plan::new(&self.pki, API).policy_at(&self.policy()).state(&self.state());
        plan.inbound(protocol, application)
    }

    /// Runs a sidecar until it has kept its copy.
    async fn run_once(&self, application: SocketAddr) {
        let sidecar = self.plan("http", application).ready().await;
        sidecar.eventually_counts(COPIED, 1).await;
        sidecar.stop(Stop::AtOnce);
        sidecar.ended(Duration::from_secs(20)).await;
    }
}

async fn asked(sidecar: &Sidecar, place: &Place, who: &str) -> u16 {
    Http::one(sidecar.inbound(), &place.pki.leaf(who)).await.get("/v1/plans/7").await.status
}

#[tokio::test]
async fn broken_documents_at_start_leave_the_last_good_policy_in_force_with_an_alarm() {
    let backend = Backend::start().await;
    let place = Place::new(CALLER_ONLY);
    place.run_once(backend.address).await;
    place.write(BROKEN);

    let sidecar = place.plan("http", backend.address).ready().await;
    assert_eq!((asked(&sidecar, &place, CALLER).await, asked(&sidecar, &place, OTHER).await), (200, 403));
    let shown = sidecar.admin("/policy").await;
    assert_eq!((&shown["source"], &shown["gitRevision"]), (&"state".into(), &"1a2b3c4".into()));
    assert!(shown["problem"].as_str().unwrap().contains("policy.yaml:3:12: error[P"), "{shown}");
    let taken = sidecar.count("portcullis_policy_taken_timestamp_seconds");
    assert!(taken > 1_700_000_000 && taken == sidecar.count("portcullis_policy_copy_taken_timestamp_seconds"));
    for (series, value) in [
        ("portcullis_policy_outdated", 1),
        ("portcullis_policy_from_state", 1),
        ("portcullis_reload_total{kind=\"policy_copy\",result=\"success\",reason=\"\"}", 1),
        ("portcullis_reload_total{kind=\"policy\",result=\"refused\",reason=\"invalid\"}", 1),
    ] {
        assert_eq!(sidecar.count(series), value, "{series}\n{}", sidecar.running().metrics());
    }

    // Broken in another way, it stays; mended, the documents on disk take over, be they those of the copy.
    place.write(&format!("{BROKEN}spec: 1\n"));
    sidecar
        .eventually_counts("portcullis_reload_total{kind=\"policy\",result=\"refused\",reason=\"invalid\"}", 2)
        .await;
    assert_eq!(asked(&sidecar, &place, CALLER).await, 200);
    sidecar.changing("policy", |_| place.write(CALLER_ONLY)).await;
    let shown = sidecar.admin("/policy").await;
    assert_eq!((&shown["source"], &shown["problem"]), (&"directory".into(), &serde_json::Value::Null));
    assert_eq!((sidecar.count("portcullis_policy_outdated"), sidecar.count("portcullis_policy_from_state")), (0, 0));
    assert_eq!(asked(&sidecar, &place, CALLER).await, 200);

    // From here on the copy is of what came last.
    sidecar.changing("policy", |_| place.write(OPEN)).await;
    eventually("the copy is the open policy", async || {
        let kept = fs::read_to_string(place.copy()).unwrap();
        if kept.ends_with(OPEN) { Ok(()) } else { Err(kept) }
    })
    .await;
}

#[tokio::test]
async fn a_policy_that_is_absent_never_falls_back() {
    let backend = Backend::start().await;
    let place = Place::new(CALLER_ONLY);
    place.run_once(backend.address).await;
    fs::remove_dir_all(place.policy()).unwrap();
    let sidecar = place.plan("http", backend.address).start();
    let ready = sidecar.health("/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("does not exist"), "{}", ready.text());
    assert!(is_served(sidecar.inbound(), &place.pki.leaf(CALLER)).await.is_err());
    // What appears there in the meantime counts, also if it is broken: then there was a policy, and now there is none.
    place.write(BROKEN);
    sidecar.eventually_ready().await;
    assert_eq!(sidecar.count("portcullis_policy_from_state"), 1);
}

#[tokio::test]
async fn no_documents_are_a_policy_and_no_reason_to_fall_back() {
    let backend = Backend::start().await;
    let place = Place::new(CALLER_ONLY);
    place.run_once(backend.address).await;
    write_volume(&place.policy(), &[]);
    let sidecar = place.plan("http", backend.address).ready().await;
    assert_eq!(asked(&sidecar, &place, CALLER).await, 403);
}

#[tokio::test]
async fn a_copy_that_is_not_to_be_believed_is_refused_with_its_reason() {
    let backend = Backend::start().await;
    let place = Place::new(CALLER_ONLY);
    place.run_once(backend.address).await;
    let whole = fs::read(place.copy()).unwrap();
    place.write(BROKEN);
    let chmod = |mode| fs::set_permissions(place.copy(), fs::Permissions::from_mode(mode)).unwrap();
    let cut = || fs::write(place.copy(), &whole[..whole.len() - 20]).unwrap();
    let version = || {
        let text = String::from_utf8(whole.clone()).unwrap();
        fs::write(place.copy(), text.replacen("policy 1", "policy 9", 1)).unwrap();
    };
    let wide = || {
        fs::write(place.copy(), &whole).unwrap();
        chmod(0o666);
    };
    let gone = || fs::remove_file(place.copy()).unwrap();
    let broken: [(&str, &dyn Fn(), &str); 4] = [
        ("damaged", &cut, "is damaged: its digest is another"),
        ("other_format", &version, "is not of the format"),
        ("writable_by_others", &wide, "may be written by others than its owner (mode 0666)"),
        ("missing", &gone, "does not exist"),
    ];
    for (label, breaking, words) in broken {
        breaking();
        let sidecar = place.plan("http", backend.address).start();
        let ready = sidecar.health("/readyz").await;
        assert_eq!(ready.status, 503, "{label}");
        assert!(ready.text().contains(words) && ready.text().contains("error[P"), "{label}: {}", ready.text());
        assert!(is_served(sidecar.inbound(), &place.pki.leaf(CALLER)).await.is_err(), "{label}");
        let refused = format!("portcullis_reload_total{{kind=\"policy_copy\",result=\"refused\",reason=\"{label}\"}}");
        assert_eq!(sidecar.count(&refused), 1, "{}", sidecar.running().metrics());
    }
}

#[tokio::test]
async fn a_copy_that_is_no_policy_for_this_sidecar_is_refused() {
    let raw = Raw::echo().await;
    let rule = format!("to: {{ports: [{}], paths: [/orders]}}", raw.address.port());
    let place = Place::new(&CALLER_ONLY.replace("from:", &format!("{rule}\n      from:")));
    place.run_once(raw.address).await;
    place.write(BROKEN);
    let sidecar = place.plan("tcp", raw.address).start();
    let ready = sidecar.health("/readyz").await;
    assert_eq!(ready.status, 503);
    let words = "its documents are no policy for this sidecar";
    assert!(ready.text().contains(words) && ready.text().contains("is opaque TCP"), "{}", ready.text());
}

#[tokio::test]
async fn a_copy_that_cannot_be_kept_keeps_no_policy_from_being_in_force() {
    let backend = Backend::start().await;
    let place = Place::new(CALLER_ONLY);
    // Root may write everywhere, but not below a file.
    fs::write(place.folder.path().join("var"), "").unwrap();
    let sidecar = place.plan("http", backend.address).ready().await;
    sidecar.eventually_counts("portcullis_policy_copies_total{result=\"failed\",reason=\"system\"}", 1).await;
    assert_eq!(asked(&sidecar, &place, CALLER).await, 200);
    sidecar.changing("policy", |_| place.write(OPEN)).await;
    sidecar.eventually_counts("portcullis_policy_copies_total{result=\"failed\",reason=\"system\"}", 2).await;
    // As soon as it can be written, it is.
    fs::remove_file(place.folder.path().join("var")).unwrap();
    sidecar.changing("policy", |_| place.write(CALLER_ONLY)).await;
    sidecar.eventually_counts(COPIED, 1).await;
    assert_eq!(fs::metadata(place.copy()).unwrap().permissions().mode() & 0o777, 0o600);
}
