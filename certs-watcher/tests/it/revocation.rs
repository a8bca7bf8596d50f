//! What takes trust away is noticed as it comes, without polling: revocation lists and the deny list.

use std::fs;
use std::path::{Path, PathBuf};

use portcullis_certs_watcher::{Change, DenyList, DenyListSource, Outcome, Role, Snapshot, Sources, verify_peer};

use crate::pki::{Authority, DAY, Leaf, NOW, Prod, now, prod};
use crate::world::{ANNOUNCED_ONLY, Links, World, publish, write_leaf};

const CALLER: &str = "spiffe://prod.test/ns/claims/sa/caller";

fn verdict(snapshot: &Snapshot, leaf: &Leaf) -> &'static str {
    verify_peer(&snapshot.trust, Role::Client, &leaf.chain, now()).map_or_else(|error| error.label(), |_| "accepted")
}

/// A path beside the identity.
fn beside(sources: &Sources, name: &str) -> PathBuf {
    sources.identity.directory().unwrap().with_file_name(name)
}

/// Identity and bundle in plain files.
fn trusted(directory: &Path, pki: &Prod) {
    fs::create_dir(directory.join("trust")).unwrap();
    fs::write(directory.join("trust/prod.pem"), pki.root.pem()).unwrap();
    write_leaf(&directory.join("identity"), &pki.leaf);
}

#[tokio::test]
async fn a_revoked_issuer_is_refused_as_soon_as_its_list_is_swapped_in() {
    let pki = prod();
    let stolen: Authority = pki.root.intermediate_with("stolen", |params| params.serial_number = Some(0x99.into()));
    let caller = stolen.leaf(CALLER);
    // As text, since that is how a ConfigMap holds it.
    let list =
        |number: u64, revoked: &[u64]| crate::pki::section("X509 CRL", &pki.root.crl(number, revoked, NOW + DAY));
    let lists = |sources: &mut Sources| sources.trust[0].crl = Some(beside(sources, "crl"));
    let prepare = |directory: &Path| {
        trusted(directory, &pki);
        publish(&directory.join("crl"), "..1", Links::After, &[("root.crl", &list(1, &[]))]);
    };
    World::run_over(lists, ANNOUNCED_ONLY, prepare, async |world| {
        assert_eq!(verdict(&world.credentials.snapshot(), &caller), "accepted");
        publish(&world.path("crl"), "..2", Links::Before, &[("root.crl", &list(2, &[0x99]))]);
        world.eventually("revoked", |snapshot| verdict(snapshot, &caller) == "revoked").await;
        let snapshot = world.credentials.snapshot();
        assert_eq!((verdict(&snapshot, &pki.leaf), snapshot.trust_generation), ("accepted", 2));
        let events = world.events.lock().unwrap();
        let Outcome::Published { generation: 2, change: Change::Revocation { lists } } =
            &events.last().unwrap().outcome
        else {
            panic!("{events:?}")
        };
        let list = &lists[0];
        assert_eq!((list.issuer.as_str(), list.number.as_deref(), list.revoked), ("CN=root", Some("2"), 1));
    })
    .await;
}

#[tokio::test]
async fn a_deny_list_counts_as_soon_as_it_is_written_or_renamed_into_place() {
    fn read(_: &Path, text: &[u8]) -> Result<DenyList, String> {
        let mut list = DenyList::default();
        for line in String::from_utf8_lossy(text).lines().filter(|line| line.starts_with("spiffe")) {
            list.deny_identity(spiffe::SpiffeId::new(line).map_err(|error| error.to_string())?, "stolen".to_owned());
        }
        Ok(list)
    }
    let pki = prod();
    let caller = pki.intermediate.leaf(CALLER);
    let deny_list = |sources: &mut Sources| {
        sources.deny_list = Some(DenyListSource { path: beside(sources, "deny/list"), read });
    };
    World::run_over(
        deny_list,
        ANNOUNCED_ONLY,
        |directory| trusted(directory, &pki),
        async |world| {
            world.credentials.snapshot().ready(now()).unwrap_err();
            // Not even the directory was there.
            fs::create_dir(world.path("deny")).unwrap();
            fs::write(world.path("deny/list"), "nobody").unwrap();
            world.eventually("first list", |snapshot| snapshot.ready(now()).is_ok()).await;
            assert_eq!(verdict(&world.credentials.snapshot(), &caller), "accepted");

            fs::write(world.path("deny/list"), CALLER).unwrap();
            world.eventually("denied", |snapshot| verdict(snapshot, &caller) == "denied").await;
            fs::write(world.path("next"), "nobody").unwrap();
            fs::rename(world.path("next"), world.path("deny/list")).unwrap();
            world.eventually("lifted", |snapshot| verdict(snapshot, &caller) == "accepted").await;
        },
    )
    .await;
}
