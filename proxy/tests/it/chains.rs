//! Chains good and bad, through a real handshake: who is let in, and which alert the others get.

use std::collections::BTreeMap;

use rcgen::{ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType, SerialNumber};
use rustls::AlertDescription;

use crate::backend::Backend;
use crate::client::{Http, is_served};
use crate::eventually::{eventually, soon};
use crate::forge::{Forge, Shown, lasting, only_uris_of, refusal, uri};
use crate::pki::{API, CALLER, DOMAIN, OTHER, Pki};
use crate::sidecar::{Plan, Sidecar, refused};

/// A ready sidecar that believes its own PKI and these roots.
async fn believing(pki: &Pki, roots: &[&Forge]) -> (Sidecar, Backend) {
    let backend = Backend::start().await;
    let plan = Plan::new(pki, API).inbound("http", backend.address).timeouts("handshake: 5s, lameDuck: 0, drain: 1s");
    let pems: Vec<&str> = roots.iter().map(|root| root.pem.as_str()).chain([pki.bundle()]).collect();
    plan.write_bundle(DOMAIN, &pems);
    (plan.ready().await, backend)
}

async fn serves(sidecar: &Sidecar, shown: &Shown) {
    let mut http = Http::over_http2(shown.shake(sidecar.inbound(), &["h2"]).await.unwrap()).await;
    assert_eq!(http.get("/").await.status, 200);
}

#[tokio::test]
async fn an_intermediate_with_uri_constraints_vouches_for_its_trust_domain_and_for_nobody_else() {
    let (pki, root) = (Pki::new(), Forge::root("root"));
    let prod = root.under_with("prod", |params| params.custom_extensions = vec![only_uris_of(DOMAIN)]);
    let dev = root.under_with("dev", |params| params.custom_extensions = vec![only_uris_of("dev.test")]);
    let (sidecar, backend) = believing(&pki, &[&root]).await;
    serves(&sidecar, &prod.leaf(CALLER)).await;
    serves(&sidecar, &prod.under("below").leaf(CALLER)).await;
    let seen = backend.seen().len();
    for bad in [dev.leaf(CALLER), dev.under("below").leaf(CALLER)] {
        assert_eq!(refusal(sidecar.inbound(), &bad).await, Ok(AlertDescription::AccessDenied));
    }
    sidecar.eventually_counts(&refused("inbound", "name_constraints"), 2).await;
    assert_eq!(backend.seen().len(), seen, "refused in the handshake, not by an answer");
    serves(&sidecar, &prod.leaf(CALLER)).await;
}

#[tokio::test]
async fn a_sidecar_below_an_intermediate_with_uri_constraints_works_in_both_directions() {
    use portcullis::ca::{Authority, IntermediateOptions, RootOptions, UriConstraint};
    let authority = Authority::in_memory(&RootOptions::default()).unwrap();
    let options = IntermediateOptions { uri_constraint: UriConstraint::TrustDomain, ..Default::default() };
    let intermediate = authority.create_intermediate("prod", &DOMAIN.parse().unwrap(), &options).unwrap();
    let leaf = |id: &str| intermediate.issue(&id.parse().unwrap(), &Default::default()).unwrap();
    let backend = Backend::start().await;
    let plan = |id: &str| {
        let plan = Plan::without_files(&[DOMAIN]).leaf(&leaf(id)).policy(crate::sidecar::OPEN);
        plan.write_bundle(DOMAIN, &[&authority.certificate_pem()]);
        plan
    };
    let far = plan(API).inbound("http", backend.address).ready().await;
    let near = plan(CALLER).outbound("http", far.inbound(), &[API]).ready().await;
    assert_eq!(Http::plain_one(near.outbound()).await.get("/").await.status, 200);
}

/// How many inbound handshakes were refused, by reason.
fn refusals(sidecar: &Sidecar) -> BTreeMap<String, u64> {
    let metrics = sidecar.running().metrics();
    let series = "portcullis_tls_handshakes_total{direction=\"inbound\",result=\"refused\",reason=\"";
    let of = |line: &str| {
        let (reason, count) = line.strip_prefix(series)?.split_once("\"} ")?;
        Some((reason.to_owned(), count.parse().ok()?))
    };
    metrics.lines().filter_map(of).collect()
}

#[tokio::test]
async fn each_fault_of_a_chain_has_its_alert_and_its_reason() {
    let (pki, root) = (Pki::new(), Forge::root("root"));
    let prod = root.under("prod");
    let (sidecar, backend) = believing(&pki, &[&root]).await;
    let usages =
        |leaf: &Forge, usages: &[KeyUsagePurpose]| leaf.leaf_with(CALLER, |params| params.key_usages = usages.to_vec());
    let purposes = |leaf: &Forge, purposes: &[ExtendedKeyUsagePurpose]| {
        leaf.leaf_with(CALLER, |params| params.extended_key_usages = purposes.to_vec())
    };
    let not_ca = root.under_with("no CA", |params| params.is_ca = IsCa::ExplicitNoCa);
    let no_cert_sign = root.under_with("no signer", |params| params.key_usages = vec![KeyUsagePurpose::CrlSign]);
    let servers_only = root.under_with("servers", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let short = root.under_with("short", |params| params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Constrained(0)));
    let ended = root.under_with("ended", |params| lasting(params, -48, -24));
    // The same name as one that is known, and another key.
    let forged = Forge::root("root").under("prod");
    let with_uris = |uris: &[&str]| {
        prod.leaf_with(CALLER, |params| params.subject_alt_names = uris.iter().map(|text| uri(text)).collect())
    };
    use AlertDescription as Alert;
    let rows = [
        (with_uris(&[CALLER, OTHER]), Alert::BadCertificate, "several_uris"),
        (with_uris(&["spiffe://prod.test/a/../b"]), Alert::BadCertificate, "invalid_spiffe_id"),
        (usages(&prod, &[KeyUsagePurpose::KeyEncipherment]), Alert::BadCertificate, "no_digital_signature"),
        (
            usages(&prod, &[KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign]),
            Alert::BadCertificate,
            "leaf_signs_certificates",
        ),
        (purposes(&prod, &[ExtendedKeyUsagePurpose::ServerAuth]), Alert::UnsupportedCertificate, "missing_client_auth"),
        (prod.leaf_with(CALLER, |params| lasting(params, -48, -24)), Alert::CertificateExpired, "expired"),
        (prod.leaf_with(CALLER, |params| lasting(params, 24, 48)), Alert::CertificateExpired, "not_yet_valid"),
        (prod.leaf("spiffe://dev.test/ns/claims/sa/adjudicator"), Alert::UnknownCA, "foreign_trust_domain"),
        (Forge::root("stranger").under("prod").leaf(CALLER), Alert::UnknownCA, "unknown_issuer"),
        (forged.leaf(CALLER), Alert::DecryptError, "bad_signature"),
        (ended.leaf(CALLER), Alert::CertificateExpired, "expired"),
        (not_ca.leaf(CALLER), Alert::BadCertificate, "invalid_chain"),
        (no_cert_sign.leaf(CALLER), Alert::BadCertificate, "bad_issuer"),
        (servers_only.leaf(CALLER), Alert::UnsupportedCertificate, "invalid_chain"),
        (short.under("below").leaf(CALLER), Alert::BadCertificate, "invalid_chain"),
    ];
    serves(&sidecar, &prod.leaf(CALLER)).await;
    let seen = backend.seen().len();
    let (mut expected, mut got) = (Vec::new(), Vec::new());
    for (shown, alert, reason) in &rows {
        let before = refusals(&sidecar);
        let heard = refusal(sidecar.inbound(), shown).await;
        let counted = eventually("one more refusal", async || {
            let now = refusals(&sidecar);
            now.iter()
                .find(|(reason, count)| before.get(*reason) != Some(count))
                .map(|(reason, _)| reason.clone())
                .ok_or(now)
        });
        got.push((heard, counted.await));
        expected.push((Ok(*alert), (*reason).to_owned()));
    }
    assert_eq!(got, expected);
    assert_eq!(backend.seen().len(), seen, "the application heard nothing of it");
    serves(&sidecar, &prod.leaf(CALLER)).await;
}

#[tokio::test]
async fn chains_that_cost_much_to_judge_end_soon_and_delay_nobody() {
    let (pki, root) = (Pki::new(), Forge::root("root"));
    let prod = root.under("prod");
    let (sidecar, _backend) = believing(&pki, &[&root]).await;
    let below = |count: usize| (0..count).fold(root.under("0"), |forge, depth| forge.under(&(depth + 1).to_string()));
    let many = |count: usize, name: &dyn Fn(usize) -> SanType| {
        prod.leaf_with(CALLER, |params| params.subject_alt_names.extend((0..count).map(name)))
    };
    let dns = |number: usize| SanType::DnsName(format!("{number}.{}.test", "x".repeat(60)).try_into().unwrap());
    let mesh = {
        let mut shown = prod.leaf(CALLER);
        let twins = (0..6).map(|number: u64| {
            root.under_with("prod", |params| params.serial_number = Some(SerialNumber::from(number + 1)))
        });
        shown.chain.extend(twins.flat_map(|twin| twin.chain));
        shown
    };
    // webpki follows six issuers, which is three more than anybody has.
    let allowed = [below(5).leaf(CALLER), many(600, &dns)];
    let costly = [
        (below(6).leaf(CALLER), "chain_too_complex"),
        (below(7).leaf(CALLER), "too_many_certificates"),
        (many(600, &|number| uri(&format!("spiffe://prod.test/{number}"))), "several_uris"),
        (mesh, "chain_too_complex"),
    ];
    assert!(allowed[1].chain[0].len() > 40_000, "{}", allowed[1].chain[0].len());
    let good = pki.leaf(CALLER);
    let beside = async {
        for _ in 0..10 {
            soon("a good caller beside them", is_served(sidecar.inbound(), &good)).await.unwrap();
        }
    };
    let hostile = async {
        for _ in 0..5 {
            for (shown, reason) in &costly {
                let before = sidecar.count(&refused("inbound", reason));
                assert_eq!(refusal(sidecar.inbound(), shown).await, Ok(AlertDescription::BadCertificate), "{reason}");
                sidecar.eventually_counts(&refused("inbound", reason), before + 1).await;
            }
            for shown in &allowed {
                serves(&sidecar, shown).await;
            }
        }
    };
    tokio::join!(beside, hostile);
    assert_eq!(sidecar.count(&refused("inbound", "timeout")), 0);
}
