//! What was found in a path, drawn: the leaf with its issuers below it, anchors, revocation lists, the key.

use portcullis_certs_watcher::inspect::{
    CertificateFacts, Encoding, FileFacts, Fit, Inspection, KeyFacts, ListFacts, Name, Purpose, Usage,
};

use super::page::Page;
use super::words::{length, relative};
use crate::cli::paint::{Count, Ink};

/// Everything about one path.
pub(super) fn inspection(page: &mut Page, inspection: &Inspection) {
    let path = page.ink(Ink::Bold, &inspection.path);
    if inspection.unread.is_some() {
        return page.line(&format!("{path}: cannot be read"));
    }
    let mut what = purpose(inspection);
    if inspection.swapped_whole {
        what.push_str(", of one generation of a volume");
    }
    if let [file] = inspection.files.as_slice()
        && file.path == inspection.path
    {
        let what = if file.encoding.is_some() { format!("{what} ({})", contents(file)) } else { contents(file) };
        page.line(&format!("{path}: {what}"));
        return draw(page, inspection, file);
    }
    page.line(&format!("{path}: {what}"));
    for file in &inspection.files {
        page.blank();
        let path = page.ink(Ink::Bold, &file.path);
        page.line(&format!("{path}: {}", contents(file)));
        draw(page, inspection, file);
    }
}

fn purpose(inspection: &Inspection) -> String {
    match (inspection.purpose, &inspection.trust_domain) {
        (Purpose::Secret, _) => "a Secret directory".to_owned(),
        (Purpose::Chain, _) => "a certificate and its issuers".to_owned(),
        (Purpose::Bundle, Some(trust_domain)) => format!("the trust bundle of {trust_domain}"),
        (Purpose::Bundle, None) => "a trust bundle, its trust domain not said".to_owned(),
        (Purpose::RevocationLists, _) => "certificate revocation lists".to_owned(),
        (Purpose::Key, _) => "a private key".to_owned(),
        (Purpose::Unknown, _) => "not known".to_owned(),
    }
}

fn draw(page: &mut Page, inspection: &Inspection, file: &FileFacts) {
    if let Some(sequence) = file.sequence {
        page.field(INDENT, "sequence", &sequence.to_string());
    }
    if let Some(hint) = file.refresh_hint {
        page.field(INDENT, "refresh hint", &format!("every {}", length(hint)));
    }
    if file.chain.is_empty() {
        for certificate in &file.certificates {
            page.line(&format!("{INDENT}{}", title(page, certificate)));
            fields(page, certificate, &format!("{INDENT}{INDENT}"));
        }
    } else {
        chain(page, file);
    }
    for list in &file.revocation_lists {
        revocation_list(page, list);
    }
    if let Some(key) = &file.key {
        private_key(page, inspection, key);
    }
}

fn contents(file: &FileFacts) -> String {
    let Some(encoding) = file.encoding else { return "cannot be read".to_owned() };
    let encoding = match encoding {
        Encoding::Pem => "PEM",
        Encoding::Der => "DER",
        Encoding::Json => "SPIFFE bundle in JSON",
    };
    let mut parts = vec![encoding.to_owned()];
    if !file.certificates.is_empty() {
        parts.push(Count(file.certificates.len(), "certificate").to_string());
    }
    if !file.revocation_lists.is_empty() {
        parts.push(Count(file.revocation_lists.len(), "revocation list").to_string());
    }
    if file.key.as_ref().is_some_and(|key| key.path == file.path) {
        parts.push("private key".to_owned());
    }
    if file.disorder.is_some() {
        parts.push("not in order".to_owned());
    }
    if file.fault.is_some() {
        parts.push("damaged".to_owned());
    }
    parts.join(", ")
}

/// The leaf, and below it each issuer that the file holds.
fn chain(page: &mut Page, file: &FileFacts) {
    let Some(leaf) = file.ordered().next() else { return };
    let mut drawn = vec![leaf.position];
    page.line(&format!("{INDENT}{}", title(page, leaf)));
    branch(page, file, leaf, INDENT, &mut drawn);
    for certificate in file.certificates.iter().filter(|certificate| !drawn.contains(&certificate.position)) {
        let why = if file.chain.contains(&certificate.position) { "further up:" } else { STRAY };
        let why = page.ink(Ink::Yellow, why);
        page.line(&format!("{INDENT}{why} {}", title(page, certificate)));
        fields(page, certificate, &format!("{INDENT}{INDENT}"));
    }
}

fn branch(page: &mut Page, file: &FileFacts, certificate: &CertificateFacts, indent: &str, drawn: &mut Vec<usize>) {
    let new = |position: &&usize| !drawn.contains(*position);
    let issuers: Vec<_> = certificate.issuers.iter().filter(new).filter_map(|position| file.at(*position)).collect();
    drawn.extend(issuers.iter().map(|issuer| issuer.position));
    let ends = certificate.subject == certificate.issuer || (issuers.is_empty() && !certificate.issuers.is_empty());
    fields(page, certificate, &format!("{indent}{}", if ends { "  " } else { "│ " }));
    if ends {
        return;
    }
    if issuers.is_empty() {
        let corner = page.ink(Ink::Dim, &format!("{indent}└─"));
        return page.line(&format!("{corner} issued by {}, which is not in this file", certificate.issuer));
    }
    let last = issuers.len() - 1;
    for (index, issuer) in issuers.into_iter().enumerate() {
        let (corner, below) = if index == last { ("└─", "   ") } else { ("├─", "│  ") };
        let corner = page.ink(Ink::Dim, &format!("{indent}{corner}"));
        page.line(&format!("{corner} issued by {}", title(page, issuer)));
        let below = format!("{indent}{below}");
        if below.chars().count() > DEEPEST {
            let margin = format!("{below}  ");
            fields(page, issuer, &margin);
        } else {
            branch(page, file, issuer, &below, drawn);
        }
    }
}

fn title(page: &Page, certificate: &CertificateFacts) -> String {
    // Issuers that put the identity into the names alone leave the subject empty.
    let id = certificate.spiffe_id.as_ref().filter(|_| certificate.subject == "(empty name)");
    format!("{} {}", certificate.kind.word(), page.ink(Ink::Bold, id.unwrap_or(&certificate.subject)))
}

fn fields(page: &mut Page, certificate: &CertificateFacts, margin: &str) {
    let life = &certificate.life;
    if let Some(id) = &certificate.spiffe_id {
        page.field(margin, "SPIFFE ID", id);
    }
    page.field(margin, "issuer", &certificate.issuer);
    page.field(margin, "serial", &certificate.serial);
    page.field(margin, "key", &certificate.key);
    page.field(margin, "signed with", &certificate.signature);
    let (begin, end) = (relative(life.not_before, page.now), ending(page, certificate));
    page.field(margin, "valid from", &format!("{} ({begin})", life.not_before));
    page.field(margin, "valid until", &format!("{} ({end})", life.not_after));
    usage(page, margin, "key usage", certificate.key_usage.as_ref());
    usage(page, margin, "extended usage", certificate.extended_key_usage.as_ref());
    page.field(margin, "constraints", &constraints(certificate));
    if let Some(names) = &certificate.name_constraints {
        let one = |verb: &'static str| move |name: &Name| format!("{verb} {name}");
        let all: Vec<_> =
            names.permitted.iter().map(one("permitted")).chain(names.excluded.iter().map(one("excluded"))).collect();
        page.field(margin, "name constraints", &some(&all, all.len()));
    }
    let names: Vec<_> = certificate.names.iter().map(ToString::to_string).collect();
    page.field(margin, "names", &some(&names, certificate.names_total));
    page.field(margin, "unreadable", &certificate.unreadable.join(", "));
    page.field(margin, "SHA-256", &certificate.sha256);
}

fn ending(page: &Page, certificate: &CertificateFacts) -> String {
    let life = &certificate.life;
    let relative = relative(life.not_after, page.now);
    match life.seconds_left {
        ..0 => format!("expired {relative}"),
        _ => format!("{relative}, {} % of {} left", life.percent_left, length(life.whole())),
    }
}

fn usage(page: &mut Page, margin: &str, name: &str, usage: Option<&Usage>) {
    let Some(usage) = usage else { return };
    let critical = if usage.critical { " (critical)" } else { "" };
    page.field(margin, name, &format!("{}{critical}", usage.uses.join(", ")));
}

fn constraints(certificate: &CertificateFacts) -> String {
    match &certificate.basic_constraints {
        None => String::new(),
        Some(found) if !found.ca => "not a CA".to_owned(),
        Some(found) => match found.path_length {
            Some(length) => format!("CA, path length {length}"),
            None => "CA, no path length".to_owned(),
        },
    }
}

/// The first of many, a line each.
fn some(all: &[String], total: usize) -> String {
    let mut lines: Vec<_> = all.iter().take(MOST_LINES).cloned().collect();
    if total > lines.len() {
        lines.push(format!("… and {} more", total - lines.len()));
    }
    lines.join("\n")
}

fn revocation_list(page: &mut Page, list: &ListFacts) {
    let title = page.ink(Ink::Bold, &list.issuer);
    page.line(&format!("{INDENT}CRL of {title}"));
    let margin = format!("{INDENT}{INDENT}");
    page.field(&margin, "number", list.number.as_deref().unwrap_or_default());
    page.field(&margin, "signed with", &list.signature);
    page.field(&margin, "made", &format!("{} ({})", list.this_update, relative(list.this_update, page.now)));
    let (next, late) = (list.next_update, if list.is_stale(page.now) { "was due" } else { "due" });
    page.field(&margin, "next", &format!("{next} ({late} {})", relative(next, page.now)));
    page.field(&margin, "revoked", &Count(list.revoked, "certificate").to_string());
    let entries = list.first.iter().map(|entry| {
        let reason = entry.reason.as_ref().map(|reason| format!(", {reason}")).unwrap_or_default();
        format!("{} since {}{reason}", entry.serial, entry.since)
    });
    let entries: Vec<_> = entries.collect();
    page.field(&margin, "", &some(&entries, list.revoked));
}

fn private_key(page: &mut Page, inspection: &Inspection, key: &KeyFacts) {
    let path = page.ink(Ink::Bold, &key.path);
    let encoding = key.encoding.map(|encoding| format!(" ({encoding})")).unwrap_or_default();
    let verdict = match (key.fits, inspection.purpose) {
        (Fit::Fits, _) => page.ink(Ink::Green, "fits the leaf"),
        (Fit::Refused, _) => page.ink(Ink::Red, "cannot be used with the leaf"),
        (Fit::NoLeaf, Purpose::Key) => "not shown".to_owned(),
        (Fit::NoLeaf, _) => "not compared".to_owned(),
    };
    page.blank();
    page.line(&format!("{path}: private key{encoding}, {verdict}"));
}

const INDENT: &str = "  ";

const STRAY: &str = "repeats another, or belongs to no issuer of the leaf:";

/// Chains are of three; deeper ones are drawn without further turns.
const DEEPEST: usize = 48;

/// Enough to see what kind of names there are.
const MOST_LINES: usize = 16;
