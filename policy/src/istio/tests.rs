//! Every code of Istio's language, with its place and its words.

use spiffe::TrustDomain;

use crate::policy::{DefaultAction, Options, Policy};
use crate::source::File;

fn lines_with(options: &Options, files: &[(&str, &str)]) -> Vec<String> {
    let files: Vec<File<'_>> = files.iter().map(|(name, text)| File { name, bytes: text.as_bytes() }).collect();
    let found = match Policy::compile_with(&files, options) {
        Ok(compiled) => compiled.warnings,
        Err(found) => found,
    };
    let line = |d: &crate::diagnostic::Diagnostic| {
        let help = d.help.as_ref().map(|help| format!(" | {help}")).unwrap_or_default();
        format!("{}:{} {} {}{help}", d.line, d.column, d.code, d.message)
    };
    found.iter().map(line).collect()
}

fn lines(text: &str) -> Vec<String> {
    lines_with(&Options::default(), &[("a.yaml", text)])
}

/// A policy with `spec`, which starts in line 5, column 3.
fn document(spec: &str) -> String {
    let spec = spec.replace('\n', "\n  ");
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: foo}}\nspec:\n  {spec}\n"
    )
}

fn of_spec(spec: &str) -> Vec<String> {
    lines(&document(spec))
}

/// What is found in an ALLOW policy with `rule` in line 6 from column 5 on.
fn of_allow(rule: &str) -> Vec<String> {
    of_spec(&format!("rules:\n- {rule}"))
}

/// What is found in a DENY policy with `rule` in line 7 from column 5 on, beside an ALLOW policy.
fn of_deny(rule: &str) -> Vec<String> {
    let allow = document("rules: [{}]").replace("name: p", "name: q");
    lines(&format!("{}---\n{allow}", document(&format!("action: DENY\nrules:\n- {rule}"))))
}

#[track_caller]
fn check(rows: &[(&str, &str)], found: impl Fn(&str) -> Vec<String>) {
    let actual: Vec<Vec<String>> = rows.iter().map(|(rule, _)| found(rule)).collect();
    let expected: Vec<Vec<String>> = rows.iter().map(|(_, expected)| vec![(*expected).to_owned()]).collect();
    assert_eq!(actual, expected);
}

#[test]
fn a_good_policy_has_no_findings() {
    let text = "apiVersion: security.istio.io/v1beta1
kind: AuthorizationPolicy
metadata:
  name: books.v1
  namespace: foo
  labels: {team: books}
  annotations: {istio.io/dry-run: \"false\", note: x}
  creationTimestamp: null
  resourceVersion: \"7\"
  uid: 0b0c
  generation: 1
  managedFields: [{manager: kubectl}]
spec:
  selector: {matchLabels: {app: books, istio.io/rev: a}}
  action: ALLOW
  rules:
    - from:
        - source:
            principals: [t/ns/a/sa/b, 't/ns/a/*', '*/sa/c', t/ns/a*, '*']
            notNamespaces: [bar, 'baz*']
            ipBlocks: [10.0.0.0/8, 192.0.2.1]
            trustDomains: [t, 'u*']
        - source: {serviceAccounts: [b, bar/c]}
      to:
        - operation:
            hosts: ['a.example', 'a.example:*']
            ports: ['80', '0']
            methods: [GET, 'P*', '*']
            paths: [/a, '/b*', '/c/*', '*.html', '*', '/d/{*}/e', '/f/{**}', '/g/{*}/']
            notPaths: [/a/b]
      when:
        - {key: 'request.headers[X-Tenant]', values: ['*']}
        - {key: source.ip, notValues: [192.0.2.2]}
        - {key: source.namespace, values: [a]}
        - {key: source.serviceAccount, values: [a/b]}
        - {key: source.trustDomain, values: [t]}
        - {key: source.principal, values: [t/ns/a/sa/b]}
        - {key: destination.ip, values: [10.0.0.1]}
        - {key: destination.port, values: ['80']}
        - {key: connection.sni, values: ['*.foo']}
status: {}
";
    let labelled = Options { labels: [("app".to_owned(), "books".to_owned())].into(), ..Options::default() };
    assert_eq!(lines_with(&labelled, &[("a.yaml", text)]), Vec::<String>::new());
    assert_eq!(
        lines(text),
        [
            "0:0 P092 policies that select workloads by label: 1; without labels to compare none is in force | give the labels of the workload: `policy: {labels: …}` for a sidecar, `labels` in a test case, `--label`"
        ]
    );
    for spec in ["rules: [{}]", "rules:\n- {}\n- {from: [{source: {namespaces: [a]}}]}", "action: AUDIT\nrules: [{}]"] {
        let allow = document("rules: [{}]").replace("name: p", "name: q");
        assert_eq!(lines(&format!("{}---\n{allow}", document(spec))), Vec::<String>::new(), "{spec}");
    }
    assert_eq!(lines(&document("").replace("spec:", "spec: {}")), Vec::<String>::new());
}

#[test]
fn kinds() {
    let of = |version: &str, kind: &str| {
        lines(&format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: p, namespace: foo}}\nspec: {{}}\n"))
    };
    let v1 = "security.istio.io/v1";
    assert_eq!(
        of(v1, "PeerAuthentication"),
        [
            "2:7 P060 Istio's `PeerAuthentication` is not read | remove it: mutual TLS is always required, as with `mode: STRICT`"
        ]
    );
    assert_eq!(
        of(v1, "RequestAuthentication"),
        [
            "2:7 P060 Istio's `RequestAuthentication` is not read | remove it: JWTs are checked by the application or a gateway, not by this sidecar"
        ]
    );
    assert_eq!(
        of("networking.istio.io/v1alpha3", "EnvoyFilter"),
        [
            "2:7 P060 Istio's `EnvoyFilter` is not read | remove it: there is no Envoy here; write what it decides as a policy"
        ]
    );
    assert_eq!(
        of("networking.istio.io/v1", "VirtualService"),
        [
            "2:7 P060 Istio's `VirtualService` is not read | the policy directory is for AuthorizationPolicy; keep other kinds of Istio's elsewhere"
        ]
    );
    assert_eq!(
        of("security.istio.io/v2", "AuthorizationPolicy"),
        [
            "1:13 P020 the API version `security.istio.io/v2` is not known | write `security.istio.io/v1` or `security.istio.io/v1beta1`"
        ]
    );
    // Something like it of somebody else's is not Istio's.
    assert_eq!(
        of("security.istio.io.example/v1", "AuthorizationPolicy"),
        ["1:13 P020 the API version `security.istio.io.example/v1` is not known | write `policy.portcullis.dev/v1`"]
    );
}

#[test]
fn lists_of_kubectl() {
    let text = "apiVersion: v1
kind: List
metadata:
  resourceVersion: \"\"
items:
- apiVersion: security.istio.io/v1
  kind: AuthorizationPolicy
  metadata:
    annotations:
      kubectl.kubernetes.io/last-applied-configuration: |
        {\"apiVersion\":\"security.istio.io/v1\"}
    creationTimestamp: \"2026-01-02T03:04:05Z\"
    generation: 1
    name: p
    namespace: foo
  spec:
    rules:
    - to:
      - operation:
          methods:
          - get
- apiVersion: v1
  kind: Pod
";
    assert_eq!(
        lines(text),
        [
            "21:13 P027 a method is written in upper case: in Istio, too, this matches nothing | write `GET`",
            "22:15 P020 the API version `v1` is not known | write `policy.portcullis.dev/v1`",
        ]
    );
    assert_eq!(
        lines("apiVersion: v1\nkind: List\nitems: []\n"),
        ["3:8 P012 `items` is an empty list | give it a value; a key that is not needed is left out"]
    );
}

#[test]
fn metadata() {
    let of = |metadata: &str| {
        lines(&format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{{metadata}}}\nspec: {{}}\n"
        ))
    };
    let rows: &[(&str, &str)] = &[
        ("namespace: foo", "3:11 P010 `metadata` lacks the key `name` | add `name: …`"),
        (
            "name: p",
            "3:11 P080 the policy has no namespace, so it is read as one of `default` | write the namespace that it is applied to: `namespace: …`",
        ),
        (
            "name: a_b, namespace: foo",
            "3:18 P022 `a_b` cannot be a name | Kubernetes takes at most 253 lower-case letters, digits, `-` and `.`",
        ),
        (
            "name: p, namespace: Foo",
            "3:32 P022 `Foo` cannot be a namespace | use lower-case letters, digits and `-`, without patterns",
        ),
        (
            "name: p, namespace: foo, label: {a: b}",
            "3:37 P009 unknown key `label` in `metadata` | did you mean `labels`?",
        ),
        (
            "name: p, namespace: foo, annotations: {istio.io/dry-run: 'yes'}",
            "3:69 P071 `istio.io/dry-run` cannot be `yes` | write \"true\" or \"false\", in quotes",
        ),
        (
            "name: p, namespace: foo, annotations: {istio.io/dry-run: true}",
            "3:69 P013 `istio.io/dry-run` must be a string, but YAML can take `true` for a boolean | write it in quotes: \"true\"",
        ),
    ];
    check(rows, of);
    let dry_audit = document("action: AUDIT\nrules: [{}]")
        .replace("namespace: foo", "namespace: foo, annotations: {istio.io/dry-run: 'true'}");
    assert_eq!(
        lines(&dry_audit),
        ["3:69 P071 `istio.io/dry-run` is for ALLOW and DENY: AUDIT decides nothing | remove the annotation"]
    );
    let twice = document("rules: [{}]");
    assert_eq!(
        lines_with(&Options::default(), &[("a.yaml", &twice), ("b.yaml", &twice)]),
        ["3:18 P023 there is another policy `p` of namespace `foo` | rename one of the two; the other is at a.yaml:3"]
    );
}

#[test]
fn specs() {
    let many = format!("rules: [{}]", ["{}"; 513].join(", "));
    let target = "is for gateways and waypoints, and a sidecar is neither | write `selector: {matchLabels: …}` for the workloads that are meant";
    let rows: Vec<(&str, String)> = vec![
        ("rule: [{}]", "5:3 P009 unknown key `rule` in `spec` | did you mean `rules`?".to_owned()),
        (
            "rules: []",
            "5:10 P012 `rules` is an empty list | give it a value; a key that is not needed is left out".to_owned(),
        ),
        ("action: DENNY\nrules: [{}]", "5:11 P014 `action` cannot be `DENNY` | did you mean `DENY`?".to_owned()),
        (
            "action: DENY",
            "5:3 P065 a DENY policy without `rules` denies nothing | add `rules: [{}]` to deny everything, or the rules that are meant".to_owned(),
        ),
        (
            "action: CUSTOM\nprovider: {name: x}\nrules: [{}]",
            "5:11 P062 `action: CUSTOM` asks another service, which Portcullis does not do | write what that service decides as ALLOW and DENY, or leave the check to the application".to_owned(),
        ),
        (
            "provider: {name: x}\nrules: [{}]",
            "5:13 P062 `provider` is for `action: CUSTOM` alone | remove it".to_owned(),
        ),
        (
            "targetRefs: [{kind: Service, name: x}]\nrules: [{}]",
            format!("5:15 P064 `targetRefs` {target}"),
        ),
        (
            "targetRef: {kind: Gateway, name: x}\nrules: [{}]",
            format!("5:14 P064 `targetRef` {target}"),
        ),
        (
            "selector: {matchLabels: {app: 'a*'}}\nrules: [{}]",
            "5:28 P072 `app: a*` is not a label | labels are compared as they stand, without wildcards".to_owned(),
        ),
        (
            "selector: {}\nrules: [{}]",
            "5:13 P012 `selector` is an empty mapping | give it a value; a key that is not needed is left out".to_owned(),
        ),
        (
            &many,
            "5:10 P068 the policy has 513 rules | Istio takes at most 512: split the policy into several".to_owned(),
        ),
    ];
    let rows: Vec<(&str, &str)> = rows.iter().map(|(spec, expected)| (*spec, expected.as_str())).collect();
    check(&rows, of_spec);
}

#[test]
fn sources() {
    let principal = "write `trust.domain/ns/namespace/sa/account`, with `*` at its beginning or at its end; a namespace of any trust domain goes under `namespaces`";
    let account = "write `namespace/account`, or `account` for one of the policy's own namespace; without wildcards, at most 320 characters";
    let domain = "write it in lower case, without slashes, with one `*` at its beginning or at its end at most";
    let jwt = "is about a JWT, and Portcullis checks none | write `principals` for the workloads that may call; leave JWTs to the application";
    let forwarded = "is about an address in `x-forwarded-for`, which the caller writes | write `ipBlocks` for the address that the connection comes from";
    let seventeen = format!("serviceAccounts: [{}]", ["a"; 17].join(", "));
    let rows: Vec<(&str, String)> = vec![
        ("requestPrincipals: ['*']", format!("6:41 P061 `requestPrincipals` {jwt}")),
        ("notRequestPrincipals: ['*']", format!("6:44 P061 `notRequestPrincipals` {jwt}")),
        ("remoteIpBlocks: [10.0.0.0/8]", format!("6:38 P063 `remoteIpBlocks` {forwarded}")),
        ("notRemoteIpBlocks: [10.0.0.0/8]", format!("6:41 P063 `notRemoteIpBlocks` {forwarded}")),
        (
            "serviceAccounts: [a], namespaces: [b]",
            "6:39 P067 `serviceAccounts` cannot stand beside `namespaces` in one source | write the namespace with the account: `namespace/account`".to_owned(),
        ),
        (
            &seventeen,
            "6:39 P068 `serviceAccounts` has 17 service accounts | Istio takes at most 16: write several sources".to_owned(),
        ),
        ("serviceAccounts: ['a/*']", format!("6:40 P066 no caller is of the service account `a/*` | {account}")),
        ("serviceAccounts: [a/b/c]", format!("6:40 P066 no caller is of the service account `a/b/c` | {account}")),
        ("serviceAccounts: [/b]", format!("6:40 P066 no caller is of the service account `/b` | {account}")),
        (
            "principals: [spiffe://t/ns/a/sa/b]",
            "6:35 P066 Istio puts `spiffe://` before a principal by itself | write `t/ns/a/sa/b`".to_owned(),
        ),
        (
            "principals: [t/ns/*/sa/b]",
            format!("6:35 P066 no caller has the principal `t/ns/*/sa/b`: an asterisk in the middle is no wildcard | {principal}"),
        ),
        (
            "principals: ['*/ns/*']",
            format!("6:35 P066 no caller has the principal `*/ns/*`: an asterisk in the middle is no wildcard | {principal}"),
        ),
        (
            "principals: [admin]",
            format!("6:35 P066 no caller has the principal `admin`: a workload's SPIFFE ID has a path, and this is a trust domain alone | {principal}"),
        ),
        (
            "notPrincipals: ['T/ns/a/*']",
            format!("6:38 P066 no caller has the principal `T/ns/a/*`: a trust domain is written in lower case | {principal}"),
        ),
        (
            "principals: ['T/ns*']",
            format!("6:35 P066 no caller has the principal `T/ns*`: it holds characters that no SPIFFE ID has there | {principal}"),
        ),
        (
            "principals: ['*/sa/b c']",
            format!("6:35 P066 no caller has the principal `*/sa/b c`: it holds characters that no SPIFFE ID has there | {principal}"),
        ),
        (
            "namespaces: [a/b]",
            "6:35 P066 no caller is of the namespace `a/b` | use letters, digits and `-`, and `*` for any of them".to_owned(),
        ),
        ("trustDomains: [T]", format!("6:37 P066 no caller is of the trust domain `T` | {domain}")),
        ("trustDomains: ['*a*']", format!("6:37 P066 no caller is of the trust domain `*a*` | {domain}")),
        ("notTrustDomains: [t/ns]", format!("6:40 P066 no caller is of the trust domain `t/ns` | {domain}")),
        (
            "ipBlocks: [10.0.0.1/8]",
            "6:33 P025 the address has bits beyond the prefix length | write `10.0.0.0/8`, or `10.0.0.1` for this address alone".to_owned(),
        ),
        ("principal: [t/ns/a/sa/b]", "6:22 P009 unknown key `principal` in `source` | did you mean `principals`?".to_owned()),
        (
            "principals: []",
            "6:34 P012 `principals` is an empty list | give it a value; a key that is not needed is left out".to_owned(),
        ),
        (
            "namespaces: ['']",
            "6:35 P012 `namespaces` is an empty string | give it a value; a key that is not needed is left out".to_owned(),
        ),
    ];
    let rows: Vec<(&str, &str)> = rows.iter().map(|(source, expected)| (*source, expected.as_str())).collect();
    check(&rows, |source| of_allow(&format!("from: [{{source: {{{source}}}}}]")));
    let rows: &[(&str, &str)] = &[
        ("from: []", "6:11 P012 `from` is an empty list | give it a value; a key that is not needed is left out"),
        (
            "from: [{source: {}}]",
            "6:21 P012 `source` is an empty mapping | give it a value; a key that is not needed is left out",
        ),
        ("from: [{sources: {}}]", "6:13 P009 unknown key `sources` in `from` | did you mean `source`?"),
    ];
    let without_missing = |rule: &str| of_allow(rule).into_iter().filter(|line| !line.contains("P010")).collect();
    check(rows, without_missing);
}

#[test]
fn operations() {
    let port = "write a number from 0 to 65535, in quotes: \"8080\"";
    let host = "write a DNS name or an address, with one `*` at its beginning or at its end at most";
    let method = "write methods such as GET, with one `*` at the beginning or at the end at most";
    let rows: Vec<(&str, String)> = vec![
        (
            "ports: [8080]",
            "6:31 P013 `ports` must be a string, but YAML can take `8080` for a number | write it in quotes: \"8080\"".to_owned(),
        ),
        ("ports: ['65536']", format!("6:31 P069 `65536` is not a port | {port}")),
        ("ports: ['*']", format!("6:31 P069 `*` is not a port | {port}")),
        ("notPorts: ['+80']", format!("6:34 P069 `+80` is not a port | {port}")),
        (
            "methods: [get]",
            "6:33 P027 a method is written in upper case: in Istio, too, this matches nothing | write `GET`".to_owned(),
        ),
        ("methods: ['G*T']", format!("6:33 P027 no request has the method `G*T` | {method}")),
        ("methods: ['GET /']", format!("6:33 P027 no request has the method `GET /` | {method}")),
        ("hosts: ['a.*.example', 'a.*:*']", String::new()),
        ("hosts: ['https://a.example']", format!("6:31 P026 no request has the host `https://a.example` | {host}")),
        ("paths: [a]", "6:31 P028 no request has the path `a` | begin it with `/` or with `*`".to_owned()),
        (
            "paths: ['/a?b']",
            "6:31 P028 the query is no part of the path `/a?b` | leave out everything from `?` on".to_owned(),
        ),
        (
            "paths: ['/{id}/a']",
            "6:31 P028 braces stand in a path only as `{*}` and `{**}`, unlike in `/{id}/a` | write `{*}` for one segment, a last `{**}` for the rest".to_owned(),
        ),
        (
            "paths: ['/{*}.txt']",
            "6:31 P028 `{*}.txt` cannot be a segment of a path template | write `{*}` for the whole segment, or letters, digits and -._~%!$&'()+,;:@=".to_owned(),
        ),
        (
            "notPaths: ['/{**}/{*}']",
            "6:34 P028 `{**}` may stand only at the end of a path template | write `{*}` for one segment in the middle".to_owned(),
        ),
        ("path: [/a]", "6:23 P009 unknown key `path` in `operation` | did you mean `paths`?".to_owned()),
    ];
    let rows: Vec<(&str, &str)> = rows
        .iter()
        .filter(|(_, expected)| !expected.is_empty())
        .map(|(operation, expected)| (*operation, expected.as_str()))
        .collect();
    check(&rows, |operation| of_allow(&format!("to: [{{operation: {{{operation}}}}}]")));
    assert_eq!(
        of_allow("to: [{operation: {hosts: ['a.*.example', 'a.*:*']}}]"),
        [
            format!("6:31 P026 no request has the host `a.*.example` | {host}"),
            format!("6:46 P026 no request has the host `a.*:*` | {host}"),
        ]
    );
}

#[test]
fn conditions() {
    let attributes = "the attributes are source.ip, source.namespace, source.serviceAccount, source.trustDomain, source.principal, destination.ip, destination.port, connection.sni, request.headers[…]";
    let jwt = "is about a JWT, and Portcullis checks none | leave JWTs to the application";
    let labels = "is no attribute any more | select the workload by its labels under `selector`";
    let rows: Vec<(&str, String)> = vec![
        ("key: source.ipp, values: [a]", "6:18 P070 `source.ipp` is not an attribute | did you mean `source.ip`?".to_owned()),
        ("key: request.path, values: [a]", format!("6:18 P070 `request.path` is not an attribute | {attributes}")),
        ("key: request.auth.principal, values: [a]", format!("6:18 P061 `request.auth.principal` {jwt}")),
        ("key: 'request.auth.claims[iss]', values: [a]", format!("6:18 P061 `request.auth.claims[iss]` {jwt}")),
        ("key: request.auth.audiences, values: [a]", format!("6:18 P061 `request.auth.audiences` {jwt}")),
        ("key: request.auth.presenter, values: [a]", format!("6:18 P061 `request.auth.presenter` {jwt}")),
        (
            "key: remote.ip, values: [10.0.0.1]",
            "6:18 P063 `remote.ip` is an address in `x-forwarded-for`, which the caller writes | write `source.ip` for the address that the connection comes from".to_owned(),
        ),
        (
            "key: 'experimental.envoy.filters.network.mysql_proxy[db]', values: [a]",
            "6:18 P062 `experimental.envoy.filters.network.mysql_proxy[db]` is known to filters of Envoy alone | write what the filter decides as a condition of its own".to_owned(),
        ),
        (
            "key: destination.namespace, values: [a]",
            "6:18 P070 `destination.namespace` is no attribute any more | the namespace of the policy takes its place".to_owned(),
        ),
        ("key: 'destination.labels[app]', values: [a]", format!("6:18 P070 `destination.labels[app]` {labels}")),
        ("key: destination.user, values: [a]", format!("6:18 P070 `destination.user` {labels}")),
        (
            "key: request.headers, values: [a]",
            "6:18 P030 `request.headers` does not name a header | write it as request.headers[x-tenant]".to_owned(),
        ),
        (
            "key: 'request.headers[:path]', values: [a]",
            "6:18 P030 `:path` is not matched as a header | write it under `to`, as `paths`".to_owned(),
        ),
        (
            "key: 'request.headers[:method]', values: [a]",
            "6:18 P030 `:method` is not matched as a header | write it under `to`, as `methods`".to_owned(),
        ),
        (
            "key: 'request.headers[Host]', values: [a]",
            "6:18 P030 `Host` is not matched as a header | write it under `to`, as `hosts`".to_owned(),
        ),
        (
            "key: 'request.headers[:scheme]', values: [a]",
            "6:18 P030 `:scheme` is not matched as a header | remove it; ports, hosts, methods and paths go under `to`".to_owned(),
        ),
        (
            "key: 'request.headers[X-Forwarded-Client-Cert]', values: [a]",
            "6:18 P030 `X-Forwarded-Client-Cert` is not matched as a header | match the verified caller, as `principals` under `from`".to_owned(),
        ),
        (
            "key: 'request.headers[a b]', values: [a]",
            "6:18 P030 `a b` is not a header name | use the characters that RFC 9110 allows in a name".to_owned(),
        ),
        (
            "key: 'request.headers[a]', values: [' a']",
            "6:49 P031 no header value has control characters or spaces at its ends | remove them".to_owned(),
        ),
        (
            "key: source.ip",
            "6:12 P010 the condition has neither `values` nor `notValues` | add what the attribute must be, or must not be".to_owned(),
        ),
        ("values: [a]", "6:12 P010 `when` lacks the key `key` | add `key: …`".to_owned()),
        (
            "key: destination.ip, values: [a]",
            "6:43 P025 `a` is not an address range | write it as 10.0.0.0/8 or fd00::/8".to_owned(),
        ),
        (
            "key: destination.port, notValues: ['x']",
            "6:48 P069 `x` is not a port | write a number from 0 to 65535, in quotes: \"8080\"".to_owned(),
        ),
    ];
    let rows: Vec<(&str, &str)> = rows.iter().map(|(when, expected)| (*when, expected.as_str())).collect();
    check(&rows, |when| of_allow(&format!("when: [{{{when}}}]")));
}

#[test]
fn stricter_readings_are_told_where_they_make_a_difference() {
    let normal = "paths are brought to normal form first";
    let port = "is matched with and without a port, in Istio without one only | write";
    let misses = "misses requests that name the port, such as";
    let better = "add the host with its port, or with `:*`; better, match ports and paths";
    let asterisk = "only a first or a last `*` is a wildcard, and";
    // In a rule of a DENY policy, in line 7.
    let denied: Vec<(&str, Vec<String>)> = vec![
        (
            "to: [{operation: {ports: ['80'], hosts: [a.example, b.example]}}]",
            vec![format!("7:46 P082 `a.example` {port} `\"a.example:*\"` beside it, so that Istio agrees")],
        ),
        ("to: [{operation: {ports: ['80'], hosts: [a.example, 'a.example:*']}}]", vec![]),
        ("to: [{operation: {ports: ['80'], hosts: ['a.example*', '*']}}]", vec![]),
        (
            "to: [{operation: {ports: ['80'], notHosts: ['*.example']}}]",
            vec![format!("7:49 P089 `*.example` {misses} `.example:8080` | {better}")],
        ),
        (
            "to: [{operation: {ports: ['80'], paths: [/a//b, '/c/..*', '*//d']}}]",
            vec![
                format!("7:46 P088 no request is decided with `/a//b`: {normal} | write `/a/b`"),
                format!("7:63 P088 no request is decided with `*//d`: {normal} | write `*/d`"),
            ],
        ),
        (
            "to: [{operation: {ports: ['80'], paths: ['/a%00', '/%41*', '/a%2*', '*/../a']}}]",
            vec![
                "7:46 P088 requests with `/a%00` are answered with 400: the path holds a control character | remove it".to_owned(),
                format!("7:55 P088 no request is decided with `/%41*`: {normal} | write `/A*`"),
                format!("7:73 P088 no request is decided with `*/../a`: {normal} | leave out `..`"),
            ],
        ),
        (
            "to: [{operation: {ports: ['80'], paths: ['/a/*/b']}}]",
            vec![format!("7:46 P090 {asterisk} `/a/*/b` has another | write `{{*}}` for one segment, a last `{{**}}` for the rest")],
        ),
        ("from: [{source: {namespaces: [a, 'b*', '*']}}]", vec![]),
        (
            "from: [{source: {namespaces: ['*a']}}]",
            vec!["7:35 P083 `*a` is matched with the namespace alone, and Istio lets `*` run on behind it | write the namespaces one by one, or `*` at the end only".to_owned()],
        ),
    ];
    for (rule, expected) in denied {
        assert_eq!(of_deny(rule), expected, "{rule}");
    }
    // In a rule of an ALLOW policy, in line 6.
    let allowed: Vec<(&str, Vec<String>)> = vec![
        (
            "to: [{operation: {hosts: ['*.example', 'b.example:80']}}]",
            vec![format!("6:31 P089 `*.example` {misses} `.example:8080` | {better}")],
        ),
        ("to: [{operation: {hosts: ['*.example', '*.example:80']}}]", vec![]),
        (
            "to: [{operation: {notHosts: [b.example]}}]",
            vec![format!("6:34 P082 `b.example` {port} `\"b.example:*\"` beside it, so that Istio agrees")],
        ),
        (
            "when: [{key: 'request.headers[a]', values: [b], notValues: ['c*']}, {key: 'request.headers[b]', values: [c]}]",
            vec!["6:49 P084 a header that comes more than once is matched in every reading, in Istio joined by commas only | where callers send it once there is nothing to do; a deny takes any of its values, an allow needs all".to_owned()],
        ),
        (
            "when: [{key: 'request.headers[accept]', values: ['*/*']}]",
            vec![
                "6:54 P084 a header that comes more than once is matched in every reading, in Istio joined by commas only | where callers send it once there is nothing to do; a deny takes any of its values, an allow needs all".to_owned(),
                format!("6:54 P090 {asterisk} `*/*` has another | if that is meant, keep it; if not, list the values one by one"),
            ],
        ),
    ];
    for (rule, expected) in allowed {
        assert_eq!(of_allow(rule), expected, "{rule}");
    }
}

#[test]
fn surprises_are_told() {
    let tcp = "P085 opaque TCP shows nothing of HTTP, so this rule denies it on every port, as in Istio | add `ports` to each operation, with the HTTP ports that are meant";
    let negations = "P087 this rule denies only what none of its `not…` fields lists: what one of them lists is let through | to deny whatever breaks one of the conditions, write a rule for each";
    let rows: Vec<(&str, Vec<String>)> = vec![
        ("to: [{operation: {paths: [/a]}}]", vec![format!("7:5 {tcp}")]),
        ("to: [{operation: {paths: [/a], ports: ['80']}}]", vec![]),
        ("to: [{operation: {paths: [/a]}}]\n  when: [{key: destination.port, values: ['80']}]", vec![]),
        ("to: [{operation: {ports: ['80']}}, {operation: {methods: [GET]}}]", vec![format!("7:5 {tcp}")]),
        ("to: [{operation: {notPaths: [/a]}}]\n  from: [{source: {namespaces: [a]}}]", vec![format!("7:5 {tcp}")]),
        ("from: [{source: {notNamespaces: [a]}}]", vec![]),
        (
            "from: [{source: {notNamespaces: [a]}}]\n  to: [{operation: {notPorts: ['80']}}]",
            vec![format!("7:5 {negations}")],
        ),
    ];
    for (rule, expected) in rows {
        assert_eq!(of_deny(rule), expected, "{rule}");
    }
    assert_eq!(
        of_allow("to: [{operation: {ports: ['5432']}}, {operation: {ports: ['80'], methods: [GET]}}]"),
        [
            "6:5 P086 opaque TCP is not allowed by this rule, because one of its operations is about HTTP, as in Istio | write a rule of its own for what opaque TCP may do"
        ]
    );
    // What only marks surprises nobody.
    let allow = document("rules: [{}]").replace("name: p", "name: q");
    let marks = document("action: AUDIT\nrules: [{to: [{operation: {paths: [/a]}}]}]");
    assert_eq!(lines(&format!("{marks}---\n{allow}")), Vec::<String>::new());
}

#[test]
fn a_policy_that_leaves_everything_denied_is_told() {
    let warning = "3:18 P081 nothing allows what this policy does not deny: it is denied, and in Istio it would be allowed | add an ALLOW policy for the same workloads; `policy: {defaultAction: allow}` would be Istio's default";
    let deny = "action: DENY\nrules: [{from: [{source: {namespaces: [a]}}]}]";
    let of = |deny: &str, others: &[String]| {
        let all: Vec<&str> = std::iter::once(deny).chain(others.iter().map(String::as_str)).collect();
        let found = lines(&all.join("---\n"));
        assert!(found.iter().all(|line| line.contains(" P08") || line.contains(" P092")), "{found:?}");
        found.iter().filter(|line| line.contains("P081")).cloned().collect::<Vec<_>>()
    };
    let allow = |namespace: &str, spec: &str| {
        document(spec).replace("name: p, namespace: foo", &format!("name: q, namespace: {namespace}"))
    };
    let selected = |app: &str, spec: &str| format!("selector: {{matchLabels: {{app: {app}}}}}\n{spec}");
    let dry = |document: String| {
        document.replace("namespace: foo}", "namespace: foo, annotations: {istio.io/dry-run: 'true'}}")
    };
    let deny_all = document(deny);
    assert_eq!(of(&deny_all, &[]), [warning]);
    assert_eq!(of(&document("action: AUDIT\nrules: [{}]"), &[]), [warning]);
    assert_eq!(of(&dry(document("rules: [{}]")), &[]), [warning]);
    assert_eq!(of(&deny_all, &[allow("foo", "rules: [{}]")]), Vec::<String>::new());
    assert_eq!(of(&deny_all, &[allow("istio-system", "rules: [{}]")]), Vec::<String>::new());
    assert_eq!(of(&deny_all, &[allow("bar", "rules: [{}]")]), [warning]);
    assert_eq!(of(&document(&selected("a", deny)), &[allow("foo", &selected("b", "rules: [{}]"))]), [warning]);
    assert_eq!(
        of(&document(&selected("a", deny)), &[allow("foo", &selected("a", "rules: [{}]"))]),
        Vec::<String>::new()
    );
    // Mesh-wide, and an ALLOW for one namespace.
    let mesh = deny_all.replace("namespace: foo", "namespace: istio-system");
    assert_eq!(of(&mesh, &[allow("foo", "rules: [{}]")]), [warning]);
    // Our own language allows as well.
    let native = "apiVersion: policy.portcullis.dev/v1\nkind: AuthorizationPolicy\nmetadata: {name: own}\nspec: {target: {identities: [spiffe://t/ns/foo/sa/a]}, allow: [{name: r}]}\n";
    assert_eq!(of(&deny_all, &[native.to_owned()]), Vec::<String>::new());
    assert_eq!(of(&deny_all, &[native.replace("/foo/", "/bar/")]), [warning]);
    let options = Options { default_action: DefaultAction::Allow, ..Options::default() };
    let found = lines_with(&options, &[("a.yaml", &deny_all)]);
    assert!(found.iter().all(|line| !line.contains("P081")), "{found:?}");
}

#[test]
fn the_local_trust_domain() {
    let of = |local: Option<&str>, principal: &str| {
        let cluster_local = local.map(|local| TrustDomain::new(local).unwrap());
        let rule = format!("rules: [{{from: [{{source: {{principals: ['{principal}', '{principal}']}}}}]}}]");
        lines_with(&Options { cluster_local, ..Options::default() }, &[("a.yaml", &document(&rule))])
    };
    let literal = [
        "5:42 P091 `cluster.local` is taken as it stands, and not for the trust domain of the mesh | write the trust domain, or say what `cluster.local` stands for: `policy: {clusterLocal: …}`",
    ];
    assert_eq!(of(None, "cluster.local/ns/a/sa/b"), literal);
    assert_eq!(of(None, "cluster.local/ns/a/*"), literal);
    assert_eq!(of(Some("t"), "cluster.local/ns/a/sa/*"), Vec::<String>::new());
    assert_eq!(of(Some("cluster.local"), "cluster.local/*"), Vec::<String>::new());
    assert_eq!(
        of(Some("t"), "cluster.local/ns/a/*"),
        [
            "5:42 P091 `cluster.local` stands for `t` only in `cluster.local/ns/…/sa/…`, in Istio as here | write `t/ns/a/*`"
        ]
    );
}

#[test]
fn what_policies_spread_to_is_bounded() {
    let many = |item: &str, count: usize| vec![item; count].join(", ");
    let sources = |count| many("{source: {namespaces: [a]}}", count);
    let operations = |count| many("{operation: {ports: ['80']}}", count);
    let advice = |pairs: usize, values: usize| {
        format!(
            "at most {pairs} pairs and {values} values: put sources and operations that differ in one list into one entry"
        )
    };
    let square = |count| format!("rules: [{{from: [{}], to: [{}]}}]", sources(count), operations(count));
    assert_eq!(of_spec(&square(64)), Vec::<String>::new());
    assert_eq!(
        of_spec(&square(65)),
        [format!(
            "5:10 P068 `rules[0]` brings the policy to 4160 pairs of a source and an operation more than are written, and to 8320 values more | {}",
            advice(4096, 65536)
        )]
    );
    let wide = format!("{{source: {{namespaces: [{}]}}}}", many("a", 8192));
    assert_eq!(of_spec(&format!("rules: [{{from: [{wide}], to: [{}]}}]", operations(9))), Vec::<String>::new());
    assert_eq!(
        of_spec(&format!("rules: [{{from: [{wide}], to: [{}]}}]", operations(10))),
        [format!(
            "5:10 P068 `rules[0]` brings the policy to 0 pairs of a source and an operation more than are written, and to 73728 values more | {}",
            advice(4096, 65536)
        )]
    );
    // However long, what is written once is no spread.
    assert_eq!(of_spec(&format!("rules: [{{from: [{}]}}]", sources(5000))), Vec::<String>::new());
    let policies: Vec<String> =
        (0..25).map(|n| document(&square(64)).replace("name: p", &format!("name: p{n}"))).collect();
    assert_eq!(
        lines(&policies.join("---\n")),
        [format!(
            "149:10 P068 `rules[0]` brings all policies together to 100800 pairs of a source and an operation more than are written, and to 201600 values more | {}",
            advice(100_000, 1_000_000)
        )]
    );
}

#[test]
fn all_mistakes_come_at_once() {
    let found = of_spec(
        "action: DENY\ntargetRefs: [{kind: Gateway, name: x}]\nselector: {matchLabels: {a: '*'}}\nrules:\n- from: [{source: {principals: [x], remoteIpBlocks: [a]}}, {source: {namespaces: []}}]\n  to: [{operation: {methods: [get], paths: [a]}}]\n  when: [{key: remote.ip, values: [a]}, {key: x}]",
    );
    let codes: Vec<&str> = found.iter().filter_map(|line| line.split(' ').nth(1)).collect();
    assert_eq!(codes, ["P064", "P072", "P066", "P063", "P012", "P027", "P028", "P063", "P010", "P070"], "{found:#?}");
}
