//! A rule of Istio's as rules of ours: one for each source with each operation, all conditions of `when` in each.

use std::sync::Arc;

use super::{Context, TOO_MANY, condition, operation, source, surprise};
use crate::document::Item;
use crate::native::Collector;
use crate::rules::{Condition, ConnectionMatcher, Identities, Lowered, Matchers, RequestMatcher, Rule};

/// What multiplying sources with operations adds to what is written.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Spread {
    pairs: usize,
    values: usize,
}

impl Spread {
    fn add(&mut self, more: Self) {
        self.pairs = self.pairs.saturating_add(more.pairs);
        self.values = self.values.saturating_add(more.values);
    }

    fn exceeds(&self, most: Self) -> bool {
        self.pairs > most.pairs || self.values > most.values
    }
}

/// Lowers all rules of a policy; `list` is what holds them.
pub(super) fn lower(
    list: Item<'_>,
    rules: &[Item<'_>],
    context: &Context<'_>,
    collector: &mut Collector,
) -> Vec<Lowered> {
    let mut lowered = Vec::new();
    let mut of_policy = Spread::default();
    for (number, item) in rules.iter().enumerate() {
        let Some(parts) = Parts::read(*item, context) else { continue };
        of_policy.add(parts.spread());
        collector.spread.add(parts.spread());
        let (whose, spread, most) = if of_policy.exceeds(MOST_OF_POLICY) {
            ("the policy", of_policy, MOST_OF_POLICY)
        } else {
            ("all policies together", collector.spread, MOST_OF_ALL)
        };
        if spread.exceeds(most) {
            let Spread { pairs, values } = spread;
            let message = format!(
                "`rules[{number}]` brings {whose} to {pairs} pairs of a source and an operation more than are written, \
                 and to {values} values more"
            );
            let Spread { pairs, values } = most;
            list.error(TOO_MANY, message).help(format!(
                "at most {pairs} pairs and {values} values: put sources and operations that differ in one list into \
                 one entry"
            ));
            break;
        }
        let mut alternatives = parts.all(&format!("rules[{number}]"));
        surprise::judge(*item, &mut alternatives, context);
        lowered.extend(alternatives.into_iter().map(|(name, matchers)| Lowered {
            rule: Rule {
                policy: context.policy.clone(),
                namespace: Some(context.namespace.clone()),
                name: Arc::from(name),
                effect: context.effect,
                mode: context.mode,
                origin: collector.origin(item.position()),
                ticket: None,
                expires: None,
            },
            matchers,
        }));
    }
    lowered
}

/// The three parts of a rule; an absent `from` or `to` is one that asks for nothing.
struct Parts {
    from: Vec<Matchers>,
    to: Vec<Matchers>,
    when: Matchers,
}

impl Parts {
    fn read(item: Item<'_>, context: &Context<'_>) -> Option<Self> {
        let any = || vec![Matchers::default()];
        if item.is_empty_mapping() {
            return Some(Self { from: any(), to: any(), when: Matchers::default() });
        }
        let fields = item.fields(&["from", "to", "when"])?;
        let from = fields.optional("from").map_or_else(
            || Some(any()),
            |from| from.each(|one| source::read(one.fields(&["source"])?.required("source")?, context)),
        );
        let to = fields.optional("to").map_or_else(
            || Some(any()),
            |to| to.each(|one| operation::read(one.fields(&["operation"])?.required("operation")?, context)),
        );
        let when = fields
            .optional("when")
            .map_or_else(|| Some(Vec::new()), |when| when.each(|one| condition::read(one, context)));
        let when = when?.into_iter().fold(Matchers::default(), and);
        Some(Self { from: from?, to: to?, when })
    }

    fn alternatives(&self) -> usize {
        self.from.len().saturating_mul(self.to.len())
    }

    fn spread(&self) -> Spread {
        let all = |parts: &[Matchers]| parts.iter().map(values).fold(0, usize::saturating_add);
        let (from, to, when) = (all(&self.from), all(&self.to), values(&self.when));
        // What each is written out again for.
        let again = |count: usize| count.saturating_sub(1);
        let copies = [
            from.saturating_mul(again(self.to.len())),
            to.saturating_mul(again(self.from.len())),
            when.saturating_mul(again(self.alternatives())),
        ];
        Spread {
            pairs: self.alternatives().saturating_sub(self.from.len().max(self.to.len())),
            values: copies.into_iter().fold(0, usize::saturating_add),
        }
    }

    /// Every source with every operation, with its name.
    fn all(self, rule: &str) -> Vec<(String, Matchers)> {
        let (several_from, several_to) = (self.from.len() > 1, self.to.len() > 1);
        let mut all = Vec::with_capacity(self.alternatives());
        for (source, from) in self.from.iter().enumerate() {
            for (operation, to) in self.to.iter().enumerate() {
                let mut name = rule.to_owned();
                if several_from {
                    name.push_str(&format!(".from[{source}]"));
                }
                if several_to {
                    name.push_str(&format!(".to[{operation}]"));
                }
                all.push((name, and(and(from.clone(), to.clone()), self.when.clone())));
            }
        }
        all
    }
}

/// Both.
fn and(mut one: Matchers, other: Matchers) -> Matchers {
    one.connection.extend(other.connection);
    one.request.extend(other.request);
    one
}

fn values(matchers: &Matchers) -> usize {
    let on_connection = |Condition { matcher, .. }: &Condition<ConnectionMatcher>| match matcher {
        ConnectionMatcher::Caller(Identities { exact, patterns, sets }) => exact.len() + patterns.len() + sets.len(),
        ConnectionMatcher::Source(networks) | ConnectionMatcher::Destination(networks) => networks.len(),
        ConnectionMatcher::Port(ports) => ports.len(),
        ConnectionMatcher::ServerName(names) => names.len(),
    };
    let on_request = |Condition { matcher, .. }: &Condition<RequestMatcher>| match matcher {
        RequestMatcher::Host(hosts) => hosts.len(),
        RequestMatcher::Method(methods) => methods.len(),
        RequestMatcher::Path(patterns) => patterns.len(),
        RequestMatcher::Grpc(grpc) => grpc.services.len() + grpc.methods.len(),
        RequestMatcher::Header(header) => header.values.len(),
    };
    let (connection, request) = (matchers.connection.iter(), matchers.request.iter());
    connection.map(on_connection).sum::<usize>() + request.map(on_request).sum::<usize>()
}

/// Each pair becomes a rule of its own, and the rules of one policy are read by people.
const MOST_OF_POLICY: Spread = Spread { pairs: 4096, values: 65_536 };

/// A file of 1 MiB could otherwise ask for a million rules. Hand-written sets come to a few hundred.
const MOST_OF_ALL: Spread = Spread { pairs: 100_000, values: 1_000_000 };
