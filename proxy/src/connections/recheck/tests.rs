//! Tests of `recheck.rs`.

use std::time::Duration;

use portcullis_certs_watcher::{
    Bundle, Certificate, CertificateKey, Crl, DenyList, Revocation, RevocationPolicy, StaleList, UnknownStatus,
    system_clock, verify_peer,
};
use spiffe::TrustDomain;

use super::*;
use crate::ca::{Authority, Intermediate, IntermediateOptions, Leaf, LeafOptions, Reason, RootOptions, Validity};
use crate::config::Answerers;
use crate::connections::{Generation, Opened};

/// An authority, what it signs with, and trust in it.
struct World {
    intermediate: Intermediate,
    domain: TrustDomain,
    bundle: Arc<Bundle>,
}

impl World {
    fn new() -> Self {
        let domain = TrustDomain::new("prod.test").unwrap();
        let authority = Authority::in_memory(&RootOptions::default()).unwrap();
        let intermediate = authority.create_intermediate("test", &domain, &IntermediateOptions::default()).unwrap();
        let bundle = Arc::new(Bundle::from_certificates(&domain, &[authority.certificate().clone()]).unwrap());
        Self { intermediate, domain, bundle }
    }

    fn leaf(&self) -> Leaf {
        self.intermediate.issue(&id(), &LeafOptions::default()).unwrap()
    }

    /// The list of now, which is good for so many hours.
    fn list(&self, hours: u64) -> Arc<Revocation> {
        let list = self.intermediate.revocation_list(Validity::hours(hours)).unwrap();
        let policy = RevocationPolicy { unknown: UnknownStatus::Allow, stale: StaleList::Refuse };
        Arc::new(Revocation::new(vec![Crl::parse(&list.der).unwrap()], policy))
    }

    fn trust(&self, list: &Arc<Revocation>) -> Trust {
        Trust::new([Arc::clone(&self.bundle)]).with_revocations([(self.domain.clone(), Arc::clone(list))])
    }
}

fn id() -> SpiffeId {
    SpiffeId::new("spiffe://prod.test/a").unwrap()
}

/// A connection to the owner of this leaf.
fn entry(number: u64, trust: &Trust, leaf: &Leaf) -> Entry {
    let peer = verify_peer(trust, Role::Server, &leaf.chain.der(), system_clock()()).unwrap();
    let opened = Opened {
        direction: Direction::Outbound,
        carries: Carries::Tcp,
        peer: Some(peer),
        address: "127.0.0.1:1".parse().unwrap(),
        port: 1,
        called: None,
        answerers: Some(Answerers::Listed(Arc::from([id()]))),
        opening: None,
        own: None,
        generation: Generation::default(),
    };
    Entry::new(number, opened)
}

fn judge(trust: &Arc<Trust>) -> Judge {
    Judge::new(Grounds { trust: Arc::clone(trust), policy: None, own: id() })
}

#[test]
fn a_connection_outlives_a_list_that_was_renewed_and_no_other() {
    let world = World::new();
    let now = system_clock()();
    let in_hours = |hours: u64| UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs() + hours * 3600));
    let (old, renewed) = (Arc::new(world.trust(&world.list(1))), Arc::new(world.trust(&world.list(48))));
    let entry = entry(1, &old, &world.leaf());
    for (trust, which, hours, ended) in [
        (&old, "old", 0, None),
        (&old, "old", 2, Some("crl_stale")),
        (&renewed, "renewed", 2, None),
        (&renewed, "renewed", 25, Some("certificate_expired")),
    ] {
        let mut judge = judge(trust);
        let cause = |objection: Option<Objection>| objection.map(|objection| objection.cause);
        assert_eq!(cause(judge.ended(&entry, in_hours(hours))), ended, "{which} trust after {hours} h");
        assert_eq!(cause(judge.objection(&entry, in_hours(hours))), ended, "{which} trust after {hours} h");
    }
}

#[test]
fn only_a_change_of_what_proofs_rest_on_has_anybody_proven_again_and_then_once() {
    const MANY: usize = 10_000;
    let world = World::new();
    let list = world.list(24);
    let first = world.trust(&list);
    let leaves: Vec<_> = (0..MANY).map(|_| world.leaf()).collect();
    let entries: Vec<_> = leaves.iter().zip(1..).map(|(leaf, number)| entry(number, &first, leaf)).collect();
    let parsed = Certificate::parse(&leaves[17].chain.leaf).unwrap();
    let mut denying = DenyList::default();
    let key = CertificateKey::parse(&parsed.issuer(), &parsed.serial()).unwrap();
    denying.deny_certificate(key, "key leaked".to_owned());
    world.intermediate.revoke(leaves[42].chain.serial, Reason::KeyCompromise).unwrap();
    let shorter = world.list(24);
    let other = Arc::new(
        Bundle::from_certificates(
            &TrustDomain::new("dev.test").unwrap(),
            &[Authority::in_memory(&RootOptions::default()).unwrap().certificate().clone()],
        )
        .unwrap(),
    );
    let lists = |list: &Arc<Revocation>| [(world.domain.clone(), Arc::clone(list))];
    let denied = Arc::new(world.trust(&list).with_deny_list(Arc::new(denying)).after(&first));
    let beside = Trust::new([Arc::clone(&world.bundle), other]).with_revocations(lists(&list));
    let beside = Arc::new(beside.after(&denied));
    let revoked = Arc::new(world.trust(&shorter).after(&beside));
    for (what, trust, objections, proofs) in [
        ("the deny list", &denied, vec![(18, "denied")], 0),
        ("the bundle of another domain", &beside, vec![], 0),
        ("the revocation list", &revoked, vec![(43, "revoked")], MANY),
        ("nothing", &revoked, vec![(43, "revoked")], 1),
    ] {
        let (mut judge, now) = (judge(trust), system_clock()());
        let found: Vec<_> =
            entries.iter().filter_map(|entry| Some((entry.id, judge.objection(entry, now)?.cause))).collect();
        assert_eq!(found, objections, "{what}");
        assert_eq!(judge.proofs(), proofs, "{what}");
    }
}

#[test]
fn an_objection_names_the_certificate_and_what_is_held_against_it() {
    let world = World::new();
    let leaf = world.leaf();
    let list = world.list(24);
    let first = world.trust(&list);
    let entry = entry(1, &first, &leaf);
    world.intermediate.revoke(leaf.chain.serial, Reason::KeyCompromise).unwrap();
    let mut denying = DenyList::default();
    denying.deny_identity(id(), "stolen laptop".to_owned());
    let serial = leaf.chain.serial.to_string();
    for (trust, words) in [
        (world.trust(&world.list(24)).after(&first), [serial.as_str(), "is revoked by CRL"]),
        (
            world.trust(&list).with_deny_list(Arc::new(denying)).after(&first),
            ["the identity is denied", "stolen laptop"],
        ),
        (Trust::new([]), ["spiffe://prod.test/a", "trust domain without a bundle"]),
    ] {
        let objection = judge(&Arc::new(trust)).objection(&entry, system_clock()()).unwrap();
        for word in words {
            assert!(objection.why.contains(word), "{word} is missing from {}", objection.why);
        }
    }
}
