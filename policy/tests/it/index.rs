//! Shapes that the index treats in ways of their own: long lists, deep patterns, rules by the thousand for one request.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use portcullis_policy::path::{EncodedSlash, Path};
use portcullis_policy::{Connection, Denial, File, Policy, Request, Verdict};
use spiffe::SpiffeId;

const HEADER: &str = "apiVersion: policy.portcullis.dev/v1\nkind: ";

fn compile(documents: &str) -> Policy {
    Policy::compile(&[File { name: "a.yaml", bytes: documents.as_bytes() }])
        .unwrap_or_else(|found| panic!("{found}"))
        .policy
}

/// A policy without target.
fn policy(rules: &str) -> Policy {
    compile(&format!("{HEADER}AuthorizationPolicy\nmetadata: {{name: p}}\nspec:\n{rules}"))
}

#[derive(Clone, Copy)]
struct Asked<'a> {
    caller: &'a str,
    workload: &'a str,
    port: u16,
    method: &'a str,
    path: &'a str,
    now: i64,
}

const ASKED: Asked<'_> = Asked {
    caller: "spiffe://t/ns/x/sa/a",
    workload: "spiffe://t/ns/w/sa/w",
    port: 80,
    method: "GET",
    path: "/",
    now: 0,
};

/// The rule that allows, or `denied by`, or nothing.
fn decide(policy: &Policy, asked: Asked<'_>) -> Option<String> {
    let (caller, workload) = (SpiffeId::new(asked.caller).unwrap(), SpiffeId::new(asked.workload).unwrap());
    let source = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let connection = Connection {
        caller: &caller,
        workload: &workload,
        port: asked.port,
        source,
        destination: source,
        server_name: None,
        now: asked.now,
    };
    let path = Path::normalise(asked.path.as_bytes(), EncodedSlash::Refuse).unwrap();
    let headers: Vec<(String, String)> = Vec::new();
    let request = Request { connection, method: asked.method, host: "", path: &path, headers: &headers };
    let decision = policy.decide(&request);
    let name = |rule| policy.rule(rule).unwrap().name.to_string();
    match decision.verdict {
        Verdict::Allow(rule) => Some(name(rule)),
        Verdict::Deny(Denial::Rule(rule)) => Some(format!("denied by {}", name(rule))),
        Verdict::Deny(_) => None,
        Verdict::AllowByDefault => panic!("nothing is allowed by default here"),
    }
}

fn listed(all: impl Iterator<Item = String>) -> String {
    format!("[{}]", all.collect::<Vec<_>>().join(", "))
}

#[test]
fn long_lists_of_everything_in_one_rule() {
    let callers =
        listed((0..200).map(|n| format!("spiffe://t/ns/n{n}/sa/a")).chain(["spiffe://t/ns/n7/sa/*".to_owned()]));
    let paths = listed((0..200).map(|n| format!("'/p{n}/{{id}}'")));
    let ports = listed((1000..1200).map(|n| n.to_string()));
    let methods = listed((0..60).map(|n| format!("M{n}")));
    let services = listed((0..200).map(|n| format!("s.S{n}")));
    let policy = policy(&format!(
        "  allow:\n    - {{name: r, from: {{identities: {callers}}}, to: {{ports: {ports}, methods: {methods}, paths: {paths}}}}}\n    \
         - {{name: g, from: {{identities: {callers}}}, to: {{grpc: {{services: {services}, methods: {methods}}}}}}}\n  \
         deny:\n    - {{name: d, from: {{identities: {callers}}}, to: {{methods: {methods}, paths: [/p9/denied]}}}}\n"
    ));
    let r = Asked { caller: "spiffe://t/ns/n199/sa/a", port: 1199, method: "M59", path: "/p199/x", ..ASKED };
    let rows: &[(Asked<'_>, Option<&str>)] = &[
        (r, Some("r")),
        (Asked { caller: "spiffe://t/ns/n7/sa/b", ..r }, Some("r")),
        (Asked { caller: "spiffe://t/ns/n8/sa/b", ..r }, None),
        (Asked { port: 1200, ..r }, None),
        (Asked { method: "M60", ..r }, None),
        (Asked { method: "m59", ..r }, None),
        (Asked { path: "/p200/x", ..r }, None),
        (Asked { path: "/p9/denied", ..r }, Some("denied by d")),
        (Asked { path: "/p9/denied", method: "m1", ..r }, Some("denied by d")),
        (Asked { path: "/s.S77/M58", method: "POST", port: 1, ..r }, Some("g")),
        (Asked { path: "/s.S77/M58", method: "GET", port: 1, ..r }, None),
        (Asked { path: "/s.S77/M60", method: "POST", port: 1, ..r }, None),
    ];
    for (index, (asked, expected)) in rows.iter().enumerate() {
        assert_eq!(decide(&policy, *asked).as_deref(), *expected, "{index}");
    }
}

#[test]
fn patterns_deeper_than_the_index() {
    let deep = |last: &str| format!("/ns/x{}/{last}", "/a".repeat(40));
    let (path, id) = (deep("z"), format!("spiffe://t{}", deep("z")));
    let text = |kind: &str, body: &str| format!("{HEADER}{kind}\nmetadata: {body}\n");
    let documents = [
        text(
            "AuthorizationPolicy",
            &format!(
                "{{name: p, namespace: x}}\nspec: {{target: {{identities: ['spiffe://t{}']}}, allow: [{{name: r, \
                 from: {{identities: ['spiffe://t{}'], identitySets: [s]}}, to: {{paths: ['{path}', '{}']}}}}]}}",
                deep("*"),
                deep("*"),
                deep("y/**")
            ),
        ),
        text("IdentitySet", &format!("{{name: s}}\nspec: {{identities: ['spiffe://u{}']}}", deep("**"))),
    ];
    let policy = compile(&documents.join("---\n"));
    let asked = Asked { caller: &id, workload: &id, path: &path, ..ASKED };
    let of_set = id.replace("://t", "://u") + "/q";
    let rows: &[(Asked<'_>, bool)] = &[
        (asked, true),
        (Asked { path: &deep("y"), ..asked }, false),
        (Asked { path: &deep("y/"), ..asked }, true),
        (Asked { path: &deep("x"), ..asked }, false),
        (Asked { caller: &of_set, ..asked }, true),
        (Asked { caller: &format!("{id}/q"), ..asked }, false),
        (Asked { workload: &format!("{id}/q"), ..asked }, false),
        (Asked { caller: "spiffe://t/ns/x", ..asked }, false),
    ];
    for (index, (asked, expected)) in rows.iter().enumerate() {
        assert_eq!(decide(&policy, *asked).is_some(), *expected, "{index}");
    }
}

#[test]
fn of_many_that_match_the_first_in_force_is_named() {
    let mut rules = "  allow:\n".to_owned();
    for n in 0..2_000_i64 {
        // One after the other ends; every seventh has something to check as well.
        let expires = format!("'1970-01-01T{:02}:{:02}:{:02}Z'", (n + 1) / 3600, (n + 1) / 60 % 60, (n + 1) % 60);
        let to = if n % 7 == 3 { "{notMethods: [PUT], paths: [/a/**]}" } else { "{paths: [/a/**]}" };
        let _ = writeln!(rules, "    - {{name: r{n}, to: {to}, expires: {expires}}}");
    }
    let policy = policy(&rules);
    for now in [0, 1, 3, 4, 500, 1_998, 1_999] {
        let asked = Asked { path: "/a/b", now, ..ASKED };
        assert_eq!(decide(&policy, asked), Some(format!("r{now}")));
        let unguarded = if now % 7 == 3 { now + 1 } else { now };
        assert_eq!(decide(&policy, Asked { method: "PUT", ..asked }), Some(format!("r{unguarded}")));
    }
    assert_eq!(decide(&policy, Asked { path: "/a/b", now: 2_000, ..ASKED }), None);
}

#[test]
fn a_path_that_goes_every_way_at_once_stays_cheap() {
    let mut rules = "  allow:\n".to_owned();
    for n in 0..1_024 {
        let path: String = (0..10).map(|bit| if n >> bit & 1 == 1 { "/a" } else { "/*" }).collect();
        let _ = writeln!(rules, "    - {{name: r{n}, to: {{paths: [{path}]}}}}");
    }
    let policy = policy(&rules);
    assert_eq!(decide(&policy, Asked { path: &"/a".repeat(10), ..ASKED }).as_deref(), Some("r0"));
    assert_eq!(decide(&policy, Asked { path: &"/b".repeat(10), ..ASKED }).as_deref(), Some("r0"));
    let started = Instant::now();
    for path in ["/a".repeat(8_000), "/b".repeat(8_000), format!("/a/a/a/a/a/a/a/a/a/{}", "a".repeat(16_000))] {
        for _ in 0..50 {
            assert_eq!(
                decide(&policy, Asked { path: &path, ..ASKED }).as_deref(),
                Some("r0").filter(|_| path.ends_with("aaa"))
            );
        }
    }
    // A walk that came to nodes again and again would not end in a lifetime.
    assert!(started.elapsed().as_secs() < 30, "{:?}", started.elapsed());
}

#[test]
fn targets_are_narrowed_to_their_namespace() {
    let document = |n: usize, namespace: &str, target: &str| {
        let target = if target.is_empty() { String::new() } else { format!("target: {{{target}}}, ") };
        format!(
            "{HEADER}AuthorizationPolicy\nmetadata: {{name: p{n}{namespace}}}\nspec: {{{target}allow: [{{name: r{n}, to: {{paths: [/{n}]}}}}]}}\n"
        )
    };
    let of_x = ", namespace: x";
    let members = listed(
        (0..150)
            .map(|n| format!("spiffe://t/ns/n{n}/sa/a"))
            .chain(["spiffe://t/ns/x/sa/m".to_owned(), "spiffe://t/*/**".to_owned()]),
    );
    let documents = [
        document(0, of_x, ""),
        document(1, of_x, "identities: ['spiffe://t/**']"),
        document(2, of_x, "identities: ['spiffe://t/*/*/sa/b']"),
        document(3, of_x, &format!("identities: {}", members.replace("/ns/n", "/ns/x/n"))),
        document(4, of_x, "identitySets: [s]"),
        document(5, "", "identitySets: [s]"),
        format!("{HEADER}IdentitySet\nmetadata: {{name: s}}\nspec: {{identities: {members}}}\n"),
    ];
    let policy = compile(&documents.join("---\n"));
    let allowed = |workload: &str| {
        let allows = |n: &usize| decide(&policy, Asked { workload, path: &format!("/{n}"), ..ASKED }).is_some();
        (0..6).filter(allows).collect::<Vec<_>>()
    };
    assert_eq!(allowed("spiffe://t/ns/x/sa/b"), [0, 1, 2, 3, 4, 5]);
    assert_eq!(allowed("spiffe://t/ns/x/sa/m"), [0, 1, 3, 4, 5]);
    assert_eq!(allowed("spiffe://t/ns/n3/sa/a"), [5]);
    assert_eq!(allowed("spiffe://u/ns/x/sa/b"), [0]);
    assert_eq!(allowed("spiffe://t/ns/x"), [5]);
    assert!(allowed("spiffe://u/ns/xx/sa/b").is_empty());
}
