//! Tests of `inspect.rs`: what is told of a certificate, a list, a bundle and a Secret directory.

use rcgen::{
    BasicConstraints, CertificateRevocationListParams, CidrSubnet, DnType, GeneralSubtree, IsCa, KeyIdMethod,
    NameConstraints, RevocationReason, RevokedCertParams, SanType, SerialNumber,
};

use super::*;
use crate::pki::{API, Authority, HOUR, NOW, base64, date, now, pem, prod, section};

fn look(path: &Path) -> Inspection {
    let target = Target { path: path.to_owned(), trust_domain: None };
    Inspection::of(&target, read(&target), now())
}

fn look_at(content: impl AsRef<[u8]>) -> Inspection {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, content).unwrap();
    look(&path)
}

#[test]
fn everything_about_a_certificate() {
    let root = Authority::root("root");
    let intermediate = root.intermediate_with("prod", |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("prod.test".to_owned())],
            excluded_subtrees: vec![
                GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix([10, 1, 0, 0], 16)),
                GeneralSubtree::Rfc822Name("mail.test".to_owned()),
            ],
        });
    });
    let leaf = intermediate.leaf_with(API, |params| {
        params.subject_alt_names.push(SanType::DnsName("api.prod.test".try_into().unwrap()));
        params.subject_alt_names.push(SanType::IpAddress([10, 0, 0, 1].into()));
    });
    let inspection = look_at(leaf.chain_pem());
    assert_eq!(inspection.purpose, Purpose::Chain);
    let file = &inspection.files[0];
    assert_eq!((file.encoding, file.chain.as_slice()), (Some(Encoding::Pem), &[1, 2][..]));
    let facts = serde_json::to_value(&file.certificates[0]).unwrap();
    let fingerprint = crate::Fingerprint::of(&leaf.chain[0]).to_string();
    for (key, value) in [
        ("position", serde_json::json!(1)),
        ("line", serde_json::json!(1)),
        ("kind", serde_json::json!("leaf")),
        ("subject", serde_json::json!("CN=leaf")),
        ("issuer", serde_json::json!("CN=prod")),
        ("serial", serde_json::json!("0abc")),
        ("spiffeId", serde_json::json!(API)),
        ("key", serde_json::json!("ECDSA P-256")),
        ("signature", serde_json::json!("ECDSA with SHA-256")),
        ("notBefore", serde_json::json!("2027-01-15T07:00:00Z")),
        ("notAfter", serde_json::json!("2027-01-16T08:00:00Z")),
        ("secondsLeft", serde_json::json!(24 * HOUR)),
        ("percentLeft", serde_json::json!(96)),
        ("keyUsage", serde_json::json!({"critical": true, "uses": ["digital signature"]})),
        ("extendedKeyUsage", serde_json::json!({"critical": false, "uses": ["server auth", "client auth"]})),
        ("basicConstraints", serde_json::Value::Null),
        ("namesTotal", serde_json::json!(3)),
        ("sha256", serde_json::json!(fingerprint)),
        ("issuers", serde_json::json!([2])),
    ] {
        assert_eq!(facts[key], value, "{key}");
    }
    let names: Vec<_> = file.certificates[0].names.iter().map(ToString::to_string).collect();
    assert_eq!(names, [&format!("URI {API}"), "DNS api.prod.test", "IP 10.0.0.1"]);

    let issuer = &file.certificates[1];
    assert_eq!(issuer.kind, Kind::Intermediate);
    assert_eq!(issuer.basic_constraints.as_ref().unwrap().path_length, Some(0));
    let constraints = issuer.name_constraints.as_ref().unwrap();
    let text = |names: &[Name]| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    assert_eq!(text(&constraints.permitted), "DNS prod.test");
    assert_eq!(text(&constraints.excluded), "IP 10.1.0.0/16, email mail.test");
}

#[test]
fn control_characters_do_not_get_through() {
    let root = Authority::root("root");
    let leaf = root.leaf_with(API, |params| {
        params.distinguished_name.push(DnType::OrganizationName, "\u{1b}[31mred\u{7}\nnext\u{202e}left");
        params.subject_alt_names.push(SanType::DnsName("a\u{1b}b".try_into().unwrap()));
    });
    let inspection = look_at(leaf.chain_pem());
    let json = serde_json::to_string(&inspection).unwrap();
    assert!(json.contains("?[31mred??next?left") && json.contains("a?b"), "{json}");
    let file = &inspection.files[0].certificates[0];
    assert!(!file.subject.chars().any(char::is_control), "{:?}", file.subject);
}

#[test]
fn a_secret_directory_is_of_one_generation_and_never_shows_the_key() {
    let prod = prod();
    let directory = tempfile::tempdir().unwrap();
    let generation = directory.path().join("..2027_01");
    std::fs::create_dir(&generation).unwrap();
    let root = prod.root.pem();
    for (name, text) in [("tls.crt", prod.leaf.chain_pem()), ("tls.key", prod.leaf.key_pem()), ("ca.crt", root)] {
        std::fs::write(generation.join(name), text).unwrap();
        std::os::unix::fs::symlink(format!("..data/{name}"), directory.path().join(name)).unwrap();
    }
    std::os::unix::fs::symlink("..2027_01", directory.path().join("..data")).unwrap();
    let inspection = look(directory.path());
    assert_eq!((inspection.purpose, inspection.swapped_whole), (Purpose::Secret, true));
    let [identity, authority] = inspection.files.as_slice() else { panic!("{inspection:?}") };
    assert!(identity.path.ends_with("/tls.crt") && authority.path.ends_with("/ca.crt"));
    let key = identity.key.as_ref().unwrap();
    assert_eq!((key.encoding, key.fits), (Some("PKCS#8"), Fit::Fits));
    let shown = format!("{inspection:?}{}", serde_json::to_string(&inspection).unwrap());
    let key_pem = prod.leaf.key_pem();
    for line in key_pem.lines().filter(|line| !line.starts_with("-----")) {
        assert!(!shown.contains(line));
    }
}

#[test]
fn chains_are_put_in_order_and_strays_are_told() {
    let prod = prod();
    let stray = Authority::root("stray");
    let [leaf, intermediate] = [&prod.leaf.chain[0], &prod.leaf.chain[1]].map(Clone::clone);
    let inspection = look_at(pem(&[stray.der, prod.root.der, intermediate, leaf]));
    let file = &inspection.files[0];
    assert_eq!(file.chain, [4, 3, 2]);
    assert_eq!(file.strays().map(|certificate| certificate.subject.as_str()).collect::<Vec<_>>(), ["CN=stray"]);
    assert!(file.disorder.is_some());
    assert_eq!(
        file.certificates.iter().map(|found| found.issuers.as_slice()).collect::<Vec<_>>(),
        [&[][..], &[], &[2], &[3]]
    );
}

#[test]
fn everything_about_a_revocation_list() {
    let prod = prod();
    let entry = |serial: u64, reason_code| RevokedCertParams {
        serial_number: SerialNumber::from(serial),
        revocation_time: date(NOW - HOUR),
        reason_code,
        invalidity_date: None,
    };
    let mut revoked_certs = vec![entry(0xbeef, Some(RevocationReason::KeyCompromise))];
    revoked_certs.extend((1..=20).map(|serial| entry(serial, None)));
    let params = CertificateRevocationListParams {
        this_update: date(NOW - HOUR),
        next_update: date(NOW + HOUR),
        crl_number: SerialNumber::from(7_u64),
        issuing_distribution_point: None,
        revoked_certs,
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let der = params.signed_by(&prod.intermediate.issuer).unwrap().der().to_vec();
    for content in [der.clone(), section("X509 CRL", &der).into_bytes()] {
        let inspection = look_at(content);
        assert_eq!(inspection.purpose, Purpose::RevocationLists);
        let list = &inspection.files[0].revocation_lists[0];
        assert_eq!((list.issuer.as_str(), list.number.as_deref(), list.revoked), ("CN=prod", Some("7"), 21));
        assert_eq!(list.this_update.to_string(), "2027-01-15T07:00:00Z");
        assert_eq!(list.next_update.to_string(), "2027-01-15T09:00:00Z");
        assert_eq!((list.first.len(), list.first[0].serial.as_str()), (MAX_ENTRIES, "beef"));
        assert_eq!(list.first[0].reason.as_deref(), Some("KeyCompromise"));
        assert_eq!(list.first[1].reason, None);
    }
}

#[test]
fn a_spiffe_bundle_tells_its_sequence_and_hint() {
    let x5c = base64(&prod().root.der);
    let text = format!(
        r#"{{"spiffe_sequence": 12, "spiffe_refresh_hint": 300, "keys": [{{"use": "x509-svid", "kty": "EC", "x5c": ["{x5c}"]}}]}}"#
    );
    let inspection = look_at(text);
    assert_eq!(inspection.purpose, Purpose::Bundle);
    let file = &inspection.files[0];
    assert_eq!((file.encoding, file.sequence, file.refresh_hint), (Some(Encoding::Json), Some(12), Some(300)));
    assert_eq!((file.certificates.len(), file.certificates[0].kind), (1, Kind::Root));
}

#[test]
fn contents_are_told_apart() {
    let prod = prod();
    for (what, content, purpose) in [
        ("a leaf in DER", prod.leaf.chain[0].to_vec(), Purpose::Chain),
        ("a root in DER", prod.root.der.to_vec(), Purpose::Bundle),
        ("roots in PEM", prod.root.pem().into_bytes(), Purpose::Bundle),
        ("a key in PEM", prod.leaf.key_pem().into_bytes(), Purpose::Key),
        ("a key in DER", prod.leaf.key.serialize_der(), Purpose::Key),
        ("text", b"hello".to_vec(), Purpose::Unknown),
    ] {
        assert_eq!(look_at(content).purpose, purpose, "{what}");
    }
}

#[test]
fn a_directory_is_read_with_its_bundles_and_lists() {
    let prod = prod();
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("root.pem"), prod.root.pem()).unwrap();
    std::fs::write(directory.path().join("prod.der"), &prod.intermediate.der).unwrap();
    std::fs::write(directory.path().join("notes.txt"), "not looked at").unwrap();
    let inspection = look(directory.path());
    let names: Vec<_> = inspection.files.iter().map(|file| file.path.rsplit('/').next().unwrap()).collect();
    assert_eq!((names.as_slice(), inspection.purpose), (&["prod.der", "root.pem"][..], Purpose::Bundle));
}
