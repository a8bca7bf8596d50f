//! What a rule allows, in one short line, and text cut to a width.

use std::fmt::Display;

use crate::matchers::GrpcMatcher;
use crate::rules::{Condition, ConnectionMatcher, IdentitySet, Matchers, RequestMatcher, Rule, Sense};

/// `GET,HEAD /v1/plans/** :8080`
pub(super) fn of_rule(rule: &Rule, matchers: &Matchers, sets: &[IdentitySet]) -> String {
    let mut words: Vec<String> = matchers.request.iter().map(on_request).collect();
    if words.is_empty() {
        words.push("anything".to_owned());
    }
    words.extend(matchers.connection.iter().filter_map(|condition| on_connection(condition, sets)));
    words.extend(rule.expires.map(|end| format!("until {}", crate::diff::moment(end))));
    words.join(" ")
}

fn on_request(Condition { sense, matcher }: &Condition<RequestMatcher>) -> String {
    let words = match matcher {
        RequestMatcher::Method(methods) => few(methods),
        RequestMatcher::Path(patterns) => few(patterns),
        RequestMatcher::Host(hosts) => format!("host {}", few(hosts)),
        RequestMatcher::Grpc(GrpcMatcher { services, methods }) => {
            let any = |names: &[Box<str>]| if names.is_empty() { "*".to_owned() } else { few(names) };
            format!("gRPC {}/{}", any(services), any(methods))
        }
        RequestMatcher::Header(header) => format!("if {}={}", header.name, few(&header.values)),
    };
    not(*sense, words)
}

/// The callers that must match are an end of the edge already.
fn on_connection(Condition { sense, matcher }: &Condition<ConnectionMatcher>, sets: &[IdentitySet]) -> Option<String> {
    let words = match (matcher, sense) {
        (ConnectionMatcher::Caller(_), Sense::Is) => return None,
        (ConnectionMatcher::Caller(identities), Sense::IsNot) => {
            let exact = identities.exact.iter().map(ToString::to_string);
            let patterns = identities.patterns.iter().map(ToString::to_string);
            let named = identities.sets.iter().filter_map(|set| sets.get(set.0)).map(|set| format!("set {}", set.name));
            few(&exact.chain(patterns).chain(named).collect::<Vec<_>>())
        }
        (ConnectionMatcher::Source(networks), _) => format!("from {}", few(networks)),
        (ConnectionMatcher::Destination(networks), _) => format!("at {}", few(networks)),
        (ConnectionMatcher::ServerName(names), _) => format!("for {}", few(names)),
        (ConnectionMatcher::Port(ports), _) => format!(":{}", few(ports)),
    };
    Some(not(*sense, words))
}

fn not(sense: Sense, words: String) -> String {
    match sense {
        Sense::Is => words,
        Sense::IsNot => format!("not({words})"),
    }
}

fn few<T: Display>(all: &[T]) -> String {
    let mut words: Vec<String> = all.iter().take(MOST_LISTED).map(ToString::to_string).collect();
    if all.len() > MOST_LISTED {
        words.push(format!("+{}", all.len() - MOST_LISTED));
    }
    words.join(",")
}

/// Text of at most so many characters, without any that could steer what shows it.
pub(super) fn cut(text: &str, most: usize) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    if text.chars().count() <= most {
        return plain.collect();
    }
    plain.take(most.saturating_sub(1)).chain(['…']).collect()
}

/// Text for XML and HTML, in content and in quoted attributes.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

const MOST_LISTED: usize = 3;
