//! The authority through its public face.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rcgen::string::Ia5String;
use rcgen::{CertificateParams, IsCa, KeyPair, KeyUsagePurpose, SanType};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use spiffe::{SpiffeId, TrustDomain};
use time::{Duration, OffsetDateTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::*;

fn trust_domain() -> TrustDomain {
    TrustDomain::new("prod.test").unwrap()
}

fn workload() -> SpiffeId {
    SpiffeId::new("spiffe://prod.test/ns/claims/sa/adjudicator").unwrap()
}

fn in_memory() -> Intermediate {
    let authority = Authority::in_memory(&RootOptions::default()).unwrap();
    authority.create_intermediate("prod", &trust_domain(), &IntermediateOptions::default()).unwrap()
}

fn on_disk(dir: &Path) -> Intermediate {
    let authority = Authority::init(dir, &RootOptions::default()).unwrap();
    authority.create_intermediate("prod", &trust_domain(), &IntermediateOptions::default()).unwrap()
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> X509Certificate<'a> {
    X509Certificate::from_der(certificate).unwrap().1
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_leaf_has_what_the_standard_asks_and_verifies_to_the_root() {
    let chain = in_memory().issue(&workload(), &LeafOptions::default()).unwrap().chain;
    let (leaf, intermediate, root) = (parse(&chain.leaf), parse(&chain.intermediate), parse(&chain.root));

    leaf.verify_signature(Some(intermediate.public_key())).unwrap();
    intermediate.verify_signature(Some(root.public_key())).unwrap();
    root.verify_signature(None).unwrap();
    assert_eq!(leaf.issuer().as_raw(), intermediate.subject().as_raw());
    assert_eq!(intermediate.issuer().as_raw(), root.subject().as_raw());

    let limits = |certificate: &X509Certificate<'_>| {
        let limits = certificate.basic_constraints().unwrap().unwrap();
        (limits.critical, limits.value.ca, limits.value.path_len_constraint)
    };
    assert_eq!(limits(&root), (true, true, Some(1)));
    assert_eq!(limits(&intermediate), (true, true, Some(0)));
    assert_eq!(limits(&leaf), (true, false, None));
    for authority in [&root, &intermediate] {
        let usage = authority.key_usage().unwrap().unwrap();
        assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign());
        assert!(!usage.value.digital_signature());
    }
    let usage = leaf.key_usage().unwrap().unwrap();
    assert!(usage.critical);
    assert_eq!(usage.value.flags, 1, "digital signature only");
    let extended = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.server_auth && extended.client_auth);
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    assert!(names.critical, "the subject is empty");
    assert_eq!(names.value.general_names, [GeneralName::URI("spiffe://prod.test/ns/claims/sa/adjudicator")]);
    let names = intermediate.subject_alternative_name().unwrap().unwrap();
    assert_eq!(names.value.general_names, [GeneralName::URI("spiffe://prod.test")]);
    assert!(intermediate.name_constraints().unwrap().is_none());
    assert_eq!(Serial::from_der_integer(leaf.raw_serial()), Some(chain.serial));
}

#[test]
fn a_leaf_lives_a_day_and_began_a_minute_ago() {
    let chain = in_memory().issue(&workload(), &LeafOptions::default()).unwrap().chain;
    let leaf = parse(&chain.leaf);
    assert_eq!(leaf.validity().not_before.to_datetime(), chain.not_before);
    assert_eq!(leaf.validity().not_after.to_datetime(), chain.not_after);
    assert_eq!(chain.not_after - chain.not_before, Duration::DAY + Duration::MINUTE);
}

#[test]
fn lifetimes_are_limited_and_end_with_the_issuer() {
    let authority = Authority::in_memory(&RootOptions::default()).unwrap();
    let year = IntermediateOptions::default();
    let prod = authority.create_intermediate("prod", &trust_domain(), &year).unwrap();
    let long = LeafOptions { validity: Validity::hours(73), ..LeafOptions::default() };
    assert!(matches!(prod.issue(&workload(), &long), Err(Error::LifetimeTooLong { hours: 73 })));
    let exact = LeafOptions { validity: Validity::hours(72), ..LeafOptions::default() };
    prod.issue(&workload(), &exact).unwrap();
    let forced = LeafOptions { lifetime_limit: LifetimeLimit::Issuer, validity: Validity::days(9999), ..exact };
    assert_eq!(prod.issue(&workload(), &forced).unwrap().chain.not_after, prod.not_after());

    let decades = IntermediateOptions { validity: Validity::days(36_500), ..year };
    let clamped = authority.create_intermediate("clamped", &trust_domain(), &decades).unwrap();
    assert_eq!(clamped.not_after(), parse(authority.certificate()).validity().not_after.to_datetime());

    let now = OffsetDateTime::now_utc();
    let past = Validity::Between(now - Duration::DAY, now - Duration::HOUR);
    let expired = authority
        .create_intermediate("expired", &trust_domain(), &IntermediateOptions { validity: past, ..year })
        .unwrap();
    assert!(matches!(expired.issue(&workload(), &LeafOptions::default()), Err(Error::IssuerExpired { .. })));
}

#[test]
fn only_identities_of_its_trust_domain_with_a_path() {
    let prod = in_memory();
    let issue = |id: &str| prod.issue(&SpiffeId::new(id).unwrap(), &LeafOptions::default()).err();
    assert!(matches!(issue("spiffe://dev.test/ns/a/sa/b"), Some(Error::IdentityForeign { .. })));
    assert!(matches!(issue("spiffe://prod.test.evil/ns/a/sa/b"), Some(Error::IdentityForeign { .. })));
    assert!(matches!(issue("spiffe://prod.test"), Some(Error::IdentityUnfit { .. })));
    assert!(matches!(issue(&format!("spiffe://prod.test/{}", "a".repeat(2048))), Some(Error::IdentityUnfit { .. })));
}

#[test]
fn odd_leaves_can_be_made_for_tests() {
    let prod = in_memory();
    let now = OffsetDateTime::now_utc();
    let options = LeafOptions {
        validity: Validity::Between(now - Duration::days(200), now - Duration::days(100)),
        usages: vec![Usage::Server],
        dns_names: vec!["*.prod.test".to_owned()],
        ip_addresses: vec!["::1".parse().unwrap()],
        common_name: Some("odd".to_owned()),
        ..LeafOptions::default()
    };
    let chain = prod.issue_unchecked(&["spiffe://dev.test/a", "spiffe://prod.test/b"], &options).unwrap().chain;
    let leaf = parse(&chain.leaf);
    assert!(leaf.validity().not_after.to_datetime() < now);
    assert!(!leaf.extended_key_usage().unwrap().unwrap().value.client_auth);
    assert_eq!(leaf.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 4);

    let bare = LeafOptions { usages: Vec::new(), ..LeafOptions::default() };
    let chain = prod.issue_unchecked(&[], &bare).unwrap().chain;
    assert!(parse(&chain.leaf).subject_alternative_name().unwrap().is_none());
    assert!(parse(&chain.leaf).extended_key_usage().unwrap().is_none());

    let bad = LeafOptions { dns_names: vec!["not a name".to_owned()], ..LeafOptions::default() };
    assert!(matches!(prod.issue(&workload(), &bad), Err(Error::Name { .. })));
}

#[test]
fn a_uri_constraint_names_the_trust_domain() {
    let authority = Authority::in_memory(&RootOptions::default()).unwrap();
    let options = IntermediateOptions { uri_constraint: UriConstraint::TrustDomain, ..IntermediateOptions::default() };
    // Lengths of one, two and three bytes in the encoding.
    for length in [9, 120, 126, 130, 250, 255] {
        let domain = TrustDomain::new("a".repeat(length)).unwrap();
        let intermediate = authority.create_intermediate("prod", &domain, &options).unwrap();
        let parsed = parse(intermediate.certificate());
        let constraint = parsed.name_constraints().unwrap().unwrap();
        assert!(constraint.critical);
        let permitted = constraint.value.permitted_subtrees.as_ref().unwrap();
        assert_eq!(permitted.len(), 1);
        assert_eq!(permitted[0].base, GeneralName::URI(domain.as_str()));
        assert!(constraint.value.excluded_subtrees.is_none());
    }
}

#[test]
fn serials_are_of_their_own_and_positive() {
    let prod = in_memory();
    let mut seen = HashSet::new();
    for _ in 0..200 {
        let chain = prod.issue(&workload(), &LeafOptions::default()).unwrap().chain;
        assert!(parse(&chain.leaf).raw_serial()[0] < 0x80);
        assert!(seen.insert(chain.serial));
    }
}

#[test]
fn files_have_their_modes_and_lie_as_cert_manager_writes_them() {
    let scratch = tempfile::tempdir().unwrap();
    let (dir, out) = (scratch.path().join("pki"), scratch.path().join("identity"));
    let prod = on_disk(&dir);
    for path in ["", "root", "root/issued", "environments", "environments/prod", "environments/prod/issued"] {
        assert_eq!(mode(&dir.join(path)), 0o700, "{path}");
    }
    for path in ["root/root.key", "environments/prod/intermediate.key", "environments/prod/revocations.json"] {
        assert_eq!(mode(&dir.join(path)), 0o600, "{path}");
    }

    let leaf = prod.issue(&workload(), &LeafOptions::default()).unwrap();
    leaf.write(&out, Layout::AsFound).unwrap();
    assert_eq!(mode(&out.join("tls.key")), 0o600);
    let read = |name: &str| fs::read(out.join(name)).unwrap();
    let certificates = |name: &str| -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(&read(name)).collect::<Result<_, _>>().unwrap()
    };
    assert_eq!(certificates("tls.crt"), leaf.chain.der());
    assert_eq!(certificates("ca.crt"), std::slice::from_ref(&leaf.chain.root));
    assert!(matches!(PrivateKeyDer::from_pem_slice(&read("tls.key")).unwrap(), PrivateKeyDer::Sec1(_)));
    let key = KeyPair::try_from(&leaf.key()).unwrap();
    let public = rcgen::PublicKeyData::subject_public_key_info(&key);
    assert_eq!(parse(&leaf.chain.leaf).public_key().raw, public);
    let names: Vec<_> = fs::read_dir(&out).unwrap().collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(dir.join(format!("environments/prod/issued/{}.pem", leaf.chain.serial)).exists());
}

#[test]
fn a_renewal_keeps_the_layout_it_finds() {
    let out = tempfile::tempdir().unwrap();
    let prod = in_memory();
    let issue = || prod.issue(&workload(), &LeafOptions::default()).unwrap();
    issue().write(out.path(), Layout::AsFound).unwrap();
    assert!(!is_volume(out.path()).unwrap());
    issue().write(out.path(), Layout::Kubelet).unwrap();
    let before = fs::read_link(out.path().join("..data")).unwrap();
    let renewed = issue();
    renewed.write(out.path(), Layout::AsFound).unwrap();
    assert_ne!(fs::read_link(out.path().join("..data")).unwrap(), before);
    assert_eq!(fs::read_to_string(out.path().join("tls.crt")).unwrap(), renewed.chain.pem());
    assert_eq!(mode(&out.path().join("tls.key")), 0o600);
    assert!(matches!(renewed.chain.write(out.path()), Err(Error::VolumeWithoutKey { .. })));
}

#[test]
fn what_exists_is_never_overwritten() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("pki");
    on_disk(&dir);
    let key = fs::read(dir.join("root/root.key")).unwrap();
    let init = |dir: &Path| Authority::init(dir, &RootOptions::default()).err();
    assert!(matches!(init(&dir), Some(Error::AuthorityExists { .. })));
    let authority = Authority::open(&dir).unwrap();
    let again = authority.create_intermediate("prod", &trust_domain(), &IntermediateOptions::default());
    assert!(matches!(again, Err(Error::EnvironmentExists { .. })));
    assert_eq!(fs::read(dir.join("root/root.key")).unwrap(), key);

    // Nor is one whose root is offline, or that was never finished.
    fs::remove_dir_all(dir.join("root")).unwrap();
    assert!(matches!(init(&dir), Some(Error::AuthorityExists { .. })));
    let half = scratch.path().join("half");
    fs::create_dir_all(half.join("root")).unwrap();
    assert!(matches!(init(&half), Some(Error::AuthorityExists { .. })));
    assert!(matches!(Authority::open(&half), Err(Error::AuthorityAbsent { .. })));
    let other = scratch.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("notes"), "").unwrap();
    assert!(matches!(init(&other), Some(Error::DirectoryNotEmpty { .. })));
}

#[test]
fn issuing_works_without_the_root_key() {
    let scratch = tempfile::tempdir().unwrap();
    on_disk(scratch.path());
    fs::remove_dir_all(scratch.path().join("root")).unwrap();
    let authority = Authority::open(scratch.path()).unwrap();
    let prod = authority.intermediate_for(&trust_domain()).unwrap();
    assert_eq!(prod.environment(), "prod");
    let leaf = prod.issue(&workload(), &LeafOptions::default()).unwrap();
    prod.revoke(leaf.chain.serial, Reason::Superseded).unwrap();
    prod.revocation_list(Validity::days(1)).unwrap();

    let options = IntermediateOptions::default();
    let away = authority.create_intermediate("dev", &trust_domain(), &options).err();
    assert!(matches!(away, Some(Error::RootKeyAbsent { .. })));
    assert!(matches!(authority.revocation_list(Validity::days(1)), Err(Error::RootKeyAbsent { .. })));
}

#[test]
fn an_intermediate_is_found_by_name_or_trust_domain() {
    let scratch = tempfile::tempdir().unwrap();
    let authority = Authority::init(scratch.path(), &RootOptions::default()).unwrap();
    let options = IntermediateOptions::default();
    for name in ["blue", "green"] {
        authority.create_intermediate(name, &trust_domain(), &options).unwrap();
    }
    assert_eq!(authority.environments().unwrap(), ["blue", "green"]);
    assert!(matches!(authority.intermediate_for(&trust_domain()), Err(Error::TrustDomainAmbiguous { .. })));
    let foreign = TrustDomain::new("dev.test").unwrap();
    assert!(matches!(authority.intermediate_for(&foreign), Err(Error::TrustDomainUnknown { .. })));
    assert!(matches!(authority.intermediate("../blue"), Err(Error::EnvironmentUnknown { .. })));
    for name in ["", "..", "a/b", "Prod", "-a", &"a".repeat(32)] {
        let made = authority.create_intermediate(name, &trust_domain(), &options);
        assert!(matches!(made, Err(Error::EnvironmentName { .. })), "{name}");
    }
}

#[test]
fn names_fit_into_a_certificate() {
    let authority = Authority::in_memory(&RootOptions::default()).unwrap();
    let longest = "a".repeat(31);
    let made = authority.create_intermediate(&longest, &trust_domain(), &IntermediateOptions::default()).unwrap();
    let name = parse(made.certificate()).subject().iter_common_name().next().unwrap().as_str().unwrap().to_owned();
    assert_eq!(name.len(), 64, "{name}");
    for name in [String::new(), "a".repeat(56)] {
        let options = RootOptions { name, ..RootOptions::default() };
        assert!(matches!(Authority::in_memory(&options), Err(Error::RootName { .. })));
    }
}

#[test]
fn files_that_do_not_belong_together_are_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let (one, two) = (scratch.path().join("one"), scratch.path().join("two"));
    on_disk(&one);
    on_disk(&two);
    let copy = |name: &str| fs::copy(two.join(name), one.join(name)).unwrap();
    copy("environments/prod/intermediate.key");
    let open = || Authority::open(&one).unwrap().intermediate("prod").err().unwrap().to_string();
    assert!(open().contains("does not fit"), "{}", open());
    copy("environments/prod/intermediate.crt");
    assert!(open().contains("not signed by the root"), "{}", open());
}

fn csr(uris: &[&str], shape: impl FnOnce(&mut CertificateParams)) -> (String, KeyPair) {
    let mut params = CertificateParams::default();
    let uri = |uri: &&str| SanType::URI(Ia5String::try_from(*uri).unwrap());
    params.subject_alt_names = uris.iter().map(uri).collect();
    shape(&mut params);
    let key = KeyPair::generate().unwrap();
    (params.serialize_request(&key).unwrap().pem().unwrap(), key)
}

fn allow(pattern: &str) -> Vec<IdentityPattern> {
    vec![pattern.parse().unwrap()]
}

#[test]
fn a_request_gives_its_key_and_identity_and_nothing_else() {
    let prod = in_memory();
    let (text, key) = csr(&["spiffe://PROD.test/ns/a/sa/b"], |params| {
        params.subject_alt_names.push(SanType::DnsName("admin.prod.test".try_into().unwrap()));
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    });
    let request = Request::from_pem(&text).unwrap();
    assert_eq!(request.left_out(), ["dns name admin.prod.test"]);
    let chain = prod.sign(&request, &allow("spiffe://prod.test/ns/*/sa/b"), &LeafOptions::default()).unwrap();
    let leaf = parse(&chain.leaf);
    leaf.verify_signature(Some(parse(&chain.intermediate).public_key())).unwrap();
    assert_eq!(leaf.public_key().raw, rcgen::PublicKeyData::subject_public_key_info(&key));
    assert!(!leaf.is_ca());
    assert_eq!(leaf.key_usage().unwrap().unwrap().value.flags, 1);
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    assert_eq!(names.value.general_names, [GeneralName::URI("spiffe://prod.test/ns/a/sa/b")]);
    assert_eq!(leaf.subject().iter().count(), 0);
}

#[test]
fn requests_that_ask_for_more_than_allowed_are_refused() {
    let prod = in_memory();
    let sign = |id: &str, pattern: &str| {
        let request = Request::from_pem(&csr(&[id], |_| {}).0).unwrap();
        prod.sign(&request, &allow(pattern), &LeafOptions::default()).err()
    };
    let id = "spiffe://prod.test/ns/a/sa/b";
    assert!(sign(id, id).is_none());
    assert!(matches!(sign(id, "spiffe://prod.test/ns/a/sa/c"), Some(Error::RequestRefused { .. })));
    assert!(matches!(sign("spiffe://dev.test/ns/a", "spiffe://dev.test/**"), Some(Error::IdentityForeign { .. })));
    assert!(matches!(sign("spiffe://prod.test", "spiffe://prod.test/**"), Some(Error::IdentityUnfit { .. })));
    let request = Request::from_pem(&csr(&[id], |_| {}).0).unwrap();
    assert!(matches!(prod.sign(&request, &[], &LeafOptions::default()), Err(Error::RequestRefused { .. })));
}

#[test]
fn requests_that_are_wrong_are_refused() {
    let id = "spiffe://prod.test/ns/a/sa/b";
    let read = |text: &str| Request::from_pem(text).err();
    let of = |uris: &[&str]| read(&csr(uris, |_| {}).0);
    assert!(matches!(of(&[id, "spiffe://prod.test/x"]), Some(Error::RequestUris { count: 2 })));
    assert!(matches!(of(&[]), Some(Error::RequestUris { count: 0 })));
    assert!(matches!(of(&["https://prod.test/x"]), Some(Error::Identity { .. })));

    let (text, _) = csr(&[id], |_| {});
    assert!(matches!(read(&format!("{text}{text}")), Some(Error::RequestUnreadable { .. })));
    assert!(matches!(read(""), Some(Error::RequestUnreadable { .. })));
    let der = rustls_pki_types::CertificateSigningRequestDer::from_pem_slice(text.as_bytes()).unwrap();
    for (cut, problem) in [(&der[..der.len() - 1], "malformed"), (&[&der[..], &[0]].concat(), "after its end")] {
        let error = read(&pem::encode("CERTIFICATE REQUEST", cut)).unwrap().to_string();
        assert!(error.contains(problem), "{error}");
    }
    // Another identity under the old signature.
    let mut altered = der.to_vec();
    let at = altered.windows(4).position(|bytes| bytes == b"sa/b").unwrap();
    altered[at + 3] = b'c';
    assert!(matches!(read(&pem::encode("CERTIFICATE REQUEST", &altered)), Some(Error::RequestSignature)));
}

#[test]
fn patterns_match_whole_segments() {
    for (pattern, id, expected) in [
        ("spiffe://a/ns/b", "spiffe://a/ns/b", true),
        ("spiffe://a/ns/b", "spiffe://a/ns/b/c", false),
        ("spiffe://a/ns/b", "spiffe://a/ns", false),
        ("spiffe://a/ns/*", "spiffe://a/ns/b", true),
        ("spiffe://a/ns/*", "spiffe://a/ns/b/c", false),
        ("spiffe://a/ns/**", "spiffe://a/ns/b/c", true),
        ("spiffe://a/ns/**", "spiffe://a/ns", false),
        ("spiffe://a/**", "spiffe://b/ns", false),
        ("spiffe://a/*/x", "spiffe://a/ns/x", true),
    ] {
        let pattern: IdentityPattern = pattern.parse().unwrap();
        assert_eq!(pattern.matches(&SpiffeId::new(id).unwrap()), expected, "{pattern:?} {id}");
    }
    for pattern in [
        "",
        "a/b",
        "spiffe://a",
        "spiffe://a/",
        "spiffe://*/a",
        "spiffe://a/**/b",
        "spiffe://a/b*",
        "spiffe://A/b",
        "spiffe://a//b",
        "spiffe://a/../b",
    ] {
        assert!(pattern.parse::<IdentityPattern>().is_err(), "{pattern}");
    }
}

/// The number of a list and the serial numbers on it, once its signature is proven.
fn open_list(list: &RevocationList, issuer: &CertificateDer<'_>) -> (u64, Vec<Serial>) {
    let (_, parsed) = CertificateRevocationList::from_der(&list.der).unwrap();
    parsed.verify_signature(parse(issuer).public_key()).unwrap();
    assert_eq!(parsed.issuer().as_raw(), parse(issuer).subject().as_raw());
    assert_eq!(parsed.next_update().unwrap().to_datetime(), list.next_update);
    let number = parsed.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::CRLNumber(number) => u64::try_from(number).ok(),
        _ => None,
    });
    let revoked = parsed.iter_revoked_certificates();
    let serials = revoked.map(|revoked| Serial::from_der_integer(revoked.raw_serial()).unwrap());
    (number.unwrap(), serials.collect())
}

#[test]
fn a_revocation_is_listed_and_numbers_rise() {
    let scratch = tempfile::tempdir().unwrap();
    for prod in [in_memory(), on_disk(scratch.path())] {
        let list = || open_list(&prod.revocation_list(Validity::days(7)).unwrap(), prod.certificate());
        let leaf = prod.issue(&workload(), &LeafOptions::default()).unwrap();
        let serial = leaf.chain.serial;
        assert_eq!(list(), (1, vec![]));
        let first = prod.revoke(serial, Reason::KeyCompromise).unwrap();
        assert_eq!(prod.revoke(serial, Reason::Superseded).unwrap(), first, "the first one counts");
        assert_eq!(list(), (2, vec![serial]));
        assert_eq!(list(), (3, vec![serial]));
        let unknown = Serial::random().unwrap();
        assert!(matches!(prod.revoke(unknown, Reason::Unspecified), Err(Error::SerialUnknown { .. })));
    }
    // Records outlive the process.
    let reopened = Authority::open(scratch.path()).unwrap().intermediate("prod").unwrap();
    let list = reopened.revocation_list(Validity::days(7)).unwrap();
    assert_eq!((list.number, list.revoked), (4, 1));
}

#[test]
fn the_root_revokes_intermediates() {
    let scratch = tempfile::tempdir().unwrap();
    let authority = Authority::init(scratch.path(), &RootOptions::default()).unwrap();
    let options = IntermediateOptions::default();
    let prod = authority.create_intermediate("prod", &trust_domain(), &options).unwrap();
    authority.revoke(prod.serial().unwrap(), Reason::CaCompromise).unwrap();
    let list = authority.revocation_list(Validity::days(7)).unwrap();
    assert_eq!(open_list(&list, authority.certificate()), (1, vec![prod.serial().unwrap()]));
    let leaf = prod.issue(&workload(), &LeafOptions::default()).unwrap();
    assert!(authority.revoke(leaf.chain.serial, Reason::Unspecified).is_err());
}

#[test]
fn no_revocation_is_lost_among_writers() {
    let scratch = tempfile::tempdir().unwrap();
    let prod = on_disk(scratch.path());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    let leaf = prod.issue(&workload(), &LeafOptions::default()).unwrap();
                    prod.revoke(leaf.chain.serial, Reason::Unspecified).unwrap();
                    prod.revocation_list(Validity::days(1)).unwrap();
                }
            });
        }
    });
    let list = prod.revocation_list(Validity::days(1)).unwrap();
    assert_eq!((list.number, list.revoked), (21, 20));
}

#[test]
fn broken_records_stop_the_list() {
    let scratch = tempfile::tempdir().unwrap();
    let prod = on_disk(scratch.path());
    fs::write(scratch.path().join("environments/prod/revocations.json"), "{}").unwrap();
    assert!(matches!(prod.revocation_list(Validity::days(1)), Err(Error::Records { .. })));
}
