//! What is wrong with what was inspected, each finding with a code that stays, the certificate it is about, and a remedy.
//!
//! An error is what makes the sidecar refuse, found by the functions that the sidecar itself calls; nothing is judged a
//! second time here. A warning is drift: it works today, and somebody should look. A note is worth knowing.

use rustls_pki_types::UnixTime;
use serde::{Serialize, Serializer};

mod across;
mod bundle;
mod chain;
mod lists;
mod rules;

pub use rules::Rule;

use crate::certificate::one_line;
use crate::explain::explain;
use crate::inspect::{CertificateFacts, FileFacts, Inspection, Purpose};

/// One finding.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// What kind of finding it is.
    #[serde(rename = "code", serialize_with = "as_code")]
    pub rule: &'static Rule,
    /// How bad it is.
    pub severity: Severity,
    /// The file or directory.
    pub path: String,
    /// The line where the certificate or list begins, where that is known.
    pub line: Option<usize>,
    /// The certificate, by subject and serial number.
    pub certificate: Option<String>,
    /// What is wrong, in one line.
    pub message: String,
    /// What to do about it.
    pub remedy: &'static str,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// The sidecar would refuse it.
    Error,
    /// It works today, and should be changed.
    Warning,
    /// Worth knowing.
    Note,
}

impl Severity {
    /// The word for it, which is also the level of SARIF.
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// Every finding about these paths at `now`, the errors first, else in the order of the paths.
pub fn list(inspections: &[Inspection], now: UnixTime) -> Vec<Finding> {
    let mut found = Found { findings: Vec::new(), now };
    for inspection in inspections {
        found.of_inspection(inspection);
    }
    across::judge(&mut found, inspections);
    found.findings.sort_by_key(|finding| finding.severity);
    found.findings
}

struct Found {
    findings: Vec<Finding>,
    now: UnixTime,
}

/// What a finding is about.
#[derive(Clone, Copy)]
struct At<'a> {
    path: &'a str,
    line: Option<usize>,
    certificate: Option<&'a CertificateFacts>,
}

impl<'a> At<'a> {
    fn path(path: &'a str) -> Self {
        Self { path, line: None, certificate: None }
    }

    fn line(path: &'a str, line: Option<usize>) -> Self {
        Self { path, line, certificate: None }
    }

    fn certificate(file: &'a FileFacts, certificate: &'a CertificateFacts) -> Self {
        Self { path: &file.path, line: certificate.line, certificate: Some(certificate) }
    }
}

impl Found {
    fn error(&mut self, rule: &'static Rule, at: At<'_>, message: impl AsRef<str>) {
        self.add(Severity::Error, rule, at, message.as_ref());
    }

    fn warning(&mut self, rule: &'static Rule, at: At<'_>, message: impl AsRef<str>) {
        self.add(Severity::Warning, rule, at, message.as_ref());
    }

    fn note(&mut self, rule: &'static Rule, at: At<'_>, message: impl AsRef<str>) {
        self.add(Severity::Note, rule, at, message.as_ref());
    }

    fn add(&mut self, severity: Severity, rule: &'static Rule, at: At<'_>, message: &str) {
        self.findings.push(Finding {
            rule,
            severity,
            path: at.path.to_owned(),
            line: at.line,
            certificate: at.certificate.map(|certificate| certificate.facts.name.to_string()),
            message: one_line(message),
            remedy: rule.remedy,
        });
    }

    fn of_inspection(&mut self, inspection: &Inspection) {
        if let Some(reason) = &inspection.unread {
            self.error(&rules::UNREADABLE, At::path(&inspection.path), reason.clone());
            return;
        }
        for (index, file) in inspection.files.iter().enumerate() {
            if let Some(fault) = &file.fault {
                let at = At::line(&file.path, fault.line());
                // Nothing depends on the `ca.crt` of a Secret.
                let is_aside = inspection.purpose == Purpose::Secret && index > 0;
                let severity = if is_aside { Severity::Warning } else { Severity::Error };
                self.add(severity, &rules::UNREADABLE, at, &explain(fault));
            }
            lists::judge(self, file);
        }
        match inspection.purpose {
            Purpose::Secret => {
                if let Some((identity, rest)) = inspection.files.split_first() {
                    chain::judge(self, identity, rest.first());
                }
            }
            Purpose::Chain => {
                for file in inspection.files.iter().filter(|file| !file.chain.is_empty()) {
                    chain::judge(self, file, None);
                }
            }
            Purpose::Bundle => bundle::judge(self, inspection),
            Purpose::RevocationLists | Purpose::Key | Purpose::Unknown => {}
        }
    }
}

fn as_code<S: Serializer>(rule: &Rule, serializer: S) -> Result<S::Ok, S::Error> {
    rule.code.serialize(serializer)
}

#[cfg(test)]
mod tests;
