//! Tests of `examine.rs`: for each way to fail the step and the certificate that are named, and the verdict of the sidecar.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod,
    KeyUsagePurpose, RevokedCertParams, SerialNumber,
};

use super::*;
use crate::bundle::Bundle;
use crate::deny_list::{CertificateKey, DenyList};
use crate::pki::{API, Authority, DAY, HOUR, NOW, Prod, at, date, extension, set_validity, uri};
use crate::revocation::{Crl, Revocation, RevocationPolicy, StaleList, UnknownStatus};

fn domain(name: &str) -> TrustDomain {
    TrustDomain::new(name).unwrap()
}

fn trust(anchors: &[&Authority]) -> Trust {
    let ders: Vec<_> = anchors.iter().map(|anchor| anchor.der.clone()).collect();
    Trust::new([Arc::new(Bundle::from_certificates(&domain("prod.test"), &ders).unwrap())])
}

struct Case<'a> {
    trust: &'a Trust,
    chain: &'a [CertificateDer<'static>],
    expected: Option<SpiffeId>,
    now: u64,
}

impl<'a> Case<'a> {
    fn new(trust: &'a Trust, chain: &'a [CertificateDer<'static>]) -> Self {
        Self { trust, chain, expected: None, now: NOW }
    }

    fn examine(&self, role: Role) -> Examination {
        let broken = BTreeMap::from([(domain("broken.test"), "the file is empty".to_owned())]);
        let (trust, chain, expected, now) = (self.trust, self.chain, self.expected.as_ref(), at(self.now));
        let examination = examine(&Question { chain, trust, broken: &broken, role, expected, now });
        self.agrees_with_the_sidecar(role, &examination);
        examination
    }

    /// The verdict is the sidecar's, and the steps lead to it.
    fn agrees_with_the_sidecar(&self, role: Role, found: &Examination) {
        let verdict = verify_peer(self.trust, role, self.chain, at(self.now));
        let verdict = verdict.and_then(|peer| match &self.expected {
            Some(expected) => expect_one_of(&Arc::from([expected.clone()]), peer),
            None => Ok(peer),
        });
        assert_eq!(found.accepted, verdict.is_ok(), "{found:#?}");
        assert_eq!(found.label, verdict.as_ref().err().map(PeerError::label));
        assert_eq!(found.reason, verdict.as_ref().err().map(|error| explain(error)));
        assert_eq!(found.identity, verdict.ok().map(|peer| peer.id.to_string()));
        let failed = found.steps.iter().position(|step| step.outcome == StepOutcome::Failed);
        assert_eq!(failed.is_none(), found.accepted, "{found:#?}");
        for (index, step) in found.steps.iter().enumerate() {
            let after = failed.is_some_and(|failed| index > failed);
            assert_eq!(step.outcome == StepOutcome::NotReached, after, "{found:#?}");
            if step.outcome == StepOutcome::Passed {
                assert!(step.notes.iter().all(|note| note.tone != Tone::Bad), "{found:#?}");
            }
        }
    }

    #[track_caller]
    fn accepted(&self, what: &str) -> Examination {
        let [client, server] = [Role::Client, Role::Server].map(|role| self.examine(role));
        assert!(client.accepted && server.accepted, "{what}: {client:#?}");
        client
    }

    /// Refused in both roles, at this step, with these words in a note of it and in the name of the certificate at fault.
    #[track_caller]
    fn refused(&self, step: StepName, label: &str, at_fault: &str, note: &str) {
        for role in [Role::Client, Role::Server] {
            let found = self.examine(role);
            let failed = found.steps.iter().find(|step| step.outcome == StepOutcome::Failed);
            assert_eq!((failed.map(|step| step.name), found.label), (Some(step), Some(label)), "{found:#?}");
            assert!(found.at_fault.clone().unwrap_or_default().contains(at_fault), "{at_fault}: {found:#?}");
            let notes = &failed.unwrap().notes;
            let is_told = notes.iter().any(|found| found.text.contains(note) && found.tone != Tone::Good);
            assert!(note.is_empty() || is_told, "{note}: {found:#?}");
        }
    }
}

fn prod() -> Prod {
    let root = Authority::root("root");
    let intermediate = root.intermediate_with("prod", |params| params.serial_number = Some(SerialNumber::from(2_u64)));
    let leaf = intermediate.leaf(API);
    Prod { root, intermediate, leaf }
}

fn constrained(host: &[u8]) -> rcgen::CustomExtension {
    let tlv = |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).unwrap()], content].concat();
    extension(&[2, 5, 29, 30], true, &tlv(0x30, &tlv(0xa0, &tlv(0x30, &tlv(0x86, host)))))
}

#[test]
fn an_accepted_peer_is_followed_up_to_its_anchor() {
    let prod = prod();
    let trusting = trust(&[&prod.root]);
    let found = Case::new(&trusting, &prod.leaf.chain).accepted("a usual chain");
    assert_eq!((found.identity.as_deref(), found.at_fault), (Some(API), None));
    assert_eq!(found.until.unwrap().to_string(), "2027-01-16T08:00:00Z");
    let texts: Vec<_> = found.steps[3].notes.iter().map(|note| note.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "`CN=leaf` (serial 0abc) is valid until 2027-01-16T08:00:00Z",
            "`CN=leaf` (serial 0abc) is signed by `CN=prod` (serial 02)",
            "`CN=prod` (serial 02) may issue certificates",
            "`CN=prod` (serial 02) is valid until 2028-01-15T08:00:00Z",
            &format!("`CN=prod` (serial 02) is signed by the anchor {}", name(&prod.root)),
        ]
    );
    let outcomes: Vec<_> = found.steps.iter().map(|step| step.outcome).collect();
    assert_eq!(&outcomes[5..], [StepOutcome::NotAsked; 2]);

    let partial = trust(&[&prod.intermediate]);
    Case::new(&partial, &prod.leaf.chain).accepted("an intermediate that is the anchor and is sent too");
    Case::new(&partial, &prod.leaf.chain[..1]).accepted("an intermediate that is the anchor");
    let whole = [prod.leaf.chain.clone(), vec![prod.root.der.clone()]].concat();
    Case::new(&trusting, &whole).accepted("a chain with its root");
    let expecting = Case { expected: Some(SpiffeId::new(API).unwrap()), ..Case::new(&trusting, &prod.leaf.chain) };
    assert_eq!(expecting.accepted("the expected").steps.len(), 8);
}

fn name(authority: &Authority) -> String {
    Certificate::parse(&authority.der).unwrap().name().to_string()
}

#[test]
fn the_way_of_an_accepted_peer_leaves_out_what_is_expired_beside_its_renewal() {
    let prod = prod();
    let key = rcgen::KeyPair::generate().unwrap();
    let again = rcgen::KeyPair::from_pem(&key.serialize_pem()).unwrap();
    let old = prod.root.certify("prod", key, |params| set_validity(params, NOW - 2 * DAY, NOW - DAY));
    let new = prod.root.certify("prod", again, |_| {});
    let leaf = new.leaf(API).chain[0].clone();
    for chain in [[leaf.clone(), old.der.clone(), new.der.clone()], [leaf, new.der.clone(), old.der.clone()]] {
        let trusting = trust(&[&prod.root]);
        Case::new(&trusting, &chain).accepted("expired beside its renewal");
    }
}

#[test]
fn name_constraints_are_told() {
    let prod = prod();
    let constrained_to = |host: &'static [u8]| {
        prod.root.intermediate_with("limited", |params| params.custom_extensions = vec![constrained(host)]).leaf(API)
    };
    let trusting = trust(&[&prod.root]);
    let found = Case::new(&trusting, &constrained_to(b"prod.test").chain).accepted("permitted");
    assert!(found.steps[3].notes.iter().any(|note| note.text.contains("permit every URI")), "{found:#?}");
    let chain = constrained_to(b"dev.test").chain;
    Case::new(&trusting, &chain).refused(StepName::Path, "name_constraints", "CN=limited", "permit only `dev.test`");
}

#[test]
fn a_chain_that_cannot_be_read() {
    let prod = prod();
    let trusting = trust(&[&prod.root]);
    Case::new(&trusting, &[]).refused(StepName::Read, "no_certificate", "", "");
    let many = vec![prod.leaf.chain[0].clone(); 200];
    Case::new(&trusting, &many).refused(StepName::Read, "too_many_certificates", "", "");
    let junk = [CertificateDer::from(b"junk".to_vec())];
    Case::new(&trusting, &junk).refused(StepName::Read, "malformed_certificate", "certificate 1", "certificate 1");
    let large = [CertificateDer::from(vec![0x30; 70_000])];
    Case::new(&trusting, &large).refused(StepName::Read, "chain_too_large", "", "");
}

#[test]
fn a_leaf_that_is_no_svid() {
    let prod = prod();
    let trusting = trust(&[&prod.root]);
    let refused = |label, edit: fn(&mut CertificateParams)| {
        let chain = prod.intermediate.leaf_with(API, edit).chain;
        Case::new(&trusting, &chain).refused(StepName::Svid, label, "CN=leaf", "the leaf `CN=leaf`");
    };
    refused("several_uris", |params| params.subject_alt_names.push(uri(API)));
    refused("missing_client_auth", |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    refused("no_key_usage", |params| params.key_usages.clear());
    let backwards = [prod.intermediate.der.clone(), prod.leaf.chain[0].clone()];
    Case::new(&trusting, &backwards).refused(StepName::Svid, "no_spiffe_id", "CN=prod", "no SPIFFE ID");
    let found = Case::new(&trusting, &backwards).examine(Role::Client);
    assert!(found.steps[0].notes[1].text.contains("not in order"), "{found:#?}");
    let ca = [prod.intermediate.der.clone(), prod.root.der.clone()];
    Case::new(&trusting, &ca).refused(StepName::Svid, "no_spiffe_id", "CN=prod", "no SPIFFE ID");
}

#[test]
fn a_trust_domain_without_a_bundle() {
    let prod = prod();
    let trusting = trust(&[&prod.root]);
    let dev = prod.intermediate.leaf("spiffe://dev.test/x").chain;
    let step = StepName::TrustDomain;
    Case::new(&trusting, &dev).refused(step, "foreign_trust_domain", "CN=leaf", "no bundle was given for `dev.test`");
    let broken = prod.intermediate.leaf("spiffe://broken.test/x").chain;
    Case::new(&trusting, &broken).refused(
        step,
        "foreign_trust_domain",
        "CN=leaf",
        "cannot be loaded: the file is empty",
    );
}

#[test]
fn links_that_do_not_hold() {
    let prod = prod();
    let trusting = trust(&[&prod.root]);
    let check = |chain: &[CertificateDer<'static>], label, at_fault, note| {
        Case::new(&trusting, chain).refused(StepName::Path, label, at_fault, note);
    };
    check(&prod.leaf.chain[..1], "unknown_issuer", "CN=leaf", "neither the chain nor the bundle");
    let stranger = Authority::root("stranger").intermediate("other").leaf(API).chain;
    check(&stranger, "unknown_issuer", "CN=other", "neither the chain nor the bundle of `prod.test`");

    let impostor = Authority::root("root").intermediate("prod").leaf(API).chain;
    check(&impostor, "bad_signature", "", "its signature does not fit");

    let below = |edit: fn(&mut CertificateParams)| prod.root.intermediate_with("issuer", edit).leaf(API).chain;
    check(&below(|params| set_validity(params, NOW - DAY, NOW - HOUR)), "expired", "CN=issuer", "`CN=issuer`");
    check(&below(|params| set_validity(params, NOW + HOUR, NOW + DAY)), "not_yet_valid", "CN=issuer", "is valid from");
    let no_sign = below(|params| params.key_usages = vec![KeyUsagePurpose::CrlSign]);
    check(&no_sign, "bad_issuer", "CN=issuer", "may not issue certificates: its key usage");
    let unreadable = below(|params| params.custom_extensions = vec![constrained(b"a b")]);
    check(&unreadable, "name_constraints", "CN=issuer", "neither a host");

    let flat = prod.root.intermediate_with("flat", |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    });
    let deep = flat.intermediate("deep").leaf(API).chain;
    Case::new(&trusting, &deep).examine(Role::Client);
    check(&deep, Case::new(&trusting, &deep).examine(Role::Client).label.unwrap(), "", "allows 0 issuers below it");
    let leaf_expired = prod.intermediate.leaf_with(API, |params| set_validity(params, NOW - DAY, NOW - 1)).chain;
    check(&leaf_expired, "expired", "CN=leaf", "`CN=leaf` (serial 0abc) expired at");
}

#[test]
fn an_issuer_for_one_role_only() {
    let prod = prod();
    let half = prod.root.intermediate_with("half", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let (trusting, chain) = (trust(&[&prod.root]), half.leaf(API).chain);
    let case = Case::new(&trusting, &chain);
    assert!(case.examine(Role::Server).accepted);
    let refused = case.examine(Role::Client);
    let notes = &refused.steps.iter().find(|step| step.outcome == StepOutcome::Failed).unwrap().notes;
    assert!(notes.iter().any(|note| note.text.contains("lacks `client auth`")), "{refused:#?}");
}

#[test]
fn anchors_that_do_not_count() {
    let old = Authority::root_with("old", |params| set_validity(params, NOW - 2 * DAY, NOW - DAY));
    let chain = old.intermediate("prod").leaf(API).chain;
    let trusting = trust(&[&old]);
    Case::new(&trusting, &chain).refused(StepName::Anchor, "anchor_not_valid", "CN=old", "expired at");
}

fn lists(
    issuer: &Authority,
    revoked: &[u64],
    policy: RevocationPolicy,
    next_update: u64,
) -> (TrustDomain, Arc<Revocation>) {
    let entry = |serial: &u64| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: date(NOW - HOUR),
        reason_code: None,
        invalidity_date: None,
    };
    let params = CertificateRevocationListParams {
        this_update: date(NOW - DAY),
        next_update: date(next_update),
        crl_number: SerialNumber::from(7_u64),
        issuing_distribution_point: None,
        revoked_certs: revoked.iter().map(entry).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = Crl::parse(params.signed_by(&issuer.issuer).unwrap().der()).unwrap();
    (domain("prod.test"), Arc::new(Revocation::new(vec![list], policy)))
}

#[test]
fn revoked_and_denied() {
    let prod = prod();
    let chain = &prod.leaf.chain;
    let base = || trust(&[&prod.root]);
    let usual = RevocationPolicy::default();
    let step = StepName::Revocation;

    let clean = base().with_revocations([lists(&prod.root, &[9], usual, NOW + DAY)]);
    let found = Case::new(&clean, chain).accepted("not listed");
    assert!(found.steps[5].notes[0].text.contains("CRL 7 of `CN=root` revokes 1"), "{found:#?}");
    let revoked = base().with_revocations([lists(&prod.root, &[2], usual, NOW + DAY)]);
    Case::new(&revoked, chain).refused(step, "revoked", "CN=prod", "");
    let stale = base().with_revocations([lists(&prod.root, &[9], usual, NOW - HOUR)]);
    let found = Case::new(&stale, chain).accepted("a stale list");
    assert_eq!(found.steps[5].notes[0].tone, Tone::Doubtful);
    let fatal = RevocationPolicy { unknown: UnknownStatus::Allow, stale: StaleList::Refuse };
    let stale = base().with_revocations([lists(&prod.root, &[9], fatal, NOW - HOUR)]);
    Case::new(&stale, chain).refused(step, "crl_stale", "CN=prod", "was due");
    let strict = RevocationPolicy { unknown: UnknownStatus::Refuse, stale: StaleList::Warn };
    let unknown = base().with_revocations([lists(&prod.root, &[9], strict, NOW + DAY)]);
    Case::new(&unknown, chain).refused(step, "revocation_unknown", "CN=leaf", "");

    for (what, issuer, words) in [
        ("a list of another issuer", Authority::root("other"), "of no issuer of this chain"),
        ("a list under another key", Authority::root("root"), "is not signed by an issuer of this chain"),
    ] {
        let aside = base().with_revocations([lists(&issuer, &[2], usual, NOW + DAY)]);
        let found = Case::new(&aside, chain).accepted(what);
        let note = &found.steps[5].notes[0];
        assert!(note.tone == Tone::Doubtful && note.text.contains(words), "{found:#?}");
    }

    let mut denying = DenyList::default();
    denying.deny_identity(SpiffeId::new("spiffe://prod.test/other").unwrap(), "stolen".to_owned());
    let other = base().with_deny_list(Arc::new(denying));
    Case::new(&other, chain).accepted("another is denied");
    let mut denying = DenyList::default();
    denying.deny_certificate(CertificateKey::parse("CN=prod", "0abc").unwrap(), "stolen".to_owned());
    let denied = base().with_deny_list(Arc::new(denying));
    Case::new(&denied, chain).refused(StepName::DenyList, "denied", "CN=leaf", "");

    let trusting = base();
    let expecting =
        Case { expected: Some(SpiffeId::new("spiffe://prod.test/b").unwrap()), ..Case::new(&trusting, chain) };
    expecting.refused(StepName::Identity, "wrong_identity", "CN=leaf", "");
}
