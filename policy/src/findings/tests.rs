//! Each finding with a row that triggers it, and a near miss that does not.

use super::*;

const HEAD: &str = "apiVersion: policy.portcullis.dev/v1\nkind: AuthorizationPolicy\nmetadata: {name: p}\nspec:\n";
const NOW: i64 = 1_800_000_000; // 2027-01-15T08:00:00Z

fn examined(text: &str, inventory: Option<&str>, sidecar: Option<&Sidecar>) -> Vec<Diagnostic> {
    let inventory = inventory.map(|text| Inventory::parse("inventory", text.as_bytes()).unwrap());
    let files = [File { name: "a.yaml", bytes: text.as_bytes() }];
    let question = Question { now: NOW, options: &Options::default(), inventory: inventory.as_ref(), sidecar };
    examine(&files, &question).unwrap_or_else(|found| panic!("{text}\n{found}")).iter().cloned().collect()
}

/// The codes of `rules` of one policy for `spiffe://t/ns/x/sa/a`, with their lines; a missing test is not told.
fn codes(rules: &str) -> Vec<(&'static str, usize)> {
    let text = format!("{HEAD}  target: {{identities: [spiffe://t/ns/x/sa/a]}}\n{rules}");
    let found = examined(&text, None, None);
    found.iter().filter(|one| one.code != UNTESTED).map(|one| (one.code, one.line)).collect()
}

/// Rules from one-line rules; the first stands in line 7.
fn rules(allow: &[&str], deny: &[&str]) -> String {
    let mut text = String::new();
    for (key, rules) in [("allow", allow), ("deny", deny)] {
        if !rules.is_empty() {
            text.push_str(&format!("  {key}:\n"));
        }
        for (number, rule) in rules.iter().enumerate() {
            text.push_str(&format!("    - {{name: {key}{number}, {rule}}}\n"));
        }
    }
    text
}

const A: &str = "from: {identities: [spiffe://t/ns/c/sa/a]}, to: {methods: [GET], paths: [/a]}";

/// Allow rules, deny rules, and what is found with its line.
type Row<'a> = (&'a [&'a str], &'a [&'a str], &'a [(&'a str, usize)]);

#[test]
fn rules_that_change_nothing() {
    let rows: &[Row<'_>] = &[
        (&[A, A], &[], &[(DUPLICATE, 8)]),
        (&[A, "from: {identities: [spiffe://t/ns/c/sa/a]}, to: {methods: [GET], paths: [/b]}"], &[], &[]),
        // Wider by caller, method and path, before or after.
        (
            &[A, "from: {identities: [spiffe://t/ns/c/**]}, to: {methods: [GET, HEAD], paths: [/**]}"],
            &[],
            &[(SHADOWED, 7)],
        ),
        (&["from: {identities: [spiffe://t/ns/c/*/*]}, to: {methods: [GET], paths: [/*]}", A], &[], &[(SHADOWED, 8)]),
        (&[A, "from: {identities: [spiffe://t/ns/c/*]}, to: {methods: [GET], paths: [/a]}"], &[], &[]),
        // What ends earlier covers nothing that goes on.
        (
            &[
                A,
                "expires: 2099-01-01T00:00:00Z, from: {identities: [spiffe://t/ns/c/**]}, to: {methods: [GET], paths: [/a]}",
            ],
            &[],
            &[],
        ),
        (
            &[
                "expires: 2099-01-01T00:00:00Z, from: {identities: [spiffe://t/ns/c/sa/a]}, to: {methods: [GET], paths: [/a]}",
                A,
            ],
            &[],
            &[(SHADOWED, 7)],
        ),
        // A deny rule by method, and by who is not named.
        (&[A], &["to: {paths: [/a]}"], &[(SWALLOWED, 7)]),
        (&[A], &["to: {paths: [/a], methods: [POST]}"], &[]),
        (&[A], &["from: {notIdentities: ['spiffe://t/ns/ops/sa/*']}, to: {paths: [/a]}"], &[(SWALLOWED, 7)]),
        (&[A], &["from: {notIdentities: ['spiffe://t/ns/*/sa/a']}, to: {paths: [/a]}"], &[]),
        (&[A], &["to: {paths: [/a]}", "to: {paths: [/**]}"], &[(SWALLOWED, 7), (SHADOWED, 9)]),
        // Headers, hosts, ports, networks, gRPC.
        (&[&format!("{A}, when: {{headers: {{x: [ab]}}}}")], &["when: {headers: {x: ['a*']}}"], &[(SWALLOWED, 7)]),
        (&[&format!("{A}, when: {{headers: {{x: [ab]}}}}")], &["when: {headers: {z: ['a*']}}"], &[]),
        (&[A], &["to: {grpc: {services: [a.B]}}", "to: {grpc: {services: [a.B], methods: [Get]}}"], &[(SHADOWED, 10)]),
        (&[A], &["to: {ports: [1]}", "to: {ports: [1, 2]}"], &[(SHADOWED, 9)]),
        (&[A], &["to: {hosts: ['*.example']}", "to: {hosts: [a.example]}"], &[(SHADOWED, 10)]),
        (&[A], &["from: {sources: [10.0.0.0/8]}", "from: {sources: [10.1.0.0/16]}"], &[(SHADOWED, 10)]),
        (&[A], &["from: {sources: [10.0.0.0/8]}", "from: {sources: [11.1.0.0/16]}"], &[]),
        // Contradictions.
        (
            &[
                "from: {identities: [spiffe://t/ns/c/sa/a], notIdentities: ['spiffe://t/ns/c/**']}, to: {methods: [GET]}",
            ],
            &[],
            &[(CONTRADICTION, 7)],
        ),
        (
            &["from: {identities: [spiffe://t/ns/c/sa/a], notIdentities: ['spiffe://t/ns/c/*']}, to: {methods: [GET]}"],
            &[],
            &[],
        ),
        // On opaque TCP it denies all the same.
        (&[A], &["to: {paths: [/z], notPaths: [/z]}"], &[]),
    ];
    for (allow, deny, expected) in rows {
        assert_eq!(codes(&rules(allow, deny)), *expected, "{allow:?} {deny:?}");
    }
}

#[test]
fn an_allow_rule_that_matches_nothing_closes_its_workloads_where_the_default_is_to_allow() {
    let text = HEAD.to_owned() + &rules(&[A, A], &["to: {paths: [/a]}"]);
    let files = [File { name: "a.yaml", bytes: text.as_bytes() }];
    let found = |default_action| {
        let options = Options { default_action, ..Options::default() };
        let question = Question { now: NOW, options: &options, inventory: None, sidecar: None };
        let found = examine(&files, &question).unwrap_or_else(|found| panic!("{found}"));
        found.iter().filter(|one| [SWALLOWED, DUPLICATE].contains(&one.code)).map(|one| one.code).collect::<Vec<_>>()
    };
    assert_eq!(found(DefaultAction::Deny), [SWALLOWED, DUPLICATE]);
    assert_eq!(found(DefaultAction::Allow), [DUPLICATE]);
}

#[test]
fn rules_of_other_policies_count_only_where_they_apply() {
    let one = |name: &str, spec: &str| {
        format!(
            "apiVersion: policy.portcullis.dev/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}}}\nspec:\n{spec}\n  allow:\n    - {{name: r, {A}}}\n---\n"
        )
    };
    let target = |id: &str| format!("  target: {{identities: ['{id}']}}");
    for (first, second, shadowed) in [
        (target("spiffe://t/ns/x/**"), target("spiffe://t/ns/x/sa/a"), 1),
        (target("spiffe://t/ns/y/**"), target("spiffe://t/ns/x/sa/a"), 0),
        (target("spiffe://t/ns/x/**") + "\n  mode: audit", target("spiffe://t/ns/x/sa/a"), 0),
    ] {
        let found = examined(&(one("wide", &first) + &one("narrow", &second)), None, None);
        let found: Vec<_> = found.iter().filter(|one| [SHADOWED, DUPLICATE].contains(&one.code)).collect();
        assert_eq!(found.len(), shadowed, "{first} {second} {found:?}");
    }
}

#[test]
fn rules_that_are_too_wide() {
    let rows: &[(&str, &[(&str, usize)])] = &[
        ("from: {identities: ['spiffe://t/**']}, to: {methods: [GET]}", &[(ANY_CALLER, 7)]),
        ("from: {identities: ['spiffe://t/ns/**']}, to: {methods: [GET]}", &[]),
        ("to: {methods: [GET]}", &[(ANY_CALLER, 7)]),
        ("from: {notIdentities: [spiffe://t/ns/c/sa/a]}, to: {methods: [GET]}", &[(ANY_CALLER, 7)]),
        ("from: {identities: [spiffe://t/ns/c/sa/a]}", &[(ANY_REQUEST, 7)]),
        ("from: {identities: [spiffe://t/ns/c/sa/a]}, to: {ports: [80], paths: ['/**']}", &[(ANY_REQUEST, 7)]),
        ("from: {identities: [spiffe://t/ns/c/sa/a]}, to: {ports: [5432]}", &[]),
        ("from: {identities: [spiffe://t/ns/c/sa/a]}, to: {paths: ['/a/**']}", &[]),
        ("from: {identities: [spiffe://dev/ns/c/sa/a]}, to: {methods: [GET]}", &[(OTHER_DOMAIN, 7)]),
        ("expires: 2027-01-15T08:00:00Z, to: {methods: [GET]}, from: {identities: [spiffe://t/c]}", &[(EXPIRED, 7)]),
        (
            "expires: 2027-01-29T08:00:00Z, to: {methods: [GET]}, from: {identities: [spiffe://t/c]}",
            &[(EXPIRES_SOON, 7)],
        ),
        ("expires: 2027-01-29T08:00:01Z, to: {methods: [GET]}, from: {identities: [spiffe://t/c]}", &[]),
    ];
    for (rule, expected) in rows {
        assert_eq!(codes(&rules(&[rule], &[])), *expected, "{rule}");
        // Denying is never too wide.
        let denied = codes(&rules(&[], &[rule]));
        assert!(denied.iter().all(|(code, _)| [EXPIRED, EXPIRES_SOON].contains(code)), "{rule} {denied:?}");
    }
}

#[test]
fn identities_that_nobody_has() {
    let text = format!(
        "{HEAD}  target: {{identities: [spiffe://t/ns/x/sa/a]}}\n{}",
        rules(
            &[
                "from: {identities: [spiffe://t/ns/claims/sa/adjudicater, 'spiffe://t/ns/gone/**']}, to: {methods: [GET]}"
            ],
            &[]
        )
    );
    let known = "# workloads\nspiffe://t/ns/x/sa/a\nspiffe://t/ns/claims/sa/adjudicator # claims\n\n";
    let found = examined(&text, Some(known), None);
    let found: Vec<_> = found.iter().filter(|one| one.code == UNKNOWN_IDENTITY).collect();
    let places: Vec<_> = found.iter().map(|one| (one.line, one.column)).collect();
    assert_eq!(places, [(7, 42), (7, 79)]);
    assert_eq!(found[0].help.as_deref(), Some("did you mean `spiffe://t/ns/claims/sa/adjudicator`?"));
    let more = format!("{known}spiffe://t/ns/claims/sa/adjudicater\nspiffe://t/ns/gone/sa/x\n");
    assert!(examined(&text, Some(&more), None).iter().all(|one| one.code != UNKNOWN_IDENTITY));
    for (wrong, line) in
        [("spiffe://t/a\nx\n", 2), ("spiffe://t/**", 1), ("# none\n", 0), ("", 0), ("spiffe://t/\u{1b}[31m", 1)]
    {
        let found = Inventory::parse("inventory", wrong.as_bytes()).unwrap_err();
        assert_eq!(found.iter().next().map(|one| (one.code, one.line)), Some((INVENTORY_LINE, line)), "{wrong}");
        assert!(!found.to_string().contains('\u{1b}'));
    }
}

#[test]
fn policies_without_a_test_and_rules_for_other_ports() {
    let policy = format!(
        "{HEAD}  target: {{identities: [spiffe://t/ns/x/sa/a]}}\n{}",
        rules(&["from: {identities: [spiffe://t/c]}, to: {ports: [80], methods: [GET]}"], &[])
    );
    let case = "---\napiVersion: policy.portcullis.dev/v1\nkind: PolicyTest\nmetadata: {name: p}\nspec:\n  cases:\n    - {name: c, caller: spiffe://t/c, workload: spiffe://t/ns/x/sa/a, connection: {port: 80}, expect: deny}\n";
    let other = case.replace("workload: spiffe://t/ns/x/sa/a", "workload: spiffe://t/ns/x/sa/b");
    let sidecar = |workload: &str, opaque: &[u16], http: &[u16]| Sidecar {
        workload: SpiffeId::new(workload).unwrap(),
        opaque: opaque.to_vec(),
        http: http.to_vec(),
        services: Vec::new(),
    };
    let a = "spiffe://t/ns/x/sa/a";
    for (text, sidecar, expected) in [
        (policy.clone(), None, vec![UNTESTED]),
        (policy.clone() + case, None, vec![]),
        (policy.clone() + &other, None, vec![UNTESTED]),
        (policy.clone() + case, Some(sidecar(a, &[80], &[])), vec![HTTP_ON_TCP]),
        (policy.clone() + case, Some(sidecar(a, &[], &[80])), vec![]),
        (policy.clone() + case, Some(sidecar("spiffe://t/ns/x/sa/z", &[80], &[])), vec![]),
        (policy + case, Some(sidecar(a, &[], &[81])), vec![PORT_NOT_SERVED]),
    ] {
        let found = examined(&text, None, sidecar.as_ref());
        assert_eq!(found.iter().map(|one| one.code).collect::<Vec<_>>(), expected, "{sidecar:?}");
    }
}

#[test]
fn services() {
    let service = |name: &str, spec: &str| {
        format!(
            "apiVersion: policy.portcullis.dev/v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{identities: [spiffe://t/ns/x/sa/a], {spec}}}\n---\n"
        )
    };
    let found = |text: &str, inventory: Option<&str>, sidecar: Option<&Sidecar>| -> Vec<String> {
        let found = examined(text, inventory, sidecar);
        found.iter().map(|one| format!("{} {} {}", one.code, one.line, one.message)).collect()
    };
    let http = "ports: [{port: 80, protocol: http}]";
    let around = service("around", &format!("hosts: ['*.x'], addresses: [10.0.0.0/8], {http}"));
    let within = |port: u16| {
        service(
            "within",
            &format!("hosts: [b.x, a.x.y], addresses: [10.1.0.0/16], ports: [{{port: {port}, protocol: http}}]"),
        )
    };
    assert_eq!(
        found(&(around.clone() + &within(80)), None, None),
        [
            "P161 8 Service `within` takes `10.1.0.0/16` on port 80 out of Service `around` (a.yaml:3)",
            "P161 8 Service `within` takes `b.x` on port 80 out of Service `around` (a.yaml:3)",
        ]
    );
    assert_eq!(found(&(around.clone() + &within(81)), None, None), [""; 0]);
    let own = service("own", &format!("hosts: [a.x, '*.x'], addresses: [10.0.0.0/8, 10.0.0.1], {http}"));
    assert_eq!(found(&own, None, None), [""; 0]);

    let opaque = "ports: [{port: 80, protocol: http}, {port: 5432, protocol: tcp}]";
    assert_eq!(
        found(&service("db", &format!("hosts: [db.x], {opaque}")), None, None),
        ["P160 3 Service `db` has opaque TCP on port 5432 and no addresses"]
    );
    assert_eq!(found(&service("db", &format!("hosts: [db.x], addresses: [10.0.0.1], {opaque}")), None, None), [""; 0]);

    assert_eq!(found(&around, Some("spiffe://t/ns/x/sa/a"), None), [""; 0]);
    assert_eq!(
        found(&around, Some("spiffe://t/ns/x/sa/b"), None),
        ["P130 4 no known workload has the identity `spiffe://t/ns/x/sa/a`"]
    );

    let named = |name: &str| Sidecar {
        workload: SpiffeId::new("spiffe://t/ns/x/sa/a").unwrap(),
        opaque: Vec::new(),
        http: Vec::new(),
        services: vec![ServiceName { namespace: None, name: name.into() }],
    };
    assert_eq!(found(&around, None, Some(&named("around"))), [""; 0]);
    assert_eq!(
        found(&around, None, Some(&named("arround"))),
        ["P162 0 no document defines the Service `arround`, which the sidecar's configuration names"]
    );
}

#[test]
fn callers_of_istio_that_no_known_workload_is() {
    let inventory =
        Inventory::parse("inventory", b"spiffe://prod.test/ns/claims/sa/api\nspiffe://prod.test/ns/ops/sa/cron\n");
    let inventory = inventory.unwrap();
    let found = |from: &str, cluster_local: Option<&str>| -> Vec<String> {
        let text = format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: claims}}\nspec:\n  \
             rules:\n    - {from}\n"
        );
        let files = [File { name: "a.yaml", bytes: text.as_bytes() }];
        let options = Options { cluster_local: cluster_local.map(|name| name.parse().unwrap()), ..Options::default() };
        let question = Question { now: NOW, options: &options, inventory: Some(&inventory), sidecar: None };
        let found = examine(&files, &question).unwrap_or_else(|found| panic!("{text}\n{found}"));
        let found = found.iter().filter(|one| one.code == UNKNOWN_IDENTITY);
        found.map(|one| format!("{}; {}", one.message, one.help.as_deref().unwrap_or_default())).collect()
    };
    let source = |source: &str| format!("from: [{{source: {{{source}}}}}]");
    for known in [
        "principals: [prod.test/ns/claims/sa/api, 'prod.test/ns/*', '*/sa/cron', '*']",
        "namespaces: [claims, 'op*']",
        "serviceAccounts: [api, ops/cron]",
        "trustDomains: [prod.test, 'prod.*']",
    ] {
        assert_eq!(found(&source(known), None), [""; 0], "{known}");
    }
    let add = "correct it, or add it to the inventory";
    for (from, expected) in [
        (
            source("principals: [prod.test/ns/claims/sa/apj]"),
            "has the principal `prod.test/ns/claims/sa/apj`; did you mean `prod.test/ns/claims/sa/api`?".to_owned(),
        ),
        (source("notPrincipals: ['test.test/*']"), format!("matches the principal `test.test/*`; {add}")),
        (source("principals: ['*/sa/ap']"), format!("matches the principal `*/sa/ap`; {add}")),
        (source("namespaces: [op]"), format!("has the namespace `op`; {add}")),
        (source("notNamespaces: ['x*']"), format!("matches the namespace `x*`; {add}")),
        // An account in the policy's own namespace.
        (source("serviceAccounts: [cron]"), format!("has the service account `cron`; {add}")),
        (source("trustDomains: [test.test]"), format!("has the trust domain `test.test`; {add}")),
        (
            "when: [{key: source.principal, values: [prod.test/ns/ops/sa/x]}]".to_owned(),
            "has the principal `prod.test/ns/ops/sa/x`".to_owned(),
        ),
        (
            "when: [{key: source.serviceAccount, notValues: [ops/api]}]".to_owned(),
            format!("has the service account `ops/api`; {add}"),
        ),
    ] {
        let found = found(&from, None);
        assert_eq!(found.len(), 1, "{from}: {found:?}");
        assert!(found[0].contains(&expected), "{from}: {found:?}");
    }
    let local = source("principals: [cluster.local/ns/claims/sa/api]");
    assert_eq!(found(&local, None).len(), 1);
    assert_eq!(found(&local, Some("prod.test")), [""; 0]);
}
