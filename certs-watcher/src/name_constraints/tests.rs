//! Tests of `name_constraints.rs`.

use super::*;
use crate::der::wrap;

fn subtree(tag: u8, base: &str) -> Vec<u8> {
    wrap(SEQUENCE, &wrap(tag, base.as_bytes()))
}

fn subtrees(bases: &[(u8, &str)]) -> Vec<u8> {
    bases.iter().flat_map(|(tag, base)| subtree(*tag, base)).collect()
}

fn parsed(permitted: &[(u8, &str)], excluded: &[(u8, &str)]) -> Result<NameConstraints, UnreadableConstraints> {
    let mut content = Vec::new();
    if !permitted.is_empty() {
        content.extend(wrap(PERMITTED, &subtrees(permitted)));
    }
    if !excluded.is_empty() {
        content.extend(wrap(EXCLUDED, &subtrees(excluded)));
    }
    NameConstraints::parse(&content)
}

const DNS: u8 = 0x82;

#[test]
fn hosts_and_domains_are_told_apart() {
    let check = |permitted: &str, uri: &str, expected: bool| {
        let constraints = parsed(&[(URI, permitted)], &[]).unwrap();
        assert_eq!(constraints.uris().unwrap().judge(uri).is_ok(), expected, "{permitted} {uri}");
        // What is permitted alone is refused where it is excluded, and the other way round, but for what has no host.
        let constraints = parsed(&[], &[(URI, permitted)]).unwrap();
        let excluded = constraints.uris().unwrap().judge(uri);
        assert!(
            excluded.is_err() == expected || matches!(excluded, Err(Violation::NoHost { .. })),
            "{permitted} {uri}"
        );
    };
    check("prod.test", "spiffe://prod.test/ns/a", true);
    check("PROD.test", "spiffe://prod.TEST/ns/a", true);
    check("prod.test", "spiffe://a.prod.test/ns/a", false);
    check("prod.test", "spiffe://xprod.test/ns/a", false);
    check("prod.test", "spiffe://prod.test.evil/ns/a", false);
    check("prod.test", "spiffe://evil/prod.test", false);
    check("prod.test", "https://user@prod.test:8443/x?y#z", true);
    check("prod.test", "https://prod.test@evil/", false);
    check("prod.test", "https://prod.test?x", true);
    check("prod.test", "https://evil#@prod.test/", false);
    check(".test", "spiffe://prod.test/a", true);
    check(".test", "spiffe://a.b.test/a", true);
    check(".test", "spiffe://test/a", false);
    check(".test", "spiffe://.test/a", false);
    check(".test", "spiffe://xtest/a", false);
    check("test", "urn:test", false);
    check("test", "spiffe:///test", false);
    check("10.0.0.1", "https://10.0.0.1/", false);
    check("a", "https://[::1]/", false);
}

#[test]
fn one_permitted_subtree_of_several_is_enough_and_an_exclusion_is_stronger() {
    let constraints = parsed(&[(URI, "a.test"), (URI, ".b.test")], &[(URI, "x.b.test")]).unwrap();
    let judge = |uri| constraints.uris().unwrap().judge(uri);
    assert_eq!(judge("spiffe://a.test/w"), Ok(()));
    assert_eq!(judge("spiffe://y.b.test/w"), Ok(()));
    assert!(matches!(judge("spiffe://x.b.test/w"), Err(Violation::Excluded { .. })));
    assert!(matches!(judge("spiffe://c.test/w"), Err(Violation::NotPermitted { .. })));
    assert_eq!(constraints.uris().unwrap().to_string(), "only `a.test`, `.b.test`, not `x.b.test`");
}

#[test]
fn other_forms_are_left_for_webpki_as_they_stand() {
    let constraints = parsed(&[(DNS, "a.test"), (URI, "a.test"), (DNS, "b.test")], &[(DNS, "c.test")]).unwrap();
    let expected = parsed(&[(DNS, "a.test"), (DNS, "b.test")], &[(DNS, "c.test")]).unwrap();
    assert_eq!(constraints.others(), expected.others());
    let whole = [
        wrap(PERMITTED, &subtrees(&[(DNS, "a.test"), (DNS, "b.test")])),
        wrap(EXCLUDED, &subtrees(&[(DNS, "c.test")])),
    ];
    assert_eq!(constraints.others().unwrap(), whole.concat());
    assert!(expected.uris().is_none());
    assert!(parsed(&[(URI, "a.test")], &[]).unwrap().others().is_none());
}

#[test]
fn what_cannot_be_judged_permits_nothing() {
    for host in ["", ".", "*.test", "spiffe://prod.test", "prod.test/", "prod.test.", "a..b", "prod test", "pr\u{f6}d"]
    {
        assert!(matches!(parsed(&[(URI, host)], &[]), Err(UnreadableConstraints::Host { .. })), "{host}");
        assert!(matches!(parsed(&[], &[(URI, host)]), Err(UnreadableConstraints::Host { .. })), "{host}");
    }
    let minimum = wrap(SEQUENCE, &[wrap(URI, b"a.test"), vec![0x80, 1, 1]].concat());
    let twice = [wrap(PERMITTED, &subtree(URI, "a")), wrap(PERMITTED, &subtree(URI, "b"))].concat();
    for content in [wrap(PERMITTED, &minimum), twice, vec![0x30], wrap(0xa2, &[]), wrap(PERMITTED, &wrap(0x31, &[]))] {
        assert_eq!(NameConstraints::parse(&content), Err(UnreadableConstraints::Malformed));
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_end_in_a_verdict(content in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200), uri in ".{0,80}") {
        if let Ok(constraints) = NameConstraints::parse(&content)
            && let Some(uris) = constraints.uris()
        {
            let _ = uris.judge(&uri);
        }
    }
}
