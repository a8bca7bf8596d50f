//! The X.509 path validation cases of C2SP x509-limbo, run over path validation alone: no step of SPIFFE is in them.
//!
//! The vectors are read from the file that the environment variable LIMBO_JSON names; without it they are not run, and
//! the test says so. Where we and they differ stands in a table, with the reason; a difference that is not in the table
//! is a failure, and so is a row that no longer differs.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis_certs_watcher::volume::read_bundle;
use portcullis_certs_watcher::{Bundle, Crl, Revocation, RevocationPolicy, Role, Trust, explain, verify_path};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde::Deserialize;
use spiffe::TrustDomain;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use webpki::EndEntityCert;

use crate::pki::{Authority, Leaf, pem, prod};

/// The document of the vectors, as far as it is used here.
#[derive(Deserialize)]
struct Limbo {
    testcases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    id: String,
    features: Option<Vec<String>>,
    validation_kind: Kind,
    trusted_certs: Vec<String>,
    untrusted_intermediates: Vec<String>,
    peer_certificate: String,
    validation_time: Option<String>,
    expected_result: Expected,
    expected_peer_name: Option<PeerName>,
    #[serde(default)]
    crls: Vec<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Kind {
    Client,
    Server,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Expected {
    Success,
    Failure,
}

#[derive(Deserialize)]
struct PeerName {
    value: String,
}

/// What we make of a case: a path, or in words why there is none.
type Judgement = Result<(), String>;

/// Why we and the vectors differ on some cases.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// They refuse because the leaf is for another DNS name or address than the one that was called. A SPIFFE identity
    /// is compared in its place. That the name is not the leaf's is checked.
    PeerName,
    /// We accept what they refuse: the text says why that is no hole.
    Looser(&'static str),
    /// We refuse what they accept: the text says why.
    Stricter(&'static str),
}

fn certificates(texts: &[String]) -> Vec<CertificateDer<'static>> {
    let parse = |text: &String| CertificateDer::from_pem_slice(text.as_bytes()).unwrap();
    texts.iter().map(parse).collect()
}

impl Case {
    fn now(&self) -> UnixTime {
        // Cases without a time hold at any; this one is after the vectors were made.
        let text = self.validation_time.as_deref().unwrap_or("2026-07-01T00:00:00Z");
        let time = OffsetDateTime::parse(text, &Rfc3339).unwrap();
        UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(time.unix_timestamp()).unwrap()))
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        let mut chain = certificates(std::slice::from_ref(&self.peer_certificate));
        chain.extend(certificates(&self.untrusted_intermediates));
        chain
    }

    fn judge(&self) -> Judgement {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("anchors.pem"), self.trusted_certs.concat()).unwrap();
        let files = read_bundle(directory.path()).map_err(|error| explain(&error))?;
        let domain = TrustDomain::new("limbo.test").unwrap();
        let bundle = Arc::new(Bundle::load(&domain, &files).map_err(|error| explain(&error))?);
        let read = |text: &String| Crl::read(text.as_bytes()).map_err(|error| explain(&error));
        let lists: Vec<_> = self.crls.iter().map(read).collect::<Result<_, _>>()?;
        let lists = Revocation::new(lists.into_iter().flatten().collect(), RevocationPolicy::default());
        let trust = Trust::new([bundle.clone()]).with_revocations([(domain, Arc::new(lists))]);
        let role = match self.validation_kind {
            Kind::Client => Role::Client,
            Kind::Server => Role::Server,
        };
        verify_path(&trust, &bundle, role, &self.chain(), self.now()).map(drop).map_err(|error| explain(&error))
    }

    /// Whether the leaf is not for the name that the case has in mind.
    fn has_other_name(&self) -> bool {
        let Some(PeerName { value }) = &self.expected_peer_name else { return false };
        let chain = self.chain();
        let (Ok(leaf), Ok(name)) = (EndEntityCert::try_from(&chain[0]), ServerName::try_from(value.as_str())) else {
            return false;
        };
        leaf.verify_is_valid_for_subject_name(&name).is_err()
    }
}

/// A case on which we and the vectors differ.
struct Difference<'c> {
    case: &'c Case,
    judgement: Judgement,
}

impl fmt::Display for Difference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.judgement {
            Ok(()) => write!(f, "{}: they refuse, we accept", self.case.id)?,
            Err(error) => write!(f, "{}: they accept, we refuse: {error}", self.case.id)?,
        }
        write!(f, " {:?} other name: {}", self.case.features.as_deref().unwrap_or_default(), self.case.has_other_name())
    }
}

fn differences(cases: &[Case]) -> Vec<Difference<'_>> {
    let mut differences = Vec::new();
    for case in cases {
        let begin = Instant::now();
        let judgement = case.judge();
        assert!(begin.elapsed() < DEADLINE, "{} took {:?}", case.id, begin.elapsed());
        if judgement.is_ok() != (case.expected_result == Expected::Success) {
            differences.push(Difference { case, judgement });
        }
    }
    differences
}

/// What is wrong with the table, and with us: one line for each.
fn surprises(cases: &[Case], table: &[(Reason, &[&str])]) -> Vec<String> {
    let mut expected = BTreeMap::new();
    for (reason, ids) in table {
        for id in *ids {
            assert!(expected.insert(*id, *reason).is_none(), "{id} stands in the table twice");
        }
    }
    let mut surprises = Vec::new();
    for difference in differences(cases) {
        let fits = match expected.remove(difference.case.id.as_str()) {
            None => false,
            Some(Reason::PeerName) => difference.judgement.is_ok() && difference.case.has_other_name(),
            Some(Reason::Looser(_)) => difference.judgement.is_ok(),
            Some(Reason::Stricter(_)) => difference.judgement.is_err(),
        };
        if !fits {
            surprises.push(difference.to_string());
        }
    }
    surprises.extend(expected.keys().map(|id| format!("{id}: in the table, and does not differ or was not run")));
    surprises
}

#[test]
fn we_differ_from_limbo_only_where_we_mean_to() {
    let Some(path) = std::env::var_os("LIMBO_JSON") else {
        println!("NOT RUN: the variable LIMBO_JSON names no file of x509-limbo vectors");
        return;
    };
    let limbo: Limbo = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert!(limbo.testcases.len() >= CASES, "{} cases, fewer than {CASES}", limbo.testcases.len());
    let surprises = surprises(&limbo.testcases, DIFFERENCES);
    assert!(surprises.is_empty(), "{} surprises:\n{}", surprises.len(), surprises.join("\n"));
    let differ: usize = DIFFERENCES.iter().map(|(_, ids)| ids.len()).sum();
    println!("{} cases, {differ} of them differ as the table says", limbo.testcases.len());
}

/// A case of our own making, for when there are no vectors, and for what the vectors must never have: a difference.
fn case(id: &str, leaf: &Leaf, anchor: &Authority, expected: Expected) -> Case {
    Case {
        id: id.to_owned(),
        features: None,
        validation_kind: Kind::Client,
        trusted_certs: vec![anchor.pem()],
        untrusted_intermediates: leaf.chain[1..].iter().map(|der| pem(std::slice::from_ref(der))).collect(),
        peer_certificate: pem(&leaf.chain[..1]),
        validation_time: Some("2027-01-15T08:00:00Z".to_owned()),
        expected_result: expected,
        expected_peer_name: Some(PeerName { value: "elsewhere.test".to_owned() }),
        crls: Vec::new(),
    }
}

#[test]
fn the_harness_tells_a_difference_from_agreement() {
    let pki = prod();
    let stranger = Authority::root("root");
    let agree = [
        case("good", &pki.leaf, &pki.root, Expected::Success),
        case("stranger", &pki.leaf, &stranger, Expected::Failure),
    ];
    assert!(surprises(&agree, &[]).is_empty());
    let differ = [
        case("looser", &pki.leaf, &pki.root, Expected::Failure),
        case("stricter", &pki.leaf, &stranger, Expected::Success),
    ];
    assert_eq!(surprises(&differ, &[]).len(), 2);
    let (looser, stricter) = (Reason::Looser(""), Reason::Stricter(""));
    assert!(surprises(&differ, &[(looser, &["looser"]), (stricter, &["stricter"])]).is_empty());
    assert!(surprises(&differ, &[(Reason::PeerName, &["looser"]), (stricter, &["stricter"])]).is_empty());
    assert_eq!(surprises(&differ, &[(looser, &["stricter"]), (stricter, &["looser"])]).len(), 2);
    assert_eq!(surprises(&agree, &[(looser, &["good"]), (stricter, &["gone"])]).len(), 2, "rows that do not differ");
}

/// All of the version of June 2026 without its BetterTLS part.
const CASES: usize = 208;

/// For one case, unoptimised. The worst, a hundred issuers of one name, took 1.2 s; a peer's chain is bounded before.
const DEADLINE: Duration = Duration::from_secs(20);

const DIFFERENCES: &[(Reason, &[&str])] = &[
    (
        Reason::PeerName,
        &[
            "pathological::nc-dos-3",
            "rfc5280::san::ip-in-dns",
            "webpki::san::mismatch-apex-subdomain-san",
            "webpki::san::mismatch-domain-san",
            "webpki::san::mismatch-subdomain-apex-san",
            "webpki::san::mismatch-subdomain-san",
            "webpki::san::no-san",
            "webpki::san::public-suffix-wildcard-san",
            "webpki::san::san-wildcard-only",
            "webpki::san::san-wildcard-only-tld",
            "webpki::san::unicode-emoji-san",
            "webpki::san::wildcard-embedded-leftmost-san",
            "webpki::san::wildcard-embedded-ulabel-san",
            "webpki::san::wildcard-match-across-labels-san",
            "webpki::san::wildcard-not-in-leftmost-san",
        ],
    ),
    (
        Reason::Looser("rules for DNS names of the public web; a SPIFFE identity is compared in their place"),
        &[
            "rfc5280::san::underscore-dns",
            "webpki::san::public-suffix-multi-label-wildcard-san",
            "webpki::san::public-suffix-private-namespace-wildcard-san",
        ],
    ),
    (
        Reason::Looser("rules of the public web for the common name of a subject, which nothing here reads"),
        &[
            "webpki::cn::case-mismatch",
            "webpki::cn::ipv4-hex-mismatch",
            "webpki::cn::ipv4-leading-zeros-mismatch",
            "webpki::cn::ipv6-non-rfc5952-mismatch",
            "webpki::cn::ipv6-uncompressed-mismatch",
            "webpki::cn::ipv6-uppercase-mismatch",
            "webpki::cn::not-in-san",
            "webpki::cn::punycode-not-in-san",
            "webpki::cn::utf8-vs-punycode-mismatch",
        ],
    ),
    (
        Reason::Looser("a key identifier is a hint for finding issuers; the signature decides"),
        &[
            "rfc5280::aki::critical-aki",
            "rfc5280::aki::cross-signed-root-missing-aki",
            "rfc5280::aki::intermediate-missing-aki",
            "rfc5280::aki::leaf-missing-aki",
            "rfc5280::ski::critical-ski",
            "rfc5280::ski::intermediate-missing-ski",
            "rfc5280::ski::root-missing-ski",
            "webpki::aki::root-with-aki-all-fields",
            "webpki::aki::root-with-aki-authoritycertissuer",
            "webpki::aki::root-with-aki-authoritycertserialnumber",
            "webpki::aki::root-with-aki-missing-keyidentifier",
            "webpki::aki::root-with-aki-ski-mismatch",
        ],
    ),
    (
        Reason::Looser("a rule for who writes certificates: the extension is read and obeyed, critical or not"),
        &["rfc5280::nc::permitted-dns-match-noncritical", "rfc5280::root-non-critical-basic-constraints"],
    ),
    (
        Reason::Looser("a rule for who writes certificates, with no bearing on what is trusted"),
        &["rfc5280::ca-empty-subject", "webpki::malformed-aia", "webpki::san::san-critical-with-nonempty-subject"],
    ),
    (
        Reason::Looser("serial numbers are compared as whole bytes, whatever their length"),
        &["rfc5280::serial::too-long", "rfc5280::serial::zero"],
    ),
    (
        Reason::Looser("a rule for who writes lists: every list of an issuer is asked, whatever its number"),
        &["crl::crlnumber-critical", "crl::crlnumber-missing"],
    ),
    (
        Reason::Looser("its list does not count, and a certificate without a list is allowed by default"),
        &["crl::issuer-missing-crlsign"],
    ),
    (
        Reason::Looser("name constraints of a leaf constrain nobody, since a leaf issues nothing"),
        &["rfc5280::nc::not-allowed-in-ee-critical", "rfc5280::nc::not-allowed-in-ee-noncritical"],
    ),
    (
        Reason::Looser("a DNS constraint that begins with a dot permits less than one without"),
        &["rfc5280::nc::invalid-dnsname-leading-period"],
    ),
    (
        Reason::Looser("name constraints without a subtree constrain nothing"),
        &[
            "webpki::nc::intermediate-permitted-excluded-subtrees-both-empty-sequences",
            "webpki::nc::intermediate-permitted-excluded-subtrees-both-null",
        ],
    ),
    (
        Reason::Looser(
            "policy constraints are about certificate policies, by which nothing here is decided; critical ones are refused",
        ),
        &["rfc5280::pc::ica-noncritical-pc"],
    ),
    (
        Reason::Looser("an anchor is chosen by the operator: extensions of it that are not known do not bind us"),
        &["rfc5280::unknown-critical-extension-root"],
    ),
    (
        Reason::Looser("rules of the public web for extended key usage; serverAuth is there, or nothing is restricted"),
        &[
            "webpki::eku::ee-anyeku",
            "webpki::eku::ee-critical-eku",
            "webpki::eku::ee-without-eku",
            "webpki::eku::root-has-eku",
        ],
    ),
    (
        Reason::Looser("the path of a chain has its own bound, of eight certificates; this one is a setting of theirs"),
        &["pathlen::max-chain-depth-0-exhausted", "pathlen::max-chain-depth-1-exhausted"],
    ),
    (
        Reason::Looser("a rule for leaves, and the SVID step has it: see svid_table.rs"),
        &[
            "rfc5280::leaf-ku-keycertsign",
            "rfc5280::san::noncritical-with-empty-subject",
            "webpki::forbidden-weak-rsa-in-leaf",
        ],
    ),
    (
        Reason::Looser(
            "the key of a leaf signs in the handshake alone, and rustls has no signature scheme for this one",
        ),
        &["webpki::forbidden-dsa-leaf", "webpki::forbidden-p192-leaf"],
    ),
    (
        Reason::Looser("2052 bits are strong enough; the public web wants whole bytes"),
        &["webpki::forbidden-rsa-key-not-divisible-by-8-in-leaf", "webpki::forbidden-rsa-not-divisible-by-8-in-root"],
    ),
    (
        Reason::Stricter("a CA certificate must not be used to authenticate (X509-SVID 3.1)"),
        &["pathlen::validation-ignores-pathlen-in-leaf", "rfc5280::ca-as-leaf"],
    ),
    (
        Reason::Stricter("webpki counts self-issued issuers towards path lengths, and holds them to name constraints"),
        &["pathlen::self-issued-certs-pathlen", "rfc5280::nc::permitted-self-issued"],
    ),
    (
        Reason::Stricter(
            "webpki does not evaluate constraints on directory names or mailboxes, and refuses what is under them",
        ),
        &[
            "rfc5280::nc::nc-permits-email-domain",
            "rfc5280::nc::nc-permits-email-exact",
            "rfc5280::nc::nc-permits-email-literal-asterisk-exact-match",
            "rfc5280::nc::nc-permits-email-literal-double-asterisk",
            "rfc5280::nc::nc-permits-email-literal-mid-asterisk",
            "rfc5280::nc::permitted-dn-match",
        ],
    ),
];
