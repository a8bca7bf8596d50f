//! Tests of `pem.rs`.

use rustls_pki_types::PrivateKeyDer;

use super::*;
use crate::pki::{Authority, pem, section};

fn p256() -> String {
    Authority::root("root").leaf("spiffe://prod.test/a").key_pem()
}

/// The SEC1 key inside a PKCS#8 P-256 key.
fn sec1(pkcs8: &str) -> Vec<u8> {
    let PrivateKeyDer::Pkcs8(der) = private_key(pkcs8.as_bytes()).unwrap() else { panic!("rcgen writes PKCS#8") };
    let der = der.secret_pkcs8_der();
    // SEQUENCE { version, algorithm, OCTET STRING { ECPrivateKey } }: the key is the only part that starts so.
    let start = der.windows(4).position(|window| window == [0x02, 0x01, 0x01, 0x04]).unwrap() - 2;
    let length = usize::from(der[start + 1]) + 2;
    der[start..start + length].to_vec()
}

#[test]
fn keys_load_in_each_wrapping() {
    let pkcs8 = p256();
    assert!(matches!(private_key(pkcs8.as_bytes()).unwrap(), PrivateKeyDer::Pkcs8(_)));

    let sec1 = section("EC PRIVATE KEY", &sec1(&pkcs8));
    let key = private_key(sec1.as_bytes()).unwrap();
    assert!(matches!(key, PrivateKeyDer::Sec1(_)));
    rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();

    let key = private_key(PKCS1.as_bytes()).unwrap();
    assert!(matches!(key, PrivateKeyDer::Pkcs1(_)));
    rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
}

#[test]
fn what_openssl_writes_before_an_ec_key_is_passed_over() {
    let text = format!("{}{}", section("EC PARAMETERS", &[6, 8, 42, 134, 72, 206, 61, 3, 1, 7]), p256());
    private_key(text.as_bytes()).unwrap();
}

#[test]
fn each_bad_key_has_its_own_error() {
    let check = |text: &str, label: &str| match private_key(text.as_bytes()) {
        Ok(_) => panic!("{label}: loaded"),
        Err(error) => {
            assert_eq!(error.label(), label, "{error}");
            error.to_string()
        }
    };
    let key = p256();
    check("", "empty");
    check(" \n\t\n", "empty");
    check("garbage", "no_key");
    check(&section("CERTIFICATE", b"x"), "no_key");
    check(&format!("{key}{key}"), "several_keys");
    check(&key[..key.len() - 30], "truncated_pem");
    check(&key.replacen("MI", "M!", 1), "damaged_pem");
    let encrypted = check(&section("ENCRYPTED PRIVATE KEY", b"x"), "encrypted_key");
    assert!(encrypted.contains("encrypted"));
    check(
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\neHg=\n-----END RSA PRIVATE KEY-----\n",
        "encrypted_key",
    );
    check(
        "-----BEGIN EC PRIVATE KEY-----\r\nProc-Type: 4,ENCRYPTED\r\n\r\neHg=\r\n-----END EC PRIVATE KEY-----\r\n",
        "encrypted_key",
    );
}

#[test]
fn an_error_never_quotes_a_key() {
    let key = p256();
    let body = key.lines().nth(1).unwrap();
    for text in [
        key.replace('\n', ""),
        key.replace('\n', " "),
        key.replace('\n', "\\n"),
        key.replacen("-----\n", "----\n", 1),
        key.replacen("-----\n", "", 1),
        key.replace("-----END", "----END"),
        format!("{}!", key.replacen(body, &format!("{body}!"), 1)),
    ] {
        let Err(error) = private_key(text.as_bytes()) else { panic!("{text} loaded") };
        let shown = format!("{error:?} {}", crate::explain(&error));
        let bytes = format!("{:?}", body.as_bytes());
        assert!(!shown.contains(body) && !shown.contains(bytes.trim_matches(['[', ']'])), "{shown}");
    }
}

#[test]
fn certificates_keep_their_order_and_bad_ones_have_their_own_error() {
    let (a, b) = (Authority::root("a").der, Authority::root("b").der);
    let both = pem(&[a.clone(), b.clone()]);
    assert_eq!(certificates(both.as_bytes()).unwrap(), [a.clone(), b.clone()]);
    assert_eq!(certificates(both.replace('\n', "\r\n").as_bytes()).unwrap(), [a, b]);

    let check = |text: &str, label: &str| assert_eq!(certificates(text.as_bytes()).unwrap_err().label(), label);
    check("", "empty");
    check("\n", "empty");
    check("garbage", "no_certificate");
    check(&p256(), "no_certificate");
    check(&both[..both.len() - 40], "truncated_pem");
}

// Made for this test with `openssl genrsa -traditional 2048`; it guards nothing.
const PKCS1: &str = include_str!("../../tests/data/throwaway-pkcs1.pem");
