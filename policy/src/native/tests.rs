//! Every code of the language, with its place and its words.

use crate::policy::Policy;
use crate::source::File;

const CALLER: &str = "spiffe://prod/ns/claims/sa/adjudicator";

fn lines(files: &[(&str, &str)]) -> Vec<String> {
    let files: Vec<File<'_>> = files.iter().map(|(name, text)| File { name, bytes: text.as_bytes() }).collect();
    let found = match Policy::compile(&files) {
        Ok(compiled) => compiled.warnings,
        Err(found) => found,
    };
    let line = |d: &crate::diagnostic::Diagnostic| {
        let help = d.help.as_ref().map(|help| format!(" | {help}")).unwrap_or_default();
        format!("{}:{} {} {}{help}", d.line, d.column, d.code, d.message)
    };
    found.iter().map(line).collect()
}

/// What is found in a policy with `spec`, which starts in line 5, column 3.
fn of_spec(spec: &str) -> Vec<String> {
    let spec = spec.replace('\n', "\n  ");
    let text = format!(
        "apiVersion: policy.portcullis.dev/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: claims}}\nspec:\n  {spec}\n"
    );
    lines(&[("a.yaml", &text)])
}

/// What is found in an allow rule with `keys` in line 7 from column 7 on.
fn of_rule(keys: &str) -> Vec<String> {
    of_spec(&format!("allow:\n  - name: r\n    {keys}"))
}

#[test]
fn a_good_policy_has_no_findings() {
    let rule = format!(
        "from: {{identities: [{CALLER}, 'spiffe://prod/ns/*/sa/**'], notSources: [10.0.0.0/8, 192.168.1.1, 'fd00::/8']}}
    to: {{ports: [8080], notHosts: ['*.example.com', '[::1]'], methods: [GET], paths: ['/v1/{{id}}/**'], grpc: {{services: [a.B]}}}}
    when: {{headers: {{x-tenant: ['a*', '*']}}, notHeaders: {{X-Debug: ['1']}}}}
    expires: 2026-12-31T00:00:00Z
    ticket: CHG0031337"
    );
    assert_eq!(of_rule(&rule), Vec::<String>::new());
}

#[test]
fn kinds() {
    let document =
        |version: &str, kind: &str| lines(&[("a.yaml", &format!("apiVersion: {version}\nkind: {kind}\nspec: {{}}\n"))]);
    let own = "policy.portcullis.dev/v1";
    assert_eq!(
        document("policy.portcullis.dev/v2", "Service"),
        ["1:13 P020 the API version `policy.portcullis.dev/v2` is not known | write `policy.portcullis.dev/v1`"]
    );
    assert_eq!(
        document(own, "AuthorisationPolicy"),
        ["2:7 P020 the kind `AuthorisationPolicy` is not known | did you mean `AuthorizationPolicy`?"]
    );
    assert_eq!(
        document(own, "Pod"),
        ["2:7 P020 the kind `Pod` is not known | the kinds are AuthorizationPolicy, IdentitySet, PolicyTest, Service"]
    );
    assert_eq!(
        document(own, "Service"),
        [
            "1:1 P021 `kind: Service` is not supported yet by this version | declare the destination under `outbound` of the proxy's configuration"
        ]
    );
    assert_eq!(
        document("security.istio.io/v1", "AuthorizationPolicy"),
        [
            "1:1 P021 Istio's `AuthorizationPolicy` is not supported yet by this version | write it as an AuthorizationPolicy of policy.portcullis.dev/v1"
        ]
    );
    assert_eq!(
        lines(&[("a.yaml", "kind: Service")]),
        ["1:1 P010 `document` lacks the key `apiVersion` | add `apiVersion: …`"]
    );
    assert_eq!(lines(&[("a.yaml", "- a")]), ["1:1 P011 `document` must be a mapping, not a list"]);
}

#[test]
fn names() {
    let advice = "use at most 63 letters, digits, `-`, `_` and `.`, beginning and ending with a letter or digit";
    assert_eq!(of_spec("allow: [{name: a b}]"), [format!("5:18 P022 `a b` cannot be a name | {advice}")]);
    assert_eq!(of_spec("allow: [{name: -a}]"), [format!("5:18 P022 `-a` cannot be a name | {advice}")]);
    assert_eq!(of_spec("allow: [{ticket: a}]"), ["5:11 P010 `allow` lacks the key `name` | add `name: …`"]);
    assert_eq!(
        of_spec("allow: [{name: r}]\ndeny: [{name: r}]"),
        ["6:17 P023 the policy has another rule `r` | rename one of the two; the other is at line 5"]
    );
    let policy = "apiVersion: policy.portcullis.dev/v1\nkind: AuthorizationPolicy\nmetadata: {name: p}\nspec: {allow: [{name: r}]}\n";
    let expected =
        ["3:18 P023 there is another policy `p` without namespace | rename one of the two; the other is at a.yaml:3"];
    assert_eq!(lines(&[("a.yaml", policy), ("b.yaml", policy)]), expected);
    assert_eq!(lines(&[("b.yaml", policy), ("a.yaml", policy)]), expected);
    let namespaced = policy.replace("{name: p}", "{name: p, namespace: x}");
    assert_eq!(lines(&[("a.yaml", policy), ("b.yaml", &namespaced)]), Vec::<String>::new());
    assert_eq!(
        lines(&[("a.yaml", &policy.replace("{name: p}", "{name: p, namespace: X}"))]),
        ["3:32 P022 `X` cannot be a namespace | use lower-case letters, digits and `-`, without patterns"]
    );
}

#[test]
fn matchers() {
    let rows: &[(&str, &str)] = &[
        (
            "from: {identities: ['spiffe://*/ns/x']}",
            "7:27 P024 the trust domain cannot be a pattern | name each trust domain in an entry of its own",
        ),
        (
            "from: {identities: [spiffe://a/x/]}",
            "7:27 P024 `spiffe://a/x/` is not a SPIFFE ID: path cannot have a trailing slash | write it as spiffe://trust.domain/ns/namespace/sa/account, `*` standing for one segment",
        ),
        (
            "from: {sources: [10.0.0.300]}",
            "7:24 P025 `10.0.0.300` is not an address range | write it as 10.0.0.0/8 or fd00::/8",
        ),
        (
            "from: {sources: [10.1.0.0/8]}",
            "7:24 P025 the address has bits beyond the prefix length | write `10.0.0.0/8`, or `10.1.0.0` for this address alone",
        ),
        (
            "from: {sources: ['::ffff:10.0.0.0/104']}",
            "7:24 P025 an IPv4 address in IPv6 form matches no caller | write `10.0.0.0/8`",
        ),
        (
            "to: {hosts: [a.example:80]}",
            "7:20 P026 a host is matched without port and trailing dot | write `a.example`, and the port under `ports`",
        ),
        ("to: {methods: [get]}", "7:22 P027 a method is written in upper case | write `GET`"),
        (
            "to: {methods: ['*']}",
            "7:22 P027 `*` is not a method | write methods such as GET; leave `methods` out for all of them",
        ),
        ("to: {paths: [/a//b]}", "7:20 P028 a path pattern must be in normal form | write `/a/b`"),
        (
            "to: {grpc: {services: [a/B]}}",
            "7:30 P029 `a/B` cannot be a name in gRPC | write a service as package.Service and a method as Method, without slashes and wildcards",
        ),
        (
            "when: {headers: {'a b': [c]}}",
            "7:24 P030 `a b` is not a header name | use the characters that RFC 9110 allows in a name",
        ),
        (
            "when: {headers: {Host: [c]}}",
            "7:24 P030 `Host` is not matched as a header | write it under `to`, as `hosts`",
        ),
        (
            "when: {headers: {x-forwarded-client-cert: [c]}}",
            "7:24 P030 `x-forwarded-client-cert` is never taken from the caller | match the verified identity, under `from`",
        ),
        ("when: {headers: {a: ['b*c']}}", "7:28 P031 a wildcard in a header value can stand only at one of its ends"),
        (
            "from: {identitySets: [operators]}",
            "7:29 P032 no document defines the identity set `operators` | define it with `kind: IdentitySet`",
        ),
        (
            "expires: tomorrow",
            "7:16 P033 `tomorrow` is not a time | write it as in RFC 3339, with a time zone: 2026-12-31T00:00:00Z",
        ),
        ("ticket: \"a\\nb\"", "7:15 P036 `a\\nb` cannot be a ticket | use at most 128 characters, all printable"),
        ("to: {methdos: [GET]}", "7:12 P009 unknown key `methdos` in `to` | did you mean `methods`?"),
        ("to: {ports: [70000]}", "7:20 P014 `ports` is `70000`, which is not within 1 to 65535"),
        ("from: {}", "7:13 P012 `from` is an empty mapping | give it a value; a key that is not needed is left out"),
        (
            "to: {ports: []}",
            "7:19 P012 `ports` is an empty list | give it a value; a key that is not needed is left out",
        ),
        (
            "to: {grpc: {}}",
            "7:18 P012 `grpc` is an empty mapping | give it a value; a key that is not needed is left out",
        ),
        ("when:", "7:7 P012 `when` is nothing (null) | give it a value; a key that is not needed is left out"),
        (
            "when: {headers: {a: []}}",
            "7:27 P012 `a` is an empty list | give it a value; a key that is not needed is left out",
        ),
    ];
    let actual: Vec<Vec<String>> = rows.iter().map(|(keys, _)| of_rule(keys)).collect();
    let expected: Vec<Vec<String>> = rows.iter().map(|(_, expected)| vec![(*expected).to_owned()]).collect();
    assert_eq!(actual, expected);
}

#[test]
fn policies() {
    assert_eq!(
        of_spec("mode: enforce"),
        [
            "5:3 P034 the policy has neither `allow` nor `deny` | add rules; a workload that nothing allows is denied to all without a policy"
        ]
    );
    assert_eq!(
        of_spec("target: {identities: [spiffe://prod/ns/other/sa/x]}\nallow: [{name: r}]"),
        [
            "5:25 P035 this target is outside the policy's namespace `claims` | only workloads with /ns/claims/ are in it; leave `namespace` out for all"
        ]
    );
    assert_eq!(
        of_spec("mode: enforced\nallow: [{name: r}]"),
        ["5:9 P014 `mode` cannot be `enforced` | did you mean `enforce`?"]
    );
    assert_eq!(
        of_spec("target: {}\nallow: [{name: r}]"),
        ["5:11 P012 `target` is an empty mapping | give it a value; a key that is not needed is left out"]
    );
    assert_eq!(
        lines(&[]),
        ["0:0 P050 there is no AuthorizationPolicy, so every request is denied | add one that allows who may call"]
    );
}

#[test]
fn identity_sets() {
    let set = |name: &str| {
        format!(
            "apiVersion: policy.portcullis.dev/v1\nkind: IdentitySet\nmetadata: {{name: {name}}}\nspec: {{identities: [{CALLER}]}}\n"
        )
    };
    let policy = "apiVersion: policy.portcullis.dev/v1\nkind: AuthorizationPolicy\nmetadata: {name: p}\nspec: {allow: [{name: r, from: {identitySets: [operators]}}]}\n";
    assert_eq!(lines(&[("a.yaml", policy), ("b.yaml", &set("operators"))]), Vec::<String>::new());
    assert_eq!(
        lines(&[("a.yaml", policy), ("b.yaml", &set("operator"))]),
        [
            "4:48 P032 no document defines the identity set `operators` | did you mean `operator`?",
            "3:18 P051 nothing names the identity set `operator` | remove it, or name it in a rule",
        ]
    );
    assert_eq!(
        lines(&[("a.yaml", policy), ("b.yaml", &set("operators")), ("c.yaml", &set("operators"))]),
        ["3:18 P023 there is another identity set `operators` | rename one of the two; the other is at b.yaml:3"]
    );
    // A file that cannot be read might define it.
    let found = lines(&[("a.yaml", policy), ("b.yaml", "a: [b")]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains(" P004 "), "{found:?}");
}

#[test]
fn test_cases() {
    let case = |keys: &str| {
        let policy = "apiVersion: policy.portcullis.dev/v1\nkind: AuthorizationPolicy\nmetadata: {name: p}\nspec: {allow: [{name: r}]}\n---\n";
        let test =
            "apiVersion: policy.portcullis.dev/v1\nkind: PolicyTest\nmetadata: {name: t}\nspec:\n  cases:\n    - ";
        lines(&[("a.yaml", &format!("{policy}{test}{{name: c, workload: {CALLER}, {keys}}}\n"))])
    };
    let good = format!(
        "caller: {CALLER}, expect: allow, request: {{port: 80, method: GET, path: /, headers: {{a: [b, c], d: e}}}}"
    );
    assert_eq!(case(&good), Vec::<String>::new());
    assert_eq!(
        case(&format!("caller: {CALLER}, expect: allow")),
        [
            "11:7 P037 a case has either a `request` or a `connection` | write `request` for HTTP, `connection` for opaque TCP"
        ]
    );
    let found = case("caller: 'spiffe://prod/ns/*', expect: maybe, connection: {port: 1, source: x}");
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].contains(" P024 a case names one identity, not a pattern"), "{found:?}");
    assert!(found[1].contains(" P014 `expect` cannot be `maybe`"), "{found:?}");
    assert!(found[2].contains(" P025 `x` is not an address"), "{found:?}");
}

#[test]
fn all_mistakes_of_all_files_come_at_once() {
    let policy = "apiVersion: policy.portcullis.dev/v1\nkind: AuthorizationPolicy\nmetadata: {nmae: p}\nspec:\n  allow:\n    - {name: r, to: {ports: [no], methods: [get], paths: [a]}}\n  denny: []\n";
    let found = lines(&[("a.yaml", policy), ("b.yaml", "a: [b"), ("c.yaml", policy)]);
    assert_eq!(found.iter().filter(|line| line.contains(" P")).count(), 13, "{found:#?}");
}
