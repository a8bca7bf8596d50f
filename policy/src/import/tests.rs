//! What is carried over, word for word, and that every other thing is refused at its place.

use super::*;
use crate::write::write;

fn mapping() -> Mapping {
    Mapping {
        workloads: [
            "app=web,tier=front=spiffe://t/ns/shop/sa/web",
            "app=cart=spiffe://t/ns/shop/sa/cart",
            "app=web=spiffe://t/ns/other/sa/web",
        ]
        .into_iter()
        .map(|text| Workload::parse(text).unwrap())
        .collect(),
        ports: BTreeMap::from([("http".to_owned(), 8080)]),
        trust_domain: Some(TrustDomain::new("t").unwrap()),
        trust_domains: BTreeMap::new(),
        cluster_networks: Vec::new(),
    }
}

fn imported(text: &str, mapping: &Mapping) -> Result<String, Vec<String>> {
    let line = |found: &crate::diagnostic::Diagnostic| {
        format!("{}:{} {} {}", found.line, found.column, found.code, found.message)
    };
    match linkerd(&[File { name: "a.yaml", bytes: text.as_bytes() }], mapping) {
        Ok(documents) => Ok(write(&documents).unwrap().lines().skip(1).map(|line| format!("{line}\n")).collect()),
        Err(found) => {
            assert!(found.iter().all(|one| one.code.starts_with("P0") || one.help.is_some() || one.code >= "P200"));
            Err(found.iter().map(line).collect())
        }
    }
}

const SERVER: &str = "apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: web-http, namespace: shop, labels: {app: web}, uid: x, annotations: {a: b}}
spec:
  podSelector: {matchLabels: {app: web}}
  port: http
  proxyProtocol: HTTP/1
";

const AUTHORIZATION: &str = "---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: web-get, namespace: shop}
spec:
  targetRef: {group: policy.linkerd.io, kind: Server, name: web-http}
  requiredAuthenticationRefs:
    - {group: policy.linkerd.io, kind: MeshTLSAuthentication, name: callers}
    - {group: policy.linkerd.io, kind: NetworkAuthentication, name: pods}
";

const AUTHENTICATIONS: &str = "---
apiVersion: policy.linkerd.io/v1alpha1
kind: MeshTLSAuthentication
metadata: {name: callers, namespace: shop}
spec:
  identities:
    - cart.shop.serviceaccount.identity.linkerd.cluster.local
    - '*.ops.serviceaccount.identity.linkerd.cluster.local'
    - spiffe://vm/host/7
  identityRefs:
    - {kind: ServiceAccount, name: batch, namespace: jobs}
    - {kind: Namespace, name: admin}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: NetworkAuthentication
metadata: {name: pods, namespace: shop}
spec:
  networks:
    - cidr: 10.0.0.0/8
    - {cidr: 192.168.0.0/16, except: [192.168.7.0/24]}
";

#[test]
fn servers_and_their_clients() {
    let text = imported(&[SERVER, AUTHORIZATION, AUTHENTICATIONS].concat(), &mapping()).unwrap();
    let ids = "
        identities:
          - spiffe://t/ns/admin/sa/*
          - spiffe://t/ns/jobs/sa/batch
          - spiffe://t/ns/ops/sa/*
          - spiffe://t/ns/shop/sa/cart
          - spiffe://vm/host/7";
    let ids = ids.replace("spiffe://t/ns/admin/sa/*", "\"spiffe://t/ns/admin/sa/*\"");
    let ids = ids.replace("spiffe://t/ns/ops/sa/*", "\"spiffe://t/ns/ops/sa/*\"");
    let expected = format!(
        "# Imported from Linkerd: Server shop/web-http.
apiVersion: policy.portcullis.dev/v1
kind: AuthorizationPolicy
metadata: {{name: web-http, namespace: shop}}
spec:
  target: {{identities: [spiffe://t/ns/shop/sa/web]}}
  allow:
    # web-get.
    - name: web-get
      from:{ids}
        sources: [\"10.0.0.0/8\"]
      to: {{ports: [8080]}}
    # web-get.
    - name: web-get-2
      from:{ids}
        sources: [\"192.168.0.0/16\"]
        notSources: [\"192.168.7.0/24\"]
      to: {{ports: [8080]}}
"
    );
    assert_eq!(text, expected);
}

fn route(name: &str, rules: &str) -> String {
    format!(
        "---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}, namespace: shop}}
spec:
  parentRefs: [{{group: policy.linkerd.io, kind: Server, name: web-http}}]
{rules}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {{name: may-{name}, namespace: shop}}
spec:
  targetRef: {{group: gateway.networking.k8s.io, kind: HTTPRoute, name: {name}}}
  requiredAuthenticationRefs: [{{kind: ServiceAccount, name: {name}}}]
"
    )
}

/// The rules, without what they share.
fn rules(text: &str) -> Vec<String> {
    let of = |key: &str| text.lines().filter_map(|line| line.trim().strip_prefix(key).map(str::to_owned)).collect();
    of("to: ")
}

#[test]
fn routes_become_paths_methods_hosts_and_headers() {
    for (matched, expected) in [
        ("  rules: [{matches: [{path: {type: Exact, value: /a}}]}]", "{ports: [8080], paths: [/a]}"),
        ("  rules: [{matches: [{path: {type: PathPrefix, value: /a}}]}]", "{ports: [8080], paths: [/a, \"/a/**\"]}"),
        ("  rules: [{matches: [{path: {value: /a/}}]}]", "{ports: [8080], paths: [/a, \"/a/**\"]}"),
        ("  rules: [{matches: [{path: {value: /}, method: GET}]}]", "{ports: [8080], methods: [GET]}"),
        ("  rules: [{matches: [{method: GET}, {path: {value: /a}, method: GET}]}]", "{ports: [8080], methods: [GET]}"),
        ("  hostnames: [a.example, '*.b.example']", "{ports: [8080], hosts: [a.example, \"*.b.example\"]}"),
        ("  rules: [{}]", ""),
        ("  hostnames: [a]\n  rules: [{name: x}]", "{ports: [8080], hosts: [a]}"),
        (
            "  rules: [{matches: [{path: {type: Exact, value: /a}}, {path: {type: Exact, value: /b}}]}]",
            "{ports: [8080], paths: [/a, /b]}",
        ),
        ("", "{ports: [8080]}"),
    ] {
        if expected.is_empty() {
            continue;
        }
        let text = imported(&[SERVER, &route("r", matched)].concat(), &mapping()).unwrap();
        assert_eq!(rules(&text), [expected], "{matched}\n{text}");
    }
    let headers = "  rules: [{matches: [{path: {value: /a}, headers: [{name: X-B, value: c}]}]}]";
    let text = imported(&[SERVER, &route("r", headers)].concat(), &mapping()).unwrap();
    assert!(text.contains("      when: {headers: {x-b: [c]}}\n"), "{text}");
    assert!(text.contains("from: {identities: [spiffe://t/ns/shop/sa/r]}"), "{text}");
}

#[test]
fn policies_of_a_server_hold_for_each_of_its_routes() {
    let a = route("a", "  rules: [{matches: [{path: {value: /a}}]}]");
    let b = route("b", "  rules: [{matches: [{path: {value: /b}}]}]");
    let text = imported(&[SERVER, AUTHORIZATION, AUTHENTICATIONS, &a, &b].concat(), &mapping()).unwrap();
    let names: Vec<&str> = text.lines().filter_map(|line| line.trim().strip_prefix("- name: ")).collect();
    assert_eq!(names, ["web-get-a", "web-get-a-2", "may-a-a", "web-get-b", "web-get-b-2", "may-b-b"]);
    assert_eq!(rules(&text)[..3], ["{ports: [8080], paths: [/a, \"/a/**\"]}"; 3]);
}

#[test]
fn calls_of_grpc() {
    let server = SERVER.replace("HTTP/1", "gRPC").replace("port: http", "port: 9000");
    for (matched, expected) in [
        ("[{method: {service: a.B, method: Get}}]", "{ports: [9000], grpc: {services: [a.B], methods: [Get]}}"),
        ("[{method: {service: a.B}}]", "{ports: [9000], grpc: {services: [a.B]}}"),
        ("[{headers: [{name: x, value: z}]}]", "{ports: [9000], methods: [POST], paths: [\"/*/*\"]}"),
    ] {
        let route = route("r", &format!("  rules: [{{matches: {matched}}}]")).replace("HTTPRoute", "GRPCRoute");
        let text = imported(&[server.as_str(), &route].concat(), &mapping()).unwrap();
        assert_eq!(rules(&text), [expected], "{text}");
    }
}

const SERVER_AUTHORIZATION: &str = "---
apiVersion: policy.linkerd.io/v1beta1
kind: ServerAuthorization
metadata: {name: any, namespace: shop}
spec:
  server: {selector: {matchLabels: {app: web}}}
  client:
    networks: [{cidr: 10.0.0.0/8}]
    meshTLS: {serviceAccounts: [{name: cart}], identities: ['*']}
";

#[test]
fn server_authorizations_select_servers_by_label() {
    let text = imported(&[SERVER, SERVER_AUTHORIZATION].concat(), &mapping()).unwrap();
    let from = "from: {identities: [\"spiffe://t/**\", spiffe://t/ns/shop/sa/cart], sources: [\"10.0.0.0/8\"]}";
    assert!(text.contains(from), "{text}");
    for (selector, selects) in [
        ("matchExpressions: [{key: app, operator: In, values: [a, web]}]", true),
        ("matchExpressions: [{key: app, operator: NotIn, values: [a]}]", true),
        ("matchExpressions: [{key: app, operator: Exists}]", true),
        ("matchExpressions: [{key: app, operator: DoesNotExist}]", false),
        ("matchLabels: {}", true),
        ("matchLabels: {app: web, x: z}", false),
    ] {
        let other = SERVER_AUTHORIZATION.replace("matchLabels: {app: web}", selector);
        let text = imported(&[SERVER, &other].concat(), &mapping()).unwrap();
        assert_eq!(text.contains("- name: any"), selects, "{selector}: {text}");
    }
}

#[test]
fn a_whole_namespace_is_selected_and_targeted() {
    let server = SERVER.replace("{matchLabels: {app: web}}", "{}");
    let policy = AUTHORIZATION
        .replace("{group: policy.linkerd.io, kind: Server, name: web-http}", "{kind: Namespace, name: shop}");
    let text = imported(&[&server, &policy, AUTHENTICATIONS].concat(), &mapping()).unwrap();
    assert!(!text.contains("target:") && text.contains("- name: web-get\n"), "{text}");
    assert_eq!(imported(SERVER, &mapping()).unwrap(), "", "what nobody may call needs no policy");
}

#[test]
fn what_does_not_mean_the_same_is_refused_at_its_place() {
    let whole = [SERVER, AUTHORIZATION, AUTHENTICATIONS, SERVER_AUTHORIZATION].concat();
    imported(&whole, &mapping()).unwrap();
    for (from, to, expected) in [
        ("policy.linkerd.io/v1beta3", "policy.linkerd.io/v1alpha1", "2:7 P200"),
        ("kind: Server\n", "kind: Pod\n", "2:7 P200"),
        (", namespace: shop, labels", ", labels", "3:11 P201"),
        ("port: http", "port: grpc", "6:9 P206"),
        ("port: http", "port: 0", "6:9 P014"),
        ("{matchLabels: {app: web}}", "{matchLabels: {app: db}}", "5:16 P205"),
        ("{matchLabels: {app: web}}", "{matchExpressions: [{key: app, operator: NotIn, values: [a]}]}", "5:16 P205"),
        ("{matchLabels: {app: web}}", "{matchLabel: {app: web}}", "5:17 P009"),
        ("proxyProtocol: HTTP/1", "accessPolicy: all-authenticated", "7:17 P203"),
        ("proxyProtocol: HTTP/1", "accessPolicy: audit", "7:17 P203"),
        ("podSelector:", "externalWorkloadSelector:", "5:29 P201"),
        ("name: web-http}\n  required", "name: web}\n  required", "13:14 P204"),
        ("kind: Server, name: web-http", "kind: Server, namespace: x, name: web-http", "13:14 P201"),
        ("kind: Server, name: web-http", "kind: Service, name: web-http", "13:14 P201"),
        ("{group: policy.linkerd.io, kind: Server, name: web-http}", "{kind: Namespace, name: other}", "13:14 P201"),
        ("kind: MeshTLSAuthentication, name: callers", "kind: MeshTLSAuthentication, name: nobody", "15:7 P204"),
        ("    - {group: policy.linkerd.io, kind: MeshTLSAuthentication, name: callers}\n", "", "15:5 P202"),
        ("kind: NetworkAuthentication, name: pods}", "kind: MeshTLSAuthentication, name: callers}", "15:5 P201"),
        ("cart.shop.serviceaccount", "cart.shop.sa", "23:7 P208"),
        ("cart.shop.serviceaccount", "cart.*.serviceaccount", "23:7 P208"),
        ("linkerd.cluster.local\n", "linkerd.cluster.west\n", "23:7 P207"),
        ("spiffe://vm/host/7", "spiffe://vm/host/*", "25:7 P208"),
        ("kind: Namespace, name: admin", "kind: Pod, name: admin", "28:7 P201"),
        ("cidr: 10.0.0.0/8\n", "cidr: 10.0.0.1/8\n", "35:13 P025"),
        ("    networks: [{cidr: 10.0.0.0/8}]\n", "", " P213"),
        ("    meshTLS:", "    unauthenticated: true\n    meshTLS:", " P202"),
        ("meshTLS: {", "meshTLS: {unauthenticatedTLS: true, ", ":14 P202"),
        ("meshTLS: {serviceAccounts: [{name: cart}], identities: ['*']}", "unauthenticated: false", " P202"),
        ("{selector: {matchLabels: {app: web}}}", "{name: nothing}", " P204"),
        ("name: any, ", "name: web-get, ", ""),
        (
            "kind: ServerAuthorization\nmetadata: {name: any",
            "kind: ServerAuthorization\nmetadata: {name: any, a: &x b",
            "P006",
        ),
    ] {
        assert!(whole.contains(from), "{from}");
        let text = whole.replacen(from, to, 1);
        let result = imported(&text, &mapping());
        if expected.is_empty() {
            assert!(result.is_ok(), "{from} -> {to}: {result:?}");
            continue;
        }
        let found = result.expect_err(to);
        assert!(found.iter().any(|one| one.contains(expected)), "{from} -> {to}: {found:#?}");
    }
    let nowhere = Mapping { trust_domain: None, ..mapping() };
    let found = imported(&whole, &nowhere).unwrap_err();
    assert!(found.len() >= 4 && found.iter().all(|one| one.contains("P207")), "{found:#?}");
    let clusters =
        Mapping { trust_domains: BTreeMap::from([("west".to_owned(), TrustDomain::new("w").unwrap())]), ..mapping() };
    let found = imported(&whole, &clusters).unwrap_err();
    assert!(found.iter().all(|one| one.contains("P208") && one.contains("every cluster")), "{found:#?}");
    let twice = [SERVER, "---\n", SERVER].concat();
    assert!(imported(&twice, &mapping()).unwrap_err()[0].contains("P211"));
}

#[test]
fn routes_that_mean_something_else_are_refused() {
    let narrow = route("a", "  rules: [{matches: [{path: {value: /a/b}}]}]");
    for (rules, expected) in [
        ("  rules: [{matches: [{path: {type: RegularExpression, value: /a.*}}]}]", "P209"),
        ("  rules: [{matches: [{path: {value: '/a/*'}}]}]", "P209"),
        ("  rules: [{matches: [{path: {value: '/{id}'}}]}]", "P209"),
        ("  rules: [{matches: [{path: {value: /a//}}]}]", "P209"),
        ("  rules: [{matches: [{path: {value: /a/../b}}]}]", "P028"),
        ("  rules: [{matches: [{path: {value: a}}]}]", "P028"),
        ("  rules: [{matches: [{path: {value: /b}, method: get}]}]", "P027"),
        ("  rules: [{matches: [{queryParams: [{name: a, value: b}]}]}]", "P201"),
        ("  rules: [{filters: [{type: RequestRedirect}]}]", "P201"),
        ("  rules: [{timeouts: {request: 1s}}]", "P201"),
        ("  rules: [{backendRefs: [{name: x}]}]", "P201"),
        ("  rules: [{matches: [{path: {value: /b}, headers: [{name: host, value: b}]}]}]", "P212"),
        ("  rules: [{matches: [{path: {value: /b}, headers: [{name: l5d-client-id, value: b}]}]}]", "P212"),
        ("  rules: [{matches: [{path: {value: /b}, headers: [{name: a, value: 'b*'}]}]}]", "P212"),
        (
            "  rules: [{matches: [{path: {value: /b}, headers: [{name: a, type: RegularExpression, value: b}]}]}]",
            "P212",
        ),
        ("  rules: [{matches: [{path: {value: /b}, headers: [{name: a, value: b}, {name: A, value: c}]}]}]", "P212"),
        ("  hostnames: ['a:80']", "P026"),
        // Linkerd asks the other route alone for what it matches.
        ("  rules: [{matches: [{path: {value: /a}}]}]", "P210"),
        ("  rules: [{matches: [{path: {type: Exact, value: /a/b/c}}]}]", "P210"),
        ("  rules: [{matches: [{method: GET}]}]", "P210"),
        ("  hostnames: [a.example]", "P210"),
        ("", "P210"),
    ] {
        let found = imported(&[SERVER, &narrow, &route("r", rules)].concat(), &mapping()).expect_err(rules);
        assert!(found.iter().any(|one| one.contains(expected)), "{rules}: {found:#?}");
    }
    let apart = route("r", "  rules: [{matches: [{path: {value: /a/bc}}, {path: {type: Exact, value: /a}}]}]");
    imported(&[SERVER, &narrow, &apart].concat(), &mapping()).unwrap();
    let other_parent =
        narrow.replace("group: policy.linkerd.io, kind: Server, name: web-http", "kind: Service, name: web");
    assert!(imported(&[SERVER, &other_parent].concat(), &mapping()).unwrap_err()[0].contains("P201"));
    for protocol in ["opaque", "unknown", "gRPC", "TLS"] {
        let server = SERVER.replace("HTTP/1", protocol);
        let found = imported(&[server.as_str(), &narrow].concat(), &mapping()).expect_err(protocol);
        assert!(found[0].contains("P201") && found[0].contains("proxyProtocol"), "{found:#?}");
    }
}

#[test]
fn workloads_are_labels_and_one_identity() {
    let workload = Workload::parse("a=b,c/d=e=spiffe://t/x").unwrap();
    assert_eq!(workload.labels, BTreeMap::from([("a".into(), "b".into()), ("c/d".into(), "e".into())]));
    assert_eq!(Workload::parse("a=spiffe://t/x"), Err(WorkloadError::Form));
    assert_eq!(Workload::parse("a=b"), Err(WorkloadError::Form));
    assert_eq!(Workload::parse("a=b=spiffe://t/*"), Err(WorkloadError::Pattern));
    assert!(matches!(Workload::parse("a=b=spiffe://t"), Err(WorkloadError::Identity(_))));
}

mod hostile {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever is cut out or put in, it ends in policies that compile or in mistakes.
        #[test]
        fn damaged_documents_never_panic(at in 0_usize..2000, length in 0_usize..40, put in "[-a*:{}\\[\\], \n/.\"']{0,8}") {
            let whole = [SERVER, AUTHORIZATION, AUTHENTICATIONS, SERVER_AUTHORIZATION, &route("r", "")].concat();
            let (start, end) = (at.min(whole.len()), (at + length).min(whole.len()));
            let text = format!("{}{put}{}", &whole[..start], &whole[end..]);
            let _ = imported(&text, &mapping());
        }
    }
}
