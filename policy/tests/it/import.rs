//! Policies of other meshes in our words: what is carried over decides as it did, and what is not is refused at its
//! place with what to do.
//!
//! Two things our language says otherwise, and they are not asked about: a host with a port or with a dot at its end,
//! and a header field that comes twice.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::select;

use portcullis_policy::import::{self, Mapping, Workload};
use portcullis_policy::path::{EncodedSlash, Path};
use portcullis_policy::write::{self, Body};
use portcullis_policy::{Connection, File, Options, Policy, Request};
use spiffe::{SpiffeId, TrustDomain};

use crate::istio_oracle::{Ask, Field, Policy as Model, Rule, asks, judged, judged_opaque};
use crate::properties::cases;

const MESH: &str = include_str!("../corpus/import/istio.yaml");
const LINKERD: &str = include_str!("../corpus/import/linkerd.yaml");

/// The mesh in our words, and as each of its workloads reads it.
static OURS: LazyLock<Policy> = LazyLock::new(|| {
    compile(&imported(MESH, &shop()).unwrap_or_else(|found| panic!("{found:#?}")), &Options::default())
});
static THEIRS: LazyLock<BTreeMap<&str, Policy>> =
    LazyLock::new(|| ["web", "cart", "db"].map(|app| (app, compile(MESH, &options(Some(app))))).into());

fn mapping(workloads: &[&str]) -> Mapping {
    let domain = |name: &str| TrustDomain::new(name).unwrap();
    Mapping {
        workloads: workloads.iter().map(|text| Workload::parse(text).unwrap()).collect(),
        ports: BTreeMap::from([("http".to_owned(), 8080)]),
        trust_domain: Some(domain("t")),
        trust_domains: BTreeMap::from([("partner".to_owned(), domain("partner.example"))]),
        cluster_networks: vec!["10.0.0.0/8".parse().unwrap()],
    }
}

fn shop() -> Mapping {
    mapping(&[
        "app=web=spiffe://t/ns/shop/sa/web",
        "app=cart=spiffe://t/ns/shop/sa/cart",
        "app=db=spiffe://t/ns/billing/sa/db",
    ])
}

fn options(app: Option<&str>) -> Options {
    let labels = app.map(|app| ("app".to_owned(), app.to_owned())).into_iter().collect();
    Options { labels, cluster_local: Some(TrustDomain::new("t").unwrap()), ..Options::default() }
}

fn compile(text: &str, options: &Options) -> Policy {
    let files = [File { name: "a.yaml", bytes: text.as_bytes() }];
    Policy::compile_with(&files, options).unwrap_or_else(|found| panic!("{found}\n{text}")).policy
}

/// What is written, or the mistakes as `line:column code message`, each with its help.
fn imported(text: &str, mapping: &Mapping) -> Result<String, Vec<String>> {
    match import::istio(&[File { name: "istio.yaml", bytes: text.as_bytes() }], mapping, &options(None)) {
        Ok(documents) => Ok(write::write(&documents).unwrap()),
        Err(found) => Err(found
            .iter()
            .map(|one| {
                let help = one.help.as_deref().unwrap_or_default();
                format!("{}:{} {} {}; {help}", one.line, one.column, one.code, one.message)
            })
            .collect()),
    }
}

fn with_request<T>(ask: &Ask, judge: impl FnOnce(&Request<'_>) -> T) -> T {
    let (caller, workload) = (SpiffeId::new(ask.caller).unwrap(), SpiffeId::new(ask.workload).unwrap());
    let connection = Connection {
        caller: &caller,
        workload: &workload,
        port: ask.port,
        source: ask.source.parse().unwrap(),
        destination: ask.destination.parse().unwrap(),
        server_name: ask.server_name,
        now: 0,
    };
    let path = Path::normalise(ask.target.as_bytes(), EncodedSlash::Refuse).unwrap();
    let headers: Vec<(String, String)> =
        ask.headers.iter().map(|value| ("x-tenant".to_owned(), (*value).to_owned())).collect();
    judge(&Request { connection, method: ask.method, host: ask.host, path: &path, headers: &headers })
}

/// What a policy says of a request and of an opaque connection, and what its dry runs would say.
fn answers(policy: &Policy, ask: &Ask) -> [(bool, Option<bool>); 2] {
    with_request(ask, |request| {
        [policy.decide(request), policy.admit_opaque(&request.connection)]
            .map(|decision| (decision.verdict.is_allow(), decision.audit.map(|verdict| verdict.is_allow())))
    })
}

fn calls_of_the_mesh() -> impl Strategy<Value = Ask> {
    let connection = (
        select(vec![
            "spiffe://t/ns/shop/sa/cart",
            "spiffe://t/ns/shop/sa/web",
            "spiffe://t/ns/ingress/sa/gateway",
            "spiffe://t/ns/monitoring/sa/prometheus",
            "spiffe://t/ns/billing/sa/invoices",
            "spiffe://t/ns/billing/sa/db",
            "spiffe://t/ns/ops/sa/admin",
            "spiffe://t/ns/legacy/sa/old",
            "spiffe://partner.example/ns/shop/sa/agent",
            "spiffe://partner.example/vm/7",
            "spiffe://t/vm/shop",
        ]),
        select(vec![
            ("spiffe://t/ns/shop/sa/web", "web"),
            ("spiffe://t/ns/shop/sa/cart", "cart"),
            ("spiffe://t/ns/billing/sa/db", "db"),
        ]),
        select(vec![8080_u16, 8081, 5432, 9090, 15020]),
        select(vec!["10.1.2.3", "10.9.0.1", "192.0.2.7", "fd00::1"]),
    );
    let request = (
        select(vec!["", "shop.example", "SHOP.example", "other.example"]),
        select(vec!["GET", "HEAD", "POST", "PUT", "DELETE", "get"]),
        select(vec![
            "/",
            "/metrics",
            "/stats/all",
            "/stats",
            "/products",
            "/products/7",
            "/products/admin",
            "/reviews/9/votes",
            "/reviews/votes",
            "/internal/x",
            "/internal/admin/x",
            "/internal//admin/x",
            "/carts/1",
            "/carts/1/items/2/3",
            "/carts/1;v=2/items/2",
            "/admin",
            "/admin/x",
            "/healthz",
        ]),
        select(vec![None, Some("blue"), Some("green-7"), Some("red"), Some("")]),
    );
    (connection, request).prop_map(|((caller, (workload, _), port, source), (host, method, target, tenant))| Ask {
        caller,
        workload,
        port,
        source,
        destination: "192.0.2.1",
        server_name: None,
        host,
        method,
        target,
        headers: tenant.into_iter().collect(),
    })
}

fn app_of(workload: &str) -> &str {
    workload.rsplit('/').next().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_mesh_of_istio_decides_the_same_in_our_words(all in prop::collection::vec(calls_of_the_mesh(), 60)) {
        for ask in all {
            let theirs = &THEIRS[app_of(ask.workload)];
            prop_assert_eq!(answers(theirs, &ask), answers(&OURS, &ask), "{:?}", ask);
        }
    }
}

/// The property above would hold of two sets that deny everything.
#[test]
fn each_policy_of_the_mesh_has_its_rules_and_decides_something() {
    let files = [File { name: "istio.yaml", bytes: MESH.as_bytes() }];
    let documents = import::istio(&files, &shop(), &options(None)).unwrap();
    let policies: Vec<String> = documents
        .iter()
        .map(|document| match &document.body {
            Body::Policy(policy) => policy.name.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected = [
        "metrics",
        "conditions",
        "database",
        "health",
        "read-only",
        "accounts",
        "partners",
        "productpage-viewer",
        "protect-admin",
        "same-team",
        "tried",
    ];
    assert_eq!(policies, expected, "all but the one that allows nothing");
    assert!(documents[0].comment[0].contains("Leave `defaultAction` of the sidecar at `deny`"), "which is told");
    let ours = compile(&write::write(&documents).unwrap(), &Options::default());
    let ask = |caller, workload, port, method, target| Ask {
        caller,
        workload,
        port,
        source: "10.1.2.3",
        destination: "192.0.2.1",
        server_name: None,
        host: "shop.example",
        method,
        target,
        headers: vec!["blue"],
    };
    let (web, cart, db) = ("spiffe://t/ns/shop/sa/web", "spiffe://t/ns/shop/sa/cart", "spiffe://t/ns/billing/sa/db");
    for (policy, ask) in [
        ("conditions", ask(cart, db, 8081, "GET", "/x")),
        ("database", ask("spiffe://t/ns/billing/sa/invoices", db, 5432, "GET", "/")),
        ("health", ask("spiffe://t/vm/7", db, 1, "GET", "/healthz")),
        ("read-only", ask(cart, db, 8081, "POST", "/x")),
        ("metrics", ask("spiffe://t/ns/monitoring/sa/prometheus", cart, 9090, "GET", "/stats/a/b")),
        ("accounts", ask(web, cart, 1, "PUT", "/carts/1/items/2/3")),
        ("partners", ask("spiffe://partner.example/vm/7", web, 1, "PUT", "/")),
        ("productpage-viewer", ask(cart, web, 1, "POST", "/reviews/9/votes")),
        ("protect-admin", ask(cart, web, 1, "GET", "/products/admin")),
        ("same-team", ask("spiffe://t/ns/billing/sa/x", web, 8080, "PATCH", "/internal/x")),
    ] {
        let theirs = compile(MESH, &options(Some(app_of(ask.workload))));
        let decided_by = |policy: &Policy| {
            with_request(&ask, |request| {
                policy
                    .decide(request)
                    .verdict
                    .rule()
                    .and_then(|rule| policy.rule(rule))
                    .map(|rule| rule.policy.to_string())
            })
        };
        assert_eq!(decided_by(&ours).as_deref(), Some(policy), "{ask:?}");
        assert_eq!(decided_by(&theirs).as_deref(), Some(policy), "{ask:?}");
    }
}

/// Values that our language has words for.
fn values(key: &str) -> Vec<&'static str> {
    match key {
        "principals" | "source.principal" => {
            vec!["t/ns/x/sa/a", "u/ns/x/sa/a", "cluster.local/ns/x/sa/b", "t/ns/x/*", "t/*", "*"]
        }
        "namespaces" | "source.namespace" => vec!["x", "y", "xx"],
        "serviceAccounts" | "source.serviceAccount" => vec!["x/a", "y/a", "a", "b"],
        "trustDomains" | "source.trustDomain" => vec!["t", "u", "tt", "*"],
        "ipBlocks" | "source.ip" => vec!["10.0.0.0/8", "10.1.0.0/16", "192.0.2.1", "fd00::/8"],
        "ports" | "destination.port" => vec!["80", "81"],
        "methods" => vec!["GET", "POST", "PUT", "*"],
        "paths" => vec!["/a", "/a/", "/a/*", "/*", "*", "/{*}/b", "/a/{**}", "/{*}/{**}", "/{*}/"],
        "headers" => vec!["a", "b", "a*", "*b", "*"],
        other => panic!("{other}"),
    }
}

/// One field each, so that most sets can be carried over whole.
fn fields(keys: &'static [&'static str]) -> impl Strategy<Value = Vec<Field>> {
    let field = (select(keys), prop::bool::weighted(0.3)).prop_flat_map(|(key, not)| {
        let values = if key == "hosts" {
            Just(vec!["a.example", "a.example:*"]).boxed()
        } else {
            prop::collection::vec(select(values(key)), 1..3).boxed()
        };
        values.prop_map(move |values| Field { key, not, values })
    });
    prop::collection::vec(field, 1..3).prop_map(|mut all| {
        all.sort_by_key(|field| (field.key, field.not));
        all.dedup_by_key(|field| field.key);
        let clashes = all.len() == 2 && all.iter().any(|field| field.key == "serviceAccounts");
        all.truncate(if clashes { 1 } else { 2 });
        all
    })
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let from = prop::collection::vec(
        fields(&["principals", "namespaces", "serviceAccounts", "trustDomains", "ipBlocks"]),
        0..3,
    );
    let to = prop::collection::vec(fields(&["ports", "hosts", "methods", "paths"]), 0..3);
    let when = prop::option::weighted(
        0.3,
        fields(&["source.principal", "source.namespace", "source.ip", "destination.port", "headers"]),
    );
    let rule = (from, to, when).prop_map(|(from, to, when)| Rule { from, to, when: when.unwrap_or_default() });
    prop::collection::vec(rule, 1..4)
}

fn models() -> impl Strategy<Value = Vec<Model>> {
    let scope = select(vec![
        ("x", None),
        ("x", Some("a")),
        ("y", None),
        ("y", Some("a")),
        ("istio-system", None),
        ("istio-system", Some("b")),
    ]);
    let policy = (scope, prop::bool::weighted(0.3), prop::bool::weighted(0.2), rules());
    let all = (rules(), prop::collection::vec(policy, 0..4));
    all.prop_map(|(first, others)| {
        // Without any that allows, a set is refused.
        let first = (("istio-system", None), false, false, first);
        let all = std::iter::once(first).chain(others).enumerate();
        let policy = |(number, ((namespace, app), denies, dry_run, rules))| Model {
            name: format!("p{number}"),
            namespace,
            app,
            action: if denies { "DENY" } else { "ALLOW" },
            dry_run,
            rules,
        };
        all.map(policy).collect()
    })
}

/// The workloads of `asks`, and the label of each.
const LABELS: [&str; 3] = ["app=a=spiffe://t/ns/x/sa/w", "app=a=spiffe://t/ns/y/sa/w", "app=b=spiffe://t/ns/z/sa/w"];

/// Everything of the trust domains that the callers of `asks` are of.
fn of_models() -> Mapping {
    let others = ["u", "tt"].map(|name| (name.to_owned(), TrustDomain::new(name).unwrap()));
    Mapping { trust_domains: BTreeMap::from(others), ..mapping(&LABELS) }
}

fn documents(models: &[Model]) -> String {
    models.iter().map(Model::document).collect::<Vec<_>>().join("---\n").replace("x-a]", "x-tenant]")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is carried over decides as Istio's original does, and as a second opinion on that.
    #[test]
    fn what_is_imported_decides_as_the_original(models in models(), all in prop::collection::vec(asks(), 30)) {
        let theirs = documents(&models);
        let Ok(text) = imported(&theirs, &of_models()) else { return Ok(()) };
        let ours = compile(&text, &Options::default());
        let [of_a, of_b] = ["a", "b"].map(|app| compile(&theirs, &options(Some(app))));
        for mut ask in all {
            ask.host = ask.host.split(':').next().unwrap().trim_end_matches('.');
            ask.headers.truncate(1);
            let (app, original) = if ask.workload.contains("/ns/z/") { ("b", &of_b) } else { ("a", &of_a) };
            let told = answers(&ours, &ask);
            prop_assert_eq!(answers(original, &ask), told, "{:?}\n{}\n{}", ask, theirs, text);
            let path = Path::normalise(ask.target.as_bytes(), EncodedSlash::Refuse).unwrap();
            let readings: Vec<&str> = path.readings().into_iter().flatten().collect();
            prop_assert_eq!(judged(&models, Some(app), &ask, &readings).verdict.is_allow(), told[0].0, "{:?}\n{}", ask, text);
            prop_assert_eq!(judged_opaque(&models, Some(app), &ask).verdict.is_allow(), told[1].0, "{:?}\n{}", ask, text);
        }
    }
}

/// The property above would hold if nothing could be carried over.
#[test]
fn most_generated_sets_are_carried_over() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let carried = (0..200).filter(|_| {
        let models = models().new_tree(&mut runner).unwrap().current();
        imported(&documents(&models), &of_models()).is_ok()
    });
    let carried = carried.count();
    assert!(carried > 60, "{carried} of 200");
}

#[test]
fn a_mesh_of_linkerd_is_imported() {
    let files = [File { name: "linkerd.yaml", bytes: LINKERD.as_bytes() }];
    let documents = import::linkerd(&files, &shop()).unwrap_or_else(|found| panic!("{found}"));
    let ours = compile(&write::write(&documents).unwrap(), &Options::default());
    let ask = |caller, workload, port, target| Ask {
        caller,
        workload,
        port,
        source: "10.1.2.3",
        destination: "192.0.2.1",
        server_name: None,
        host: "shop.example",
        method: if port == 9000 { "POST" } else { "GET" },
        target,
        headers: Vec::new(),
    };
    let (web, cart) = ("spiffe://t/ns/shop/sa/web", "spiffe://t/ns/shop/sa/cart");
    let gateway = "spiffe://t/ns/ingress/sa/gateway";
    for (ask, expected) in [
        (ask(gateway, web, 8080, "/products/1"), true),
        (ask(gateway, web, 8080, "/"), false),
        (ask(gateway, web, 8081, "/products/1"), false),
        (ask(cart, web, 8080, "/products"), true),
        (ask(web, cart, 9000, "/a.B/Get"), true),
        (ask(gateway, cart, 9000, "/a.B/Get"), false),
    ] {
        assert_eq!(answers(&ours, &ask)[0].0, expected, "{ask:?}");
    }
}

fn istio(metadata: &str, spec: &str) -> String {
    let head = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n";
    format!("{head}metadata: {{name: web, namespace: shop{metadata}}}\nspec: {{{spec}}}\n")
}

#[test]
fn what_our_language_has_no_words_for_is_refused_at_its_place_with_what_to_do() {
    let rules = |rule: &str| istio("", &format!("selector: {{matchLabels: {{app: web}}}}, rules: [{rule}]"));
    imported(&rules("{to: [{operation: {paths: [/a]}}]}"), &shop()).unwrap();
    let from = |source: &str| rules(&format!("{{from: [{{source: {{{source}}}}}]}}"));
    let to = |operation: &str| rules(&format!("{{to: [{{operation: {{{operation}}}}}]}}"));
    let when = |conditions: &str| rules(&format!("{{when: [{conditions}]}}"));
    for (text, expected) in [
        (from("principals: ['*/sa/cart']"), "P220 our language has no words for callers such as"),
        (from("principals: ['t/ns/shop/sa/c*']"), "no whole segments of a SPIFFE ID; name whole segments"),
        (from("namespaces: ['team-*']"), "P220 our language has no words for callers such as"),
        (from("trustDomains: ['*.example']"), "P220 our language has no words for callers such as"),
        (from("notPrincipals: ['*']"), "P220 our language has no words for no caller at all; leave the rule out"),
        (from("principals: [t/ns/a/sa/b], namespaces: [a]"), "P221 two lists of callers must both match"),
        (
            to("paths: ['/api*']"),
            "P220 our language has no words for paths such as `/api*`, which are no whole segments",
        ),
        (to("paths: ['*.png']"), "end it with `/*`, or name each path"),
        (to("methods: ['P*']"), "P220 our language has no words for methods by a part of their name; name each method"),
        (
            to("hosts: [a.example]"),
            "the host `a.example` as it was sent, port included; write both `host` and `host:*`",
        ),
        (to("hosts: ['*.example']"), "P220 our language has no words for the host `*.example`"),
        (when("{key: destination.ip, values: [10.0.0.1]}"), "no words for the address that is called; name the port"),
        (when("{key: connection.sni, values: [a]}"), "the server name of the handshake; match the host of requests"),
        (when("{key: 'request.headers[a]', values: ['a*b*']}"), "no words for a header value with an asterisk in it"),
        (
            when("{key: 'request.headers[a]', values: [b]}, {key: 'request.headers[a]', values: [c]}"),
            "P221 two lists of values of a header must both match",
        ),
        (
            rules("{to: [{operation: {ports: ['1']}}], when: [{key: destination.port, values: ['2']}]}"),
            "P221 two lists of ports must both match, and a rule of ours has one; write the values that are in both",
        ),
    ] {
        let found = imported(&text, &shop()).expect_err(&text);
        assert!(found.len() == 1 && found[0].starts_with("4:") && found[0].contains(expected), "{text}{found:#?}");
    }
    let allow = "---\n".to_owned() + &istio("", "rules: [{}]").replace("name: web", "name: all");
    let ours = "---\napiVersion: policy.portcullis.dev/v1\nkind: PolicyTest\nmetadata: {name: t}\nspec: {cases: [{name: a, \
                caller: spiffe://t/a, workload: spiffe://t/b, connection: {port: 1}, expect: deny}]}\n";
    for (text, expected) in [
        (istio("", "action: AUDIT, rules: [{}]") + &allow, "P220 it marks requests and decides nothing"),
        (istio("", "action: DENY, rules: [{}]"), "P222 there are policies that deny and none that allows"),
        (
            istio("", "selector: {matchLabels: {app: mail}}, rules: [{}]"),
            "P205 it is not known which identity the workloads of policy `web` have; say it with --workload",
        ),
        (istio("", "rules: [{}]") + ours, "P200 this is a document of our own language; leave it out"),
    ] {
        let found = imported(&text, &shop()).expect_err(&text);
        assert!(found.len() == 1 && found[0].contains(expected), "{text}{found:#?}");
    }
    let nowhere = Mapping { trust_domain: None, trust_domains: BTreeMap::new(), ..shop() };
    let found = imported(&from("namespaces: [a]"), &nowhere).unwrap_err();
    assert!(found.len() == 1 && found[0].contains("P207") && found[0].contains("--trust-domain"), "{found:#?}");
}

/// Half a policy is another policy: what could be carried over is not written when something could not.
#[test]
fn one_refusal_keeps_a_whole_mesh_from_being_written() {
    for (from, to) in [
        ("\"/metrics\", ", "\"/metrics*\", "),
        ("hosts: [\"shop.example\", \"shop.example:*\"]", "hosts: [\"shop.example\"]"),
        ("notPrincipals: [\"cluster.local/ns/ops/*\"]", "notPrincipals: [\"*/sa/ops\"]"),
        ("app: cart", "app: mail"),
    ] {
        assert!(MESH.contains(from), "{from}");
        let found = imported(&MESH.replacen(from, to, 1), &shop()).expect_err(to);
        assert_eq!(found.len(), 1, "{found:#?}");
    }
}
