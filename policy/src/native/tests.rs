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
            "7:24 P025 an IPv4 address in IPv6 form matches nothing | write `10.0.0.0/8`",
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
    // A mistyped `allow` is one mistake, not two.
    assert_eq!(of_spec("alow: [{name: r}]"), ["5:3 P009 unknown key `alow` in `spec` | did you mean `allow`?"]);
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

/// A Service with `spec`, which starts in line 4, column 8.
fn service(metadata: &str, spec: &str) -> String {
    format!("apiVersion: policy.portcullis.dev/v1\nkind: Service\nmetadata: {{{metadata}}}\nspec: {{ {spec} }}\n---\n")
}

#[test]
fn services() {
    let rows: &[(&str, &str)] = &[
        (
            "ports: [{port: 80, protocol: http}], identities: [spiffe://t/ns/x/sa/a]",
            "4:7 P041 the Service has neither `hosts` nor `addresses` | say where it is: `hosts` for HTTP, `addresses` for opaque TCP",
        ),
        (
            "hosts: [a], ports: [{port: 80, protocol: http}]",
            "4:7 P043 the Service has neither `identities` nor `identitySets` | name the identities that may answer for it: nothing is sent to any other",
        ),
        ("hosts: [a], identities: [spiffe://t/ns/x/sa/a]", "4:7 P010 `spec` lacks the key `ports` | add `ports: …`"),
        (
            "hosts: ['10.0.0.1'], ports: [{port: 80, protocol: http}], identities: [spiffe://t/ns/x/sa/a]",
            "4:17 P026 `10.0.0.1` is an address, not a host | write `10.0.0.1` under `addresses`: a request for it is looked up there",
        ),
        (
            "hosts: ['[::1]'], ports: [{port: 80, protocol: http}], identities: [spiffe://t/ns/x/sa/a]",
            "4:17 P026 `[::1]` is an address, not a host | write `::1` under `addresses`: a request for it is looked up there",
        ),
        (
            "hosts: ['a:80'], ports: [{port: 80, protocol: http}], identities: [spiffe://t/ns/x/sa/a]",
            "4:17 P026 a host is matched without port and trailing dot | write `a`, and the port under `ports`",
        ),
        (
            "addresses: [10.0.0.1/8], ports: [{port: 80, protocol: tcp}], identities: [spiffe://t/ns/x/sa/a]",
            "4:21 P025 the address has bits beyond the prefix length | write `10.0.0.0/8`, or `10.0.0.1` for this address alone",
        ),
        (
            "hosts: [a], ports: [{port: 80, protocol: http}, {port: 80, protocol: tcp}], identities: [spiffe://t/ns/x/sa/a]",
            "4:64 P042 the Service has the port 80 already | remove one of the two; the other is at line 4",
        ),
        (
            "hosts: [a], ports: [{port: 80, protocol: https}], identities: [spiffe://t/ns/x/sa/a]",
            "4:50 P014 `protocol` cannot be `https` | did you mean `http`?",
        ),
        (
            "hosts: [a], ports: [{port: 80, protocol: http, targetPort: 81}], identities: [spiffe://t/ns/x/sa/a]",
            "4:56 P009 unknown key `targetPort` in `ports` | the keys are port, protocol",
        ),
        (
            "hosts: [a], ports: [{port: 80, protocol: http}], identities: ['spiffe://t/ns/x/sa/*']",
            "4:71 P044 a pattern cannot answer for a Service | name each identity: whoever matches a pattern could impersonate the Service",
        ),
        (
            "hosts: [a], ports: [{port: 80, protocol: http}], identities: [spiffe://t/ns/y/sa/a]",
            "4:71 P045 this identity is outside the Service's namespace `x` | only identities with /ns/x/ answer for it; leave `namespace` out for others",
        ),
        (
            "hosts: [a], ports: [{port: 80, protocol: http}], identitySets: [nobody]",
            "4:73 P032 no document defines the identity set `nobody` | define it with `kind: IdentitySet`",
        ),
    ];
    let actual: Vec<Vec<String>> =
        rows.iter().map(|(spec, _)| lines(&[("a.yaml", &service("name: s, namespace: x", spec))])).collect();
    let expected: Vec<Vec<String>> = rows.iter().map(|(_, expected)| vec![(*expected).to_owned()]).collect();
    assert_eq!(actual, expected);

    let many: Vec<String> = (1..=33).map(|port| format!("{{port: {port}, protocol: http}}")).collect();
    let many = format!("hosts: [a], ports: [{}], identities: [spiffe://t/ns/x/sa/a]", many.join(", "));
    assert_eq!(
        lines(&[("a.yaml", &service("name: s", &many))]),
        ["4:28 P014 the Service has 33 ports, more than the 32 that one may have | split it into several Services"]
    );
    let long = format!(
        "hosts: [{}], ports: [{{port: 80, protocol: http}}], identities: [spiffe://t/a]",
        "a.".repeat(127) + "b"
    );
    assert_eq!(
        lines(&[("a.yaml", &service("name: s", &long))]),
        ["4:17 P026 the host has 255 characters, and no name in DNS has more than 253 | shorten it"]
    );
}

#[test]
fn services_across_files() {
    let good = |metadata: &str, places: &str| {
        service(
            metadata,
            &format!("{places}, ports: [{{port: 80, protocol: http}}], identities: [spiffe://t/ns/x/sa/a]"),
        )
    };
    let note =
        "0:0 P050 there is no AuthorizationPolicy, so every request is denied | add one that allows who may call";
    let no_more: &[&str] = &[note];
    let rows: &[(&str, &str, &str, &str, &[&str])] = &[
        ("name: a", "hosts: [a.x]", "name: a, namespace: x", "hosts: [b.x]", no_more),
        ("name: a", "hosts: [a.x]", "name: b", "hosts: ['*.x']", no_more),
        ("name: a", "addresses: [10.0.0.0/8]", "name: b", "addresses: [10.0.0.0/9]", no_more),
        (
            "name: a",
            "hosts: [a.x]",
            "name: a",
            "hosts: [a.x]",
            &[
                "3:18 P023 there is another Service `a` without namespace | rename one of the two; the other is at a.yaml:3",
            ],
        ),
        (
            "name: a",
            "hosts: [b.x, a.x]",
            "name: b, namespace: x",
            "hosts: [A.x]",
            &[
                "4:17 P040 the Service `a` has `a.x` on port 80, too | a host or address and a port belong to one Service: remove one of the two; the other is at a.yaml:4",
            ],
        ),
        (
            "name: a, namespace: x",
            "hosts: ['*.x']",
            "name: b",
            "hosts: ['*.x']",
            &[
                "4:17 P040 the Service `x/a` has `*.x` on port 80, too | a host or address and a port belong to one Service: remove one of the two; the other is at a.yaml:4",
            ],
        ),
        (
            "name: a",
            "addresses: [10.0.0.1]",
            "name: b",
            "addresses: [10.0.0.1/32]",
            &[
                "4:21 P040 the Service `a` has `10.0.0.1/32` on port 80, too | a host or address and a port belong to one Service: remove one of the two; the other is at a.yaml:4",
            ],
        ),
    ];
    for (one, places, other, others, expected) in rows {
        let (one, other) = (good(one, places), good(other, others));
        // Whichever file comes first.
        for files in [[("a.yaml", one.as_str()), ("b.yaml", &other)], [("b.yaml", &other), ("a.yaml", &one)]] {
            assert_eq!(lines(&files), *expected, "{places} and {others}");
        }
    }

    let of_set = |members: &str| {
        let set = format!(
            "apiVersion: policy.portcullis.dev/v1\nkind: IdentitySet\nmetadata: {{name: set}}\nspec: {{identities: [{members}]}}\n"
        );
        let spec = "hosts: [a], ports: [{port: 80, protocol: http}], identitySets: [set]";
        lines(&[("a.yaml", &service("name: a, namespace: x", spec)), ("b.yaml", &set)])
    };
    assert_eq!(of_set("spiffe://t/ns/x/sa/a"), [note], "and the set counts as named");
    assert_eq!(
        of_set("spiffe://t/ns/x/sa/a, 'spiffe://t/ns/x/sa/*'"),
        [
            "4:73 P044 the identity set `set` holds the pattern `spiffe://t/ns/x/sa/*`, which cannot answer for a Service | name each identity: whoever matches a pattern could impersonate the Service"
        ]
    );
    assert_eq!(
        of_set("spiffe://t/ns/y/sa/a"),
        [
            "4:73 P045 the identity set `set` holds `spiffe://t/ns/y/sa/a`, outside the Service's namespace `x` | only identities with /ns/x/ answer for it; leave `namespace` out for others"
        ]
    );
}
