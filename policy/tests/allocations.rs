//! Deciding allocates nothing, whatever is asked. A binary of its own, since counting takes an allocator of its own.

#![expect(
    clippy::unwrap_used,
    reason = "the allowance for tests in clippy.toml does not reach the helpers of an integration test"
)]

use std::fmt::Write as _;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use allocation_counter::measure;
use portcullis_policy::path::{EncodedSlash, Path};
use portcullis_policy::{Connection, File, Policy, Request};
use spiffe::SpiffeId;

/// Every kind of matcher and its twin, and enough rules for tables and tries to be more than a few entries.
fn policy() -> Policy {
    let mut text = "apiVersion: policy.portcullis.dev/v1\nkind: IdentitySet\nmetadata: {name: s}\n\
                    spec: {identities: ['spiffe://t/ns/x/sa/a', 'spiffe://t/ns/*/sa/b']}\n---\n\
                    apiVersion: policy.portcullis.dev/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: w}\n\
                    spec:\n  deny:\n    - {name: d, from: {notIdentities: ['spiffe://t/**'], notSources: [10.0.0.0/8]}}\n    \
                    - {name: e, when: {headers: {x-a: [secret]}}}\n  allow:\n    \
                    - {name: s, from: {identitySets: [s], sources: [127.0.0.0/8]}, to: {notPorts: [81], notMethods: [PUT]}}\n    \
                    - {name: g, to: {hosts: [a.example], grpc: {services: [a.B]}}}\n"
        .to_owned();
    for n in 0..300 {
        let from =
            format!("identities: ['spiffe://t/ns/n{n}/sa/*', 'spiffe://t/ns/n{n}/sa/a', 'spiffe://t/ns/*/sa/c{n}']");
        let to = format!("methods: [GET, HEAD], ports: [80], paths: ['/v1/p{n}/{{id}}', '/*/p{n}/**']");
        let _ = writeln!(text, "    - {{name: r{n}, from: {{{from}}}, to: {{{to}}}}}");
    }
    Policy::compile(&[File { name: "a.yaml", bytes: text.as_bytes() }]).unwrap().policy
}

#[test]
fn decisions_do_not_allocate() {
    let policy = policy();
    let workload = SpiffeId::new("spiffe://t/ns/w/sa/w").unwrap();
    let headers = vec![("x-a".to_owned(), "b".to_owned()), ("x-a".to_owned(), "c".to_owned())];
    let many_segments = "/a".repeat(8_000);
    let targets = ["/v1/p7/1", "/q/p7/1/2", "/a.B/Get", "/", "/v1;x/p7/1", "/v1/%2570/1", &many_segments];
    let callers = ["spiffe://t/ns/n7/sa/a", "spiffe://t/ns/n7/sa/c8", "spiffe://t/ns/x/sa/a", "spiffe://u/x"];
    let mut decided = 0;
    for caller in callers.map(|caller| SpiffeId::new(caller).unwrap()) {
        for target in targets {
            let path = Path::normalise(target.as_bytes(), EncodedSlash::Refuse).unwrap();
            for method in ["GET", "get", "A-METHOD-THAT-NOBODY-HAS-EVER-HEARD-OF"] {
                let source = IpAddr::V4(Ipv4Addr::LOCALHOST);
                let connection = Connection {
                    caller: &caller,
                    workload: &workload,
                    port: 80,
                    source,
                    destination: source,
                    server_name: None,
                    now: 0,
                };
                let request = Request { connection, method, host: "A.Example:80", path: &path, headers: &headers };
                let allocated = measure(|| {
                    black_box(policy.decide(black_box(&request)));
                    black_box(policy.admit(black_box(&connection)));
                    black_box(policy.admit_opaque(black_box(&connection)));
                });
                assert_eq!(allocated.count_total, 0, "{caller} {method} {target}");
                decided += usize::from(policy.decide(&request).verdict.is_allow());
            }
        }
    }
    assert!(decided > 0, "nothing was allowed, so little was looked at");
}

/// Of which the index is two fifths; the rest is the rule itself, with all that is told of it.
#[test]
fn a_rule_takes_about_a_kilobyte() {
    let (files, of_one) = (10, 1_000);
    let texts: Vec<String> = (0..files).map(|file| allowing(file * of_one..(file + 1) * of_one)).collect();
    let files: Vec<File<'_>> = texts.iter().map(|text| File { name: "a.yaml", bytes: text.as_bytes() }).collect();
    let mut policy = None;
    let allocated = measure(|| policy = Policy::compile(&files).ok().map(|compiled| compiled.policy));
    let rules = policy.unwrap().rules().count();
    assert_eq!(rules, files.len() * of_one);
    let bytes = allocated.bytes_current / i64::try_from(rules).unwrap();
    assert!(bytes < 1_200, "{bytes} bytes for each rule, {} at the most while loading", allocated.bytes_max);
}

/// A policy with a rule of its own for each of as many callers.
fn allowing(numbers: std::ops::Range<usize>) -> String {
    let header = "apiVersion: policy.portcullis.dev/v1\nkind: AuthorizationPolicy\nmetadata: ";
    let mut text = format!("{header}{{name: p{}}}\nspec:\n  allow:\n", numbers.start);
    for n in numbers {
        let from = format!("spiffe://prod.health.internal/ns/team-{n:06}/sa/caller");
        let to = format!("ports: [8080], methods: [GET], paths: ['/v1/things-{n:06}/{{id}}/parts']");
        let _ = writeln!(text, "    - {{name: r{n}, from: {{identities: ['{from}']}}, to: {{{to}}}}}");
    }
    text
}

#[test]
fn an_allocation_would_be_noticed() {
    assert_eq!(measure(|| drop(black_box(Box::new(1)))).count_total, 1);
}
