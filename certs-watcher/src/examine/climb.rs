//! The way from the leaf up, one issuer at a time, with what there is to say of each link.
//!
//! Of an accepted peer it is the path that proved it. Of a refused one it is the most promising way: an issuer whose
//! signature fits rather than one of the same name, a valid one rather than an expired one.

use crate::bundle::{Anchor, Bundle};
use crate::certificate::Certificate;
use crate::clock::Timestamp;
use crate::name_constraints::{NameConstraints, UriConstraints};
use crate::peer::Peer;
use crate::signed::Signed;
use crate::trust::Trust;

use super::{Note, Question};

/// Where the way leads, and what was seen on it.
pub(super) struct Climb<'a> {
    /// What there is to say of the links.
    pub(super) links: Vec<Note>,
    /// The anchor that it ends at.
    pub(super) anchor: Option<&'a Anchor>,
    /// What there is to say of that anchor.
    pub(super) of_anchor: Vec<Note>,
}

/// Who vouches for a certificate.
#[derive(Clone, Copy)]
enum Issuer<'a> {
    /// A certificate of the chain, by its place.
    Sent(usize),
    /// An anchor.
    Anchor(&'a Anchor),
}

impl<'a> Climb<'a> {
    pub(super) fn of(question: &Question<'a>, certificates: &[Certificate<'_>], proven: Option<&Peer>) -> Self {
        let mut climb = Self { links: Vec::new(), anchor: None, of_anchor: Vec::new() };
        let trust_domain = proven.map(|peer| peer.id.trust_domain().clone());
        let trust_domain = trust_domain.or_else(|| {
            certificates.first().and_then(|leaf| crate::svid::spiffe_id(leaf).ok()).map(|id| id.trust_domain().clone())
        });
        let Some(bundle) = trust_domain.and_then(|trust_domain| question.trust.bundle(&trust_domain)) else {
            return climb;
        };
        Way { question, certificates, bundle, proven, climbed: vec![0] }.go(&mut climb);
        climb
    }
}

struct Way<'w, 'a> {
    question: &'w Question<'a>,
    certificates: &'w [Certificate<'w>],
    bundle: &'a Bundle,
    proven: Option<&'w Peer>,
    /// The places in the chain, the leaf first.
    climbed: Vec<usize>,
}

impl<'a> Way<'_, 'a> {
    fn go(&mut self, climb: &mut Climb<'a>) {
        while let Some(at) = self.climbed.last().copied() {
            let Some(current) = self.certificates.get(at) else { return };
            climb.links.extend(self.of_itself(current));
            let Some(issuer) = self.issuer(at) else {
                climb.links.push(Note::bad(format!(
                    "{}: neither the chain nor the bundle of `{}` has a certificate of its issuer `{}`",
                    current.name(),
                    self.bundle.trust_domain(),
                    current.issuer()
                )));
                return;
            };
            climb.links.push(self.link(at, issuer));
            match issuer {
                Issuer::Sent(next) => {
                    climb.links.extend(self.of_issuer(next));
                    self.climbed.push(next);
                }
                Issuer::Anchor(anchor) => {
                    climb.anchor = Some(anchor);
                    climb.of_anchor = self.of_anchor(anchor);
                    return;
                }
            }
        }
    }

    /// The next certificate of the path, or the most promising one.
    fn issuer(&self, at: usize) -> Option<Issuer<'a>> {
        let current = self.certificates.get(at)?;
        let name = current.x509().issuer().as_raw();
        let anchors = self.bundle.anchors().iter().filter(|anchor| anchor.subject() == name).map(Issuer::Anchor);
        let is_issuer = |(index, candidate): &(usize, &Certificate<'_>)| {
            candidate.x509().subject().as_raw() == name && !self.climbed.contains(index)
        };
        let sent = self.certificates.iter().enumerate().filter(is_issuer).map(|(index, _)| Issuer::Sent(index));
        let rank = |candidate: &Issuer<'a>| (!self.signs(at, *candidate), !self.is_valid(*candidate));
        anchors.chain(sent).filter(|candidate| self.is_of_path(*candidate)).min_by_key(rank)
    }

    /// Whether the path that was proven goes on by this issuer; if none was proven, any may.
    fn is_of_path(&self, candidate: Issuer<'_>) -> bool {
        let Some(peer) = self.proven else { return true };
        let Some(next) = peer.proof.path.get(self.climbed.len()) else { return false };
        // The last certificate of a proven path is its anchor, which may have been sent too.
        match candidate {
            Issuer::Anchor(anchor) => self.is_last() && anchor.key() == next,
            Issuer::Sent(index) => {
                !self.is_last() && self.certificates.get(index).is_some_and(|found| found.key() == *next)
            }
        }
    }

    fn is_last(&self) -> bool {
        self.proven.is_some_and(|peer| peer.proof.path.len() == self.climbed.len() + 1)
    }

    fn signs(&self, at: usize, issuer: Issuer<'_>) -> bool {
        let key = match issuer {
            Issuer::Sent(index) => self.certificates.get(index).map(Certificate::public_key),
            Issuer::Anchor(anchor) => Some(anchor.public_key()),
        };
        let signed = self.question.chain.get(at).and_then(|der| Signed::parse(der));
        signed.zip(key).is_some_and(|(signed, key)| signed.is_by(key, algorithms(self.question.trust)))
    }

    fn is_valid(&self, issuer: Issuer<'_>) -> bool {
        let now = self.question.now;
        match issuer {
            Issuer::Anchor(anchor) => anchor.idle_because(now).is_none(),
            Issuer::Sent(index) => self
                .certificates
                .get(index)
                .is_some_and(|issuer| (issuer.not_before()..=issuer.not_after()).contains(&now)),
        }
    }

    fn link(&self, at: usize, issuer: Issuer<'_>) -> Note {
        let name = |index: usize| self.certificates.get(index).map(|found| found.name().to_string());
        let below = name(at).unwrap_or_default();
        let above = match issuer {
            Issuer::Sent(index) => name(index).unwrap_or_default(),
            Issuer::Anchor(anchor) => format!("the anchor {}", anchor.name),
        };
        if self.signs(at, issuer) {
            return Note::good(format!("{below} is signed by {above}"));
        }
        Note::bad(format!("{below} names {above} as its issuer, and its signature does not fit that one's key"))
    }

    /// What is asked of every certificate of a path.
    fn of_itself(&self, certificate: &Certificate<'_>) -> Vec<Note> {
        let (name, now) = (certificate.name(), self.question.now);
        let (begin, end) = (certificate.not_before(), certificate.not_after());
        let mut notes = vec![if now > end {
            Note::bad(format!("{name} expired at {}, and it is {}", Timestamp(end), Timestamp(now)))
        } else if now < begin {
            Note::bad(format!("{name} is valid from {}, and it is only {}", Timestamp(begin), Timestamp(now)))
        } else {
            Note::good(format!("{name} is valid until {}", Timestamp(end)))
        }];
        if let Some(bits) = certificate.weak_rsa_bits() {
            notes.push(Note::bad(format!("{name} has an RSA key of {bits} bits, less than 2048")));
        }
        notes
    }

    /// What is asked of an issuer that was sent: may it issue what is below it?
    fn of_issuer(&self, index: usize) -> Vec<Note> {
        let Some(issuer) = self.certificates.get(index) else { return Vec::new() };
        let name = issuer.name();
        let below = self.climbed.len() - 1;
        let mut notes = vec![match issuer.issuer_fault() {
            Some(fault) => Note::bad(format!("{name} may not issue certificates: {fault}")),
            None => Note::good(format!("{name} may issue certificates")),
        }];
        notes.extend(self.path_length(&name.to_string(), issuer.path_length(), below));
        if !issuer.serves(self.question.role) {
            let usage = self.question.role.usage();
            notes.push(Note::bad(format!("the extended key usage of {name} lacks `{usage}`")));
        }
        match NameConstraints::of(issuer) {
            Ok(constraints) => {
                notes.extend(self.constraints(&name.to_string(), constraints.as_ref().and_then(NameConstraints::uris)));
            }
            Err(fault) => notes.push(Note::bad(format!("{name}: {fault}"))),
        }
        notes
    }

    fn of_anchor(&self, anchor: &Anchor) -> Vec<Note> {
        let name = format!("the anchor {}", anchor.name);
        let mut notes = vec![match anchor.idle_because(self.question.now) {
            Some(reason) => Note::bad(format!("{name} {reason}")),
            None => Note::good(format!("{name} is valid until {}", Timestamp(anchor.not_after))),
        }];
        notes.extend(self.path_length(&name, anchor.path_length(), self.climbed.len() - 1));
        if !anchor.serves(self.question.role) {
            let usage = self.question.role.usage();
            notes.push(Note::bad(format!("the extended key usage of {name} lacks `{usage}`")));
        }
        notes.extend(self.constraints(&name, anchor.constraints().and_then(NameConstraints::uris)));
        notes
    }

    fn path_length(&self, name: &str, allowed: Option<u32>, below: usize) -> Option<Note> {
        let allowed = allowed?;
        let text = format!("{name} allows {allowed} issuers below it, and there are {below}");
        Some(if below > allowed as usize { Note::bad(text) } else { Note::good(text) })
    }

    fn constraints(&self, name: &str, uris: Option<&UriConstraints>) -> Vec<Note> {
        let Some(uris) = uris else { return Vec::new() };
        let below = self.climbed.iter().filter_map(|index| self.certificates.get(*index));
        let broken: Vec<_> = below
            .flat_map(|certificate| certificate.uris().unwrap_or_default())
            .filter_map(|uri| uris.judge(uri).err())
            .map(|violation| Note::bad(format!("the name constraints of {name}: {violation}")))
            .collect();
        if broken.is_empty() {
            return vec![Note::good(format!("the name constraints of {name} permit every URI below it ({uris})"))];
        }
        broken
    }
}

fn algorithms(trust: &Trust) -> &[&dyn rustls_pki_types::SignatureVerificationAlgorithm] {
    trust.algorithms().all
}
