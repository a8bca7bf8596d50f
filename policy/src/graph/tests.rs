//! The graph of a small set in every format, what is hostile in it, and what is too much.

use super::*;
use crate::source::File;

fn compile(documents: &str) -> Policy {
    let files = [File { name: "p<i>.yaml", bytes: documents.as_bytes() }];
    Policy::compile(&files).unwrap_or_else(|found| panic!("{found}")).policy
}

const HEAD: &str = "apiVersion: policy.portcullis.dev/v1\nkind: ";

fn documents() -> String {
    format!(
        "{HEAD}AuthorizationPolicy
metadata: {{name: api}}
spec:
  target: {{identities: ['spiffe://t/ns/e/sa/api']}}
  allow:
    - {{name: reads, from: {{identities: ['spiffe://t/ns/c/sa/a'], identitySets: [s]}}, to: {{ports: [80], methods: [GET], paths: ['/v1/**']}}}}
    - {{name: ended, expires: '1970-01-01T00:00:01Z'}}
    - {{name: odd, from: {{identities: ['spiffe://t/ns/o/**']}}, when: {{headers: {{x-a: ['\"</script>\\ `|#]']}}}}}}
  deny:
    - {{name: never, from: {{identities: ['spiffe://t/ns/c/**']}}, to: {{paths: ['/v1/admin/**']}}}}
---
{HEAD}AuthorizationPolicy
metadata: {{name: all, namespace: q}}
spec: {{mode: audit, allow: [{{name: any}}]}}
---
{HEAD}IdentitySet
metadata: {{name: s}}
spec: {{identities: ['spiffe://t/ns/z/sa/z']}}
"
    )
}

fn graph(filter: Filter<'_>) -> Graph {
    Graph::of(&compile(&documents()), filter, 1000)
}

/// `caller > workload: what`, with `?` for audit and `!` for what may be denied.
fn drawn(graph: &Graph) -> Vec<String> {
    let line = |edge: &Edge| {
        let audit = if edge.mode == Mode::Audit { "?" } else { "" };
        let denied = if edge.narrowed.is_empty() { "" } else { "!" };
        let calls: Vec<&str> = edge.calls.iter().map(|call| call.what.as_str()).collect();
        format!("{} > {}: {}{audit}{denied}", graph.node(edge.from).1, graph.node(edge.to).1, calls.join("; "))
    };
    graph.edges.iter().map(line).collect()
}

#[test]
fn rules_in_force_become_edges() {
    let all = [
        "c/a > e/api: GET /v1/** :80!",
        "ns/o/** > e/api: if x-a=\"</script>\\ `|#]",
        "set s > e/api: GET /v1/** :80",
        "anyone > any workload of q: anything?",
    ];
    assert_eq!(drawn(&graph(Filter::default())), all);
    let of_q = Filter { namespace: Some("q"), workload: None };
    assert_eq!(drawn(&graph(of_q)), all[3..]);
    let of_z = Filter { namespace: Some("z"), workload: None };
    assert_eq!(drawn(&graph(of_z)), all[2..]);
    let api = SpiffeId::new("spiffe://t/ns/e/sa/api").unwrap();
    let of_api = Filter { namespace: None, workload: Some(&api) };
    assert_eq!(drawn(&graph(of_api)), all[..3]);
}

#[test]
fn policies_of_istio_are_drawn_alike() {
    let document = |metadata: &str, spec: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{{metadata}, namespace: e}}\n\
             spec: {{{spec}}}\n---\n"
        )
    };
    let rule = |account: &str| {
        format!(
            "rules: [{{from: [{{source: {{principals: [t/ns/c/sa/{account}]}}}}], to: [{{operation: {{ports: ['8080'], \
             methods: [GET], paths: [/v1/*]}}}}]}}]"
        )
    };
    let text = document("name: reads", &rule("a"))
        + &document("name: tried, annotations: {istio.io/dry-run: 'true'}", &rule("b"))
        + &document(
            "name: never",
            "action: DENY, rules: [{to: [{operation: {ports: ['8080'], paths: [/v1/admin*]}}]}]",
        )
        + &document("name: mark", "action: AUDIT, rules: [{}]")
        + &document("name: elsewhere", "selector: {matchLabels: {app: other}}, rules: [{}]");
    let graph = Graph::of(&compile(&text), Filter::default(), 1000);
    let what = "any workload of e: GET /v1/** :8080";
    assert_eq!(drawn(&graph), [format!("c/a > {what}!"), format!("c/b > {what}?")]);
}

#[test]
fn nothing_that_policies_name_breaks_out() {
    let graph = graph(Filter::default());
    for text in [graph.svg(), graph.html()] {
        assert!(!text.contains("x-a=\"<") && text.contains("if x-a=&quot;&lt;/script&gt;\\ `|#]"), "{text}");
    }
    assert_eq!(graph.html().matches("</script>").count(), 1);
    assert!(graph.dot().contains("if x-a=\\\"</script>\\\\ `|#]\\l"), "{}", graph.dot());
    assert!(graph.mermaid().contains("if x-a#61;#34;#60;/script#62;#92; #96;#124;#35;#93;"), "{}", graph.mermaid());
}

#[test]
fn what_is_too_much_is_drawn_by_namespace_and_counted() {
    let rules: String = (0..900)
        .map(|n| format!("    - {{name: r{n}, from: {{identities: ['spiffe://t/ns/n{}/sa/s{n}']}}}}\n", n % 450))
        .collect();
    let text = format!("{HEAD}AuthorizationPolicy\nmetadata: {{name: p}}\nspec:\n  allow:\n{rules}");
    let graph = Graph::of(&compile(&text), Filter::default(), 0);
    assert!(graph.is_grouped);
    assert_eq!((graph.edges.len(), graph.left_out), (MOST_EDGES, 50));
    assert_eq!(drawn(&graph)[0], "namespace n0 > any workload: 2 rules");
    assert!(graph.svg().contains("50 more edges are left out"));
}
