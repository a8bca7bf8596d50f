//! What takes trust away again while everything else stays: revocation lists and the deny list.

use portcullis::ca::{Leaf, Reason, Validity};
use portcullis_certs_watcher::Certificate;
use rcgen::SerialNumber;
use rustls::AlertDescription;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::backend::{Backend, Raw};
use crate::client::{self, Ask, Http, is_closed, is_served, opaque};
use crate::eventually::{eventually, soon};
use crate::forge::{Forge, refusal};
use crate::pki::{API, CALLER, DOMAIN, OTHER, Pki};
use crate::sidecar::{Plan, Sidecar, closed, refused};

/// The list of the PKI's intermediate, with one leaf more on it.
pub fn revoke(pki: &Pki, leaf: &Leaf) -> String {
    pki.intermediate.revoke(leaf.chain.serial, Reason::KeyCompromise).unwrap();
    list(pki)
}

pub fn list(pki: &Pki) -> String {
    pki.intermediate.revocation_list(Validity::hours(24)).unwrap().pem()
}

/// A deny list of one identity.
pub fn deny_identity(id: &str) -> String {
    format!("identities: [{{spiffeId: \"{id}\", reason: stolen laptop, ticket: INC0042}}]")
}

/// A deny list of one certificate.
fn deny_certificate(certificate: &CertificateDer<'_>) -> String {
    let parsed = Certificate::parse(certificate).unwrap();
    let (serial, issuer) = (parsed.serial(), parsed.issuer());
    format!("certificates: [{{serial: \"{serial}\", issuer: \"{issuer}\", reason: key leaked}}]")
}

/// The TLS alert with which a leaf of the PKI is refused.
async fn alert(sidecar: &Sidecar, leaf: &Leaf) -> Option<AlertDescription> {
    let shaken = client::Hello::new(leaf, &["http/1.1"]).shake(sidecar.inbound()).await;
    let mut stream = shaken.unwrap();
    let error = soon("the alert", stream.read_exact(&mut [0])).await.unwrap_err();
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

pub async fn echo(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    stream.write_all(b"x").await.unwrap();
    soon("the echo", stream.read_exact(&mut [0])).await.unwrap();
}

#[tokio::test]
async fn below_a_revoked_intermediate_nobody_gets_through_the_handshake() {
    let (pki, root) = (Pki::new(), Forge::root("root"));
    let numbered = |name: &str, serial: u64| {
        root.under_with(name, |params| params.serial_number = Some(SerialNumber::from(serial)))
    };
    let (good, bad) = (numbered("good", 0x11), numbered("bad", 0x22));
    let backend = Backend::start().await;
    let plan = Plan::new(&pki, API).inbound("http", backend.address).revoked(&[&root.crl(&[0x22], 24)]);
    plan.write_bundle(DOMAIN, &[&root.pem, pki.bundle()]);
    let sidecar = plan.ready().await;
    let refused_by_list = refused("inbound", "revoked");
    assert_eq!(refusal(sidecar.inbound(), &bad.leaf(CALLER)).await, Ok(AlertDescription::CertificateRevoked));
    sidecar.eventually_counts(&refused_by_list, 1).await;
    // Also with another intermediate in between, and with the good one sent along.
    let mut both = bad.under("below").leaf(CALLER);
    both.chain.extend(good.chain.clone());
    assert_eq!(refusal(sidecar.inbound(), &both).await, Ok(AlertDescription::CertificateRevoked));
    assert_eq!(backend.seen().len(), 0);
    let served = refusal(sidecar.inbound(), &good.leaf(CALLER)).await.unwrap_err();
    assert!(served.starts_with("HTTP/1.1 200"), "{served}");
    assert_eq!(sidecar.count(&refused_by_list), 2);
}

#[tokio::test]
async fn a_list_that_arrives_closes_what_it_revokes_and_leaves_the_rest_alone() {
    let pki = Pki::new();
    let (backend, raw) = (Backend::start().await, Raw::echo().await);
    let plan = Plan::new(&pki, API).inbound("http", backend.address).inbound("tcp", raw.address);
    let sidecar = plan.revoked(&[&list(&pki)]).ready().await;
    let (http, tcp) = (sidecar.inbound(), sidecar.running().addresses().inbound[1]);
    let (stolen, good) = (pki.leaf(CALLER), pki.leaf(CALLER));
    let (mut one, mut two, mut bytes) =
        (Http::one(http, &stolen).await, Http::two(http, &stolen).await, opaque(tcp, &stolen).await);
    let (mut good_one, mut good_two, mut good_bytes) =
        (Http::one(http, &good).await, Http::two(http, &good).await, opaque(tcp, &good).await);
    for connection in [&mut one, &mut two, &mut good_one, &mut good_two] {
        assert_eq!(connection.get("/").await.status, 200);
    }
    echo(&mut bytes).await;
    echo(&mut good_bytes).await;

    sidecar.changing("crl", |sidecar| sidecar.write_crls(&[&revoke(&pki, &stolen)])).await;
    is_closed(&mut bytes).await;
    eventually("GOAWAY", async || if two.is_over() { Ok(()) } else { Err("open") }).await;
    eventually("the end of HTTP/1.1", async || if one.is_over() { Ok(()) } else { Err("open") }).await;
    assert_eq!(sidecar.count(&closed("inbound", "revoked")), 3);
    assert_eq!(alert(&sidecar, &stolen).await, Some(AlertDescription::CertificateRevoked));

    for connection in [&mut good_one, &mut good_two] {
        assert_eq!(connection.get("/").await.status, 200);
        assert!(!connection.is_over());
    }
    echo(&mut good_bytes).await;
    is_served(http, &pki.leaf(CALLER)).await.unwrap();
}

#[tokio::test]
async fn a_caller_that_is_denied_is_refused_and_its_connections_end() {
    let pki = Pki::new();
    let (backend, raw) = (Backend::start().await, Raw::echo().await);
    let plan = Plan::new(&pki, API).inbound("http", backend.address).inbound("tcp", raw.address);
    let sidecar = plan.denying("{}").ready().await;
    let (http, tcp) = (sidecar.inbound(), sidecar.running().addresses().inbound[1]);
    let (stolen, renewed, other) = (pki.leaf(CALLER), pki.leaf(CALLER), pki.leaf(OTHER));
    let mut ended = 0;
    // By its number only the certificate is denied, by its identity whoever has it.
    for (list, renewed_too) in [(deny_certificate(&stolen.chain.leaf), false), (deny_identity(CALLER), true)] {
        let (mut two, mut bytes, mut beside) =
            (Http::two(http, &stolen).await, opaque(tcp, &stolen).await, opaque(tcp, &other).await);
        assert_eq!(two.get("/").await.status, 200);
        echo(&mut bytes).await;
        echo(&mut beside).await;
        sidecar.changing("deny_list", |sidecar| sidecar.write_deny_list(&list)).await;
        is_closed(&mut bytes).await;
        eventually("GOAWAY", async || if two.is_over() { Ok(()) } else { Err("open") }).await;
        ended += 2;
        assert_eq!(sidecar.count(&closed("inbound", "denied")), ended, "{list}");
        assert_eq!(alert(&sidecar, &stolen).await, Some(AlertDescription::AccessDenied), "{list}");
        assert_eq!(is_served(http, &renewed).await.is_err(), renewed_too, "{list}");
        echo(&mut beside).await;
        is_served(http, &other).await.unwrap();
        sidecar.changing("deny_list", |sidecar| sidecar.write_deny_list("{}")).await;
        is_served(http, &stolen).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_is_revoked_or_denied_is_not_called_any_more() {
    let pki = Pki::new();
    let (backend, raw) = (Backend::start().await, Raw::echo().await);
    let served = pki.leaf(API);
    let plan = Plan::new(&pki, API).leaf(&served).inbound("http", backend.address);
    let far = plan.inbound("tcp", raw.address).ready().await;
    let [http, tcp] = [far.running().addresses().inbound[0], far.running().addresses().inbound[1]];
    let plan = Plan::new(&pki, CALLER).outbound("http", http, &[API]).outbound("tcp", tcp, &[API]);
    let near = plan.revoked(&[&list(&pki)]).denying("{}").ready().await;
    let before = list(&pki);
    let revoked = revoke(&pki, &served);
    type Change<'a> = (&'a str, Box<dyn Fn(&Sidecar) + 'a>);
    let deny = |list: String| Box::new(move |near: &Sidecar| near.write_deny_list(&list));
    let changes: [(Change<'_>, Change<'_>, &str, &str, String); 3] = [
        (
            ("deny_list", deny(deny_certificate(&served.chain.leaf))),
            ("deny_list", deny("{}".to_owned())),
            "upstream_denied",
            "denied",
            "(key leaked)".to_owned(),
        ),
        (
            ("deny_list", deny(deny_identity(API))),
            ("deny_list", deny("{}".to_owned())),
            "upstream_denied",
            "denied",
            "(stolen laptop, ticket INC0042)".to_owned(),
        ),
        (
            ("crl", Box::new(|near| near.write_crls(&[&revoked]))),
            ("crl", Box::new(|near| near.write_crls(&[&before]))),
            "upstream_untrusted",
            "revoked",
            format!("(serial {}) is revoked by CRL", served.chain.serial),
        ),
    ];
    for (change, back, answer, reason, words) in changes {
        let mut caller = Http::plain_one(near.outbound()).await;
        let mut bytes = TcpStream::connect(near.running().addresses().outbound[1]).await.unwrap();
        assert_eq!(caller.get("/").await.status, 200, "{reason}");
        echo(&mut bytes).await;
        let seen = backend.seen().len();
        near.changing(change.0, |near| change.1(near)).await;
        is_closed(&mut bytes).await;
        // The application's own connection stays: it hears why its call was not made.
        let got = caller.send(Ask::get("/")).await;
        assert_eq!((got.status, got.header("x-portcullis-reason")), (503, Some(answer)), "{reason}");
        assert!(got.text().contains(&words), "{words} is missing from {}", got.text());
        assert!(near.count(&refused("outbound", reason)) >= 1, "{reason}");
        assert!(near.count(&closed("outbound", reason)) >= 1, "{reason}");
        assert_eq!(backend.seen().len(), seen, "{reason}");
        near.changing(back.0, |near| back.1(near)).await;
    }
    assert_eq!(Http::plain_one(near.outbound()).await.get("/").await.status, 200);
}

#[tokio::test]
async fn silence_of_the_lists_refuses_only_where_that_is_configured() {
    let (pki, root) = (Pki::new(), Forge::root("root"));
    let prod = root.under("prod");
    let backend = Backend::start().await;
    let start = async |more: &str, lists: &[&str]| {
        let plan = Plan::new(&pki, API).inbound("http", backend.address).revoked(lists).revoking(more);
        plan.write_bundle(DOMAIN, &[&root.pem, pki.bundle()]);
        plan.ready().await
    };
    let of = async |sidecar: &Sidecar| refusal(sidecar.inbound(), &prod.leaf(CALLER)).await;
    let (both, own) = ([root.crl(&[], 24), prod.crl(&[], 24)], list(&pki));
    let (both, one) = ([both[0].as_str(), both[1].as_str(), &own], [both[0].as_str(), &own]);
    let overdue = [root.crl(&[], 24), prod.crl(&[], -1)];
    let overdue = [overdue[0].as_str(), overdue[1].as_str(), &own];
    // Our own certificate is proven as peers would: `refuse` needs a list of its issuers as well.
    let own_root = pki.root_list();
    let with = |lists: &[&str]| -> Vec<String> {
        lists.iter().map(|list| (*list).to_owned()).chain([own_root.clone()]).collect()
    };
    for (more, lists, reason) in [
        ("", &one[..], None),
        (", unknownStatus: refuse", &both[..], None),
        (", unknownStatus: refuse", &one[..], Some("revocation_unknown")),
        ("", &overdue[..], None),
        (", staleCrl: refuse", &both[..], None),
        (", staleCrl: refuse", &overdue[..], Some("crl_stale")),
    ] {
        let lists = with(lists);
        let lists: Vec<&str> = lists.iter().map(String::as_str).collect();
        let sidecar = start(more, &lists).await;
        match (of(&sidecar).await, reason) {
            (Err(answer), None) => assert!(answer.starts_with("HTTP/1.1 200"), "{more}: {answer}"),
            (Ok(alert), Some(reason)) => {
                assert_eq!(alert, AlertDescription::UnknownCA, "{more}");
                sidecar.eventually_counts(&refused("inbound", reason), 1).await;
            }
            (got, _) => panic!("{more} with {} lists: {got:?}", lists.len()),
        }
    }
}

#[tokio::test]
async fn nothing_is_served_before_lists_that_are_configured_could_be_read() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let plan = Plan::new(&pki, API).inbound("http", backend.address).revoking("").denying("identities: []");
    let sidecar = plan.start();
    assert!(is_served(sidecar.inbound(), &pki.leaf(CALLER)).await.is_err());
    let says = async |words: &str| {
        eventually(words, async || {
            let ready = sidecar.health("/readyz").await;
            if ready.status == 503 && ready.text().contains(words) { Ok(()) } else { Err(ready.text().to_owned()) }
        })
        .await;
    };
    says("revocation lists of `prod.test`").await;
    sidecar.changing("crl", |sidecar| sidecar.write_crls(&[&list(&pki)])).await;
    says("deny.yaml:1:13: error[D012]: `identities` is an empty list").await;
    assert!(is_served(sidecar.inbound(), &pki.leaf(CALLER)).await.is_err());
    sidecar.changing("deny_list", |sidecar| sidecar.write_deny_list("{}")).await;
    sidecar.eventually_ready().await;
    is_served(sidecar.inbound(), &pki.leaf(CALLER)).await.unwrap();

    // Later a broken one changes nothing.
    sidecar.changing("deny_list", |sidecar| sidecar.write_deny_list(&deny_identity(OTHER))).await;
    for (kind, broken) in [("deny_list", "identities: ["), ("crl", "no list")] {
        match kind {
            "crl" => sidecar.write_crls(&[broken]),
            _ => sidecar.write_deny_list(broken),
        }
        eventually("it is refused", async || {
            let metrics = sidecar.running().metrics();
            let series = format!("portcullis_reload_total{{kind=\"{kind}\",result=\"refused\"");
            // The first list of this test was refused before.
            let refused = metrics.lines().filter(|line| line.starts_with(&series)).count();
            if refused >= 1 && !sidecar.admin("/trust").await["problems"].as_array().unwrap().is_empty() {
                Ok(())
            } else {
                Err(metrics)
            }
        })
        .await;
        assert!(is_served(sidecar.inbound(), &pki.leaf(OTHER)).await.is_err(), "{kind}");
        is_served(sidecar.inbound(), &pki.leaf(CALLER)).await.unwrap();
    }
    assert_eq!(sidecar.health("/readyz").await.status, 200);
}
