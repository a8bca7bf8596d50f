//! Every clause of X509-SVID and SPIFFE-ID that a verifier can keep or break, as a table: how a certificate was made, the
//! clause, and what becomes of it. All of it goes through `verify_peer`, for both roles, as a handshake would.
//!
//! What a clause asks of issuers only, or says with SHOULD, is in the table too, as accepted, so that a change is seen.

use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis_certs_watcher::volume::read_bundle;
use portcullis_certs_watcher::{Bundle, Peer, PeerError, Role, Trust, explain, verify_peer};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    SanType, SigningKey as _,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use spiffe::TrustDomain;

use crate::pki::{API, Authority, DAY, HOUR, NOW, at, ca_params, extension, leaf_params, named, set_validity, uri};

/// What becomes of a chain.
enum Verdict {
    /// Its identity is the one of the tests.
    Api,
    /// Its identity is this one.
    Is(String),
    /// It is refused with this label.
    Refused(&'static str),
}

use Verdict::{Api, Is, Refused};

/// One line of the table.
struct Row {
    clause: &'static str,
    what: String,
    chain: Vec<CertificateDer<'static>>,
    verdict: Verdict,
}

/// The one root that is trusted, and the table so far.
struct Table {
    root: Authority,
    issuer: Authority,
    rows: Vec<Row>,
}

impl Table {
    fn new() -> Self {
        let root = Authority::root("root");
        let issuer = root.intermediate("prod");
        Self { root, issuer, rows: Vec::new() }
    }

    /// A leaf that differs from a good one as `edit` says.
    fn leaf(&mut self, clause: &'static str, what: &str, verdict: Verdict, edit: impl FnOnce(&mut CertificateParams)) {
        let chain = self.issuer.leaf_with(API, edit).chain;
        self.rows.push(Row { clause, what: what.to_owned(), chain, verdict });
    }

    /// A good leaf whose URI name is this.
    fn id(&mut self, clause: &'static str, id: &str, verdict: Verdict) {
        let shown: String = id.chars().take(60).collect();
        self.leaf(clause, &format!("the ID {shown:?} of {} bytes", id.len()), verdict, |params| {
            params.subject_alt_names = vec![uri(id)];
        });
    }

    /// A good leaf below an intermediate that differs from a good one as `edit` says.
    fn signer(
        &mut self,
        clause: &'static str,
        what: &str,
        verdict: Verdict,
        edit: impl FnOnce(&mut CertificateParams),
    ) {
        let chain = self.root.intermediate_with("signer", edit).leaf(API).chain;
        self.rows.push(Row { clause, what: what.to_owned(), chain, verdict });
    }

    fn chain(
        &mut self,
        clause: &'static str,
        what: &str,
        verdict: Verdict,
        chain: impl IntoIterator<Item = CertificateDer<'static>>,
    ) {
        self.rows.push(Row { clause, what: what.to_owned(), chain: chain.into_iter().collect(), verdict });
    }

    /// Judges every row, and fails with all that came out otherwise.
    fn judge(self, least: usize) {
        let trust = trust(&self.root);
        let mut wrong = Vec::new();
        for Row { clause, what, chain, verdict } in &self.rows {
            let found = judge(&trust, chain, NOW);
            let fits = match (verdict, &found) {
                (Api, Ok(peer)) => peer.id.to_string() == API,
                (Is(id), Ok(peer)) => peer.id.to_string() == *id,
                (Refused(label), Err(error)) => error.label() == *label,
                (Api | Is(_), Err(_)) | (Refused(_), Ok(_)) => false,
            };
            if !fits {
                let found = match found {
                    Ok(peer) => format!("accepted as {}", peer.id),
                    Err(error) => format!("refused as {}: {}", error.label(), explain(&error)),
                };
                wrong.push(format!("{clause}, {what}: {found}"));
            }
        }
        assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), self.rows.len(), wrong.join("\n"));
        assert!(self.rows.len() >= least, "only {} rows", self.rows.len());
    }
}

fn trust(root: &Authority) -> Trust {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("prod.pem"), root.pem()).unwrap();
    let bundle = |domain: &str| {
        let files = read_bundle(directory.path()).unwrap();
        Arc::new(Bundle::load(&TrustDomain::new(domain).unwrap(), &files).unwrap())
    };
    // The longest name that a trust domain may have, too.
    Trust::new([bundle("prod.test"), bundle(&"d".repeat(255)), bundle("10.0.0.1"), bundle("a_b-c.9")])
}

/// Both roles have to agree: an SVID serves on either side.
fn judge(trust: &Trust, chain: &[CertificateDer<'static>], seconds: u64) -> Result<Arc<Peer>, PeerError> {
    let client = verify_peer(trust, Role::Client, chain, at(seconds));
    let server = verify_peer(trust, Role::Server, chain, at(seconds));
    match (&client, &server) {
        (Ok(one), Ok(other)) => assert_eq!(one, other),
        // webpki says which purpose it missed, so that errors need not be equal.
        (Err(one), Err(other)) => assert_eq!(one.label(), other.label()),
        (one, other) => panic!("as a client {one:?}, as a server {other:?}"),
    }
    client
}

const SAN: &[u64] = &[2, 5, 29, 17];
const BASIC_CONSTRAINTS: &[u64] = &[2, 5, 29, 19];
const NAME_CONSTRAINTS: &[u64] = &[2, 5, 29, 30];
const KEY_USAGE: &[u64] = &[2, 5, 29, 15];
const EXTENDED_KEY_USAGE: &[u64] = &[2, 5, 29, 37];

/// DER: a tag, a length, and what is in it.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    match u16::try_from(content.len()).unwrap() {
        short @ 0..=127 => bytes.push(short.to_le_bytes()[0]),
        long => bytes.extend([0x82, long.to_be_bytes()[0], long.to_be_bytes()[1]]),
    }
    bytes.extend(content);
    bytes
}

/// Takes DER apart into the values that follow one another in it, each with tag and length.
fn parts(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    while let [_, first, ..] = bytes {
        let (header, length) = match *first {
            short @ 0..=127 => (2, usize::from(short)),
            long => {
                let digits = usize::from(long & 0x7f);
                let length = bytes[2..2 + digits].iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
                (2 + digits, length)
            }
        };
        let (part, rest) = bytes.split_at(header + length);
        parts.push(part.to_vec());
        bytes = rest;
    }
    parts
}

fn content(part: &[u8]) -> &[u8] {
    let header = if part[1] < 128 { 2 } else { 2 + usize::from(part[1] & 0x7f) };
    &part[header..]
}

/// A certificate with the fields of `certificate` as `edit` leaves them, signed anew by `key`: for what no issuing library
/// writes.
fn signed_again(
    certificate: &CertificateDer<'_>,
    key: &KeyPair,
    edit: impl FnOnce(&mut Vec<Vec<u8>>),
) -> CertificateDer<'static> {
    let whole = parts(content(certificate));
    let mut fields = parts(content(&whole[0]));
    edit(&mut fields);
    let signed = der(0x30, &fields.concat());
    let mut signature = vec![0];
    signature.extend(key.sign(&signed).unwrap());
    der(0x30, &[signed, whole[1].clone(), der(0x03, &signature)].concat()).into()
}

#[test]
fn the_spiffe_id_of_a_leaf() {
    let mut table = Table::new();
    let x509 = "X509-SVID 2";
    table.leaf(x509, "one URI", Api, |_| {});
    table.leaf(x509, "no names at all", Refused("no_spiffe_id"), |params| params.subject_alt_names.clear());
    table.leaf(x509, "names, and none is a URI", Refused("no_spiffe_id"), |params| {
        params.subject_alt_names = vec![SanType::DnsName("api.prod.test".try_into().unwrap())];
    });
    table.leaf(x509, "two SPIFFE IDs", Refused("several_uris"), |params| {
        params.subject_alt_names.push(uri("spiffe://prod.test/ns/ops/sa/root"));
    });
    table.leaf(x509, "the same ID twice", Refused("several_uris"), |params| params.subject_alt_names.push(uri(API)));
    table.leaf(x509, "another URI first", Refused("several_uris"), |params| {
        params.subject_alt_names.insert(0, uri("https://prod.test/"));
    });
    table.leaf(x509, "another URI last", Refused("several_uris"), |params| {
        params.subject_alt_names.push(uri("https://prod.test/"));
    });
    table.leaf(x509, "names of every other kind beside it", Api, |params| {
        params.subject_alt_names.push(SanType::DnsName("api.prod.test".try_into().unwrap()));
        params.subject_alt_names.push(SanType::DnsName("*.prod.test".try_into().unwrap()));
        params.subject_alt_names.push(SanType::IpAddress([10, 0, 0, 1].into()));
        params.subject_alt_names.push(SanType::Rfc822Name("api@prod.test".try_into().unwrap()));
        let other = rcgen::OtherNameValue::Utf8String("api".to_owned());
        params.subject_alt_names.push(SanType::OtherName((vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 3], other)));
    });
    let name = |id: &str| der(0x86, id.as_bytes());
    let names = |names: &[Vec<u8>]| der(0x30, &names.concat());
    let only = |params: &mut CertificateParams, der: &[u8]| {
        params.subject_alt_names.clear();
        params.custom_extensions.push(extension(SAN, false, der));
    };
    table.leaf(x509, "the extension twice, one URI in each", Refused("malformed_names"), |params| {
        params.custom_extensions.push(extension(SAN, false, &names(&[name("spiffe://prod.test/b")])));
    });
    table.leaf(x509, "a directory name beside it", Api, |params| {
        only(params, &names(&[name(API), der(0xa4, &der(0x30, &[]))]));
    });
    table.leaf(x509, "a name that cannot be read beside it", Refused("malformed_names"), |params| {
        only(params, &names(&[name(API), der(0x82, b"\xff\xfe")]));
    });
    table.leaf(x509, "a URI that is not ASCII", Refused("invalid_spiffe_id"), |params| {
        only(params, &names(&[name("spiffe://prod.test/ä")]));
    });
    table.leaf(x509, "an empty list of names", Refused("no_spiffe_id"), |params| only(params, &names(&[])));
    table.leaf(x509, "an extension that is no list", Refused("malformed_names"), |params| only(params, b"\x30\x7f"));

    let leaf = "X509-SVID 3.1";
    table.leaf(leaf, "no subject, names critical", Api, |params| params.distinguished_name = DistinguishedName::new());
    table.leaf(leaf, "no subject, names not critical", Refused("names_not_critical"), |params| {
        params.distinguished_name = DistinguishedName::new();
        only(params, &names(&[name(API)]));
    });
    table.leaf(leaf, "a subject, names critical", Api, |params| {
        params.subject_alt_names.clear();
        params.custom_extensions.push(extension(SAN, true, &names(&[name(API)])));
    });
    table.leaf(leaf, "an ID in the common name only", Refused("no_spiffe_id"), |params| {
        params.subject_alt_names.clear();
        params.distinguished_name = named(API);
    });
    table.judge(18);
}

#[test]
fn scheme_and_trust_domain_of_an_id() {
    let mut table = Table::new();
    let scheme = "SPIFFE-ID 2";
    for (id, label) in [
        ("https://prod.test/ns/a", "not_spiffe"),
        ("spiff://prod.test/ns/a", "not_spiffe"),
        ("spiffes://prod.test/ns/a", "not_spiffe"),
        ("spiffe:/prod.test/ns/a", "not_spiffe"),
        ("spiffe:prod.test/ns/a", "not_spiffe"),
        (" spiffe://prod.test/ns/a", "not_spiffe"),
        ("//prod.test/ns/a", "not_spiffe"),
        ("", "not_spiffe"),
        ("spiffe://", "invalid_spiffe_id"),
        ("spiffe:///ns/a", "invalid_spiffe_id"),
        ("spiffe://prod.test/ns/a?", "invalid_spiffe_id"),
        ("spiffe://prod.test/ns/a?x=1", "invalid_spiffe_id"),
        ("spiffe://prod.test/ns/a#", "invalid_spiffe_id"),
        ("spiffe://prod.test/ns/a#x", "invalid_spiffe_id"),
        ("spiffe://prod.test?x=1", "invalid_spiffe_id"),
    ] {
        table.id(scheme, id, Refused(label));
    }
    let domain = "SPIFFE-ID 2.1";
    for id in [
        "spiffe://user@prod.test/ns/a",
        "spiffe://user:pw@prod.test/ns/a",
        "spiffe://@prod.test/ns/a",
        "spiffe://prod.test:8443/ns/a",
        "spiffe://prod.test:/ns/a",
        "spiffe://[::1]/ns/a",
        "spiffe://prod%2etest/ns/a",
        "spiffe://prod%00.test/ns/a",
        "spiffe://prod.test\0/ns/a",
        "spiffe://prod.test\0.evil.test/ns/a",
        "spiffe://prod test/ns/a",
        "spiffe://prod.test\\/ns/a",
        "spiffe://prod~.test/ns/a",
    ] {
        table.id(domain, id, Refused("invalid_spiffe_id"));
    }
    table.id(domain, "spiffe://10.0.0.1/ns/a", Is("spiffe://10.0.0.1/ns/a".to_owned()));
    table.id(domain, "spiffe://a_b-c.9/ns/a", Is("spiffe://a_b-c.9/ns/a".to_owned()));
    table.id(domain, "spiffe://prod.test./ns/a", Refused("foreign_trust_domain"));
    table.id(domain, "spiffe://prod.test.evil.test/ns/a", Refused("foreign_trust_domain"));
    table.id(domain, "spiffe://evil.prod.test/ns/a", Refused("foreign_trust_domain"));
    table.judge(33);
}

#[test]
fn path_and_length_of_an_id() {
    let mut table = Table::new();
    let path = "SPIFFE-ID 2.2";
    for id in [
        "spiffe://prod.test/",
        "spiffe://prod.test/ns/a/",
        "spiffe://prod.test//ns/a",
        "spiffe://prod.test/ns//a",
        "spiffe://prod.test/ns/./a",
        "spiffe://prod.test/ns/../a",
        "spiffe://prod.test/..",
        "spiffe://prod.test/ns/a%2fb",
        "spiffe://prod.test/ns/%61",
        "spiffe://prod.test/ns/a%00",
        "spiffe://prod.test/ns/a\0",
        "spiffe://prod.test/ns/a\0/sa/b",
        "spiffe://prod.test/ns/a b",
        "spiffe://prod.test/ns/a\n",
        "spiffe://prod.test/ns/a\u{7f}",
        "spiffe://prod.test/ns/a\\b",
        "spiffe://prod.test/ns/a;b",
        "spiffe://prod.test/ns/a:b",
        "spiffe://prod.test/ns/a@b",
        "spiffe://prod.test/ns/a*",
        "spiffe://prod.test/ns/~a",
        "spiffe://prod.test/ns/a+b",
    ] {
        table.id(path, id, Refused("invalid_spiffe_id"));
    }
    for id in
        ["spiffe://prod.test/a", "spiffe://prod.test/...", "spiffe://prod.test/A-Z/a_z/0.9", "spiffe://prod.test/-"]
    {
        table.id(path, id, Is(id.to_owned()));
    }
    let capital = "spiffe://prod.test/NS/eligibility/SA/api";
    table.id("SPIFFE-ID 2.2: a path keeps its case", capital, Is(capital.to_owned()));
    table.id("X509-SVID 3.1: a path is needed", "spiffe://prod.test", Refused("spiffe_id_without_path"));
    let long = |domain: &str, length: usize| {
        let start = format!("spiffe://{domain}/");
        format!("{start}{}", "a".repeat(length - start.len()))
    };
    let length = "SPIFFE-ID 2.3";
    table.id(length, &long("prod.test", 2048), Is(long("prod.test", 2048)));
    table.id(length, &long("prod.test", 2049), Refused("spiffe_id_too_long"));
    table.id(length, &long("prod.test", 20_000), Refused("spiffe_id_too_long"));
    table.id(length, &long(&"d".repeat(255), 2048), Is(long(&"d".repeat(255), 2048)));
    table.id(length, &long(&"d".repeat(256), 300), Refused("invalid_spiffe_id"));
    table.judge(33);
}

#[test]
fn basic_constraints_and_key_usage_of_a_leaf() {
    use KeyUsagePurpose::{CrlSign, DigitalSignature, KeyAgreement, KeyCertSign, KeyEncipherment};

    let mut table = Table::new();
    let basic = "X509-SVID 4.1";
    table.leaf(basic, "no basic constraints, as step-ca and Vault write it", Api, |params| params.is_ca = IsCa::NoCa);
    table.leaf(basic, "cA is false", Api, |params| params.is_ca = IsCa::ExplicitNoCa);
    table.leaf(basic, "cA is true", Refused("leaf_is_ca"), |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    table.leaf(basic, "cA is true, path length 0", Refused("leaf_is_ca"), |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    });
    table.leaf(basic, "basic constraints twice", Refused("malformed_extension"), |params| {
        params.is_ca = IsCa::ExplicitNoCa;
        params.custom_extensions.push(extension(BASIC_CONSTRAINTS, true, b"\x30\x00"));
    });
    table.leaf(basic, "basic constraints that cannot be read", Refused("invalid_chain"), |params| {
        params.custom_extensions.push(extension(BASIC_CONSTRAINTS, true, b"\x04\x00"));
    });

    let usage = "X509-SVID 4.3";
    let raw = |params: &mut CertificateParams, critical, der: &[u8]| {
        params.key_usages.clear();
        params.custom_extensions.push(extension(KEY_USAGE, critical, der));
    };
    table.leaf(usage, "no key usage", Refused("no_key_usage"), |params| params.key_usages.clear());
    table.leaf(usage, "key usage not critical", Refused("key_usage_not_critical"), |params| {
        raw(params, false, b"\x03\x02\x07\x80");
    });
    table.leaf(usage, "key usage twice", Refused("malformed_extension"), |params| {
        params.custom_extensions.push(extension(KEY_USAGE, true, b"\x03\x02\x07\x80"));
    });
    table.leaf(usage, "key usage that cannot be read", Refused("malformed_extension"), |params| {
        raw(params, true, b"\x04\x00");
    });
    table.leaf(usage, "key usage without a bit", Refused("no_digital_signature"), |params| {
        raw(params, true, b"\x03\x01\x00");
    });
    for (what, usages, verdict) in [
        ("keyEncipherment alone", vec![KeyEncipherment], Refused("no_digital_signature")),
        ("keyEncipherment beside it", vec![DigitalSignature, KeyEncipherment], Api),
        ("keyAgreement beside it", vec![DigitalSignature, KeyAgreement], Api),
        ("keyCertSign beside it", vec![DigitalSignature, KeyCertSign], Refused("leaf_signs_certificates")),
        ("cRLSign beside it", vec![DigitalSignature, CrlSign], Refused("leaf_signs_crls")),
        ("both beside it", vec![DigitalSignature, KeyCertSign, CrlSign], Refused("leaf_signs_certificates")),
    ] {
        table.leaf(usage, what, verdict, |params| params.key_usages = usages);
    }

    table.judge(17);
}

#[test]
fn extended_key_usage_and_other_extensions_of_a_leaf() {
    use ExtendedKeyUsagePurpose::{Any, ClientAuth, CodeSigning, ServerAuth};

    let mut table = Table::new();
    let extended = "X509-SVID 4.4";
    for (what, usages, verdict) in [
        ("absent: a SHOULD", vec![], Api),
        ("both", vec![ServerAuth, ClientAuth], Api),
        ("both and more", vec![ServerAuth, ClientAuth, CodeSigning, Any], Api),
        ("serverAuth alone, cert-manager's default", vec![ServerAuth], Refused("missing_client_auth")),
        ("clientAuth alone", vec![ClientAuth], Refused("missing_server_auth")),
        ("any, which is neither", vec![Any], Refused("missing_client_and_server_auth")),
        ("serverAuth and any", vec![ServerAuth, Any], Refused("missing_client_auth")),
        ("another alone", vec![CodeSigning], Refused("missing_client_and_server_auth")),
    ] {
        table.leaf(extended, what, verdict, |params| params.extended_key_usages = usages);
    }
    // serverAuth and clientAuth.
    let both = b"\x30\x14\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x02";
    table.leaf(extended, "critical", Api, |params| {
        params.extended_key_usages.clear();
        params.custom_extensions.push(extension(EXTENDED_KEY_USAGE, true, both));
    });
    table.leaf(extended, "twice", Refused("malformed_extension"), |params| {
        params.custom_extensions.push(extension(EXTENDED_KEY_USAGE, false, both));
    });
    table.leaf(extended, "that cannot be read", Refused("malformed_extension"), |params| {
        params.extended_key_usages.clear();
        params.custom_extensions.push(extension(EXTENDED_KEY_USAGE, false, b"\x04\x00"));
    });
    table.leaf(extended, "without a purpose", Refused("missing_client_and_server_auth"), |params| {
        params.extended_key_usages.clear();
        params.custom_extensions.push(extension(EXTENDED_KEY_USAGE, false, b"\x30\x00"));
    });
    table.leaf("RFC 5280 4.2", "a critical extension that nobody knows", Refused("invalid_chain"), |params| {
        params.custom_extensions.push(extension(&[1, 3, 6, 1, 4, 1, 99_999, 1], true, b"\x05\x00"));
    });
    table.leaf("RFC 5280 4.2", "an extension that nobody knows", Api, |params| {
        params.custom_extensions.push(extension(&[1, 3, 6, 1, 4, 1, 99_999, 1], false, b"\x05\x00"));
    });
    table.judge(14);
}

#[test]
fn signing_certificates() {
    let mut table = Table::new();
    let root = "spiffe://prod.test";
    let signing = "X509-SVID 3.2";
    table.signer(signing, "no ID: a SHOULD", Api, |_| {});
    table.signer(signing, "the ID of its trust domain", Api, |params| params.subject_alt_names.push(uri(root)));
    table.signer(signing, "the ID of another trust domain: a SHOULD", Api, |params| {
        params.subject_alt_names.push(uri("spiffe://corp.test"));
    });
    table.signer(signing, "an ID with a path: asked of issuers, not in 5.2 of verifiers", Api, |params| {
        params.subject_alt_names.push(uri("spiffe://prod.test/ca"));
    });
    let ca = table.root.leaf_with(root, |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    });
    table.chain(signing, "used to authenticate", Refused("spiffe_id_without_path"), ca.chain);
    let ca = table.root.leaf_with("spiffe://prod.test/ca", |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    });
    table.chain(signing, "used to authenticate, its ID with a path", Refused("leaf_is_ca"), ca.chain);
    let anchor = table.root.der.clone();
    table.chain(signing, "the anchor itself used to authenticate", Refused("no_spiffe_id"), [anchor]);

    let basic = "X509-SVID 4.1";
    table.signer(basic, "no basic constraints", Refused("invalid_chain"), |params| params.is_ca = IsCa::NoCa);
    table.signer(basic, "cA is false", Refused("invalid_chain"), |params| params.is_ca = IsCa::ExplicitNoCa);
    table.signer(basic, "path length 0, and a leaf below", Api, |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    });
    let narrow = table.root.intermediate_with("a", |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let below = narrow.intermediate("b").leaf(API);
    table.chain(basic, "path length 0, and an issuer below", Refused("invalid_chain"), below.chain);

    let usage = "X509-SVID 4.3";
    table.signer(usage, "no key usage: webpki's and OpenSSL's practice", Api, |params| params.key_usages.clear());
    table.signer(usage, "key usage not critical", Api, |params| {
        params.key_usages.clear();
        params.custom_extensions.push(extension(KEY_USAGE, false, b"\x03\x02\x01\x06"));
    });
    table.signer(usage, "keyCertSign alone", Api, |params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign]);
    table.signer(usage, "digitalSignature beside it, as step-ca writes it", Api, |params| {
        params.key_usages.push(KeyUsagePurpose::DigitalSignature);
    });
    table.signer(usage, "no keyCertSign", Refused("bad_issuer"), |params| {
        params.key_usages = vec![KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    });

    let extended = "X509-SVID 4.4";
    let purposes = |purposes: Vec<ExtendedKeyUsagePurpose>| {
        move |params: &mut CertificateParams| params.extended_key_usages = purposes
    };
    use ExtendedKeyUsagePurpose::{ClientAuth, CodeSigning, ServerAuth};
    table.signer(extended, "both purposes", Api, purposes(vec![ServerAuth, ClientAuth]));
    table.signer(extended, "another purpose alone", Refused("invalid_chain"), purposes(vec![CodeSigning]));

    let validation = "X509-SVID 5.1";
    let stranger = Authority::root("root").intermediate("prod").leaf(API);
    table.chain(validation, "signed by a stranger of the same name", Refused("bad_signature"), stranger.chain);
    let stranger = Authority::root("other").intermediate("prod").leaf(API);
    table.chain(validation, "signed below another root", Refused("unknown_issuer"), stranger.chain);
    let alone = table.issuer.leaf(API).chain[..1].to_vec();
    table.chain(validation, "its issuer left out", Refused("unknown_issuer"), alone);
    let direct = table.root.leaf(API);
    table.chain(validation, "issued by the anchor", Api, direct.chain);
    let own = table.issuer.leaf(API);
    let with_root = own.chain.iter().cloned().chain([table.root.der.clone()]);
    table.chain(validation, "the anchor sent along", Api, with_root);
    let leaf = own.chain.first().unwrap().clone();
    let by_a_leaf = rcgen::Issuer::from_ca_cert_der(&leaf, own.key).unwrap();
    let key = KeyPair::generate().unwrap();
    let below_leaf = leaf_params(API).signed_by(&key, &by_a_leaf).unwrap().der().clone();
    let chain = [below_leaf, leaf, table.issuer.der.clone()];
    table.chain(validation, "issued by another leaf", Refused("invalid_chain"), chain);
    table.judge(23);
}

#[test]
fn versions_of_certificates() {
    let mut table = Table::new();
    let version = "RFC 5280 4.1.2.1";
    let key = KeyPair::generate().unwrap();
    let copy = || KeyPair::from_pem(&key.serialize_pem()).unwrap();
    let issuer = table.root.certify("versions", copy(), |_| {});
    let good = issuer.leaf(API);
    let again = |edit: fn(&mut Vec<Vec<u8>>)| [signed_again(&good.chain[0], &key, edit), issuer.der.clone()];
    table.chain(version, "signed anew, and otherwise the same", Api, again(|_| {}));
    table.chain(
        version,
        "version 1, without extensions",
        Refused("no_spiffe_id"),
        again(|fields| {
            fields.remove(0);
            fields.pop();
        }),
    );
    table.chain(
        version,
        "no version, and yet extensions",
        Refused("invalid_chain"),
        again(|fields| {
            fields.remove(0);
        }),
    );
    table.chain(version, "version 2", Refused("invalid_chain"), again(|fields| fields[0] = vec![0xa0, 3, 2, 1, 1]));
    table.chain(version, "version 4", Refused("invalid_chain"), again(|fields| fields[0] = vec![0xa0, 3, 2, 1, 3]));

    // An issuer of version 1 says nothing about itself, so it is none.
    let root_key = KeyPair::generate().unwrap();
    let root = Authority {
        der: ca_params("v").self_signed(&root_key).unwrap().der().clone(),
        issuer: rcgen::Issuer::new(ca_params("v"), KeyPair::from_pem(&root_key.serialize_pem()).unwrap()),
        chain: Vec::new(),
    };
    let signer = root.certify("signer", copy(), |_| {});
    let old = signed_again(&signer.der, &root_key, |fields| {
        fields.remove(0);
        fields.pop();
    });
    let leaf = signer.leaf(API).chain[0].clone();
    let trust = trust(&root);
    judge(&trust, &[leaf.clone(), signer.der.clone()], NOW).unwrap();
    let error = judge(&trust, &[leaf, old], NOW).unwrap_err();
    assert_eq!(error.label(), "invalid_chain", "{}", explain(&error));
    table.judge(5);
}

#[test]
fn times_of_leaf_issuer_and_anchor() {
    let root = Authority::root_with("root", |params| set_validity(params, NOW - 30 * DAY, NOW + 30 * DAY));
    let issuer = root.intermediate_with("prod", |params| set_validity(params, NOW - 20 * DAY, NOW + 20 * DAY));
    let leaf = issuer.leaf_with(API, |params| set_validity(params, NOW - HOUR, NOW + HOUR));
    let long = issuer.leaf_with(API, |params| set_validity(params, NOW - 90 * DAY, NOW + 90 * DAY));
    let direct = root.leaf_with(API, |params| set_validity(params, NOW - 90 * DAY, NOW + 90 * DAY));
    let trust = trust(&root);
    let label = |chain: &[CertificateDer<'static>], seconds| match judge(&trust, chain, seconds) {
        Ok(_) => "accepted",
        Err(error) => error.label(),
    };
    for (what, chain, seconds, expected) in [
        ("a second before the leaf", &leaf.chain, NOW - HOUR - 1, "not_yet_valid"),
        ("the first second of the leaf", &leaf.chain, NOW - HOUR, "accepted"),
        ("the last second of the leaf", &leaf.chain, NOW + HOUR, "accepted"),
        ("a second after the leaf", &leaf.chain, NOW + HOUR + 1, "expired"),
        ("a second before the issuer", &long.chain, NOW - 20 * DAY - 1, "not_yet_valid"),
        ("the first second of the issuer", &long.chain, NOW - 20 * DAY, "accepted"),
        ("the last second of the issuer", &long.chain, NOW + 20 * DAY, "accepted"),
        ("a second after the issuer", &long.chain, NOW + 20 * DAY + 1, "expired"),
        ("a second before the anchor", &direct.chain, NOW - 30 * DAY - 1, "anchor_not_valid"),
        ("the first second of the anchor", &direct.chain, NOW - 30 * DAY, "accepted"),
        ("the last second of the anchor", &direct.chain, NOW + 30 * DAY, "accepted"),
        ("a second after the anchor", &direct.chain, NOW + 30 * DAY + 1, "anchor_not_valid"),
        ("1970", &leaf.chain, 0, "not_yet_valid"),
        ("the end of all clocks", &leaf.chain, u64::MAX, "expired"),
    ] {
        assert_eq!(label(chain, seconds), expected, "{what}");
    }
}

#[test]
fn name_constraints_on_the_trust_domain() {
    let mut table = Table::new();
    let clause = "X509-SVID 4.2";
    let host = |host: &str| der(0x30, &der(0x86, host.as_bytes()));
    let permitted = |hosts: &[&str]| der(0xa0, &hosts.iter().flat_map(|name| host(name)).collect::<Vec<_>>());
    let excluded = |hosts: &[&str]| der(0xa1, &hosts.iter().flat_map(|name| host(name)).collect::<Vec<_>>());
    for (what, subtrees, verdict) in [
        ("the domain permitted", permitted(&["prod.test"]), Api),
        ("the domain permitted, in capitals", permitted(&["PROD.test"]), Api),
        ("the domain permitted beside others", permitted(&["dev.test", "prod.test"]), Api),
        ("everything below a name permitted", permitted(&[".test"]), Api),
        ("another domain permitted", permitted(&["dev.test"]), Refused("name_constraints")),
        ("the domain above permitted, which is another host", permitted(&["test"]), Refused("name_constraints")),
        ("what is below the domain permitted", permitted(&[".prod.test"]), Refused("name_constraints")),
        ("the domain excluded", excluded(&["prod.test"]), Refused("name_constraints")),
        ("everything below a name excluded", excluded(&[".test"]), Refused("name_constraints")),
        ("another domain excluded", excluded(&["dev.test"]), Api),
        (
            "permitted and excluded",
            [permitted(&["prod.test"]), excluded(&["prod.test"])].concat(),
            Refused("name_constraints"),
        ),
    ] {
        for critical in [true, false] {
            let what = format!("{what}, critical: {critical}");
            let verdict = match &verdict {
                Api => Api,
                Is(id) => Is(id.clone()),
                Refused(label) => Refused(label),
            };
            table.signer(clause, &what, verdict, |params| {
                params.custom_extensions.push(extension(NAME_CONSTRAINTS, critical, &der(0x30, &subtrees)));
            });
        }
    }
    let narrowed = |outer: &[&str], inner: &[&str]| {
        let constrain = |hosts: &[&str]| {
            let constraints = extension(NAME_CONSTRAINTS, true, &der(0x30, &permitted(hosts)));
            move |params: &mut CertificateParams| params.custom_extensions.push(constraints)
        };
        let outer = table.root.intermediate_with("outer", constrain(outer));
        outer.intermediate_with("inner", constrain(inner)).leaf(API).chain
    };
    let narrow = narrowed(&["prod.test", "dev.test"], &["prod.test"]);
    let widened = narrowed(&["dev.test"], &["dev.test", "prod.test"]);
    let shut = narrowed(&["prod.test"], &["dev.test"]);
    table.chain(clause, "narrowed to the domain", Api, narrow);
    table.chain(clause, "widened to the domain further down", Refused("name_constraints"), widened);
    table.chain(clause, "narrowed to another further down", Refused("name_constraints"), shut);
    table.judge(25);
}

#[test]
fn small_keys() {
    let weak = CertificateDer::from_pem_slice(include_bytes!("../data/throwaway-rsa1024.crt")).unwrap();
    let error = judge(&trust(&Authority::root("root")), &[weak], NOW).unwrap_err();
    assert_eq!(error.label(), "weak_key");
}

/// Unoptimised, for both roles, on a busy machine. The longest, 250,000 comparisons of names, takes about a second; without
/// bounds, minutes.
const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_chain_of_any_shape_has_its_verdict_soon() {
    let root = Authority::root("root");
    let trust = trust(&root);
    let check = |what: &str, chain: Vec<CertificateDer<'static>>, expected: &str| {
        let begin = Instant::now();
        let found = judge(&trust, &chain, NOW);
        let took = begin.elapsed();
        let label = found.as_ref().map_or_else(PeerError::label, |_| "accepted");
        assert_eq!(label, expected, "{what}: {found:?}");
        assert!(took < SOON, "{what} took {took:?}");
    };
    let deep = |levels: usize| {
        let mut authority = root.intermediate("level");
        for level in 1..levels {
            authority = authority.intermediate(&format!("level {level}"));
        }
        authority.leaf(API).chain
    };
    check("three issuers", deep(3), "accepted");
    check("six issuers", deep(6), "accepted");
    check("seven issuers", deep(7), "chain_too_complex");
    check("200 certificates", deep(200), "too_many_certificates");
    check("200 times the same", vec![root.leaf(API).chain[0].clone(); 200], "too_many_certificates");

    let names = |count: usize| {
        move |params: &mut CertificateParams| {
            for number in 0..count {
                let name = format!("host-{number}.prod.test");
                params.subject_alt_names.push(SanType::DnsName(name.try_into().unwrap()));
            }
        }
    };
    check("600 names", root.leaf_with(API, names(600)).chain, "accepted");
    let fat = root.intermediate("prod").leaf_with(API, names(2500)).chain;
    let bytes: usize = fat.iter().map(|certificate| certificate.len()).sum();
    assert!((50_000..64_000).contains(&bytes), "{bytes}");
    check("50 KB", fat, "accepted");
    check("70 KB", root.leaf_with(API, names(3500)).chain, "chain_too_large");

    let subtree = |number| der(0x30, &der(0x82, format!("host-{number}.elsewhere.test").as_bytes()));
    let subtrees = |count: usize| {
        let excluded = der(0xa1, &(0..count).flat_map(subtree).collect::<Vec<_>>());
        extension(NAME_CONSTRAINTS, true, &der(0x30, &excluded))
    };
    let constrained = root.intermediate_with("prod", |params| params.custom_extensions.push(subtrees(900)));
    check("900 constraints on 600 names", constrained.leaf_with(API, names(600)).chain, "chain_too_complex");
    check("900 constraints on one name", constrained.leaf(API).chain, "accepted");

    // Whoever is not trusted may claim any constraints, and must not have them evaluated on that.
    let claimed = Authority::root_with("claimed", |params| {
        let uri = der(0x30, &der(0x86, b"elsewhere.test"));
        let excluded = (0..900).flat_map(subtree).chain(uri).collect::<Vec<_>>();
        let constraints = der(0x30, &der(0xa1, &excluded));
        params.custom_extensions.push(extension(NAME_CONSTRAINTS, true, &constraints));
    });
    let mut leaf = claimed.leaf_with(API, names(600));
    leaf.chain.push(claimed.der.clone());
    check("900 claimed constraints on 600 names", leaf.chain, "unknown_issuer");

    let same_name: Vec<_> = (0..7).map(|_| Authority::root("mesh")).collect();
    let mut chain = vec![same_name[0].leaf(API).chain[0].clone()];
    chain.extend(same_name.iter().map(|authority| authority.der.clone()));
    check("seven issuers of one name", chain, "chain_too_complex");

    // Two names that vouch for each other, each three times.
    let (a, b) = (Authority::root("a"), Authority::root("b"));
    let meshed: Vec<_> = (0..3).flat_map(|_| [b.intermediate("a"), a.intermediate("b")]).collect();
    let mut chain = vec![meshed[0].leaf(API).chain[0].clone()];
    chain.extend(meshed.iter().map(|authority| authority.der.clone()));
    check("two names meshed", chain, "unknown_issuer");
}
