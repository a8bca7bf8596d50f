//! What a decision carries beyond allow and deny: admission, audit, expiry, explanation, revision.

use std::net::{IpAddr, Ipv4Addr};

use portcullis_policy::path::{EncodedSlash, Path};
use portcullis_policy::{
    Admission, Connection, Decision, DefaultAction, Denial, Explanation, File, Options, Policy, Request, RuleRef,
    Verdict,
};
use spiffe::SpiffeId;

fn policy(spec: &str) -> Policy {
    let spec = spec.replace('\n', "\n  ");
    let text = format!(
        "apiVersion: policy.portcullis.dev/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p}}\nspec:\n  {spec}\n"
    );
    compile(&[("a.yaml", &text)])
}

fn compile(files: &[(&str, &str)]) -> Policy {
    let files: Vec<File<'_>> = files.iter().map(|(name, text)| File { name, bytes: text.as_bytes() }).collect();
    Policy::compile(&files).unwrap_or_else(|found| panic!("{found}")).policy
}

struct Facts {
    caller: SpiffeId,
    workload: SpiffeId,
}

impl Facts {
    fn new() -> Self {
        Self { caller: SpiffeId::new("spiffe://t/a").unwrap(), workload: SpiffeId::new("spiffe://t/w").unwrap() }
    }

    fn connection(&self, port: u16, now: i64) -> Connection<'_> {
        let source = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Connection {
            caller: &self.caller,
            workload: &self.workload,
            port,
            source,
            destination: source,
            server_name: None,
            now,
        }
    }

    fn ask<T>(&self, method: &str, target: &str, ask: impl Fn(&Request<'_>) -> T) -> T {
        let path = Path::normalise(target.as_bytes(), EncodedSlash::Refuse).unwrap();
        let headers: Vec<(String, String)> = Vec::new();
        ask(&Request { connection: self.connection(80, 0), method, host: "", path: &path, headers: &headers })
    }

    fn decide(&self, policy: &Policy, method: &str, target: &str) -> Decision {
        self.ask(method, target, |request| policy.decide(request))
    }

    fn explain(&self, policy: &Policy, method: &str, target: &str) -> Explanation {
        self.ask(method, target, |request| policy.explain(request))
    }
}

fn rule(policy: &Policy, name: &str) -> RuleRef {
    policy.rules().find(|(_, rule)| *rule.name == *name).unwrap().0
}

#[test]
fn a_connection_is_admitted_as_far_as_it_can_be_judged() {
    let facts = Facts::new();
    let admit = |spec: &str, expected: &dyn Fn(&Policy) -> Admission| {
        let policy = policy(spec);
        assert_eq!(policy.admit(&facts.connection(80, 0)), expected(&policy), "{spec}");
    };
    admit("allow: [{name: r}]", &|policy| Admission::Allow(rule(policy, "r")));
    admit("allow: [{name: r, to: {methods: [GET]}}]", &|_| Admission::PerRequest);
    admit("allow: [{name: r, to: {ports: [81], methods: [GET]}}]", &|_| Admission::Deny(Denial::NoRule));
    admit("allow: [{name: r}]\ndeny: [{name: d}]", &|policy| Admission::Deny(Denial::Rule(rule(policy, "d"))));
    admit("allow: [{name: r}]\ndeny: [{name: d, to: {paths: [/x]}}]", &|_| Admission::PerRequest);
    admit("allow: [{name: r}]\ndeny: [{name: d, to: {ports: [81], paths: [/x]}}]", &|policy| {
        Admission::Allow(rule(policy, "r"))
    });
    admit("deny: [{name: d, to: {paths: [/x]}}]", &|_| Admission::Deny(Denial::NoRule));
    admit("mode: audit\nallow: [{name: r}]", &|_| Admission::Deny(Denial::NoPolicy));
    admit("target: {identities: [spiffe://t/other]}\nallow: [{name: r}]", &|_| Admission::Deny(Denial::NoPolicy));
    admit("allow: [{name: r, to: {methods: [GET]}}, {name: s}]", &|policy| Admission::Allow(rule(policy, "s")));
}

#[test]
fn audited_policies_tell_and_do_not_decide() {
    let facts = Facts::new();
    let header = |name: &str| {
        format!("apiVersion: policy.portcullis.dev/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}}}\nspec: ")
    };
    let enforced = header("enforced") + "{allow: [{name: e}]}\n";
    let audited = header("audited")
        + "{mode: audit, allow: [{name: a, to: {methods: [GET]}}], deny: [{name: d, to: {paths: [/x]}}]}\n";
    let policy = compile(&[("a.yaml", &enforced), ("b.yaml", &audited)]);
    let allow = Verdict::Allow(rule(&policy, "e"));
    let audit = |method: &str, path: &str| {
        let decision = facts.decide(&policy, method, path);
        assert_eq!(decision.verdict, allow);
        decision.audit
    };
    assert_eq!(audit("GET", "/"), Some(Verdict::Allow(rule(&policy, "a"))));
    assert_eq!(audit("GET", "/x"), Some(Verdict::Deny(Denial::Rule(rule(&policy, "d")))));
    assert_eq!(audit("POST", "/"), Some(Verdict::Deny(Denial::NoRule)));
    // In one reading the audited policies would allow, in the other deny.
    assert_eq!(audit("GET", "/x;y"), Some(Verdict::Deny(Denial::Rule(rule(&policy, "d")))));
    let only_deny = header("audited") + "{mode: audit, deny: [{name: d, to: {paths: [/x]}}]}\n";
    let policy = compile(&[("a.yaml", &enforced), ("b.yaml", &only_deny)]);
    assert_eq!(facts.decide(&policy, "GET", "/").audit, None);
}

#[test]
fn rules_expire_on_time() {
    let facts = Facts::new();
    let policy = policy(
        "allow: [{name: r, expires: '1970-01-01T00:01:40Z'}, {name: s, to: {ports: [1]}, expires: '1970-01-01T00:05:00+00:01'}]",
    );
    let verdict = |now| policy.admit_opaque(&facts.connection(80, now)).verdict;
    assert_eq!(verdict(99), Verdict::Allow(rule(&policy, "r")));
    assert_eq!(verdict(100), Verdict::Deny(Denial::NoRule));
    assert_eq!(policy.next_expiry(0), Some(100));
    assert_eq!(policy.next_expiry(100), Some(240));
    assert_eq!(policy.next_expiry(240), None);
}

#[test]
fn a_default_deny_names_its_nearest_miss() {
    let facts = Facts::new();
    let policy = policy(
        "allow:\n  - {name: far, from: {identities: [spiffe://t/b]}, to: {ports: [1]}}\n  - {name: reads, to: {methods: [GET, HEAD], paths: [/a]}}\ndeny: [{name: d, to: {paths: [/x]}}]",
    );
    let reason = |method: &str, path: &str| facts.explain(&policy, method, path).reason;
    assert_eq!(
        reason("POST", "/a"),
        "no rule allows it; rule `reads` of `p` failed only on method: POST is not GET or HEAD"
    );
    assert_eq!(reason("GET", "/a"), "rule `reads` of `p` allows it");
    assert_eq!(reason("GET", "/x"), "rule `d` of `p` denies it");
    assert_eq!(reason("GET", "/a;b"), "no rule allows it; rule `reads` of `p` failed only on path: /a;b is not /a");
    assert_eq!(reason("GET", "/a%2500"), "a server could take the path for one that is never allowed");
    let explained = facts.explain(&policy, "POST", "/b");
    let far = explained.candidates.iter().find(|candidate| candidate.rule == rule(&policy, "far")).unwrap();
    let misses: Vec<String> = far.misses.iter().map(ToString::to_string).collect();
    assert_eq!(misses, ["caller: spiffe://t/a is not spiffe://t/b", "port: 80 is not 1"]);
    assert_eq!(explained.decision, facts.decide(&policy, "POST", "/b"));
    let none = compile(&[]);
    assert_eq!(facts.explain(&none, "GET", "/").reason, "no policy protects `spiffe://t/w`");
}

#[test]
fn the_default_can_be_to_allow_where_nothing_is_there_to_allow() {
    let options = Options { default_action: DefaultAction::Allow, ..Options::default() };
    let compile = |spec: &str| {
        let text = format!(
            "apiVersion: policy.portcullis.dev/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p}}\nspec: {spec}\n"
        );
        let files = [File { name: "a.yaml", bytes: text.as_bytes() }];
        Policy::compile_with(&files, &options).unwrap_or_else(|found| panic!("{found}")).policy
    };
    let facts = Facts::new();
    let none = Policy::compile_with(&[], &options).unwrap().policy;
    assert_eq!(facts.decide(&none, "GET", "/").verdict, Verdict::AllowByDefault);
    assert_eq!(none.admit_opaque(&facts.connection(80, 0)).verdict, Verdict::AllowByDefault);
    assert_eq!(none.admit(&facts.connection(80, 0)), Admission::PerRequest);
    assert_eq!(facts.decide(&none, "GET", "/a%2500").verdict, Verdict::Deny(Denial::PathInDoubt));
    let denying = compile("{deny: [{name: d, to: {paths: [/x]}}]}");
    assert_eq!(facts.decide(&denying, "GET", "/").verdict, Verdict::AllowByDefault);
    assert_eq!(facts.decide(&denying, "GET", "/x").verdict, Verdict::Deny(Denial::Rule(rule(&denying, "d"))));
    assert!(!denying.admit_opaque(&facts.connection(80, 0)).verdict.is_allow());
    let audited = compile("{mode: audit, allow: [{name: r, to: {paths: [/x]}}]}");
    let decision = facts.decide(&audited, "GET", "/");
    assert_eq!(decision.verdict, Verdict::AllowByDefault);
    assert_eq!(decision.audit, Some(Verdict::Deny(Denial::NoRule)));
    let allowing = compile("{allow: [{name: r, to: {paths: [/x]}}]}");
    assert_eq!(facts.decide(&allowing, "GET", "/").verdict, Verdict::Deny(Denial::NoRule));
    assert!(facts.explain(&none, "GET", "/").reason.contains("default action"));
}

#[test]
fn rules_know_where_they_come_from() {
    let policy = policy("allow:\n  - name: r\n    ticket: CHG1\n    to: {ports: [5432], methods: [GET]}");
    let (reference, found) = policy.rules().next().unwrap();
    assert_eq!((&*found.policy, &*found.name, found.ticket.as_deref()), ("p", "r", Some("CHG1")));
    assert_eq!(found.origin.to_string(), "a.yaml:6");
    let workload = Facts::new().workload;
    assert_eq!(policy.http_rules_on(&workload, 5432).collect::<Vec<_>>(), [reference]);
    assert_eq!(policy.http_rules_on(&workload, 80).count(), 0);
}

#[test]
fn the_revision_is_of_the_contents() {
    let text = |name: &str| {
        format!(
            "apiVersion: policy.portcullis.dev/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}}}\nspec: {{allow: [{{name: r}}]}}\n"
        )
    };
    let (a, b) = (text("a"), text("b"));
    let revision = |files: &[(&str, &str)]| compile(files).revision().to_owned();
    let one = revision(&[("x", &a), ("y", &b)]);
    assert_eq!(one.len(), 32);
    assert_eq!(one, revision(&[("y", &b), ("x", &a)]));
    assert_ne!(one, revision(&[("x", &a)]));
    assert_ne!(revision(&[("x", &a)]), revision(&[]));
}

#[test]
fn policies_are_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Policy>();
}
