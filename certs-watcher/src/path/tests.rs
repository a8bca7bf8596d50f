//! Tests of `path.rs` and `ca_path.rs`, through `verify_peer`.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType};

use super::*;
use crate::bundle::tests::prod_trusts;
use crate::der::{SEQUENCE, wrap};
use crate::explain;
use crate::peer::Peer;
use crate::peer_error::PeerError;
use crate::pki::{API, Authority, DAY, HOUR, Leaf, NOW, at, extension, now, prod, set_validity};
use crate::verify::verify_peer;

const DNS: u8 = 0x82;
const DIRECTORY: u8 = 0xa4;
const URI: u8 = 0x86;

/// A NameConstraints extension with these permitted and excluded subtrees.
fn constraints(permitted: &[(u8, &str)], excluded: &[(u8, &str)]) -> rcgen::CustomExtension {
    let list = |tag, bases: &[(u8, &str)]| {
        let subtrees: Vec<u8> =
            bases.iter().flat_map(|(form, base)| wrap(SEQUENCE, &wrap(*form, base.as_bytes()))).collect();
        if bases.is_empty() { Vec::new() } else { wrap(tag, &subtrees) }
    };
    extension(&[2, 5, 29, 30], true, &wrap(SEQUENCE, &[list(0xa0, permitted), list(0xa1, excluded)].concat()))
}

fn permitting(host: &str) -> impl FnOnce(&mut CertificateParams) {
    let extension = constraints(&[(URI, host)], &[]);
    move |params| params.custom_extensions.push(extension)
}

fn verify(anchors: &[&Authority], leaf: &Leaf) -> Result<Arc<Peer>, PeerError> {
    let trust = prod_trusts(anchors);
    let client = verify_peer(&trust, Role::Client, &leaf.chain, now());
    assert_eq!(client, verify_peer(&trust, Role::Server, &leaf.chain, now()), "an SVID serves on both sides");
    client
}

fn refused(anchors: &[&Authority], leaf: &Leaf, label: &str) -> String {
    let error = verify(anchors, leaf).expect_err(label);
    assert_eq!(error.label(), label, "{}", explain(&error));
    explain(&error)
}

fn copy_of(key: &KeyPair) -> KeyPair {
    KeyPair::from_pem(&key.serialize_pem()).unwrap()
}

const PARTNER: &str = "spiffe://partner.test/ns/a/sa/b";

#[test]
fn an_intermediate_that_is_bound_to_one_trust_domain_vouches_for_that_alone() {
    let root = Authority::root("root");
    let prod = root.intermediate_with("prod", permitting("prod.test"));
    let peer = verify(&[&root], &prod.leaf(API)).unwrap();
    assert_eq!((peer.id.to_string().as_str(), peer.anchor), (API, Fingerprint::of(&root.der)));
    assert_eq!(peer.not_after, at(NOW + DAY));

    // The same under another: dev's intermediate, under the common root, claims to be prod.
    let dev = root.intermediate_with("dev", permitting("dev.test"));
    let text = refused(&[&root], &dev.leaf(API), "name_constraints");
    for part in ["CN=dev", "CN=leaf", "only `dev.test`", API] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let error = verify(&[&root], &dev.leaf(API)).unwrap_err();
    assert_eq!(error.certificate_error(), rustls::CertificateError::ApplicationVerificationFailure);
}

#[test]
fn permitted_and_excluded_hosts_and_domains_are_enforced() {
    let root = Authority::root("root");
    let check = |permitted: &[(u8, &str)], excluded: &[(u8, &str)], holds: bool| {
        let extension = constraints(permitted, excluded);
        let prod = root.intermediate_with("prod", |params| params.custom_extensions.push(extension));
        match holds {
            true => drop(verify(&[&root], &prod.leaf(API)).unwrap()),
            false => drop(refused(&[&root], &prod.leaf(API), "name_constraints")),
        }
    };
    check(&[(URI, "prod.test"), (URI, "other.test")], &[], true);
    check(&[(URI, ".test")], &[], true);
    check(&[(URI, ".prod.test")], &[], false);
    check(&[], &[(URI, "dev.test")], true);
    check(&[], &[(URI, "prod.test")], false);
    check(&[(URI, ".test")], &[(URI, "prod.test")], false);
    // What webpki judges stays with webpki, in the same extension or alone.
    check(&[(DNS, "prod.test")], &[], true);
    check(&[(DNS, "prod.test"), (URI, "prod.test")], &[], true);
    check(&[(URI, "prod.test"), (DIRECTORY, "0")], &[], false);
    check(&[(URI, "prod.test")], &[(DIRECTORY, "0")], false);
    check(&[(URI, "spiffe://prod.test")], &[], false);
    check(&[(URI, "")], &[], false);
}

#[test]
fn other_names_of_the_leaf_are_still_bound_by_the_same_extension() {
    let root = Authority::root("root");
    let extension = constraints(&[(URI, "prod.test"), (DNS, "prod.test")], &[]);
    let prod = root.intermediate_with("prod", |params| params.custom_extensions.push(extension));
    let named = |name: &str| {
        let name = SanType::DnsName(name.try_into().unwrap());
        prod.leaf_with(API, |params| params.subject_alt_names.push(name))
    };
    verify(&[&root], &named("api.prod.test")).unwrap();
    refused(&[&root], &named("api.dev.test"), "name_constraints");
}

#[test]
fn a_constrained_anchor_binds_all_below_it() {
    let root = Authority::root_with("root", permitting("prod.test"));
    let prod = root.intermediate("prod");
    verify(&[&root], &prod.leaf(API)).unwrap();
    let elsewhere = Authority::root_with("root", permitting("dev.test"));
    let text = refused(&[&elsewhere], &elsewhere.intermediate("prod").leaf(API), "name_constraints");
    assert!(text.contains("CN=root"), "{text}");
    // An intermediate as the anchor, with the same intermediate sent along.
    let constrained = Authority::root("top").intermediate_with("prod", permitting("prod.test"));
    verify(&[&constrained], &constrained.leaf(API)).unwrap();
    let wrong = Authority::root("top").intermediate_with("prod", permitting("dev.test"));
    refused(&[&wrong], &wrong.leaf(API), "name_constraints");
}

#[test]
fn constraints_hold_through_the_issuers_below_and_none_of_them_can_widen() {
    let root = Authority::root("root");
    let dev = root.intermediate_with("dev", permitting("dev.test"));
    let issuing = dev.intermediate_with("issuing", permitting("prod.test"));
    assert!(refused(&[&root], &issuing.leaf(API), "name_constraints").contains("CN=dev"));
    let wide = dev.intermediate_with("issuing", permitting(".test"));
    refused(&[&root], &wide.leaf(API), "name_constraints");
    let plain = dev.intermediate("issuing");
    refused(&[&root], &plain.leaf(API), "name_constraints");

    let outer = root.intermediate_with("outer", permitting(".test"));
    verify(&[&root], &outer.intermediate_with("inner", permitting("prod.test")).leaf(API)).unwrap();
    verify(&[&root], &outer.intermediate("a").intermediate("b").leaf(API)).unwrap();

    // A signing certificate is an SVID too, and its own name is bound.
    let named = |id: &str| {
        let name = crate::pki::uri(id);
        root.intermediate_with("outer", permitting("prod.test"))
            .intermediate_with("issuing", |params| params.subject_alt_names.push(name))
    };
    verify(&[&root], &named("spiffe://prod.test").leaf(API)).unwrap();
    refused(&[&root], &named("spiffe://dev.test").leaf(API), "name_constraints");
}

#[test]
fn whoever_holds_a_constrained_key_cannot_take_the_constraint_off() {
    let root = Authority::root("root");
    let key = KeyPair::generate().unwrap();
    let dev = root.certify("dev", copy_of(&key), permitting("dev.test"));
    // A certificate of the same name and key without the constraint, by dev itself, by a stranger, and self-signed.
    let by_dev = dev.certify("dev", copy_of(&key), |_| {});
    let by_stranger = Authority::root("root").certify("dev", copy_of(&key), |_| {});
    for unbound in [&by_dev, &by_stranger] {
        let mut leaf = unbound.leaf(API);
        assert!(verify(&[&root], &leaf).is_err());
        leaf.chain.push(dev.der.clone());
        assert!(verify(&[&root], &leaf).is_err());
    }
    // A constraint that a stranger claims does not make it an issuer.
    let claimed = Authority::root_with("prod", permitting("prod.test"));
    let mut leaf = claimed.leaf(API);
    leaf.chain.push(claimed.der.clone());
    refused(&[&root], &leaf, "unknown_issuer");
    leaf.chain.push(root.der.clone());
    refused(&[&root], &leaf, "unknown_issuer");
    let twin = Authority::root("root").intermediate_with("prod", permitting("prod.test"));
    refused(&[&root], &twin.leaf(API), "bad_signature");
}

#[test]
fn the_issuers_above_a_constrained_one_are_judged_as_webpki_would() {
    let root = Authority::root("root");
    let constrained = |upper: &Authority| upper.intermediate_with("prod", permitting("prod.test")).leaf(API);
    let issued = |edit: fn(&mut CertificateParams)| constrained(&root.intermediate_with("upper", edit));
    verify(&[&root], &issued(|_| {})).unwrap();
    refused(&[&root], &issued(|params| set_validity(params, NOW - DAY, NOW - 1)), "expired");
    refused(&[&root], &issued(|params| set_validity(params, NOW + 1, NOW + DAY)), "not_yet_valid");
    refused(&[&root], &issued(|params| params.is_ca = IsCa::NoCa), "bad_issuer");
    refused(&[&root], &issued(|params| params.key_usages = vec![KeyUsagePurpose::CrlSign]), "bad_issuer");
    let eku = |params: &mut CertificateParams| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    let text = refused_by_role(&root, &issued(eku));
    assert!(text.contains("CN=upper"), "{text}");
    let unknown =
        |params: &mut CertificateParams| params.custom_extensions.push(extension(&[1, 2, 3, 4], true, b"\x05\x00"));
    refused(&[&root], &issued(unknown), "invalid_chain");
    let narrow = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    refused(&[&root], &issued(narrow), "path_length");
    let wide = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    verify(&[&root], &issued(wide)).unwrap();

    // The same for the constrained one itself.
    let own = |edit: fn(&mut CertificateParams)| {
        root.intermediate_with("prod", |params| {
            permitting("prod.test")(params);
            edit(params);
        })
    };
    refused(&[&root], &own(|params| set_validity(params, NOW - DAY, NOW - 1)).leaf(API), "expired");
    refused(&[&root], &own(|params| params.key_usages = vec![KeyUsagePurpose::CrlSign]).leaf(API), "bad_issuer");
    verify(&[&root], &own(narrow).leaf(API)).unwrap();
    refused(&[&root], &own(narrow).intermediate("issuing").leaf(API), "path_length");
}

fn refused_by_role(root: &Authority, leaf: &Leaf) -> String {
    let trust = prod_trusts(&[root]);
    let errors = [Role::Client, Role::Server].map(|role| verify_peer(&trust, role, &leaf.chain, now()).unwrap_err());
    assert!(errors.iter().all(|error| error.label() == "issuer_purpose"), "{errors:?}");
    explain(&errors[0])
}

#[test]
fn an_expired_constrained_issuer_beside_its_renewal_does_no_harm() {
    let root = Authority::root("root");
    let key = KeyPair::generate().unwrap();
    let expired = root.certify("prod", copy_of(&key), |params| {
        permitting("prod.test")(params);
        set_validity(params, NOW - DAY, NOW - 1);
    });
    let renewed = root.certify("prod", key, permitting("prod.test"));
    let mut leaf = expired.leaf(API);
    leaf.chain.push(renewed.der.clone());
    verify(&[&root], &leaf).unwrap();
    leaf.chain.swap(1, 2);
    verify(&[&root], &leaf).unwrap();
    leaf.chain.remove(1);
    refused(&[&root], &leaf, "expired");
}

#[test]
fn constraints_on_other_names_bind_from_above_a_constrained_issuer() {
    let root = Authority::root("root");
    let dns = constraints(&[(DNS, "prod.test")], &[]);
    let upper = root.intermediate_with("upper", |params| params.custom_extensions.push(dns));
    let prod = upper.intermediate_with("prod", permitting("prod.test"));
    let named = |name: &str| {
        let name = SanType::DnsName(name.try_into().unwrap());
        prod.leaf_with(API, |params| params.subject_alt_names.push(name))
    };
    verify(&[&root], &prod.leaf(API)).unwrap();
    verify(&[&root], &named("api.prod.test")).unwrap();
    refused(&[&root], &named("api.dev.test"), "name_constraints");
    // From the anchor, too.
    let dns = constraints(&[(DNS, "prod.test")], &[]);
    let top = Authority::root_with("top", |params| params.custom_extensions.push(dns));
    let prod = top.intermediate_with("prod", permitting("prod.test"));
    let evil = SanType::DnsName("evil.test".try_into().unwrap());
    refused(&[&top], &prod.leaf_with(API, |params| params.subject_alt_names.push(evil.clone())), "name_constraints");
    // On the constrained issuer itself nobody would judge them.
    let odd = top.intermediate_with("prod", |params| {
        permitting("prod.test")(params);
        params.subject_alt_names.push(evil);
    });
    refused(&[&top], &odd.leaf(API), "name_constraints");
}

#[test]
fn an_anchor_is_judged_beyond_its_name_and_key() {
    let narrow = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let root = Authority::root_with("root", narrow);
    verify(&[&root], &root.leaf(API)).unwrap();
    let text = refused(&[&root], &root.intermediate("prod").leaf(API), "path_length");
    assert!(text.contains("CN=root"), "{text}");
    let root = Authority::root_with("root", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection];
    });
    refused_by_role(&root, &root.intermediate("prod").leaf(API));
}

#[test]
fn a_mesh_of_constrained_issuers_ends_in_bounded_time() {
    let root = Authority::root("root");
    let (a, b) = (Authority::root("a"), Authority::root("b"));
    let bound = |issuer: &Authority, name: &str| issuer.intermediate_with(name, permitting("prod.test"));
    let meshed: Vec<_> = (0..3).flat_map(|_| [bound(&b, "a"), bound(&a, "b")]).collect();
    let mut leaf = meshed[0].leaf(API);
    leaf.chain.truncate(1);
    leaf.chain.extend(meshed.iter().map(|authority| authority.der.clone()));
    let begin = std::time::Instant::now();
    assert!(verify(&[&root], &leaf).is_err());
    // Measured 8 ms unoptimized for both roles.
    assert!(begin.elapsed().as_millis() < 1000, "{:?}", begin.elapsed());
}

#[test]
fn a_foreign_identity_below_its_own_bound_issuer_needs_its_own_bundle() {
    let root = Authority::root("root");
    let partner = root.intermediate_with("partner", permitting("partner.test"));
    refused(&[&root], &partner.leaf(PARTNER), "foreign_trust_domain");
    let soon = root.intermediate_with("prod", |params| {
        permitting("prod.test")(params);
        set_validity(params, NOW - DAY, NOW + HOUR);
    });
    assert_eq!(verify(&[&root], &soon.leaf(API)).unwrap().not_after, at(NOW + HOUR));
    assert!(verify(&[&prod().root], &soon.leaf(API)).is_err());
}
