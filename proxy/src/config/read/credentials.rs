//! Who we are and whom we believe: `identity` and `trust`.

use portcullis_certs_watcher::workload_api::{Choice, Endpoint};
use portcullis_certs_watcher::{BundleSource, IdentitySource, RevocationPolicy, StaleList, TrustSource, UnknownStatus};
use portcullis_policy::document::{Fields, Item};
use spiffe::TrustDomain;

use super::{CODES, KEYS_ELSEWHERE, TWICE, path, spiffe_id};
use crate::config::{Identity, stale_crl_word, unknown_status_word};

pub(super) fn identity(item: Item<'_>) -> Option<Identity> {
    let fields = item.fields(&["directory", "workloadApi", "spiffeId"])?;
    let spiffe_id = match fields.optional("spiffeId") {
        None => Some(None),
        Some(item) => spiffe_id(item).map(Some),
    };
    let source = match one_of(&fields, "directory", "workloadApi")? {
        One::First(item) => path(item).map(IdentitySource::Directory),
        One::Second(item) => workload_api(item).map(|(endpoint, hint)| {
            let choice = match (hint, spiffe_id.clone().flatten()) {
                (Some(hint), _) => Choice::Hint(hint),
                (None, Some(id)) => Choice::Id(id),
                (None, None) => Choice::First,
            };
            IdentitySource::WorkloadApi { endpoint, choice }
        }),
    };
    Some(Identity { source: source?, spiffe_id: spiffe_id? })
}

/// The Workload API, and the hint of the SVID that is ours.
fn workload_api(item: Item<'_>) -> Option<(Endpoint, Option<String>)> {
    let fields = item.fields(&["socket", "hint"])?;
    let endpoint = fields.required("socket").and_then(|item| {
        let endpoint: Endpoint = item.parsed(CODES.bad_value, str::parse)?;
        if endpoint.leaves_machine() {
            let message = format!("the Workload API at `{endpoint}` is not on this machine");
            let help = "it sends private keys in plaintext: name a Unix socket, or an address on loopback";
            item.error(KEYS_ELSEWHERE, message).help(help);
        }
        Some(endpoint)
    });
    let hint = fields.optional("hint").map_or(Some(None), |item| item.string().map(|hint| Some(hint.to_owned())));
    Some((endpoint?, hint?))
}

/// The bundles; entries with `from: workloadApi` find theirs in that of the identity, if there was no mistake in it.
pub(super) fn trust(item: Item<'_>, identity: Option<&Identity>) -> Option<Vec<TrustSource>> {
    let sources = item.each(|item| {
        let fields = item.fields(&TRUST)?;
        let domain = fields.required("trustDomain");
        let trust_domain = domain.and_then(|item| item.parsed(CODES.bad_value, trust_domain_of).map(|td| (item, td)));
        let bundle = match one_of(&fields, "bundle", "from") {
            Some(One::First(item)) => path(item).map(BundleSource::Path),
            Some(One::Second(item)) => from(item, identity),
            None => None,
        };
        let crl = fields.optional("crl").map(path);
        let revocation = revocation(&fields);
        let (item, trust_domain) = trust_domain?;
        let crl = crl.map_or(Some(None), |path| path.map(Some));
        Some((item, TrustSource { trust_domain, bundle: bundle?, crl: crl?, revocation: revocation? }))
    })?;
    let mut read: Vec<TrustSource> = Vec::new();
    for (item, source) in sources {
        let trust_domain = &source.trust_domain;
        if read.iter().any(|other| other.trust_domain == *trust_domain) {
            let message = format!("the trust domain `{trust_domain}` is named twice");
            item.error(TWICE, message).help("keep one entry; its bundle may be a directory of files");
        }
        read.push(source);
    }
    Some(read)
}

fn from(item: Item<'_>, identity: Option<&Identity>) -> Option<BundleSource> {
    item.choice(&[("workloadApi", ())])?;
    match &identity?.source {
        IdentitySource::WorkloadApi { endpoint, .. } => Some(BundleSource::WorkloadApi(endpoint.clone())),
        IdentitySource::Directory(_) => {
            let reported = item.error(CODES.missing_key, "`from: workloadApi` needs `identity: {workloadApi: …}`");
            reported.help("name the API there, or give this trust domain a `bundle`");
            None
        }
    }
}

fn revocation(fields: &Fields<'_>) -> Option<RevocationPolicy> {
    let unknowns = [UnknownStatus::Allow, UnknownStatus::Refuse].map(|one| (unknown_status_word(one), one));
    let stales = [StaleList::Warn, StaleList::Refuse].map(|one| (stale_crl_word(one), one));
    let (unknown, stale) = (word(fields, "unknownStatus", &unknowns), word(fields, "staleCrl", &stales));
    // The Workload API may send lists as well.
    if fields.optional("crl").is_none() && fields.optional("from").is_none() {
        for key in ["unknownStatus", "staleCrl"] {
            if let Some(item) = fields.optional(key) {
                let message = format!("`{key}` says what to make of revocation lists, and there is no `crl`");
                item.error(CODES.missing_key, message)
                    .help("add `crl: …`, a file or directory of lists, or leave it out");
            }
        }
    }
    Some(RevocationPolicy { unknown: unknown?, stale: stale? })
}

fn word<T: Copy + Default>(fields: &Fields<'_>, key: &'static str, words: &[(&'static str, T)]) -> Option<T> {
    fields.optional(key).map_or_else(|| Some(T::default()), |item| item.choice(words))
}

/// The one of two keys that is there.
enum One<'a> {
    First(Item<'a>),
    Second(Item<'a>),
}

fn one_of<'a>(fields: &Fields<'a>, first: &'static str, second: &'static str) -> Option<One<'a>> {
    let name = fields.item().name();
    match (fields.optional(first), fields.optional(second)) {
        (Some(item), None) => Some(One::First(item)),
        (None, Some(item)) => Some(One::Second(item)),
        (Some(_), Some(_)) => {
            let reported = fields.item().error(TWICE, format!("`{name}` has both `{first}` and `{second}`"));
            reported.help("keep one of them");
            None
        }
        (None, None) => {
            let message = format!("`{name}` lacks the key `{first}`");
            fields.item().error(CODES.missing_key, message).help(format!("add `{first}: …`, or `{second}: …`"));
            None
        }
    }
}

fn trust_domain_of(text: &str) -> Result<TrustDomain, String> {
    TrustDomain::new(text).map_err(|error| format!("`{text}` is no trust domain: {error}"))
}

const TRUST: [&str; 6] = ["trustDomain", "bundle", "from", "crl", "unknownStatus", "staleCrl"];
