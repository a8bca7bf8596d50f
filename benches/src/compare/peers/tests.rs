//! Every peer fills its templates for every stage, or says why not. Nothing is started.

use super::*;
use crate::compare::stage::{Hops, Rules};

fn launch(peer: Peer, stage: Stage, side: Side) -> Result<Option<Launch>, PeerError> {
    let seat = Seat {
        stage,
        side,
        directory: Path::new("/tmp/seat"),
        identity: Path::new("/tmp/seat/identity"),
        trust: Path::new("/tmp/root.crt"),
        listen: 4443,
        upstream: 8080,
        spare: [1, 2, 3],
    };
    peer.launch(&seat)
}

fn stage(carries: Carries, hops: Hops, rules: Rules) -> Stage {
    Stage { carries, hops, rules }
}

#[test]
fn every_template_is_filled_completely() {
    for peer in Peer::ALL {
        for carries in [Carries::Http1, Carries::Http2, Carries::Tcp] {
            for (hops, side) in [(Hops::One, Side::Inbound), (Hops::Two, Side::Inbound), (Hops::Two, Side::Outbound)] {
                for rules in [Rules::Caller, Rules::Many(3)] {
                    match launch(peer, stage(carries, hops, rules), side) {
                        Ok(Some(launch)) => {
                            let (_, config) = launch.files.first().unwrap();
                            assert!(config.contains("4443") && config.contains("8080"), "{peer:?}");
                        }
                        Ok(None) => assert_eq!(peer, Peer::Direct),
                        Err(PeerError::Unable(_)) => assert!(peer > Peer::Envoy, "{peer:?} can do everything"),
                        Err(PeerError::Template(error)) => panic!("{peer:?}: {error}"),
                    }
                }
            }
        }
    }
}

#[test]
fn both_that_have_rules_get_the_same() {
    for peer in [Peer::Portcullis, Peer::Envoy] {
        let launched =
            launch(peer, stage(Carries::Http1, Hops::One, Rules::Many(1000)), Side::Inbound).unwrap().unwrap();
        let text: String = launched.files.into_iter().map(|(_, text)| text).collect();
        assert_eq!(text.matches("rule-").count(), 1000, "{peer:?}");
        for (caller, path) in Rules::pairs(1000, Workload::Caller.id()) {
            assert!(text.contains(&format!("\"{caller}\"")) && text.contains(&format!("\"{path}\"")), "{peer:?}");
        }
    }
}

#[test]
fn names_are_distinct() {
    let names: std::collections::BTreeSet<_> = Peer::ALL.iter().map(|peer| peer.name()).collect();
    assert_eq!(names.len(), Peer::ALL.len());
}

#[test]
fn a_word_is_found_behind_its_mark() {
    assert_eq!(word_after("HAProxy version 2.6.12-1 2026", "version "), Some("2.6.12-1"));
    assert_eq!(word_after("nothing", "version "), None);
}
