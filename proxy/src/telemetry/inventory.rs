//! Gauges of what comes and goes: certificates, anchors, revocation lists.
//!
//! They are published whole, so that the series of an anchor that was removed is gone with it: the metrics library keeps a
//! gauge for ever, and an alert on its end of life would never cease.

use std::collections::BTreeMap;
use std::fmt::Write;

use rustls_pki_types::UnixTime;

use super::metrics::{ANCHOR_PEERS, CRL_NEXT_UPDATE, NOT_AFTER};

/// A metric by name, and what it means.
#[derive(Debug)]
pub struct Family {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
}

/// What there is at one moment.
#[derive(Debug, Default)]
pub struct Inventory {
    /// The lines of each metric, after those that describe it.
    families: BTreeMap<&'static str, String>,
}

/// Which of our certificates ends.
#[derive(Clone, Copy, Debug)]
pub enum Ends<'a> {
    /// Our own.
    Leaf,
    /// The first to end of the intermediates that we send with it.
    Intermediate,
    /// An anchor that we believe.
    Anchor(AnchorLabels<'a>),
}

/// Points at one anchor of our configuration.
#[derive(Clone, Copy, Debug)]
pub struct AnchorLabels<'a> {
    /// For whose members it speaks.
    pub trust_domain: &'a str,
    /// Tells it from others of its trust domain.
    pub fingerprint: &'a str,
}

impl Inventory {
    /// The end of a certificate.
    pub fn not_after(&mut self, of: Ends<'_>, end: UnixTime) {
        let end = end.as_secs() as f64;
        match of {
            Ends::Leaf => self.add(&NOT_AFTER, &[("role", "leaf")], end),
            Ends::Intermediate => self.add(&NOT_AFTER, &[("role", "intermediate")], end),
            Ends::Anchor(AnchorLabels { trust_domain, fingerprint }) => {
                let labels = [("role", "anchor"), ("trust_domain", trust_domain), ("anchor", fingerprint)];
                self.add(&NOT_AFTER, &labels, end);
            }
        }
    }

    /// When the newest list of this issuer has to have a successor.
    pub fn crl_next_update(&mut self, trust_domain: &str, issuer: &str, due: UnixTime) {
        self.add(&CRL_NEXT_UPDATE, &[("trust_domain", trust_domain), ("issuer", issuer)], due.as_secs() as f64);
    }

    /// How many peers chain to an anchor; `window` is `now` or `24h`.
    pub fn anchor_peers(&mut self, anchor: AnchorLabels<'_>, window: &'static str, peers: usize) {
        let labels = [("trust_domain", anchor.trust_domain), ("anchor", anchor.fingerprint), ("window", window)];
        self.add(&ANCHOR_PEERS, &labels, peers as f64);
    }

    /// The Prometheus text exposition.
    pub fn render(&self) -> String {
        self.families.values().map(String::as_str).collect()
    }

    fn add(&mut self, family: &Family, labels: &[(&str, &str)], value: f64) {
        let Family { name, help } = family;
        let described = || format!("# HELP {name} {help}\n# TYPE {name} gauge\n");
        let text = self.families.entry(name).or_insert_with(described);
        let labels: Vec<_> = labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name}{{{}}} {value}", labels.join(","));
    }
}

/// The exposition format's escapes for a label's value.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_there_is_is_exposed_with_its_description_once() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let mut inventory = Inventory::default();
        let anchor = AnchorLabels { trust_domain: "prod.test", fingerprint: "0a1b" };
        inventory.not_after(Ends::Leaf, at(1_800_000_000));
        inventory.crl_next_update("prod.test", "CN=a \"b\" \\ c\nd", at(1));
        inventory.not_after(Ends::Intermediate, at(2));
        inventory.not_after(Ends::Anchor(anchor), at(3));
        inventory.anchor_peers(anchor, "24h", 7);
        let text = inventory.render();
        for line in [
            r#"portcullis_certificate_not_after_timestamp_seconds{role="leaf"} 1800000000"#,
            r#"portcullis_certificate_not_after_timestamp_seconds{role="intermediate"} 2"#,
            r#"portcullis_certificate_not_after_timestamp_seconds{role="anchor",trust_domain="prod.test",anchor="0a1b"} 3"#,
            r#"portcullis_crl_next_update_timestamp_seconds{trust_domain="prod.test",issuer="CN=a \"b\" \\ c\nd"} 1"#,
            r#"portcullis_anchor_peers{trust_domain="prod.test",anchor="0a1b",window="24h"} 7"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing from:\n{text}");
        }
        assert_eq!(text.matches("# TYPE portcullis_certificate_not_after_timestamp_seconds gauge").count(), 1);
    }
}
