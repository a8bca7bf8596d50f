//! Makes the seeds, `cargo run --example seeds` in `fuzz/`: the world that `src/lib.rs` trusts, and for each target a few
//! inputs that lead far into it. To be run again only when seeds of another kind are wanted: its keys are new each time.
//! Seeds that are text and nothing else, as an access log or a deny list, lie there as they were written.

#[path = "../../certs-watcher/tests/it/pki.rs"]
mod pki;

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use rcgen::{
    CertificateParams, CertificateRevocationList, CertificateRevocationListParams, IsCa, KeyIdMethod, KeyPair,
    KeyUsagePurpose, PKCS_ED25519, RevocationReason, RevokedCertParams, SanType,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use pki::{API, Authority, DAY, HOUR, NOW, Prod, base64, prod, section, uri};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn put(target: &str, name: &str, bytes: impl AsRef<[u8]>) -> Result<()> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    fs::create_dir_all(&directory)?;
    Ok(fs::write(directory.join(name), bytes)?)
}

/// As `portcullis_fuzz::chain` reads it.
fn framed(chain: &[CertificateDer<'static>]) -> Result<Vec<u8>> {
    let mut bytes = vec![0];
    for certificate in chain {
        bytes.extend(u16::try_from(certificate.len())?.to_be_bytes());
        bytes.extend(certificate.iter());
    }
    Ok(bytes)
}

fn certificates(pki: &Prod) -> Result<()> {
    put("", "anchor.pem", pki.root.pem())?;
    put("chain", "good", framed(&pki.leaf.chain)?)?;
    // Issued by another root of the same names, so that none of these is ever believed.
    let other = prod();
    let stranger = |edit: fn(&mut CertificateParams)| other.intermediate.leaf_with(API, edit);
    let leaves = [
        (
            "many-names",
            stranger(|params| {
                params.subject_alt_names.push(SanType::IpAddress([10, 0, 0, 1].into()));
                params.subject_alt_names.push(SanType::Rfc822Name("a@prod.test".try_into().unwrap()));
                params.subject_alt_names.push(SanType::DnsName("api.prod.test".try_into().unwrap()));
            }),
        ),
        ("two-uris", stranger(|params| params.subject_alt_names.push(uri(API)))),
        ("ca", stranger(|params| params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Constrained(1)))),
        ("no-eku", stranger(|params| params.extended_key_usages.clear())),
        ("cert-sign", stranger(|params| params.key_usages.push(KeyUsagePurpose::KeyCertSign))),
    ];
    for (name, leaf) in &leaves {
        put("certificate", name, &leaf.chain[0])?;
        put("chain", name, framed(&leaf.chain)?)?;
    }
    let constrained = other.root.intermediate_with("constrained", |params| {
        params.name_constraints = Some(rcgen::NameConstraints {
            permitted_subtrees: vec![rcgen::GeneralSubtree::DnsName("prod.test".to_owned())],
            excluded_subtrees: vec![rcgen::GeneralSubtree::IpAddress(rcgen::CidrSubnet::V4(
                [10, 0, 0, 0],
                [255, 0, 0, 0],
            ))],
        });
    });
    put("certificate", "constrained", &constrained.der)?;
    put("chain", "constrained", framed(&constrained.leaf(API).chain)?)?;
    // One permitted host, one excluded domain, as URIs; then the same below a certificate.
    let constraints = b"\xa0\x0d\x30\x0b\x86\x09prod.test\xa1\x0c\x30\x0a\x86\x08.ev.test";
    put("name_constraints", "uris", [&b"spiffe://prod.test/a\n"[..], constraints].concat())?;
    let extension = pki::extension(&[2, 5, 29, 30], true, &[&b"\x30\x1d"[..], constraints].concat());
    let bound = other.root.intermediate_with("bound", |params| params.custom_extensions.push(extension));
    put("certificate", "bound", &bound.der)?;
    put("chain", "bound", framed(&bound.leaf(API).chain)?)?;

    put("crl", "issued", revocation_list(&pki.intermediate)?.der())?;
    put("crl", "strange", revocation_list(&other.intermediate)?.der())?;
    put("crl", "pem", revocation_list(&other.root)?.pem()?)?;
    put("pem_certificates", "chain", pki.leaf.chain_pem())?;
    put("pem_certificates", "crlf", pki.root.pem().replace('\n', "\r\n"))?;
    let key = format!("{{\"use\":\"x509-svid\",\"kty\":\"EC\",\"x5c\":[\"{}\"]}}", base64(&pki.root.der));
    put("spiffe_bundle", "one", format!("{{\"spiffe_sequence\":1,\"spiffe_refresh_hint\":60,\"keys\":[{key}]}}"))?;
    put("spiffe_bundle", "empty", "{\"keys\":[]}")
}

/// A field of a protobuf message that holds bytes.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    let mut length = content.len();
    while length > 127 {
        bytes.push(0x80 | length.to_le_bytes()[0]);
        length >>= 7;
    }
    bytes.push(length.to_le_bytes()[0]);
    bytes.extend(content);
    bytes
}

fn workload_api(pki: &Prod) -> Result<()> {
    let chain: Vec<u8> = pki.leaf.chain.iter().flat_map(|certificate| certificate.iter().copied()).collect();
    let key = pki.leaf.key.serialize_der();
    let svid =
        [field(1, API.as_bytes()), field(2, &chain), field(3, &key), field(4, &pki.root.der), field(5, b"internal")];
    let partner = [field(1, b"spiffe://partner.test"), field(2, &prod().root.der)].concat();
    let list = revocation_list(&pki.intermediate)?;
    let message = [field(1, &svid.concat()), field(2, list.der()), field(3, &partner)].concat();
    put("workload_api", "throwaway", message)?;
    put("workload_api", "empty", [])
}

fn revocation_list(issuer: &Authority) -> Result<CertificateRevocationList> {
    let params = CertificateRevocationListParams {
        this_update: date(NOW - DAY),
        next_update: date(NOW + DAY),
        crl_number: 1_u64.into(),
        issuing_distribution_point: None,
        // The number that every leaf of these has.
        revoked_certs: vec![RevokedCertParams {
            serial_number: 0x0abc_u64.into(),
            revocation_time: date(NOW - HOUR),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        }],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    Ok(params.signed_by(&issuer.issuer)?)
}

fn date(seconds: u64) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds)
}

fn keys() -> Result<()> {
    put("pem_key", "throwaway-p256", KeyPair::generate()?.serialize_pem())?;
    put("pem_key", "throwaway-ed25519", KeyPair::generate_for(&PKCS_ED25519)?.serialize_pem())?;
    put("pem_key", "encrypted", section("ENCRYPTED PRIVATE KEY", b"x"))?;
    let mut params = pki::leaf_params(API);
    params.serial_number = None;
    let key = KeyPair::generate()?;
    let request = params.serialize_request(&key)?;
    put("ca_request", "der", request.der())?;
    put("ca_request", "pem", request.pem()?)
}

fn texts() -> Result<()> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    put("policy", "eligibility", fs::read(root.join("policy/tests/corpus/eligibility.yaml"))?)?;
    put("policy", "matchers", fs::read(root.join("policy/tests/corpus/matchers.yaml"))?)?;
    put("policy", "services", fs::read(root.join("policy/tests/corpus/services.yaml"))?)?;
    for name in ["conditions", "operations", "scope", "sources", "tcp"] {
        let text = fs::read(root.join(format!("policy/tests/corpus/istio/{name}.yaml")))?;
        put("policy", &format!("istio-{name}"), text)?;
    }
    for mesh in ["istio", "linkerd"] {
        let text = fs::read(root.join(format!("policy/tests/corpus/import/{mesh}.yaml")))?;
        put(&format!("import_{mesh}"), "mesh", text)?;
    }
    put("config", "api", fs::read(root.join("examples/quickstart/api.yaml"))?)?;
    put("config", "adjudicator", fs::read(root.join("examples/quickstart/adjudicator.yaml"))?)?;
    for (name, text) in [
        ("plain", "/v1/members/42/coverage?full=1\n/v1/members/{id}/coverage"),
        ("dots", "/a/./b/../c//d;p=1/%41%2e%2E/%25%32%65\n/a/**"),
        ("slash", "/a%2fb%5cc%00\n/*/b"),
    ] {
        put("path", name, text)?;
    }
    for (name, text) in [
        ("origin", "GET\n/v1/members?x=1\napi.example:8443"),
        ("absolute", "POST\nhttp://api.example/\napi.example"),
        ("asterisk", "OPTIONS\n*\n[::1]:80"),
    ] {
        put("http_target", name, text)?;
    }
    put(
        "http_headers",
        "many",
        "connection:x-a, close\nx-a:1\nte:trailers, gzip\nx_forwarded_client_cert:By=a\ncookie:a=1\ncookie:b=2\n\
         traceparent:00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\ncontent-type:application/grpc+proto\n",
    )?;
    for (name, text) in [
        ("websocket", "ckeep-alive, Upgrade\nuwebsocket\nkdGhlIHNhbXBsZSBub25jZQ=="),
        ("list", "cupgrade\nuwebsocket, h2c"),
        ("h2c", "cUpgrade, HTTP2-Settings\nuh2c"),
        ("two", "cupgrade\nuwebsocket\nuTLS/1.0\nka\nkb"),
    ] {
        put("http_upgrade", name, text)?;
    }
    put("http_preface", "http2", "\u{5}PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nrest")?;
    put("http_preface", "http1", "\u{1}POST / HTTP/1.1\r\n\r\n")?;
    // Pieces of seven bytes: the preface, SETTINGS, a header block of two frames, DATA, PING.
    let frames = b"\x0ePRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\xff\xff\
        \0\0\x01\x01\0\0\0\0\x01\x82\0\0\x02\x09\x04\0\0\0\x01\x87\x84\0\0\x02\0\x01\0\0\0\x01ok\
        \0\0\x08\x06\0\0\0\0\0pingpong";
    put("http2_frames", "serving", frames)?;
    put("http2_frames", "calling", b"\x03\0\0\0\x04\0\0\0\0\0\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08")
}

fn main() -> Result<()> {
    let pki = prod();
    certificates(&pki)?;
    keys()?;
    workload_api(&prod())?;
    texts()?;
    Ok(())
}
