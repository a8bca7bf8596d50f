//! Tests of `delivery.rs`.

use super::*;
use crate::explain;
use crate::messages::{self, crl};
use crate::pki::{API, Authority, Prod, prod};

const WEB: &str = "spiffe://prod.test/ns/eligibility/sa/web";

fn api(pki: &Prod) -> messages::Svid {
    messages::Svid::new(API, &pki.leaf, &pki.root)
}

fn read(response: &messages::Response) -> Result<Delivery, MessageError> {
    Delivery::read(7, &response.bytes())
}

fn refused(response: &messages::Response, label: &str, text: &str) {
    let error = read(response).unwrap_err();
    assert_eq!(error.label(), label);
    assert!(explain(&error).contains(text), "{}", explain(&error));
}

#[test]
fn a_message_is_taken_whole() {
    let (pki, partner) = (prod(), Authority::root("partner"));
    let both = [pki.root.der.to_vec(), pki.intermediate.der.to_vec()].concat();
    let svid = messages::Svid { bundle: both, ..api(&pki) };
    let response = messages::Response::of([svid]).federated("spiffe://partner.test", &partner.der);
    let delivery = read(&messages::Response { crl: vec![crl(&pki.root)], ..response }).unwrap();
    assert_eq!(delivery.number, 7);
    assert_eq!(delivery.svids[0].id.to_string(), API);
    assert_eq!(delivery.svids[0].chain, pki.leaf.chain);
    assert_eq!(delivery.svids[0].key.der().secret_pkcs8_der(), pki.leaf.key.serialize_der());
    let bundles: Vec<_> = delivery.bundles.iter().map(|(name, bundle)| (name.as_str(), bundle.to_vec())).collect();
    let own = vec![pki.root.der.clone(), pki.intermediate.der.clone()];
    assert_eq!(bundles, [("partner.test", vec![partner.der.clone()]), ("prod.test", own)]);
    assert_eq!(delivery.crls[0].as_ref(), crl_bytes(&delivery));
}

fn crl_bytes(delivery: &Delivery) -> &[u8] {
    let (rest, _) = CertificateRevocationList::from_der(&delivery.crls[0]).unwrap();
    assert!(rest.is_empty());
    &delivery.crls[0]
}

#[test]
fn the_first_that_fits_is_ours() {
    let pki = prod();
    let web = messages::Svid::new(WEB, &pki.intermediate.leaf(WEB), &pki.root);
    let second = messages::Svid::new(API, &pki.intermediate.leaf(API), &pki.root);
    let response = messages::Response::of([api(&pki).hinted("a"), web.hinted("b"), second.hinted("a")]);
    let delivery = read(&response).unwrap();
    let check = |choice: &Choice, place: Option<usize>| {
        let chosen = delivery.choose(choice).map(std::ptr::from_ref);
        assert_eq!(chosen, place.map(|place| std::ptr::from_ref(&delivery.svids[place])), "{choice}");
    };
    check(&Choice::First, Some(0));
    check(&Choice::Hint("a".to_owned()), Some(0));
    check(&Choice::Hint("b".to_owned()), Some(1));
    check(&Choice::Hint(String::new()), None);
    check(&Choice::Id(SpiffeId::new(API).unwrap()), Some(0));
    check(&Choice::Id(SpiffeId::new(WEB).unwrap()), Some(1));
    check(&Choice::Id(SpiffeId::new("spiffe://prod.test/other").unwrap()), None);
}

#[test]
fn the_key_is_never_shown() {
    let pki = prod();
    let text = format!("{:?}", read(&messages::Response::of([api(&pki)])).unwrap());
    assert!(text.contains(API) && !text.to_lowercase().contains("key"), "{text}");
}

#[test]
fn each_mandatory_field_has_to_be_there() {
    let pki = prod();
    refused(&messages::Response::default(), "no_svid", "no SVID");
    let check = |field: &str, clear: fn(&mut messages::Svid)| {
        let mut second = api(&pki);
        clear(&mut second);
        refused(
            &messages::Response::of([api(&pki), second]),
            "missing_field",
            &format!("SVID 2 of the message has no `{field}`"),
        );
    };
    check("spiffe_id", |svid| svid.spiffe_id.clear());
    check("x509_svid", |svid| svid.x509_svid.clear());
    check("x509_svid_key", |svid| svid.x509_svid_key.clear());
    check("bundle", |svid| svid.bundle.clear());
}

#[test]
fn one_bad_field_refuses_the_message() {
    let pki = prod();
    let check = |label: &str, text: &str, spoil: &dyn Fn(&mut messages::Response)| {
        let mut response = messages::Response::of([api(&pki), api(&pki)]);
        spoil(&mut response);
        refused(&response, label, text);
    };
    check("bad_spiffe_id", "SVID 2", &|response| response.svids[1].spiffe_id = "https://prod.test/a".to_owned());
    check("bad_spiffe_id", "a?b", &|response| response.svids[0].spiffe_id = "a\nb".to_owned());
    check("wrong_identity", WEB, &|response| response.svids[1].spiffe_id = WEB.to_owned());
    check("wrong_identity", "evil.test", &|response| {
        response.svids[0].spiffe_id = "spiffe://evil.test/ns/eligibility/sa/api".to_owned();
    });
    check("malformed_certificate", "certificate 3 in the chain of SVID 1", &|response| {
        response.svids[0].x509_svid.push(0);
    });
    check("malformed_certificate", "certificate 1 in the bundle of SVID 2", &|response| {
        response.svids[1].bundle.pop();
    });
    check("malformed_certificate", "the federated bundle of `partner.test`", &|response| {
        response.federated_bundles.insert("partner.test".to_owned(), vec![0x30]);
    });
    check("malformed_key", "SVID 1", &|response| response.svids[0].x509_svid_key = b"secret".to_vec());
    // SEC1, which is no PKCS#8.
    check("malformed_key", "SVID 2", &|response| response.svids[1].x509_svid_key = vec![0x30, 5, 2, 1, 1, 4, 0]);
    check("malformed_crl", "CRL 2", &|response| response.crl = vec![crl(&pki.root), b"no CRL".to_vec()]);
    check("malformed_crl", "CRL 1", &|response| response.crl = vec![[crl(&pki.root), vec![0]].concat()]);
    for name in ["", "spiffe://", "spiffe://partner.test/path", "https://partner.test", "a b"] {
        check("bad_trust_domain", "no trust domain", &|response| {
            response.federated_bundles.insert(name.to_owned(), Vec::new());
        });
    }
    check("too_many_entries", "hint", &|response| response.svids[1].hint = "x".repeat(MAX_HINT + 1));
    check("too_many_entries", "the bundle of SVID 1", &|response| {
        response.svids[0].bundle = pki.root.der.repeat(MAX_CERTIFICATES + 1);
    });
}

#[test]
fn two_bundles_for_one_trust_domain_are_the_same_or_refused() {
    let (pki, other) = (prod(), Authority::root("other"));
    let both = |roots: [&Authority; 2]| messages::Svid {
        bundle: roots.iter().flat_map(|root| root.der.to_vec()).collect(),
        ..api(&pki)
    };
    let same = messages::Response::of([both([&pki.root, &other]), both([&other, &pki.root])]);
    assert_eq!(read(&same).unwrap().bundles.len(), 1);
    let two = "two bundles for the trust domain";
    refused(&messages::Response::of([api(&pki), both([&pki.root, &other])]), "two_bundles", two);
    // Not even a federated bundle can replace the own one, or stand there in two spellings.
    refused(&messages::Response::of([api(&pki)]).federated("spiffe://prod.test", &other.der), "two_bundles", two);
    let spelt_twice = messages::Response::of([api(&pki)]).federated("spiffe://a.test", &other.der);
    refused(&spelt_twice.federated("a.test", &other.der), "two_bundles", two);
}

#[test]
fn a_leaf_that_is_no_svid_is_left_to_the_proof_of_the_one_that_is_chosen() {
    let pki = prod();
    let bare = pki.intermediate.leaf_with(WEB, |params| params.subject_alt_names.clear());
    let response = messages::Response::of([api(&pki), messages::Svid::new(WEB, &bare, &pki.root)]);
    assert_eq!(read(&response).unwrap().svids.len(), 2);
}
