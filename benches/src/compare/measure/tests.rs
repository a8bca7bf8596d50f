//! What is taken from a recorded outcome, and what is not forgiven in it.

use super::*;

fn outcome(change: impl FnOnce(&mut serde_json::Value)) -> Outcome {
    let mut json: serde_json::Value = serde_json::from_str(include_str!("tests/outcome.json")).unwrap();
    change(&mut json);
    serde_json::from_value(json).unwrap()
}

const REQUESTS: Work = Work::Requests { path: "/", pace: super::super::rows::Pace::Saturated };

#[test]
fn figures_are_picked_from_an_outcome() {
    let outcome = outcome(|_| ());
    let rows = [
        (Figure::CpuUs, Some(55.0)),
        (Figure::CpuSecondsPerGb, Some(0.000_055)),
        (Figure::Rate, Some(16_000.0)),
        (Figure::P50Us, Some(1_900.0)),
        (Figure::P99Us, Some(4_000.0)),
        (Figure::ConnectionKib, Some(43.5)),
        (Figure::NoticedMs, Some(12.0)),
        (Figure::FailedRequests, Some(0.0)),
        (Figure::StartMs, None),
        (Figure::IdleMemoryMib, None),
    ];
    for (figure, expected) in rows {
        assert_eq!(pick(figure, &outcome), expected, "{figure:?}");
    }
}

#[test]
fn without_a_proxy_nobody_has_its_costs() {
    let direct = outcome(|json| {
        json["costs"].as_object_mut().unwrap().remove("target");
    });
    assert_eq!(pick(Figure::CpuUs, &direct), None);
    assert_eq!(pick(Figure::Rate, &direct), Some(16_000.0));
}

#[test]
fn a_failed_operation_fails_the_row() {
    let broken = outcome(|json| {
        json["failures"] = serde_json::json!({"timeout": 2, "tls-alert": 1});
        json["examples"] = serde_json::json!(["no answer in 10 s"]);
    });
    let error = judge(&broken, REQUESTS, Peer::Nginx, "worker exited").unwrap_err().to_string();
    assert_eq!(
        error,
        "3 of 80000 operations failed: 2 timeout, 1 tls-alert; the first: no answer in 10 s; the proxy said:\nworker exited"
    );
    judge(&outcome(|_| ()), REQUESTS, Peer::Nginx, "").unwrap();
}

#[test]
fn a_reload_may_cost_others_requests_but_portcullis_none() {
    let lossy = outcome(|json| json["failures"] = serde_json::json!({"closed": 2}));
    judge(&lossy, Work::Rotation, Peer::Nginx, "").unwrap();
    assert_eq!(pick(Figure::FailedRequests, &lossy), Some(2.0));
    assert!(matches!(
        judge(&lossy, Work::Rotation, Peer::Portcullis, ""),
        Err(MeasureError::Failures { failed: 2, .. })
    ));
}

#[test]
fn a_certificate_that_nobody_saw_fails_the_row() {
    let missed = outcome(|json| json["counts"]["swaps_seen"] = 4.into());
    assert!(matches!(judge(&missed, Work::Rotation, Peer::Envoy, ""), Err(MeasureError::Unnoticed { .. })));
    let none = outcome(|json| json["counts"] = serde_json::json!({}));
    assert!(matches!(judge(&none, Work::Rotation, Peer::Envoy, ""), Err(MeasureError::Unnoticed { .. })));
}

#[test]
fn nothing_done_is_not_a_success() {
    let idle = outcome(|json| json["operations"] = 0.into());
    assert!(matches!(judge(&idle, REQUESTS, Peer::Envoy, ""), Err(MeasureError::Nothing)));
}

#[test]
fn what_makes_no_sense_without_a_proxy_is_known() {
    let of = |name: &str| super::super::rows::ROWS.iter().find(|row| row.name == name).unwrap();
    let applies = |name: &str| applies_without_proxy(of(name).work, of(name).stage);
    assert!(applies("handshake-x25519") && applies("http2") && applies("two-tcp") && applies("two-connection"));
    assert!(!applies("handshake-mlkem") && !applies("policy-10") && !applies("start") && !applies("idle-memory"));
}
