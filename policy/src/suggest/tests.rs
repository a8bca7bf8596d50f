//! What hostile and odd traffic comes to, and what people get to read. What is allowed is a property in `tests/it`.

use super::*;
use crate::write::{Body, write};

fn id(text: &str) -> SpiffeId {
    SpiffeId::new(text).unwrap()
}

fn take(collector: &mut Collector, caller: &str, workload: &str, asked: Asked<'_>) -> Result<(), LeftOut> {
    let (caller, workload) = (id(caller), id(workload));
    collector.take(&Observed { caller: &caller, workload: &workload, port: 80, asked, at: 1_800_000_000 })
}

fn get(path: &str) -> Asked<'_> {
    Asked::Request { method: "GET", path, grpc: false }
}

fn text(collector: Collector) -> String {
    let suggestion = collector.finish().unwrap();
    let all: Vec<_> = suggestion.policies.into_iter().chain(suggestion.tests).collect();
    write(&all).unwrap()
}

#[test]
fn many_values_cost_what_a_few_do() {
    let mut collector = Collector::new(Options::default());
    for number in 0..100_000_u32 {
        let path = format!("/v1/members/{}/claims/{}", number % 1000, number);
        take(&mut collector, "spiffe://t/a", "spiffe://t/b", get(&path)).unwrap();
    }
    assert!(collector.spent < 10_000, "{}", collector.spent);
    let text = text(collector);
    assert!(text.contains(r#"paths: ["/v1/members/{id}/claims/{id}"]"#), "{text}");
    assert!(text.contains("100 or more values such as `0`, then 100 or more values such as `0`."), "{text}");
}

#[test]
fn a_flood_of_words_is_bounded_for_its_caller_and_told() {
    let mut collector = Collector::new(Options::default());
    let mut flooded = 0_u64;
    for number in 0..20_000_u32 {
        let path = format!("/x{number}");
        flooded +=
            u64::from(take(&mut collector, "spiffe://t/flood", "spiffe://t/b", get(&path)) == Err(LeftOut::Flood));
        take(&mut collector, "spiffe://t/good", "spiffe://t/b", get("/a")).unwrap();
    }
    assert!(flooded > 5_000, "{flooded}");
    let text = text(collector);
    let told =
        format!("# spiffe://t/flood asked for more different paths than anybody would review: {flooded} calls are not");
    assert!(text.contains(&told), "{}", &text[..1000]);
    assert!(text.contains("# 20000 requests"), "the other caller is covered");
}

#[test]
fn memory_is_bounded_however_many_callers_there_are() {
    let mut collector = Collector::new(Options::default());
    collector.spent = MOST_BYTES - 1;
    take(&mut collector, "spiffe://t/a", "spiffe://t/b", get("/a")).unwrap();
    assert_eq!(take(&mut collector, "spiffe://t/a", "spiffe://t/b", get("/a")), Err(LeftOut::TooMuch));
}

#[test]
fn more_than_a_policy_can_hold_is_an_error() {
    let mut collector = Collector::new(Options { enough: None, ..Options::default() });
    for number in 0..60_000_u32 {
        let caller = format!("spiffe://t/c{}", number % 10);
        take(&mut collector, &caller, "spiffe://t/b", get(&format!("/{number}"))).unwrap();
    }
    assert_eq!(collector.finish().unwrap_err(), TooManyPaths(id("spiffe://t/b")));
}

#[test]
fn what_no_policy_can_say_is_left_out() {
    let mut collector = Collector::new(Options::default());
    let deep = "/a".repeat(MOST_SEGMENTS + 1);
    for (asked, expected) in [
        (get("a"), Err(LeftOut::BadPath)),
        (get("/a%2fb"), Err(LeftOut::BadPath)),
        (get("/a\nb"), Err(LeftOut::BadPath)),
        (get("/a;b"), Err(LeftOut::DoubtfulPath)),
        (get("/a%3Ab"), Err(LeftOut::DoubtfulPath)),
        (get("/**"), Err(LeftOut::DoubtfulPath)),
        (get("/a/*/b"), Err(LeftOut::DoubtfulPath)),
        (get(&deep), Err(LeftOut::DeepPath)),
        (Asked::Request { method: "get", path: "/", grpc: false }, Err(LeftOut::BadMethod)),
        (Asked::Request { method: "G*T", path: "/", grpc: false }, Err(LeftOut::BadMethod)),
        (Asked::Request { method: &"G".repeat(33), path: "/", grpc: false }, Err(LeftOut::BadMethod)),
        // A wildcard of the language that is none when it is escaped.
        (get("/{id}"), Ok(())),
        // Brought to the form in which the proxy forwards it.
        (get("/x/../%61//b?c=/d"), Ok(())),
    ] {
        assert_eq!(take(&mut collector, "spiffe://t/a", "spiffe://t/b", asked), expected, "{asked:?}");
    }
    let text = text(collector);
    assert!(text.contains("paths: [/%7Bid%7D, /a/b]"), "{text}");
}

#[test]
fn words_that_only_others_asked_for_are_kept_from_a_pattern() {
    let mut collector = Collector::new(Options::default());
    for path in ["/m/1", "/m/2", "/m/3", "/m/search", "/m/4/x", "/m/5/x"] {
        take(&mut collector, "spiffe://t/a", "spiffe://t/b", get(path)).unwrap();
    }
    take(&mut collector, "spiffe://t/ops", "spiffe://t/b", get("/m/export")).unwrap();
    let text = text(collector);
    assert!(
        text.contains("# `/m/{id}`: 5 values such as `0`. It also matches `/m/search`, which were seen as well."),
        "{text}"
    );
    assert!(text.contains("paths: [\"/m/{id}\"], notPaths: [/m/export]"), "{text}");
    assert!(text.contains("paths: [\"/m/{id}/x\"]}"), "{text}");
}

#[test]
fn names_are_names_and_never_twice() {
    let long = format!("spiffe://t/ns/{}/sa/{}", "n".repeat(60), "s".repeat(60));
    let workloads = [
        "spiffe://t/ns/x/sa/api",
        "spiffe://u/ns/x/sa/api",
        "spiffe://t/_/..._",
        "spiffe://t/ns/X_/sa/a",
        "spiffe://t/vm",
        &long,
    ];
    let mut collector = Collector::new(Options::default());
    for workload in workloads {
        take(&mut collector, "spiffe://t/ns/x/sa/-", workload, get("/a")).unwrap();
        take(
            &mut collector,
            "spiffe://t/ns/x/sa/-",
            workload,
            Asked::Request { method: "PUT", path: "/b", grpc: false },
        )
        .unwrap();
    }
    let suggestion = collector.finish().unwrap();
    let names: Vec<_> = suggestion
        .policies
        .iter()
        .map(|document| match &document.body {
            Body::Policy(policy) => (policy.name.as_str(), policy.namespace.as_deref()),
            Body::Set(..) | Body::Test(..) => panic!("{document:?}"),
        })
        .collect();
    let cut = "n".repeat(44);
    let namespace = "n".repeat(60);
    let expected = [
        ("workload", None),
        ("X_-a", None),
        (cut.as_str(), Some(namespace.as_str())),
        ("x-api", Some("x")),
        ("vm", None),
        ("x-api-2", Some("x")),
    ];
    assert_eq!(names, expected);
    write(&suggestion.policies).unwrap();
    write(&suggestion.tests).unwrap();
}

#[test]
fn a_tree_does_not_show_the_order_of_its_paths() {
    let paths = ["/1/a/2", "/3/a/4", "/5/b", "/6/a/7", "/w/1", "/w/2", "/8/a/9/x", "/1/a/2"];
    let seen = Seen { count: 1, first: 0, last: 0 };
    let of = |order: &[usize]| {
        let mut tree = Tree::default();
        for index in order {
            tree.insert(paths[*index], seen, Some(3));
        }
        tree.branches().iter().map(|branch| format!("{branch:?}")).collect::<Vec<_>>()
    };
    let forward = of(&[0, 1, 2, 3, 4, 5, 6, 7]);
    for order in [[7, 6, 5, 4, 3, 2, 1, 0], [4, 0, 7, 2, 6, 1, 3, 5], [6, 5, 4, 0, 1, 7, 2, 3]] {
        assert_eq!(of(&order), forward);
    }
    assert_eq!(forward.len(), 5, "{forward:#?}");
}
