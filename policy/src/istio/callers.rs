//! Whom a policy of Istio's names as caller, with the places, for who knows which workloads exist.
//!
//! Documents that were read without a mistake are walked once more; what would be a mistake is passed over.

use std::cell::RefCell;
use std::sync::Arc;

use super::principal::{namespace, principal, service_account, trust_domain};
use super::source::Convert;
use super::{Context, DEFAULT_NAMESPACE};
use crate::document::Item;
use crate::identity::IdentityPattern;
use crate::policy::Options;
use crate::rules::{Effect, Mode};
use crate::source::Position;

/// A caller as it is written.
pub(crate) struct Named<'a> {
    /// Where.
    pub(crate) position: Position,
    /// How.
    pub(crate) text: &'a str,
    /// In which of Istio's words.
    pub(crate) noun: &'static str,
    /// Who that is.
    pub(crate) pattern: IdentityPattern,
}

/// Every caller that a policy names, also those who are not meant.
pub(crate) fn named_by<'a>(document: Item<'a>, options: &Options) -> Vec<Named<'a>> {
    let home = document.peek("metadata").and_then(|metadata| metadata.peek("namespace")).and_then(Item::text);
    let context = Context {
        policy: Arc::default(),
        namespace: home.unwrap_or(DEFAULT_NAMESPACE).into(),
        effect: Effect::Allow,
        mode: Mode::Enforce,
        options,
        told: RefCell::default(),
    };
    let mut all = Vec::new();
    for rule in entries(document.peek("spec"), "rules") {
        for source in entries(Some(rule), "from").filter_map(|from| from.peek("source")) {
            for (word, keys) in WORDS.iter().zip(KEYS) {
                keys.into_iter().for_each(|key| word.read(source, key, &context, &mut all));
            }
        }
        for condition in entries(Some(rule), "when") {
            let attribute = condition.peek("key").and_then(Item::text);
            if let Some(word) = WORDS.iter().find(|word| Some(word.attribute) == attribute) {
                ["values", "notValues"].into_iter().for_each(|key| word.read(condition, key, &context, &mut all));
            }
        }
    }
    all
}

/// A word for callers.
struct Word {
    noun: &'static str,
    /// In `when`.
    attribute: &'static str,
    convert: Convert,
}

impl Word {
    fn read<'a>(&self, item: Item<'a>, key: &'static str, context: &Context<'_>, all: &mut Vec<Named<'a>>) {
        let named = entries(Some(item), key).filter_map(|item| {
            let (position, text, noun) = (item.position(), item.text()?, self.noun);
            Some(Named { position, text, noun, pattern: (self.convert)(item, context)? })
        });
        all.extend(named);
    }
}

fn entries<'a>(item: Option<Item<'a>>, key: &'static str) -> impl Iterator<Item = Item<'a>> {
    item.and_then(|item| item.peek(key)).and_then(Item::list).into_iter().flatten()
}

const WORDS: [Word; 4] = [
    Word { noun: "principal", attribute: "source.principal", convert: principal },
    Word { noun: "namespace", attribute: "source.namespace", convert: namespace },
    Word { noun: "service account", attribute: "source.serviceAccount", convert: service_account },
    Word { noun: "trust domain", attribute: "source.trustDomain", convert: trust_domain },
];
/// The same words in `from`.
const KEYS: [[&str; 2]; 4] = [
    ["principals", "notPrincipals"],
    ["namespaces", "notNamespaces"],
    ["serviceAccounts", "notServiceAccounts"],
    ["trustDomains", "notTrustDomains"],
];
