//! Tests of `findings.rs`: for each rule something that breaks it, beside a baseline that breaks none.

use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateRevocationListParams, CidrSubnet, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    KeyIdMethod, KeyPair, KeyUsagePurpose, NameConstraints, PKCS_RSA_SHA256, RsaKeySize, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use spiffe::TrustDomain;

use super::*;
use crate::inspect::{Target, read};
use crate::pki::{
    API, Authority, DAY, HOUR, Leaf, NOW, Prod, at, base64, date, extension, pem, section, set_validity, uri,
};

/// Files in a directory, looked at.
struct Stage {
    directory: tempfile::TempDir,
    targets: Vec<Target>,
    now: u64,
}

impl Stage {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), targets: Vec::new(), now: NOW }
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    fn secret(mut self, certificates: impl AsRef<[u8]>, key: impl AsRef<[u8]>, authority: Option<&str>) -> Self {
        let path = self.write("identity/tls.crt", certificates);
        self.write("identity/tls.key", key);
        if let Some(authority) = authority {
            self.write("identity/ca.crt", authority);
        }
        self.targets.push(Target { path: path.parent().unwrap().to_owned(), trust_domain: None });
        self
    }

    fn of(leaf: &Leaf) -> Self {
        Self::new().secret(leaf.chain_pem(), leaf.key_pem(), None)
    }

    fn file(mut self, name: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.write(name, content);
        self.targets.push(Target { path, trust_domain: None });
        self
    }

    fn bundle(mut self, trust_domain: &str, name: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.write(name, content);
        self.targets.push(Target { path, trust_domain: Some(TrustDomain::new(trust_domain).unwrap()) });
        self
    }

    fn directory(mut self, files: &[(&str, &[u8])]) -> Self {
        for (name, content) in files {
            self.write(&format!("several/{name}"), content);
        }
        self.targets.push(Target { path: self.directory.path().join("several"), trust_domain: None });
        self
    }

    fn at(mut self, now: u64) -> Self {
        self.now = now;
        self
    }

    fn findings(&self) -> Vec<Finding> {
        let now = at(self.now);
        let inspections: Vec<_> = self.targets.iter().map(|target| Inspection::of(target, read(target), now)).collect();
        list(&inspections, now)
    }
}

/// `E K001 word` for an error that says `word`, `W …` for a warning, `N …` for a note; all of them, in order.
#[track_caller]
fn check(what: &str, stage: &Stage, expected: &[&str]) {
    let findings = stage.findings();
    let listed = || findings.iter().map(|finding| format!("\n  {finding:?}")).collect::<String>();
    assert_eq!(findings.len(), expected.len(), "{what}: {}", listed());
    for expected in expected {
        let (severity, rest) = expected.split_once(' ').unwrap();
        let (code, words) = rest.split_once(' ').unwrap_or((rest, ""));
        let severity = match severity {
            "E" => Severity::Error,
            "W" => Severity::Warning,
            _ => Severity::Note,
        };
        let fits = |finding: &Finding| {
            finding.severity == severity && finding.rule.code == code && finding.message.contains(words)
        };
        assert!(findings.iter().any(fits), "{what}: no {expected} in {}", listed());
    }
}

fn strict(params: &mut rcgen::CertificateParams) {
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.custom_extensions = vec![permitted(b"prod.test")];
}

/// `NameConstraints` with one permitted URI subtree.
fn permitted(host: &[u8]) -> rcgen::CustomExtension {
    let tlv = |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).unwrap()], content].concat();
    let subtrees = tlv(0xa0, &tlv(0x30, &tlv(0x86, host)));
    extension(&[2, 5, 29, 30], true, &tlv(0x30, &subtrees))
}

fn prod() -> Prod {
    let root = Authority::root_with("root", |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1)));
    let intermediate = root.intermediate_with("prod", strict);
    let leaf = intermediate.leaf(API);
    Prod { root, intermediate, leaf }
}

#[test]
fn a_well_run_estate_has_no_findings() {
    let prod = prod();
    let stage = Stage::new()
        .secret(prod.leaf.chain_pem(), prod.leaf.key_pem(), Some(&prod.root.pem()))
        .bundle("prod.test", "trust.pem", format!("{}{}", prod.root.pem(), Authority::root("next").pem()))
        .file("prod.crl", crl(&prod.intermediate, NOW - HOUR, NOW + 3 * HOUR));
    check("baseline", &stage, &[]);
}

#[test]
fn leaves_that_a_sidecar_would_refuse() {
    let prod = prod();
    let leaf = |edit: fn(&mut rcgen::CertificateParams)| Stage::of(&prod.intermediate.leaf_with(API, edit));
    check("no SPIFFE ID", &leaf(|params| params.subject_alt_names.clear()), &["E K002 no SPIFFE ID"]);
    check("two URIs", &leaf(|params| params.subject_alt_names.push(uri(API))), &["E K002 2 URI names"]);
    check("no key usage", &leaf(|params| params.key_usages.clear()), &["E K002 key usage"]);
    let server = |params: &mut rcgen::CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    };
    check("no client auth", &leaf(server), &["E K003 `client auth`"]);
    let client = |params: &mut rcgen::CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    };
    check("no server auth", &leaf(client), &["E K003 `server auth`"]);
    check("no EKU is allowed", &leaf(|params| params.extended_key_usages.clear()), &[]);

    let (from, to) = (NOW - HOUR, NOW + 24 * HOUR);
    check("last second", &Stage::of(&prod.leaf).at(to), &["W K107 0 %"]);
    check("expired", &Stage::of(&prod.leaf).at(to + 1), &["E K006 expired at 2027-01-16T08:00:00Z, and it is"]);
    check("first second", &Stage::of(&prod.leaf).at(from), &[]);
    check("not yet", &Stage::of(&prod.leaf).at(from - 1), &["E K007 valid from"]);
}

#[test]
fn keys_that_do_not_fit_or_cannot_be_used() {
    let prod = prod();
    let with = |key: &str| Stage::new().secret(prod.leaf.chain_pem(), key, None);
    let other = KeyPair::generate().unwrap().serialize_pem();
    check("another key", &with(&other), &["E K004 not the key of certificate `CN=leaf`"]);
    check("two keys", &with(&format!("{other}{}", prod.leaf.key_pem())), &["E K005 more than one"]);
    check("no key", &with("nothing"), &["E K005 no PEM private key"]);
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    check("encrypted", &with(encrypted), &["E K005 encrypted"]);
    let missing = Stage::of(&prod.leaf);
    std::fs::remove_file(missing.directory.path().join("identity/tls.key")).unwrap();
    check("missing", &missing, &["E K005 does not exist"]);
    let combined = Stage::new().file("tls-combined.pem", format!("{}{}", prod.leaf.key_pem(), prod.leaf.chain_pem()));
    check("key and chain in one file", &combined, &[]);
    let mixed = Stage::new().file("tls-combined.pem", format!("{other}{}", prod.leaf.chain_pem()));
    check("another key in one file", &mixed, &["E K004"]);
}

#[test]
fn chains_that_do_not_hold() {
    let prod = prod();
    let below = |intermediate: Authority| Stage::of(&intermediate.leaf(API));
    let no_sign = prod.root.intermediate_with("prod", |params| {
        strict(params);
        params.key_usages = vec![KeyUsagePurpose::CrlSign];
    });
    check("an intermediate that may not sign", &below(no_sign), &["E K008 keyCertSign"]);

    let impostor = Authority::root("other").intermediate_with("prod", strict);
    let forged = pem(&[prod.leaf.chain[0].clone(), impostor.der.clone()]);
    let stage = Stage::new().secret(forged, prod.leaf.key_pem(), None);
    check("a signature by another key of the same name", &stage, &["E K010 signature"]);

    let key = KeyPair::generate().unwrap();
    let alone = crate::pki::leaf_params(API).self_signed(&key).unwrap().der().clone();
    let alone = Leaf { chain: vec![alone], key };
    check("a leaf that signed itself", &Stage::of(&alone), &["E K010 signed by its own key"]);

    let deep = prod.intermediate.intermediate_with("deeper", strict);
    check("a path length that is exceeded", &below(deep), &["E K010"]);

    let dev = prod.root.intermediate_with("dev", |params| {
        strict(params);
        params.custom_extensions = vec![permitted(b"dev.test")];
    });
    check("name constraints of another trust domain", &below(dev), &["E K010 name constraints"]);

    let old = prod.root.intermediate_with("prod", |params| {
        strict(params);
        set_validity(params, NOW - 2 * DAY, NOW - DAY);
    });
    check("an intermediate that has expired", &below(old), &["E K006 and it is 2027"]);
}

#[test]
fn an_expired_issuer_beside_its_renewal_is_only_told() {
    let prod = prod();
    let key = KeyPair::generate().unwrap();
    let again = KeyPair::from_pem(&key.serialize_pem()).unwrap();
    let old = prod.root.certify("prod", key, |params| {
        strict(params);
        set_validity(params, NOW - 2 * DAY, NOW - DAY);
    });
    let new = prod.root.certify("prod", again, strict);
    let leaf = new.leaf(API);
    let both = pem(&[leaf.chain[0].clone(), old.der.clone(), new.der.clone()]);
    let stage = Stage::new().secret(both, leaf.key_pem(), Some(&prod.root.pem()));
    check("an expired issuer beside its renewal", &stage, &["W K006 the chain holds without it"]);
}

#[test]
fn drift_of_chains() {
    let prod = prod();
    let living = |hours: u64| {
        Stage::of(&prod.intermediate.leaf_with(API, |params| set_validity(params, NOW, NOW + hours * HOUR)))
    };
    check("72 h", &living(72), &[]);
    check("73 h", &living(73), &["W K101 73 h"]);

    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let leaf = crate::pki::leaf_params(API).signed_by(&rsa, &prod.intermediate.issuer).unwrap();
    let chain = pem(&[leaf.der().clone(), prod.intermediate.der.clone()]);
    check("an RSA leaf", &Stage::new().secret(chain, rsa.serialize_pem(), None), &["W K102 2048 bits"]);

    let edited = |edit: fn(&mut rcgen::CertificateParams)| {
        Stage::of(
            &prod
                .root
                .intermediate_with("prod", |params| {
                    strict(params);
                    edit(params);
                })
                .leaf(API),
        )
    };
    let unlimited = edited(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    check("no path length", &unlimited, &["W K103 `CN=prod`"]);
    let free = edited(|params| params.custom_extensions.clear());
    check("no name constraints", &free, &["W K104 has no name constraints"]);
    let excluding = edited(|params| {
        params.custom_extensions.clear();
        let anywhere = GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4]));
        params.name_constraints =
            Some(NameConstraints { permitted_subtrees: Vec::new(), excluded_subtrees: vec![anywhere] });
    });
    let below = prod.root.intermediate_with("policy", |params| {
        strict(params);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    });
    let below = below.intermediate_with("issuing", |params| {
        strict(params);
        params.custom_extensions.clear();
    });
    check("held by the one above", &Stage::of(&below.leaf(API)), &[]);
    check("constraints that bind no SPIFFE ID", &excluding, &["W K104 without a permitted URI"]);

    let three_quarters = NOW - HOUR + 25 * HOUR * 3 / 4;
    check("a second before the last quarter", &Stage::of(&prod.leaf).at(three_quarters - 1), &[]);
    check("a quarter left", &Stage::of(&prod.leaf).at(three_quarters), &["W K107 25 %"]);

    let [leaf, intermediate] = [&prod.leaf.chain[0], &prod.leaf.chain[1]].map(Clone::clone);
    let ordered =
        |certificates: &[CertificateDer<'static>]| Stage::new().secret(pem(certificates), prod.leaf.key_pem(), None);
    check("issuer first", &ordered(&[intermediate.clone(), leaf.clone()]), &["W K108 not in order"]);
    let stray = Authority::root("stray").der;
    check("a stray", &ordered(&[leaf.clone(), intermediate.clone(), stray]), &["W K108 1 of its certificates"]);

    let der = Stage::new().file("leaf.der", &leaf);
    check("a leaf in DER", &der, &["W K114 identities"]);
    let foreign = Stage::new().secret(prod.leaf.chain_pem(), prod.leaf.key_pem(), Some(&Authority::root("x").pem()));
    check("a ca.crt of somebody else", &foreign, &["W K116 `CN=prod`"]);
}

#[test]
fn weak_keys_and_hashes() {
    let prod = prod();
    let weak = include_str!("../../tests/data/throwaway-rsa1024.crt");
    let found = Stage::new().file("weak.pem", weak).findings();
    let codes: Vec<_> = found.iter().map(|finding| finding.rule.code).collect();
    assert!(codes.contains(&"K009") && !codes.contains(&"K102"), "{found:?}");

    // Nothing here can sign with SHA-1 any more, so the name of the algorithm is changed, as both places have it.
    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let signer = prod.root.certify("prod", rsa, strict);
    let leaf = signer.leaf(API);
    let sha1 = renamed(&leaf.chain[0], SHA256_WITH_RSA, SHA1_WITH_RSA);
    let stage = Stage::new().secret(pem(&[sha1, signer.der.clone()]), leaf.key_pem(), None);
    check("a leaf signed with SHA-1", &stage, &["E K012 RSA with SHA-1"]);
}

const SHA256_WITH_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
const SHA1_WITH_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05];

fn renamed(der: &[u8], from: &[u8], to: &[u8]) -> CertificateDer<'static> {
    let mut der = der.to_vec();
    let places: Vec<_> = (0..der.len() - from.len()).filter(|start| der[*start..].starts_with(from)).collect();
    assert_eq!(places.len(), 2);
    for start in places {
        der[start..start + to.len()].copy_from_slice(to);
    }
    der.into()
}

#[test]
fn files_that_are_not_what_they_should_be() {
    let prod = prod();
    let chain = prod.leaf.chain_pem();
    let secret = |text: &[u8]| Stage::new().secret(text, prod.leaf.key_pem(), None);
    check("blank", &secret(b"\n \n"), &["E K001 empty"]);
    check("cut off", &secret(&chain.as_bytes()[..chain.len() - 30]), &["E K001 no end line"]);
    let aside = Stage::new().secret(&chain, prod.leaf.key_pem(), Some("nothing"));
    check("a damaged ca.crt", &aside, &["W K001 neither PEM"]);
    check("an empty ca.crt", &Stage::new().secret(&chain, prod.leaf.key_pem(), Some("")), &["W K001 is empty"]);
    check("no PEM", &secret(b"hello"), &["E K001 neither PEM nor DER"]);
    check("PEM with junk in it", &secret(section("CERTIFICATE", b"junk").as_bytes()), &["E K001 certificate 1"]);
    check("a missing path", &Stage::new().file_that_is_missing(), &["E K001 does not exist"]);
    check("DER that is nothing", &Stage::new().file("x.der", [0x30, 3, 2, 1, 1]), &["E K001 in DER"]);
    let junk: Vec<u8> = (0..1024 * 1024).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 13) as u8 | 1).collect();
    check("a megabyte of junk", &Stage::new().file("junk", &junk), &["E K001 neither PEM nor DER"]);
    let larger = [junk.as_slice(), &[1]].concat();
    check("a bundle of more", &Stage::new().bundle("prod.test", "junk", larger), &["E K001 larger"]);
    check("more than 8 MiB", &Stage::new().file("junk", vec![1; 8 * 1024 * 1024 + 1]), &["E K001 larger"]);
    let sections = section("CERTIFICATE", b"").repeat(10_000);
    check("ten thousand sections", &Stage::new().file("x.pem", sections), &["E K001 more than 512"]);
    check("a damaged CRL", &Stage::new().file("x.crl", section("X509 CRL", b"x")), &["E K001 revocation list 1"]);
    check("JSON that is no bundle", &Stage::new().file("x.json", "{}"), &["E K001 no `keys` array"]);
}

impl Stage {
    fn file_that_is_missing(self) -> Self {
        let stage = self.file("missing.pem", "x");
        std::fs::remove_file(&stage.targets[0].path).unwrap();
        stage
    }
}

#[test]
fn two_hundred_certificates_are_refused_by_name() {
    let prod = prod();
    let many = pem(&[prod.leaf.chain.clone(), vec![prod.intermediate.der.clone(); 200]].concat());
    let stage = Stage::new().secret(many, prod.leaf.key_pem(), None);
    check("repeated", &stage, &["W K108 200 repeat another"]);

    let mut deep = prod.root;
    for level in 0..200 {
        deep = deep.intermediate(&format!("level {level}"));
    }
    let findings = Stage::of(&deep.leaf(API)).findings();
    assert_eq!(findings[0].rule.code, "K010", "{findings:?}");
    assert!(findings[0].message.contains("201 certificates, more than"), "{findings:?}");
}

#[test]
fn bundles() {
    let prod = prod();
    let load = |content: &str| Stage::new().bundle("prod.test", "trust.pem", content);
    check("a root", &load(&prod.root.pem()), &[]);
    check("an intermediate as anchor", &load(&prod.intermediate.pem()), &[]);
    let unlimited = prod.root.intermediate("prod");
    check("one without path length", &load(&unlimited.pem()), &["W K103"]);
    check(
        "a leaf alone",
        &load(&prod.leaf.chain_pem()[..pem(&prod.leaf.chain[..1]).len()]),
        &["E K011 not make it a CA"],
    );
    let with_leaf = format!("{}{}", prod.root.pem(), pem(&prod.leaf.chain[..1]));
    check("a leaf beside a root", &load(&with_leaf), &["W K109 `CN=leaf`"]);

    let end = NOW + 365 * DAY;
    check("91 days before the end", &load(&prod.root.pem()).at(end - 91 * DAY), &[]);
    check("90 days before the end", &load(&prod.root.pem()).at(end - 90 * DAY), &["W K111 ends at"]);
    let gone = load(&prod.root.pem()).at(end + 1);
    check("after the end", &gone, &["E K011 none of its anchors", "W K110 expired"]);
    let young = Authority::root_with("young", |params| set_validity(params, end, end + DAY));
    let two = load(&format!("{}{}", prod.root.pem(), young.pem()));
    check("one that is not valid yet", &two, &["W K110 not valid before"]);
    let short = Authority::root_with("short", |params| set_validity(params, NOW - 18 * HOUR, NOW + 6 * HOUR));
    check("a day's root in its last quarter", &load(&short.pem()), &["W K111"]);

    let mixed = Stage::new().directory(&[
        ("root.pem", prod.root.pem().as_bytes()),
        ("prod.der", &prod.intermediate.der),
        ("prod.crl", &crl(&prod.intermediate, NOW - HOUR, NOW + 3 * HOUR)),
    ]);
    check("a directory with lists and DER beside it", &mixed, &["W K114"]);
    check("DER, said to be a bundle", &Stage::new().bundle("prod.test", "x.der", &prod.root.der), &["E K114 as PEM"]);
    check("DER", &Stage::new().file("x.der", &prod.root.der), &["W K114"]);
    let json = |keys: &str| Stage::new().file("b.json", format!("{{\"spiffe_sequence\": 3, \"keys\": [{keys}]}}"));
    check("a SPIFFE bundle without keys", &json(""), &["W K115"]);
    let key = format!("{{\"use\":\"x509-svid\",\"kty\":\"EC\",\"x5c\":[\"{}\"]}}", base64(&prod.root.der));
    check("a SPIFFE bundle", &json(&key), &[]);
}

#[test]
fn what_several_paths_have_in_common() {
    let prod = prod();
    let root = prod.root.pem();
    let apart =
        Stage::new().bundle("prod.test", "prod.pem", &root).bundle("dev.test", "dev.pem", Authority::root("dev").pem());
    check("roots of their own", &apart, &[]);
    let shared = Stage::new().bundle("prod.test", "prod.pem", &root).bundle("dev.test", "dev.pem", &root);
    check("a shared root", &shared, &["W K106 `prod.test`, `dev.test`"]);
    let same = Stage::new().bundle("prod.test", "a.pem", &root).bundle("prod.test", "b.pem", &root);
    check("two files of one trust domain", &same, &[]);

    let secret = || Stage::new().secret(prod.leaf.chain_pem(), prod.leaf.key_pem(), Some(&root));
    let stage = secret();
    let path = stage.directory.path().join("identity/ca.crt");
    let mut used = stage;
    used.targets = vec![Target { path, trust_domain: Some(TrustDomain::new("prod.test").unwrap()) }];
    let mut looked_at = secret();
    let path = looked_at.directory.path().join("identity/ca.crt");
    looked_at.targets = vec![Target { path, trust_domain: None }];
    check("ca.crt looked at", &looked_at, &["N K105 guess of the issuer"]);
    check("ca.crt as a bundle", &used, &["W K105 guess of the issuer"]);
    check("a copy of ca.crt", &secret().bundle("prod.test", "trust.pem", &root), &["N K105 exactly"]);
    let more = format!("{root}{}", Authority::root("next").pem());
    check("more than ca.crt", &secret().bundle("prod.test", "trust.pem", more), &[]);
}

fn crl(issuer: &Authority, from: u64, to: u64) -> Vec<u8> {
    let params = CertificateRevocationListParams {
        this_update: date(from),
        next_update: date(to),
        crl_number: SerialNumber::from(7_u64),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(&issuer.issuer).unwrap().der().to_vec()
}

#[test]
fn revocation_lists() {
    let prod = prod();
    let der = crl(&prod.intermediate, NOW, NOW + 4 * DAY);
    let text = section("X509 CRL", &der);
    for content in [der.as_slice(), text.as_bytes()] {
        let stage = |now| Stage::new().file("prod.crl", content).at(now);
        check("fresh", &stage(NOW + 3 * DAY - 1), &[]);
        check("in its last quarter", &stage(NOW + 3 * DAY), &["W K113 `CN=prod`"]);
        check("at its next update", &stage(NOW + 4 * DAY), &["W K113"]);
        check("overdue", &stage(NOW + 4 * DAY + 1), &["W K112 was due for renewal at"]);
    }
}

#[test]
fn a_finding_points_at_its_line() {
    let prod = prod();
    let text = format!("# issued for the tests\n\n{}", prod.leaf.chain_pem());
    let found = Stage::new().secret(text, prod.leaf.key_pem(), None).at(NOW + 30 * HOUR).findings();
    assert_eq!((found[0].rule.code, found[0].line), ("K006", Some(3)), "{found:?}");
    assert_eq!(found[0].certificate.as_deref(), Some("`CN=leaf` (serial 0abc)"));
    let root = Authority::root_with("old", |params| set_validity(params, NOW - 2 * DAY, NOW - DAY));
    let lines = prod.root.pem().lines().count();
    let both = format!("{}{}", prod.root.pem(), root.pem());
    let found = Stage::new().file("trust.pem", both).findings();
    assert_eq!((found[0].rule.code, found[0].line), ("K110", Some(lines + 1)), "{found:?}");
}

#[test]
fn codes_are_unique_and_in_order() {
    for pair in Rule::ALL.windows(2) {
        assert!(pair[0].code < pair[1].code, "{} {}", pair[0].code, pair[1].code);
    }
    let names: std::collections::BTreeSet<_> = Rule::ALL.iter().map(|rule| rule.name).collect();
    assert_eq!(names.len(), Rule::ALL.len());
}

#[test]
fn every_code_is_explained_in_the_documentation() {
    let page = include_str!("../../../docs/certs.md");
    for rule in Rule::ALL {
        assert!(page.contains(&format!("| {} |", rule.code)), "{} is missing", rule.code);
        assert!(page.contains(rule.title), "docs/certs.md words {} otherwise", rule.code);
    }
}
