//! `portcullis certs verify`: read what is given, ask `certs-watcher` step by step, print the answer.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use portcullis_certs_watcher::examine::{Examination, Question, Step, StepName, StepOutcome, Tone, examine};
use portcullis_certs_watcher::inspect::{Content, Target, read};
use portcullis_certs_watcher::volume::{read_bundle, read_lists, read_single};
use portcullis_certs_watcher::{
    Bundle, Crl, DenyList, Revocation, RevocationPolicy, Role, StaleList, Timestamp, Trust, UnknownStatus, explain, pem,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use serde_json::json;
use spiffe::{SpiffeId, TrustDomain};

use super::inspect::print_json;
use super::page::Page;
use super::words::relative;
use super::{Common, Error, Owned};
use crate::cli::paint::{Ink, Paint};
use crate::deny_file;

/// Options of `certs verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// The chain as the peer sends it, the leaf first: PEM, or a Secret directory, of which tls.crt is taken.
    #[arg(long, value_name = "PATH")]
    peer: PathBuf,
    /// The bundle of a trust domain, PEM or SPIFFE JSON, a file or a directory; may be repeated.
    #[arg(long, value_name = "TRUST_DOMAIN=PATH", required = true)]
    trust: Vec<Owned>,
    /// Revocation lists for the chains of a trust domain, PEM or DER, a file or a directory; may be repeated.
    #[arg(long, value_name = "TRUST_DOMAIN=PATH")]
    crl: Vec<Owned>,
    /// The deny list of a sidecar.
    #[arg(long, value_name = "FILE")]
    deny_list: Option<PathBuf>,
    /// What a certificate is worth that no list covers, where lists are given; as `unknownStatus` in the configuration.
    #[arg(long, value_enum, default_value_t = Unknown::Allow)]
    unknown_status: Unknown,
    /// What a list is worth after its next update; as `staleCrl` in the configuration.
    #[arg(long, value_enum, default_value_t = Stale::Warn)]
    stale_crl: Stale,
    /// On which side of the connection the peer is; without it both are judged.
    #[arg(long, value_enum)]
    role: Option<Side>,
    /// Who the peer should be.
    #[arg(long, value_name = "SPIFFE_ID", value_parser = parse_identity)]
    expect: Option<SpiffeId>,
    /// Print the steps as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Side {
    Client,
    Server,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Unknown {
    Allow,
    Refuse,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Stale {
    Warn,
    Refuse,
}

impl Verify {
    fn roles(&self) -> Vec<Role> {
        match self.role {
            Some(Side::Client) => vec![Role::Client],
            Some(Side::Server) => vec![Role::Server],
            None => vec![Role::Client, Role::Server],
        }
    }

    fn policy(&self) -> RevocationPolicy {
        RevocationPolicy {
            unknown: match self.unknown_status {
                Unknown::Allow => UnknownStatus::Allow,
                Unknown::Refuse => UnknownStatus::Refuse,
            },
            stale: match self.stale_crl {
                Stale::Warn => StaleList::Warn,
                Stale::Refuse => StaleList::Refuse,
            },
        }
    }
}

pub(super) fn run(verify: &Verify, paint: Paint, out: &mut dyn Write) -> Result<(), Error> {
    let now = verify.common.now();
    let chain = chain(&verify.peer)?;
    let (bundles, broken) = bundles(&verify.trust)?;
    let trust = Trust::new(bundles).with_revocations(revocations(verify)?);
    let trust = trust.with_deny_list(Arc::new(deny_list(verify)?));
    let ask = |role| {
        let (chain, trust, expected) = (chain.as_slice(), &trust, verify.expect.as_ref());
        examine(&Question { chain, trust, broken: &broken, role, expected, now })
    };
    let examinations: Vec<_> = verify.roles().into_iter().map(ask).collect();
    if verify.json {
        let peer = verify.peer.display().to_string();
        print_json(&json!({ "at": Timestamp(now), "peer": peer, "examinations": examinations }), out)?;
    } else {
        let page = text(verify, &examinations, now, verify.common.paint(paint));
        out.write_all(page.as_bytes())?;
    }
    out.flush()?;
    let refused: Vec<_> = examinations.iter().filter(|examination| !examination.accepted).collect();
    if refused.is_empty() {
        return Ok(());
    }
    let roles: Vec<_> = refused.iter().map(|examination| word(examination.role)).collect();
    Err(Error::NotAccepted { roles: roles.join(" and ") })
}

/// The certificates as they stand in the file: a peer sends them so, and its file may be in any order.
fn chain(peer: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let unusable = |reason: String| Error::Input { path: peer.to_owned(), reason };
    let content = read(&Target { path: peer.to_owned(), trust_domain: None });
    let bytes = match content.map_err(|error| unusable(explain(&error)))? {
        Content::Secret(secret) => secret.certificate,
        Content::Files(files) => match <[_; 1]>::try_from(files.files) {
            Ok([(_, bytes)]) => bytes,
            Err(_) => return Err(unusable("it holds several files: name the one with the chain".to_owned())),
        },
    };
    if bytes.first() == Some(&DER_SEQUENCE) {
        return Ok(vec![bytes.into()]);
    }
    pem::certificates(&bytes).map_err(|error| unusable(explain(&error)))
}

type Bundles = Vec<Arc<Bundle>>;

/// The bundles, and of those that cannot be loaded the reason: the sidecar goes on without these, too.
fn bundles(trust: &[Owned]) -> Result<(Bundles, BTreeMap<TrustDomain, String>), Error> {
    let (mut bundles, mut broken) = (Vec::new(), BTreeMap::new());
    let mut seen = BTreeSet::new();
    for Owned { trust_domain, path } in trust {
        if !seen.insert(trust_domain) {
            return Err(Error::TrustTwice { trust_domain: trust_domain.clone() });
        }
        let files = read_bundle(path).map_err(|error| explain(&error));
        match files.and_then(|files| Bundle::load(trust_domain, &files).map_err(|error| explain(&error))) {
            Ok(bundle) => bundles.push(Arc::new(bundle)),
            Err(reason) => {
                broken.insert(trust_domain.clone(), reason);
            }
        }
    }
    Ok((bundles, broken))
}

/// The lists of each trust domain. One that cannot be read ends the command: a verdict without it would be a guess.
fn revocations(verify: &Verify) -> Result<Vec<(TrustDomain, Arc<Revocation>)>, Error> {
    let mut lists: BTreeMap<TrustDomain, Vec<Crl>> = BTreeMap::new();
    for Owned { trust_domain, path } in &verify.crl {
        if !verify.trust.iter().any(|trust| trust.trust_domain == *trust_domain) {
            return Err(Error::CrlWithoutTrust { trust_domain: trust_domain.clone() });
        }
        let unusable = |path: &Path, reason| Error::Input { path: path.to_owned(), reason };
        let files = read_lists(path).map_err(|error| unusable(path, explain(&error)))?;
        for (path, bytes) in &files.files {
            let found = Crl::read(bytes).map_err(|error| unusable(path, explain(&error)))?;
            lists.entry(trust_domain.clone()).or_default().extend(found);
        }
    }
    let policy = verify.policy();
    Ok(lists.into_iter().map(|(domain, lists)| (domain, Arc::new(Revocation::new(lists, policy)))).collect())
}

fn deny_list(verify: &Verify) -> Result<DenyList, Error> {
    let Some(path) = &verify.deny_list else { return Ok(DenyList::default()) };
    let unusable = |reason| Error::Input { path: path.clone(), reason };
    let files = read_single(path).map_err(|error| unusable(explain(&error)))?;
    let (path, bytes) = files.files.first().ok_or_else(|| unusable("it was not read".to_owned()))?;
    deny_file::read(path, bytes).map_err(|mistakes| Error::DenyList { path: path.clone(), mistakes })
}

fn text(verify: &Verify, examinations: &[Examination], now: UnixTime, paint: Paint) -> String {
    let mut page = Page::new(now, paint);
    let alike = matches!(examinations, [first, second] if first.steps == second.steps && first.reason == second.reason);
    let shown = if alike { examinations.get(..1).unwrap_or_default() } else { examinations };
    for (index, examination) in shown.iter().enumerate() {
        if index > 0 {
            page.blank();
        }
        let role = if alike { "client and server" } else { word(examination.role) };
        let path = page.ink(Ink::Bold, &verify.peer.display().to_string());
        page.line(&format!("{path} as {role}, at {}", Timestamp(now)));
        for (number, step) in (1..).zip(&examination.steps) {
            draw(&mut page, number, step);
        }
        verdict(&mut page, examination);
    }
    page.text()
}

fn draw(page: &mut Page, number: usize, step: &Step) {
    let outcome = match step.outcome {
        StepOutcome::Passed => page.ink(Ink::Green, "ok"),
        StepOutcome::Failed => page.ink(Ink::Red, "FAILED"),
        StepOutcome::NotReached => page.ink(Ink::Dim, "not reached"),
        StepOutcome::NotAsked => page.ink(Ink::Dim, "nothing given to check against"),
    };
    page.line(&format!("{number:>3} {:<13} {outcome}", title(step.name)));
    for note in &step.notes {
        let mark = match note.tone {
            Tone::Good => page.ink(Ink::Green, "✓"),
            Tone::Doubtful => page.ink(Ink::Yellow, "!"),
            Tone::Bad => page.ink(Ink::Red, "✗"),
        };
        page.line(&format!("      {mark} {}", note.text));
    }
}

fn title(name: StepName) -> &'static str {
    match name {
        StepName::Read => "read",
        StepName::Svid => "X509-SVID",
        StepName::TrustDomain => "trust domain",
        StepName::Path => "path",
        StepName::Anchor => "anchor",
        StepName::Revocation => "revocation",
        StepName::DenyList => "deny list",
        StepName::Identity => "identity",
    }
}

fn verdict(page: &mut Page, examination: &Examination) {
    let verdict = page.ink(Ink::Bold, "verdict:");
    if let (Some(identity), Some(until)) = (&examination.identity, examination.until) {
        let accepted = page.ink(Ink::Green, "accepted");
        let when = relative(until, page.now);
        return page.line(&format!("{verdict} {accepted} as `{identity}`, until {until} ({when}) at the latest"));
    }
    let refused = page.ink(Ink::Red, "refused");
    let (label, reason) = (examination.label.unwrap_or_default(), examination.reason.clone().unwrap_or_default());
    page.line(&format!("{verdict} {refused} ({label}): {reason}"));
    if let Some(at_fault) = &examination.at_fault {
        page.line(&format!("  = at fault: {at_fault}"));
    }
}

fn word(role: Role) -> &'static str {
    match role {
        Role::Client => "client",
        Role::Server => "server",
    }
}

fn parse_identity(text: &str) -> Result<SpiffeId, String> {
    SpiffeId::new(text).map_err(|error| error.to_string())
}

/// The first byte of a certificate in DER.
const DER_SEQUENCE: u8 = 0x30;
