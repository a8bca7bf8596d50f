//! What a sidecar shows of itself: admin, health, metrics, access log.

use serde_json::Value;

use crate::backend::{Backend, Raw};
use crate::client::{Ask, Http, is_served, opaque, plain};
use crate::eventually::eventually;
use crate::pki::{API, CALLER, DOMAIN, OTHER, Pki};
use crate::sidecar::{Plan, Sidecar};
use crate::tcp::CALLER_ONLY;

#[tokio::test]
async fn the_admin_view_is_json_about_what_is_in_force() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let leaf = pki.leaf(API);
    let sidecar = Plan::new(&pki, API).leaf(&leaf).inbound("http", backend.address).ready().await;
    let caller = pki.leaf(CALLER);
    let mut http = Http::two(sidecar.inbound(), &caller).await;
    assert_eq!(http.get("/").await.status, 200);
    assert_eq!(sidecar.admin("/config").await["inbound"][0]["protocol"], "http");
    let identity = sidecar.admin("/identity").await;
    assert_eq!(identity["certificate"]["spiffeId"], API);
    assert_eq!(identity["certificate"]["serial"], leaf.chain.serial.to_string());
    assert_eq!(sidecar.admin("/trust").await["bundles"][0]["trustDomain"], "prod.test");
    assert_eq!(sidecar.admin("/policy").await["rules"], 1);
    let open = sidecar.admin("/connections").await;
    assert_eq!(open["open"], 1);
    let connection = &open["connections"][0];
    assert_eq!((&connection["peer"], &connection["direction"]), (&CALLER.into(), &"inbound".into()));
    assert_eq!(connection["serial"], caller.chain.serial.to_string());
    drop(http);
    eventually("the connection has left", async || match sidecar.admin("/connections").await["open"].clone() {
        Value::Number(open) if open.as_u64() == Some(0) => Ok(()),
        open => Err(open),
    })
    .await;
}

#[tokio::test]
async fn it_is_told_who_still_chains_to_which_root() {
    let (old, new) = (Pki::new(), Pki::new());
    let backend = Backend::start().await;
    let plan = Plan::new(&new, API).inbound("http", backend.address).revoked(&[&new.root_list()]).denying("{}");
    plan.write_bundle(DOMAIN, &[old.bundle(), new.bundle()]);
    let sidecar = plan.ready().await;
    let mut open = Http::two(sidecar.inbound(), &old.leaf(CALLER)).await;
    assert_eq!(open.get("/").await.status, 200);
    is_served(sidecar.inbound(), &old.leaf(OTHER)).await.unwrap();
    is_served(sidecar.inbound(), &new.leaf(OTHER)).await.unwrap();

    let peers_of = async |root: usize| {
        eventually("one connection is left", async || {
            let open = sidecar.admin("/connections").await["open"].clone();
            if open == 1 { Ok(()) } else { Err(open) }
        })
        .await;
        let mut anchor = sidecar.admin("/trust").await["bundles"][0]["anchors"][root].take();
        (anchor["sha256"].take().as_str().unwrap()[..16].to_owned(), anchor["peers"].take())
    };
    let (old_anchor, peers) = peers_of(0).await;
    let listed = |id: &str, connected: bool| serde_json::json!({ "spiffeId": id, "connected": connected });
    assert_eq!(
        peers,
        serde_json::json!({
            "connected": 1, "last24Hours": 2, "last24HoursIsAtLeast": false,
            "sample": [listed(CALLER, true), listed(OTHER, false)],
        })
    );
    let (new_anchor, peers) = peers_of(1).await;
    assert_eq!((&peers["connected"], &peers["last24Hours"]), (&0.into(), &1.into()));

    // The same as metrics; a root that is gone takes its series along.
    let peers = |anchor: &str, window: &str| {
        format!("portcullis_anchor_peers{{trust_domain=\"prod.test\",anchor=\"{anchor}\",window=\"{window}\"}}")
    };
    sidecar.eventually_counts(&peers(&old_anchor, "24h"), 2).await;
    sidecar.eventually_counts(&peers(&old_anchor, "now"), 1).await;
    sidecar.eventually_counts(&peers(&new_anchor, "24h"), 1).await;
    sidecar.changing("trust", |sidecar| sidecar.write_bundle(DOMAIN, &[new.bundle()])).await;
    eventually("the series of the old root are gone", async || {
        let metrics = sidecar.running().metrics();
        if metrics.contains(&old_anchor) { Err(metrics) } else { Ok(()) }
    })
    .await;
    let metrics = sidecar.running().metrics();
    for series in [
        format!(
            "portcullis_certificate_not_after_timestamp_seconds{{role=\"anchor\",trust_domain=\"prod.test\",anchor=\"{new_anchor}\"}} "
        ),
        "portcullis_certificate_not_after_timestamp_seconds{role=\"leaf\"} ".to_owned(),
        "portcullis_certificate_not_after_timestamp_seconds{role=\"intermediate\"} ".to_owned(),
        "portcullis_crl_next_update_timestamp_seconds{trust_domain=\"prod.test\",issuer=\"CN=Portcullis root"
            .to_owned(),
    ] {
        assert!(metrics.contains(&series), "{series} is missing from\n{metrics}");
    }
    for kind in ["identity", "trust", "crl", "deny_list", "policy"] {
        assert!(sidecar.count(&format!("portcullis_generation_timestamp_seconds{{kind=\"{kind}\"}}")) > 1_700_000_000);
    }
}

#[tokio::test]
async fn the_trust_page_shows_what_takes_trust_away() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let plan = Plan::new(&pki, API).inbound("http", backend.address).revoked(&[&pki.root_list()]);
    let sidecar = plan.denying(&format!("identities: [{{spiffeId: \"{OTHER}\", reason: stolen}}]")).ready().await;
    let trust = sidecar.admin("/trust").await;
    assert_eq!((&trust["denyList"]["entries"], &trust["awaited"]), (&1.into(), &serde_json::json!([])));
    let revocation = &trust["bundles"][0]["revocation"];
    assert_eq!((&revocation["unknownStatus"], &revocation["staleCrl"]), (&"allow".into(), &"warn".into()));
    let list = &revocation["lists"][0];
    assert_eq!((&list["number"], &list["revoked"], &list["isOverdue"]), (&"1".into(), &0.into(), &false.into()));
    assert!(list["issuer"].as_str().unwrap().starts_with("CN=Portcullis root"), "{list}");
    for time in [&list["thisUpdate"], &list["nextUpdate"], &trust["since"], &sidecar.admin("/identity").await["since"]]
    {
        assert!(time.as_str().unwrap().ends_with('Z'), "{time}");
    }
}

#[tokio::test]
async fn the_admin_view_is_for_loopback_by_name_and_for_reading() {
    let pki = Pki::new();
    let sidecar = Plan::new(&pki, API).inbound("http", Backend::start().await.address).ready().await;
    let admin = sidecar.running().addresses().admin;
    for (request, status) in [
        ("GET /config HTTP/1.1\r\nhost: localhost\r\n\r\n", 200),
        ("GET /config HTTP/1.1\r\nhost: 127.0.0.1:15000\r\n\r\n", 200),
        ("GET /config HTTP/1.1\r\nhost: [::1]:15000\r\n\r\n", 200),
        ("GET /config HTTP/1.1\r\nhost: rebound.example\r\n\r\n", 403),
        ("GET /config HTTP/1.1\r\nhost: 127.0.0.1.example\r\n\r\n", 403),
        ("POST /config HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n", 405),
        ("GET /nowhere HTTP/1.1\r\nhost: localhost\r\n\r\n", 404),
    ] {
        assert_eq!(plain(admin).await.ask(request).await.status, status, "{request}");
    }
    for (address, path, status) in [
        (sidecar.running().addresses().health, "/livez", 200),
        (sidecar.running().addresses().health, "/readyz", 200),
        (sidecar.running().addresses().health, "/config", 404),
        (sidecar.running().addresses().metrics, "/metrics", 200),
        (sidecar.running().addresses().metrics, "/config", 404),
    ] {
        assert_eq!(plain(address).await.get(path).await.status, status, "{path}");
    }
}

/// The lines of the access log, once there are `count`.
pub async fn lines(sidecar: &Sidecar, count: usize) -> Vec<Value> {
    let path = sidecar.path("access.log");
    eventually("the lines of the access log", async || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        if lines.len() >= count { Ok(lines) } else { Err(text) }
    })
    .await
}

pub fn logging(plan: Plan) -> Plan {
    let path = plan.path("access.log");
    plan.more(&format!("logs: {{access: {}}}", path.display()))
}

#[tokio::test]
async fn every_request_leaves_a_line_on_both_sides() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let far = logging(Plan::new(&pki, API).policy(CALLER_ONLY).inbound("http", backend.address)).ready().await;
    let near = logging(Plan::new(&pki, CALLER).outbound("http", far.inbound(), &[API])).ready().await;
    let stranger = logging(Plan::new(&pki, OTHER).outbound("http", far.inbound(), &[API])).ready().await;
    let ask = || Ask::new("POST", "/orders/7?patient=secret").header("x-request-id", "request-1").text("12345");
    assert_eq!(Http::plain_one(near.outbound()).await.send(ask()).await.status, 200);
    assert_eq!(Http::plain_one(stranger.outbound()).await.send(ask()).await.status, 403);

    let inbound = lines(&far, 2).await;
    let outbound = lines(&near, 1).await;
    let port = backend.address.port();
    for (line, expected) in [
        (
            &inbound[0],
            serde_json::json!({
                "direction": "inbound", "protocol": "h2", "caller": CALLER, "workload": API, "port": port, "method": "POST",
                "host": "eligibility.test", "path": "/orders/7", "status": 200, "decision": "allow", "policy": "one-caller",
                "rule": "caller-only", "bytes_in": 5, "bytes_out": 2, "upstream": backend.address.to_string(),
                "request_id": "request-1",
            }),
        ),
        (
            &inbound[1],
            serde_json::json!({
                "direction": "inbound", "caller": OTHER, "status": 403, "decision": "deny", "reason": "no_rule",
                "path": "/orders/7", "bytes_out": 0,
            }),
        ),
        (
            &outbound[0],
            serde_json::json!({
                "direction": "outbound", "protocol": "http/1.1", "caller": CALLER, "workload": API, "status": 200,
                "port": far.inbound().port(), "upstream": far.inbound().to_string(), "path": "/orders/7",
            }),
        ),
    ] {
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(&line[key], value, "{key} of {line}");
        }
        assert!(line["time"].as_str().unwrap().ends_with('Z') && line["duration_us"].is_u64(), "{line}");
        assert!(!line.to_string().contains("secret"), "the query is nobody's business: {line}");
    }
    assert_eq!(inbound[0]["trace_id"], outbound[0]["trace_id"], "one trace through both sidecars");
}

#[tokio::test]
async fn an_opaque_connection_leaves_a_line_when_it_ends() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let pki = Pki::new();
    let raw = Raw::echo().await;
    let sidecar = logging(Plan::new(&pki, API).policy(CALLER_ONLY).inbound("tcp", raw.address)).ready().await;
    let mut stream = opaque(sidecar.inbound(), &pki.leaf(CALLER)).await;
    stream.write_all(b"hello").await.unwrap();
    stream.shutdown().await.unwrap();
    stream.read_to_end(&mut Vec::new()).await.unwrap();
    let line = lines(&sidecar, 1).await.remove(0);
    assert_eq!(
        (&line["protocol"], &line["caller"], &line["decision"]),
        (&"tcp".into(), &CALLER.into(), &"allow".into())
    );
    assert_eq!((&line["bytes_in"], &line["bytes_out"], &line["rule"]), (&5.into(), &5.into(), &"caller-only".into()));
}
