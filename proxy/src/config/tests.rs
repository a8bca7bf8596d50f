//! The reading of configuration files, through its one boundary: text in, configuration or mistakes out.

use std::num::NonZeroU32;
use std::time::Duration;

use portcullis_certs_watcher::workload_api::{Choice, Endpoint};
use portcullis_certs_watcher::{BundleSource, RevocationPolicy, StaleList, UnknownStatus};
use portcullis_policy::path::EncodedSlash;

use super::*;

const SMALLEST: &str = "
identity: {directory: /id}
trust:
  - {trustDomain: prod.health.internal, bundle: /trust/prod.pem}
policy: {directory: /policy}
inbound:
  - {listen: 127.0.0.1:8443, forward: 127.0.0.1:8080, protocol: http}
";

fn read(text: &str) -> Result<Config, Vec<String>> {
    let read = Config::read("portcullis.yaml", text.as_bytes(), None);
    let rendered = |found: Diagnostics| {
        let lines = found.iter().map(|d| format!("{}:{} {} {}", d.line, d.column, d.code, d.message));
        lines.collect()
    };
    read.map(|checked| checked.config).map_err(rendered)
}

/// The smallest configuration with one line more.
fn with(line: &str) -> String {
    format!("{SMALLEST}{line}\n")
}

#[track_caller]
fn check_mistakes(text: &str, expected: &[&str]) {
    let found = read(text).expect_err("the configuration is wrong");
    let matches = found.len() == expected.len() && found.iter().zip(expected).all(|(f, e)| f.contains(e));
    assert!(matches, "expected {expected:#?}\nfound {found:#?}");
}

#[test]
fn defaults_fill_what_is_not_said() {
    let config = read(SMALLEST).unwrap();
    assert_eq!(config.timeouts, Timeouts::default());
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.admin, "127.0.0.1:15000".parse().unwrap());
    assert_eq!(config.metrics, "0.0.0.0:15020".parse().unwrap());
    assert_eq!(config.health, "0.0.0.0:15021".parse().unwrap());
    assert_eq!(config.tracing, None);
}

#[test]
fn everything_that_can_be_said_is_read() {
    let text = with(
        "outbound:
  - {listen: 127.0.0.1:9001, connect: eligibility:8443, protocol: auto, identities: [spiffe://prod.health.internal/ns/e/sa/api]}
workers: 3
timeouts: {handshake: 1s, requestHead: 2s, responseHead: 0, connect: 250ms, idle: 1m, bodyStall: 0, tcpIdle: 2h, maxAge: 1h, recheckGrace: 0, lameDuck: 0, drain: 1s}
limits: {connections: 0, connectionsPerIdentity: 1, handshakes: 2, headBytes: 16KiB, headFields: 50, uriBytes: 1024, streamsPerConnection: 7,
         ratePerIdentity: 0, inFlightPerDestination: 64}
admin: {listen: '[::1]:15000'}
logs: {access: off, format: text, level: debug}
tracing: {endpoint: 'http://localhost:4318/', sampleRatio: 0.5}",
    );
    let config = read(&text).unwrap();
    let outbound = &config.outbound[0];
    assert_eq!((&*outbound.connect, outbound.port, outbound.protocol), ("eligibility:8443", 8443, Protocol::Auto));
    assert_eq!(config.workers.get(), 3);
    assert_eq!(config.timeouts.connect, Duration::from_millis(250));
    assert_eq!(config.timeouts.tcp_idle, Duration::from_secs(7200));
    assert_eq!((config.limits.head_bytes, config.limits.uri_bytes), (16384, 1024));
    assert_eq!(config.limits.in_flight_per_destination, 64);
    assert_eq!(config.logs.access, Destination::Off);
    let export = config.tracing.unwrap();
    assert_eq!((export.endpoint, export.sample_ratio), ("127.0.0.1:4318".parse().unwrap(), 0.5));
}

#[test]
fn all_mistakes_are_listed_at_once_with_their_places() {
    let text = "
identiy: {directory: /id}
trust: []
inbound:
  - {listen: 8443, forward: 127.0.0.1:8080, protocol: htpp}
timeouts: {handshake: 0, idle: 5 minutes}
limits: {headBytes: 1KiB}
";
    check_mistakes(
        text,
        &[
            "2:1 C009 unknown key `identiy`",
            "2:1 C010 `the configuration` lacks the key `identity`",
            "2:1 C010 the configuration has `inbound` but no `policy`",
            "3:8 C012 `trust` is an empty list",
            "5:14 C013 `listen` must be a string",
            "5:55 C014 `protocol` cannot be `htpp`",
            "6:23 C014 `handshake` cannot be off",
            "6:32 C014 `5 minutes` is no duration",
            "7:21 C014 `headBytes` is not within",
        ],
    );
}

#[test]
fn what_weakens_or_does_nothing_is_refused() {
    let outbound = "outbound:\n  - {listen: 0.0.0.0:9001, connect: a:1, protocol: http, identities: [spiffe://p/a]}";
    check_mistakes(&with(outbound), &["C019 an outbound listener takes plaintext beyond loopback"]);
    check_mistakes(&with("admin: {listen: 0.0.0.0:15000}"), &["C018 `admin` listens beyond loopback"]);
    check_mistakes(
        &with("tracing: {endpoint: 'http://10.0.0.1:4318'}"),
        &["C014 `http://10.0.0.1:4318` is not on loopback"],
    );
    check_mistakes(&with("capture: {inbound: 15006, outbound: 15001}"), &["C021 `capture` is not supported"]);
    check_mistakes("identity: {directory: /id}\ntrust: [{trustDomain: a, bundle: /b}]", &["C020 there is neither"]);
}

#[test]
fn a_rate_is_a_number_or_has_a_burst_of_its_own() {
    let rate =
        |text: &str| read(&with(&format!("limits: {{ratePerIdentity: {text}}}"))).unwrap().limits.rate_per_identity;
    let of = |per_second, burst| {
        let number = |number| NonZeroU32::new(number).unwrap();
        Some(Rate { per_second: number(per_second), burst: number(burst) })
    };
    assert_eq!(rate("0"), None);
    assert_eq!(rate("50"), of(50, 50));
    assert_eq!(rate("{perSecond: 50}"), of(50, 50));
    assert_eq!(rate("{perSecond: 50, burst: 200}"), of(50, 200));
    for (text, mistake) in [
        ("1000001", "`ratePerIdentity`"),
        ("fast", "C011 `ratePerIdentity` is neither a number nor a mapping"),
        ("{perSecond: 0}", "`perSecond`"),
        ("{perSecond: 1, burst: 0}", "`burst`"),
        ("{burst: 1}", "C010 `ratePerIdentity` lacks the key `perSecond`"),
        ("{perSecond: 1, brst: 2}", "C009 unknown key `brst`"),
    ] {
        check_mistakes(&with(&format!("limits: {{ratePerIdentity: {text}}}")), &[mistake]);
    }
}

#[test]
fn those_who_answer_are_listed_or_named_by_a_service() {
    let outbound =
        |keys: &str| format!("outbound:\n  - {{listen: 127.0.0.1:9001, connect: a:1, protocol: http{keys}}}");
    let answerers = |keys: &str| read(&with(&outbound(keys))).unwrap().outbound.remove(0).answerers;
    let service = |namespace: Option<&str>, name: &str| {
        Answerers::Service(ServiceName { namespace: namespace.map(Into::into), name: name.into() })
    };
    assert_eq!(answerers(", service: api"), service(None, "api"));
    assert_eq!(answerers(", service: {name: api}"), service(None, "api"));
    assert_eq!(answerers(", service: {name: api, namespace: x}"), service(Some("x"), "api"));
    let listed = answerers(", identities: [spiffe://p/a]");
    assert_eq!(listed, Answerers::Listed([SpiffeId::new("spiffe://p/a").unwrap()].into()));

    check_mistakes(&with(&outbound("")), &["9:5 C010 `outbound` has neither `identities` nor `service`"]);
    check_mistakes(
        &with(&outbound(", service: api, identities: [spiffe://p/a]")),
        &["9:69 C016 `outbound` has both `identities` and `service`"],
    );
    check_mistakes(&with(&outbound(", service: x/api")), &["C014 `x/api` cannot be the name of a Service"]);
    check_mistakes(&with(&outbound(", service: {namespace: x}")), &["C010 `service` lacks the key `name`"]);
    check_mistakes(&with(&outbound(", service: {name: a, nmae: b}")), &["C009 unknown key `nmae` in `service`"]);
    check_mistakes(&with(&outbound(", service: [a]")), &["C011 `service` must be a string, not a list"]);

    let without = SMALLEST.split("policy:").next().unwrap();
    check_mistakes(
        &format!("{without}{}", outbound(", service: {name: api, namespace: x}")),
        &["C010 `outbound` names the Service `x/api`, and there is no `policy`"],
    );
    let config = read(&format!("{without}{}", outbound(", identities: [spiffe://p/a]"))).unwrap();
    assert!(!config.needs_policy());
    let only_outbound = SMALLEST.split("inbound:").next().unwrap();
    assert!(read(&format!("{only_outbound}{}", outbound(", service: api"))).unwrap().needs_policy());
}

#[test]
fn listeners_must_not_take_each_others_connections() {
    check_mistakes(&with("admin: {listen: 127.0.0.1:8443}"), &["C016 `admin` and `inbound` both listen"]);
    check_mistakes(&with("health: {listen: 0.0.0.0:8443}"), &["C016 `health` and `inbound` both listen"]);
    check_mistakes(
        &with("metrics: {listen: 0.0.0.0:8080}"),
        &["C017 `forward: 127.0.0.1:8080` leads back to our own `metrics`"],
    );
    assert!(read(&SMALLEST.replace(":8443", ":0")).is_ok(), "port 0 never collides");
}

#[test]
fn identities_must_be_workloads() {
    let outbound = |id: &str| {
        with(&format!("outbound:\n  - {{listen: 127.0.0.1:9001, connect: a:1, protocol: http, identities: ['{id}']}}"))
    };
    check_mistakes(&outbound("spiffe://prod.health.internal"), &["names a trust domain, not a workload"]);
    check_mistakes(&outbound("https://prod"), &["is no SPIFFE ID"]);
    let twice = SMALLEST.replace("policy:", "  - {trustDomain: prod.health.internal, bundle: /b}\npolicy:");
    check_mistakes(&twice, &["C016 the trust domain `prod.health.internal` is named twice"]);
}

#[test]
fn the_environment_names_the_endpoint_for_spans_where_the_file_does_not() {
    let read = |environment| Config::read("c", SMALLEST.as_bytes(), Some(environment));
    let export = read("http://127.0.0.1:4318").unwrap().config.tracing.unwrap();
    assert_eq!(export.endpoint, "127.0.0.1:4318".parse().unwrap());
    assert!(read("http://collector:4318").is_err(), "beyond loopback it would be plaintext on the wire");
}

#[test]
fn the_configuration_is_shown_in_its_own_words() {
    let shown = read(SMALLEST).unwrap().to_json();
    assert_eq!(shown["inbound"][0]["protocol"], "http");
    assert_eq!(shown["timeouts"]["handshake"], "10s");
    assert_eq!(shown["timeouts"]["maxAge"], "0");
    assert_eq!(shown["timeouts"]["recheckGrace"], "5s");
}

/// The smallest configuration with more in its entry of `trust`.
fn trusting(more: &str) -> String {
    SMALLEST.replace("/trust/prod.pem}", &format!("/trust/prod.pem, {more}}}"))
}

#[test]
fn revocation_lists_and_the_deny_list_are_read() {
    let config = read(SMALLEST).unwrap();
    assert_eq!((&config.trust[0].crl, &config.deny_list), (&None, &None));
    for (more, unknown, stale) in [
        ("crl: /crl", UnknownStatus::Allow, StaleList::Warn),
        ("crl: /crl, unknownStatus: allow, staleCrl: warn", UnknownStatus::Allow, StaleList::Warn),
        ("crl: /crl, unknownStatus: refuse, staleCrl: refuse", UnknownStatus::Refuse, StaleList::Refuse),
    ] {
        let config = read(&format!("{}denyList: /deny.yaml", trusting(more))).unwrap();
        let policy = RevocationPolicy { unknown, stale };
        assert_eq!((&config.trust[0].crl, config.trust[0].revocation), (&Some("/crl".into()), policy), "{more}");
        assert_eq!(config.deny_list, Some("/deny.yaml".into()));
        let shown = config.to_json();
        assert_eq!((&shown["trust"][0]["crl"], &shown["denyList"]), (&"/crl".into(), &"/deny.yaml".into()));
        assert_eq!(shown["trust"][0]["unknownStatus"] == "refuse", unknown == UnknownStatus::Refuse, "{more}");
        assert_eq!(shown["trust"][0]["staleCrl"] == "refuse", stale == StaleList::Refuse, "{more}");
    }
}

#[test]
fn what_would_have_no_effect_on_revocation_is_refused() {
    check_mistakes(
        &trusting("unknownStatus: refuse, staleCrl: warn"),
        &["C010 `unknownStatus` says what to make of", "C010 `staleCrl` says what to make of"],
    );
    check_mistakes(
        &trusting("crl: /crl, unknownStatus: deny, staleCrl: ignore"),
        &["C014 `unknownStatus` cannot be `deny`", "C014 `staleCrl` cannot be `ignore`"],
    );
    check_mistakes(&trusting("crl: ''"), &["C012 `crl` is an empty string"]);
    check_mistakes(&with("denyList: [/deny.yaml]"), &["C011 `denyList` must be a string, not a list"]);
}

/// A configuration with identity and trust as given.
fn of(identity: &str, trust: &str) -> String {
    let rest = SMALLEST.split_once("policy:").unwrap().1;
    format!("identity: {{{identity}}}\ntrust:\n  - {{{trust}}}\npolicy:{rest}")
}

const API: &str = "workloadApi: {socket: \"unix:///run/spire/agent.sock\"}";

#[test]
fn identity_and_trust_may_come_from_the_workload_api() {
    let endpoint = Endpoint::Unix("/run/spire/agent.sock".into());
    let hinted = "workloadApi: {socket: \"unix:///run/spire/agent.sock\", hint: internal}";
    let id = "spiffe://prod.test/ns/e/sa/api";
    for (identity, choice) in [
        (API.to_owned(), Choice::First),
        (format!("{API}, spiffeId: \"{id}\""), Choice::Id(SpiffeId::new(id).unwrap())),
        (format!("{hinted}, spiffeId: \"{id}\""), Choice::Hint("internal".to_owned())),
    ] {
        let config = read(&of(&identity, "trustDomain: prod.test, from: workloadApi, unknownStatus: refuse")).unwrap();
        assert_eq!(config.identity.source, IdentitySource::WorkloadApi { endpoint: endpoint.clone(), choice });
        assert_eq!(config.identity.spiffe_id.is_some(), identity.contains("spiffeId"));
        assert_eq!(config.trust[0].bundle, BundleSource::WorkloadApi(endpoint.clone()));
        let shown = config.to_json();
        assert_eq!(shown["identity"]["workloadApi"]["socket"], "unix:///run/spire/agent.sock");
        assert_eq!(shown["trust"][0]["from"], "workloadApi");
    }
    let config = read(&of(API, "trustDomain: prod.test, bundle: /b.pem, crl: /crl")).unwrap();
    assert_eq!(config.trust[0].bundle, BundleSource::Path("/b.pem".into()), "the bundle may be a file all the same");
}

#[test]
fn each_of_identity_and_bundle_comes_from_one_place() {
    let bundle = "trustDomain: prod.test, bundle: /b";
    check_mistakes(&of(&format!("directory: /id, {API}"), bundle), &["C016 `identity` has both `directory` and"]);
    check_mistakes(&of("spiffeId: 'spiffe://a/b'", bundle), &["C010 `identity` lacks the key `directory`"]);
    check_mistakes(&of("workloadApi: {hint: a}", bundle), &["C010 `workloadApi` lacks the key `socket`"]);
    check_mistakes(&of("workloadApi: {socket: /run/agent.sock}", bundle), &["C014 "]);
    check_mistakes(
        &of("workloadApi: {socket: 'tcp://10.0.0.1:8081'}", bundle),
        &["C023 the Workload API at `tcp://10.0.0.1:8081` is not on this machine"],
    );
    let trust = |keys: &str| of(API, &format!("trustDomain: prod.test{keys}"));
    check_mistakes(&trust(", bundle: /b, from: workloadApi"), &["C016 `trust` has both `bundle` and `from`"]);
    check_mistakes(&trust(""), &["C010 `trust` lacks the key `bundle`"]);
    check_mistakes(&trust(", from: spire"), &["C014 `from` cannot be `spire`"]);
    check_mistakes(
        &of("directory: /id", "trustDomain: prod.test, from: workloadApi"),
        &["C010 `from: workloadApi` needs `identity: {workloadApi: …}`"],
    );
}

/// The smallest configuration with more keys in `policy`.
fn with_policy(keys: &str) -> String {
    SMALLEST.replace("{directory: /policy}", &format!("{{directory: /policy, {keys}}}"))
}

#[test]
fn policy_is_read_for_one_workload() {
    let plain = read(SMALLEST).unwrap().policy;
    assert_eq!(plain.options(0), Options::default());
    let text = "state: /var/lib/portcullis/policy, labels: {app: api, app.kubernetes.io/part-of: claims}, rootNamespace: mesh, \
                clusterLocal: prod.health.internal, defaultAction: allow, defaultActionReason: \"Istio until Q3, CHG0031337\", \
                defaultActionUntil: 2027-01-31T00:00:00Z";
    let config = read(&with_policy(text)).unwrap();
    assert_eq!(config.policy.state.as_deref(), Some(std::path::Path::new("/var/lib/portcullis/policy")));
    let until = 1_801_353_600;
    for (now, default_action) in [(until - 1, DefaultAction::Allow), (until, DefaultAction::Deny)] {
        let labels = [("app", "api"), ("app.kubernetes.io/part-of", "claims")];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let cluster_local = Some(TrustDomain::new("prod.health.internal").unwrap());
        let expected = Options { labels, default_action, root_namespace: "mesh".to_owned(), cluster_local };
        assert_eq!(config.policy.options(now), expected, "at {now}");
    }
    let shown = &config.to_json()["policy"];
    assert_eq!(
        (&shown["defaultAction"], &shown["defaultActionUntil"]),
        (&"allow".into(), &"2027-01-31T00:00:00Z".into())
    );
    assert_eq!((&shown["labels"]["app"], &shown["rootNamespace"]), (&"api".into(), &"mesh".into()));
}

#[test]
fn what_is_allowed_by_default_is_warned_of() {
    let warnings = |keys: &str| {
        let checked = Config::read("c", with_policy(keys).as_bytes(), None).unwrap();
        (checked.config.policy.allow_by_default.is_some(), checked.warnings.to_string())
    };
    let (allows, told) = warnings("defaultAction: allow");
    assert!(allows && told.contains("warning[C024]") && told.contains("`defaultActionUntil`"), "{told}");
    assert_eq!(warnings("defaultAction: deny"), (false, String::new()));
    check_mistakes(&with_policy("defaultAction: permit"), &["C014 `defaultAction` cannot be `permit`"]);
    check_mistakes(
        &with_policy("defaultAction: allow, defaultActionReason: \"a\\nb\", defaultActionUntil: tomorrow"),
        &["C014 `defaultActionReason` is not one line", "C014 `tomorrow` is not a time"],
    );
    check_mistakes(
        &with_policy("defaultActionUntil: 2027-01-31T00:00:00Z"),
        &["C014 `defaultActionUntil` is for `defaultAction: allow`"],
    );
}

/// The smallest configuration with `paths` in its inbound listener.
fn with_paths(paths: &str) -> String {
    SMALLEST.replace("protocol: http}", &format!("protocol: http, paths: {paths}}}"))
}

#[test]
fn encoded_slashes_are_decided_on_for_a_reason_only_and_warned_of() {
    let text = with_paths("{encodedSlash: decide, reason: object names, until: 2027-01-31T00:00:00Z}");
    let checked = Config::read("c", text.as_bytes(), None).unwrap();
    let slashes = checked.config.inbound[0].encoded_slash.clone().unwrap();
    assert_eq!((&*slashes.reason, slashes.until), ("object names", Some(1_801_353_600)));
    assert!(checked.warnings.to_string().contains("warning[C025]"), "{}", checked.warnings);
    let shown = &checked.config.to_json()["inbound"][0]["paths"];
    assert_eq!((&shown["encodedSlash"], &shown["until"]), (&"decide".into(), &"2027-01-31T00:00:00Z".into()));
    for (until, expected) in [(None, EncodedSlash::Decide), (Some(0), EncodedSlash::Refuse)] {
        let slashes = EncodedSlashes { until, ..slashes.clone() };
        assert_eq!(EncodedSlashes::now(&Some(slashes)), expected, "{until:?}");
    }
    assert_eq!(EncodedSlashes::now(&None), EncodedSlash::Refuse);
    assert_eq!(read(&with_paths("{encodedSlash: refuse}")).unwrap().inbound[0].encoded_slash, None);
    check_mistakes(&with_paths("{encodedSlash: decide}"), &["C010 `encodedSlash: decide` is without a reason"]);
    check_mistakes(&with_paths("{encodedSlash: decide, reason: \" \"}"), &["C010 `encodedSlash: decide` is without"]);
    check_mistakes(&with_paths("{encodedSlash: forward}"), &["C014 `encodedSlash` cannot be `forward`"]);
    check_mistakes(&with_paths("{encodedSlash: refuse, reason: a}"), &["C014 `reason` is for `encodedSlash: decide`"]);
    check_mistakes(
        &with_paths("{encodedSlash: decide, reason: a}").replace("protocol: http,", "protocol: tcp,"),
        &["C014 `paths` is for HTTP", "C025 paths with `%2F`"],
    );
}

#[test]
fn no_selector_could_match_labels_that_no_pod_can_have() {
    check_mistakes(
        &with_policy(
            "labels: {-app: api, A/b: c, app: \"a b\", tier: 1}, rootNamespace: Istio.System, clusterLocal: a/b",
        ),
        &[
            "`-app` is no name of a label",
            "`A/b` is no name of a label",
            "`a b` is no value of a label",
            "C013 `tier` must be a string",
            "`Istio.System` is no namespace",
            "`a/b` is no trust domain",
        ],
    );
    check_mistakes(
        &with_policy("labels: {app: api}, labelsFile: /etc/podinfo/labels"),
        &["C016 `policy` has both `labels`"],
    );
    let file = read(&with_policy("labelsFile: /etc/podinfo/labels")).unwrap().policy.labels_file;
    assert_eq!(file.as_deref(), Some(std::path::Path::new("/etc/podinfo/labels")));
    check_mistakes(&with_policy("labels: {}"), &["C012 `labels` is an empty mapping"]);
    check_mistakes(&with_policy("state: /policy/copy"), &["C014 `state` is within the policy directory `/policy`"]);
}
