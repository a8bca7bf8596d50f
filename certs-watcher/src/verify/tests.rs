//! Tests of `verify.rs`.

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};
use rustls::CertificateError;
use rustls_pki_types::pem::PemObject;

use proptest::prelude::*;
use spiffe::{SpiffeId, TrustDomain};

use super::*;
use crate::bundle::Bundle;
use crate::bundle::tests::{bundle, prod_trusts};
use crate::certificate::Fingerprint;
use crate::deny_list::DenyList;
use crate::der::wrap;
use crate::pki::{API, Authority, DAY, HOUR, Leaf, NOW, Prod, at, now, prod, set_validity};
use crate::revocation::tests::list_of;
use crate::revocation::{Crl, Revocation, RevocationPolicy};

fn verify_at(trust: &Trust, leaf: &Leaf, seconds: u64) -> Result<Arc<Peer>, PeerError> {
    let client = verify_peer(trust, Role::Client, &leaf.chain, at(seconds));
    let server = verify_peer(trust, Role::Server, &leaf.chain, at(seconds));
    assert_eq!(client, server, "an SVID serves on both sides");
    client
}

fn refused(trust: &Trust, leaf: &Leaf, label: &str) -> PeerError {
    refused_at(trust, leaf, NOW, label)
}

fn refused_at(trust: &Trust, leaf: &Leaf, seconds: u64, label: &str) -> PeerError {
    let error = verify_at(trust, leaf, seconds).expect_err(label);
    assert_eq!(error.label(), label, "{error}");
    error
}

#[test]
fn a_good_chain_gives_a_peer() {
    let pki = prod();
    let peer = verify_at(&prod_trusts(&[&pki.root]), &pki.leaf, NOW).unwrap();
    assert_eq!(peer.id.to_string(), API);
    assert_eq!((peer.serial.as_str(), peer.issuer.as_str(), peer.subject.as_str()), ("0abc", "CN=prod", "CN=leaf"));
    assert_eq!((peer.not_before, peer.not_after), (at(NOW - HOUR), at(NOW + DAY)));
    assert_eq!(peer.fingerprint, Fingerprint::of(&pki.leaf.chain[0]));
    assert_eq!(peer.anchor, Fingerprint::of(&pki.root.der));
    assert_eq!(*peer.chain, *pki.leaf.chain);
}

#[test]
fn an_open_connection_is_judged_by_the_same_function() {
    let pki = prod();
    let peer = verify_at(&prod_trusts(&[&pki.root]), &pki.leaf, NOW).unwrap();
    let again = |trust: &Trust, seconds| prove_again(trust, Role::Client, &peer, &peer.proof, at(seconds));
    let other = Authority::root("other");
    assert_eq!(again(&prod_trusts(&[&pki.root, &other]), NOW + 1).unwrap().path, peer.proof.path);
    assert_eq!(again(&prod_trusts(&[&other]), NOW).unwrap_err().label(), "unknown_issuer");
    assert_eq!(again(&prod_trusts(&[&pki.root]), NOW + DAY + 1).unwrap_err().label(), "expired");
}

#[test]
fn a_peer_ends_with_the_soonest_of_its_path() {
    let root = Authority::root_with("root", |params| set_validity(params, NOW - DAY, NOW + 3 * HOUR));
    let prod = root.intermediate_with("prod", |params| set_validity(params, NOW - DAY, NOW + 2 * HOUR));
    let long = prod.leaf(API);
    assert_eq!(verify_at(&prod_trusts(&[&root]), &long, NOW).unwrap().not_after, at(NOW + 2 * HOUR));
    assert_eq!(verify_at(&prod_trusts(&[&prod]), &long, NOW).unwrap().not_after, at(NOW + 2 * HOUR));
    let by_root = root.leaf(API);
    assert_eq!(verify_at(&prod_trusts(&[&root]), &by_root, NOW).unwrap().not_after, at(NOW + 3 * HOUR));
}

#[test]
fn dev_cannot_speak_for_prod_under_one_root() {
    let pki = prod();
    let dev = pki.root.intermediate("dev");
    let forged = dev.leaf(API);
    let trust = Trust::new([bundle("prod.test", &[&pki.intermediate]), bundle("dev.test", &[&dev])]);
    let error = refused(&trust, &forged, "unknown_issuer");
    assert_eq!(error.certificate_error(), CertificateError::UnknownIssuer);
    verify_at(&trust, &pki.leaf, NOW).unwrap();
    verify_at(&trust, &dev.leaf("spiffe://dev.test/a"), NOW).unwrap();

    // Not even with the name of prod's intermediate, or with the true one sent along.
    let twin = pki.root.intermediate("prod");
    assert_eq!(refused(&trust, &twin.leaf(API), "bad_signature").certificate_error(), CertificateError::BadSignature);
    let mut along = forged;
    along.chain.push(pki.intermediate.der.clone());
    refused(&trust, &along, "unknown_issuer");
}

#[test]
fn a_foreign_trust_domain_is_named_with_the_remedy() {
    let pki = prod();
    let error =
        refused(&prod_trusts(&[&pki.root]), &pki.intermediate.leaf("spiffe://partner.test/a"), "foreign_trust_domain");
    let text = error.to_string();
    assert!(text.contains("spiffe://partner.test/a") && text.contains("add `partner.test` to `trust`"), "{text}");
    assert_eq!(error.certificate_error(), CertificateError::UnknownIssuer);
    refused(&Trust::new([]), &pki.leaf, "foreign_trust_domain");
}

#[test]
fn time_is_told_with_both_times() {
    let pki = prod();
    let trust = prod_trusts(&[&pki.root]);
    verify_at(&trust, &pki.leaf, NOW + DAY).unwrap();
    let error = refused_at(&trust, &pki.leaf, NOW + DAY + 1, "expired");
    let text = crate::explain(&error);
    assert!(text.contains("2027-01-16T08:00:00Z") && text.contains("2027-01-16T08:00:01Z"), "{text}");
    assert!(text.contains("CN=leaf") && text.contains("0abc") && text.contains(API), "{text}");
    assert_eq!(error.certificate_error(), CertificateError::Expired);
    let error = refused_at(&trust, &pki.leaf, NOW - HOUR - 1, "not_yet_valid");
    assert_eq!(error.certificate_error(), CertificateError::NotValidYet);

    let stale = pki.root.intermediate_with("stale", |params| set_validity(params, NOW - DAY, NOW - 1));
    let error = refused(&trust, &stale.leaf(API), "expired");
    assert!(crate::explain(&error).contains("CN=stale"), "{error}");
}

#[test]
fn an_expired_anchor_is_not_used() {
    let old = Authority::root_with("old", |params| set_validity(params, NOW - DAY, NOW + HOUR));
    let leaf = old.intermediate("prod").leaf(API);
    let trust = prod_trusts(&[&old]);
    verify_at(&trust, &leaf, NOW + HOUR).unwrap();
    let error = refused_at(&trust, &leaf, NOW + HOUR + 1, "anchor_not_valid");
    assert!(crate::explain(&error).contains("CN=old"), "{error}");
    assert_eq!(error.certificate_error(), CertificateError::UnknownIssuer);
}

#[test]
fn an_expired_intermediate_or_anchor_beside_its_renewal_does_no_harm() {
    let root = Authority::root("root");
    let key = KeyPair::generate().unwrap();
    let copy = KeyPair::from_pem(&key.serialize_pem()).unwrap();
    let expired = root.certify("prod", key, |params| set_validity(params, NOW - DAY, NOW - 1));
    let renewed = root.certify("prod", copy, |_| {});
    let mut leaf = expired.leaf(API);
    leaf.chain.push(renewed.der.clone());
    verify_at(&prod_trusts(&[&root]), &leaf, NOW).unwrap();

    leaf.chain.truncate(1);
    verify_at(&prod_trusts(&[&expired, &renewed]), &leaf, NOW).unwrap();
    refused(&prod_trusts(&[&expired]), &leaf, "anchor_not_valid");
}

#[test]
fn roots_overlap() {
    let (old, new) = (Authority::root("root"), Authority::root("root"));
    let (by_old, by_new) = (old.intermediate("prod").leaf(API), new.intermediate("prod").leaf(API));
    let both = prod_trusts(&[&old, &new]);
    assert_eq!(verify_at(&both, &by_old, NOW).unwrap().anchor, Fingerprint::of(&old.der));
    assert_eq!(verify_at(&both, &by_new, NOW).unwrap().anchor, Fingerprint::of(&new.der));
    refused(&prod_trusts(&[&new]), &by_old, "bad_signature");
}

#[test]
fn an_issuer_must_be_one() {
    let root = Authority::root("root");
    let trust = prod_trusts(&[&root]);
    let issued = |edit: fn(&mut CertificateParams)| root.intermediate_with("prod", edit).leaf(API);
    let error = refused(&trust, &issued(|params| params.key_usages = vec![KeyUsagePurpose::CrlSign]), "bad_issuer");
    assert_eq!(error.certificate_error(), CertificateError::BadEncoding);
    verify_at(&trust, &issued(|params| params.key_usages.clear()), NOW).unwrap();
    refused(&trust, &issued(|params| params.is_ca = IsCa::NoCa), "invalid_chain");
    refused(&trust, &issued(|params| params.is_ca = IsCa::ExplicitNoCa), "invalid_chain");
    let narrow = root.intermediate_with("a", |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    refused(&trust, &narrow.intermediate("b").leaf(API), "invalid_chain");
}

#[test]
fn a_leaf_that_is_no_svid_is_refused_in_the_handshake() {
    let pki = prod();
    let trust = prod_trusts(&[&pki.root]);
    let issued = |edit: fn(&mut CertificateParams)| pki.intermediate.leaf_with(API, edit);
    refused(&trust, &issued(|params| params.subject_alt_names.clear()), "no_spiffe_id");
    refused(&trust, &issued(|params| params.key_usages.push(KeyUsagePurpose::KeyCertSign)), "leaf_signs_certificates");
    let half = issued(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    let error = refused(&trust, &half, "missing_client_auth");
    assert_eq!(error.certificate_error(), CertificateError::InvalidPurpose);
    assert!(crate::explain(&error).contains("usages: [digital signature, server auth, client auth]"));
    refused(&trust, &issued(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), "leaf_is_ca");
}

#[test]
fn small_rsa_keys_are_refused() {
    let weak = CertificateDer::from_pem_slice(include_bytes!("../../tests/data/throwaway-rsa1024.crt")).unwrap();
    let pki = prod();
    let error = verify_peer(&prod_trusts(&[&pki.root]), Role::Client, &[weak], now()).unwrap_err();
    assert!(matches!(error, PeerError::WeakKey { bits: 1024, .. }), "{error}");
}

#[test]
fn a_chain_out_of_bounds_is_refused_before_it_is_worked_on() {
    let pki = prod();
    let trust = prod_trusts(&[&pki.root]);
    let check =
        |chain: Vec<CertificateDer<'static>>| verify_peer(&trust, Role::Client, &chain, now()).unwrap_err().label();
    assert_eq!(check(Vec::new()), "no_certificate");
    assert_eq!(check(vec![pki.leaf.chain[0].clone(); 9]), "too_many_certificates");
    assert_eq!(check(vec![pki.leaf.chain[0].clone(), vec![0; 70_000].into()]), "chain_too_large");
    assert_eq!(check(vec![vec![0x30, 0].into()]), "malformed_certificate");
    assert_eq!(check(vec![Vec::new().into()]), "malformed_certificate");
}

#[test]
fn issuers_that_can_be_put_in_many_orders_end_in_bounded_time() {
    let pki = prod();
    let trust = prod_trusts(&[&pki.root]);
    let chain_of = |authorities: Vec<Authority>| {
        let mut leaf = authorities[0].leaf(API);
        leaf.chain.truncate(1);
        leaf.chain.extend(authorities.iter().map(|authority| authority.der.clone()));
        leaf
    };
    let same_name = chain_of((0..7).map(|_| Authority::root("mesh")).collect());
    refused(&trust, &same_name, "chain_too_complex");

    // Two names that vouch for each other, each three times.
    let (a, b) = (Authority::root("a"), Authority::root("b"));
    let meshed = (0..3).flat_map(|_| [b.intermediate("a"), a.intermediate("b")]).collect();
    let begin = std::time::Instant::now();
    refused(&trust, &chain_of(meshed), "unknown_issuer");
    // Measured 6 ms unoptimized for both roles; without the bound on names it is half a second.
    assert!(begin.elapsed().as_millis() < 1000, "{:?}", begin.elapsed());
}

#[test]
fn what_a_peer_writes_cannot_break_a_log_line() {
    let pki = prod();
    let leaf = pki.intermediate.leaf_with("spiffe://elsewhere.test/a", |params| {
        params.distinguished_name = crate::pki::named(&format!("x\n{}", "y".repeat(1000)));
    });
    let text = refused(&prod_trusts(&[&pki.root]), &leaf, "foreign_trust_domain").to_string();
    assert!(!text.contains('\n') && text.len() < 800, "{text}");
}

/// What the cache is tried with: a world of chains, good and bad, and of trusts that differ in what they take away.
struct Pool {
    chains: Vec<Vec<CertificateDer<'static>>>,
    trusts: Vec<fn() -> Trust>,
}

static PKI: std::sync::LazyLock<Prod> = std::sync::LazyLock::new(prod);

fn pool() -> Pool {
    let constrained = |host: &[u8]| {
        let content = wrap(0x30, &wrap(0xa0, &wrap(0x30, &wrap(0x86, host))));
        let bound = crate::pki::extension(&[2, 5, 29, 30], true, &content);
        PKI.root.intermediate_with("bound", |params| params.custom_extensions.push(bound)).leaf(API).chain
    };
    let soon = PKI.root.intermediate_with("soon", |params| set_validity(params, NOW - DAY, NOW + HOUR));
    let servers_only = PKI.root.intermediate_with("servers", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let half = PKI.intermediate.leaf_with(API, |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let chains = vec![
        PKI.leaf.chain.clone(),
        PKI.intermediate.leaf(API).chain,
        PKI.intermediate.leaf("spiffe://prod.test/ns/a/sa/b").chain,
        PKI.intermediate.leaf("spiffe://partner.test/ns/a/sa/b").chain,
        Authority::root("root").intermediate("prod").leaf(API).chain,
        constrained(b"prod.test"),
        constrained(b"dev.test"),
        soon.leaf(API).chain,
        half.chain,
        servers_only.leaf(API).chain,
    ];
    let trusts: Vec<fn() -> Trust> = vec![
        || prod_trusts(&[&PKI.root]),
        || prod_trusts(&[&PKI.intermediate]),
        || prod_trusts(&[&Authority::root("root")]),
        || Trust::new([]),
        || {
            let list = Crl::parse(&list_of(&PKI.root, &[&PKI.intermediate.der])).unwrap();
            let revocation = Arc::new(Revocation::new(vec![list], RevocationPolicy::default()));
            prod_trusts(&[&PKI.root]).with_revocations([(TrustDomain::new("prod.test").unwrap(), revocation)])
        },
        || {
            let mut denied = DenyList::default();
            denied.deny_identity(SpiffeId::new(API).unwrap(), "drill".to_owned());
            prod_trusts(&[&PKI.root]).with_deny_list(Arc::new(denied))
        },
    ];
    Pool { chains, trusts }
}

/// One question: which chain, changed how, under which trust, in which role, when.
type Question = (usize, Change, usize, bool, u64);

#[derive(Clone, Debug)]
enum Change {
    Nothing,
    FlipBit(usize, usize, u8),
    Truncate(usize),
    Swap(usize, usize),
    Repeat(usize),
    Borrow(usize, usize),
}

fn changed(pool: &Pool, chain: usize, change: &Change) -> Vec<CertificateDer<'static>> {
    let mut chain = pool.chains[chain].clone();
    let length = chain.len();
    match *change {
        Change::Nothing => {}
        Change::FlipBit(at, byte, bit) => {
            let mut bytes = chain[at % length].to_vec();
            let position = byte % bytes.len();
            bytes[position] ^= 1 << (bit % 8);
            chain[at % length] = bytes.into();
        }
        Change::Truncate(left) => chain.truncate(left % (length + 1)),
        Change::Swap(a, b) => chain.swap(a % length, b % length),
        Change::Repeat(at) => chain.push(chain[at % length].clone()),
        Change::Borrow(other, at) => {
            let other = &pool.chains[other % pool.chains.len()];
            chain.push(other[at % other.len()].clone());
        }
    }
    chain
}

fn questions() -> impl Strategy<Value = Vec<Question>> {
    let change = prop_oneof![
        6 => Just(Change::Nothing),
        2 => (any::<usize>(), any::<usize>(), any::<u8>()).prop_map(|(at, byte, bit)| Change::FlipBit(at, byte, bit)),
        1 => any::<usize>().prop_map(Change::Truncate),
        1 => (any::<usize>(), any::<usize>()).prop_map(|(a, b)| Change::Swap(a, b)),
        1 => any::<usize>().prop_map(Change::Repeat),
        1 => (any::<usize>(), any::<usize>()).prop_map(|(other, at)| Change::Borrow(other, at)),
    ];
    let moment = prop_oneof![
        Just(NOW),
        Just(NOW + HOUR),
        Just(NOW + HOUR + 1),
        Just(NOW + DAY),
        Just(NOW + DAY + 1),
        Just(NOW - DAY)
    ];
    proptest::collection::vec((0..10_usize, change, 0..6_usize, any::<bool>(), moment), 1..40)
}

#[test]
fn a_chain_that_was_proven_is_not_proven_again() {
    let pki = prod();
    let trust = prod_trusts(&[&pki.root]);
    let verify = |role| verify_peer(&trust, role, &pki.leaf.chain, now()).unwrap();
    let first = verify(Role::Client);
    assert!(Arc::ptr_eq(&first, &verify(Role::Client)));
    assert!(!Arc::ptr_eq(&first, &verify(Role::Server)));
}

/// Whether a peer that was proven under one trust counts as proven under the next without another look at its chain.
fn is_remembered(before: &Trust, next: Trust, chain: &[CertificateDer<'static>]) -> bool {
    let first = verify_peer(before, Role::Client, chain, now()).unwrap();
    let next = next.after(before);
    let again = prove_again(&next, Role::Client, &first, &first.proof, now()).unwrap();
    let remembered = Arc::ptr_eq(&first, &verify_peer(&next, Role::Client, chain, now()).unwrap());
    assert_eq!(Arc::ptr_eq(&first.proof, &again), remembered, "both ways are one");
    remembered
}

#[test]
fn a_proof_outlives_every_change_but_that_of_what_it_rests_on() {
    let (pki, dev) = (prod(), Authority::root("dev"));
    let domain = |name: &str| TrustDomain::new(name).unwrap();
    let (own, renewed, other) =
        (bundle("prod.test", &[&pki.root]), bundle("prod.test", &[&pki.root]), bundle("dev.test", &[&dev]));
    let lists = || Arc::new(Revocation::new(Vec::new(), RevocationPolicy::default()));
    let (of_own, of_other) = (lists(), lists());
    let before = Trust::new([Arc::clone(&own)]).with_revocations([(domain("prod.test"), Arc::clone(&of_own))]);
    let with = |bundles: &[&Arc<Bundle>], lists: &[(&str, &Arc<Revocation>)]| {
        let lists = lists.iter().map(|(name, lists)| (domain(name), Arc::clone(lists)));
        Trust::new(bundles.iter().map(|bundle| Arc::clone(bundle))).with_revocations(lists)
    };
    let mut denying = DenyList::default();
    denying.deny_identity(SpiffeId::new("spiffe://prod.test/somebody/else").unwrap(), "stolen".to_owned());
    for (what, next, remembered) in [
        ("nothing", with(&[&own], &[("prod.test", &of_own)]), true),
        ("the deny list", with(&[&own], &[("prod.test", &of_own)]).with_deny_list(Arc::new(denying)), true),
        ("another domain's bundle", with(&[&own, &other], &[("prod.test", &of_own)]), true),
        ("another domain's lists", with(&[&own, &other], &[("prod.test", &of_own), ("dev.test", &of_other)]), true),
        ("its own bundle", with(&[&renewed], &[("prod.test", &of_own)]), false),
        ("its own lists", with(&[&own], &[("prod.test", &lists())]), false),
        ("its own lists, which are gone", with(&[&own], &[]), false),
        ("whose lists are whose", with(&[&own], &[("prod.test", &of_other), ("dev.test", &of_own)]), false),
    ] {
        assert_eq!(is_remembered(&before, next, &pki.leaf.chain), remembered, "{what}");
    }
    let gone = with(&[&other], &[("prod.test", &of_own)]).after(&before);
    let peer = verify_peer(&before, Role::Client, &pki.leaf.chain, now()).unwrap();
    let refused = prove_again(&gone, Role::Client, &peer, &peer.proof, now()).unwrap_err();
    assert_eq!(refused.label(), "foreign_trust_domain");
    // A trust that does not take the place of the other remembers nothing of it.
    let stranger = with(&[&own], &[("prod.test", &of_own)]);
    assert!(!Arc::ptr_eq(&peer, &verify_peer(&stranger, Role::Client, &pki.leaf.chain, now()).unwrap()));
    let mut denying = DenyList::default();
    denying.deny_identity(peer.id.clone(), "stolen".to_owned());
    let denied = with(&[&own], &[("prod.test", &of_own)]).with_deny_list(Arc::new(denying)).after(&before);
    assert_eq!(prove_again(&denied, Role::Client, &peer, &peer.proof, now()).unwrap_err().label(), "denied");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_is_remembered_never_changes_a_verdict(questions in questions()) {
        let pool = pool();
        // They share one memory, as those that take each other's place do.
        let first = pool.trusts[0]();
        let remembering: Vec<_> = pool.trusts.iter().map(|make| make().after(&first)).collect();
        let mut open: Vec<(Role, Arc<Peer>, Arc<Proof>)> = Vec::new();
        for (chain, change, trust, is_client, seconds) in questions {
            let chain = changed(&pool, chain, &change);
            let role = if is_client { Role::Client } else { Role::Server };
            let remembered = verify_peer(&remembering[trust], role, &chain, at(seconds));
            let afresh = verify_peer(&remembering[trust].without_memory(), role, &chain, at(seconds));
            prop_assert_eq!(&remembered, &afresh);
            // Whoever is connected is judged as if it came anew.
            for (role, peer, proof) in &mut open {
                let again = prove_again(&remembering[trust], *role, peer, proof, at(seconds));
                let afresh = verify_peer(&remembering[trust].without_memory(), *role, &peer.chain, at(seconds));
                prop_assert_eq!(&again, &afresh.map(|peer| Arc::clone(&peer.proof)));
                if let Ok(again) = again {
                    *proof = again;
                }
            }
            open.extend(remembered.ok().map(|peer| (role, Arc::clone(&peer), Arc::clone(&peer.proof))));
        }
    }
}
