//! Who we are and whom we believe: `identity` and `trust`.

use portcullis_certs_watcher::{RevocationPolicy, StaleList, UnknownStatus};
use portcullis_policy::document::{Fields, Item};
use spiffe::TrustDomain;

use super::{CODES, TWICE, path, spiffe_id};
use crate::config::{Identity, RevocationLists, TrustBundle, stale_crl_word, unknown_status_word};

pub(super) fn identity(item: Item<'_>) -> Option<Identity> {
    let fields = item.fields(&["directory", "spiffeId"])?;
    let directory = fields.required("directory").and_then(path);
    let spiffe_id = match fields.optional("spiffeId") {
        None => Some(None),
        Some(item) => spiffe_id(item).map(Some),
    };
    Some(Identity { directory: directory?, spiffe_id: spiffe_id? })
}

pub(super) fn trust(item: Item<'_>) -> Option<Vec<TrustBundle>> {
    let bundles = item.each(|item| {
        let fields = item.fields(&TRUST)?;
        let domain = fields.required("trustDomain");
        let trust_domain = domain.and_then(|item| item.parsed(CODES.bad_value, trust_domain_of).map(|td| (item, td)));
        let bundle = fields.required("bundle").and_then(path);
        let crl = revocation_lists(&fields);
        Some((trust_domain?, bundle?, crl?))
    })?;
    let mut read: Vec<TrustBundle> = Vec::new();
    for ((item, trust_domain), bundle, crl) in bundles {
        if read.iter().any(|other| other.trust_domain == trust_domain) {
            let message = format!("the trust domain `{trust_domain}` is named twice");
            item.error(TWICE, message).help("keep one entry; its bundle may be a directory of files");
        }
        read.push(TrustBundle { trust_domain, bundle, crl });
    }
    Some(read)
}

/// The inner `None` is an entry without `crl`.
fn revocation_lists(fields: &Fields<'_>) -> Option<Option<RevocationLists>> {
    let lists = fields.optional("crl").map(path);
    let unknown = word(
        fields,
        "unknownStatus",
        &[UnknownStatus::Allow, UnknownStatus::Refuse].map(|one| (unknown_status_word(one), one)),
    );
    let stale = word(fields, "staleCrl", &[StaleList::Warn, StaleList::Refuse].map(|one| (stale_crl_word(one), one)));
    if lists.is_none() {
        for key in ["unknownStatus", "staleCrl"] {
            if let Some(item) = fields.optional(key) {
                let message = format!("`{key}` says what to make of revocation lists, and there is no `crl`");
                item.error(CODES.missing_key, message)
                    .help("add `crl: …`, a file or directory of lists, or leave it out");
            }
        }
    }
    let policy = RevocationPolicy { unknown: unknown?, stale: stale? };
    match lists {
        None => Some(None),
        Some(lists) => Some(Some(RevocationLists { path: lists?, policy })),
    }
}

fn word<T: Copy + Default>(fields: &Fields<'_>, key: &'static str, words: &[(&'static str, T)]) -> Option<T> {
    fields.optional(key).map_or_else(|| Some(T::default()), |item| item.choice(words))
}

fn trust_domain_of(text: &str) -> Result<TrustDomain, String> {
    TrustDomain::new(text).map_err(|error| format!("`{text}` is no trust domain: {error}"))
}

const TRUST: [&str; 5] = ["trustDomain", "bundle", "crl", "unknownStatus", "staleCrl"];
