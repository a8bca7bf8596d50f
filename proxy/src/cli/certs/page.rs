//! Text for a terminal, put together line by line: headings, fields behind a margin, findings.

use portcullis_certs_watcher::findings::{Finding, Severity};
use rustls_pki_types::UnixTime;

use crate::cli::paint::{Count, Ink, Paint};

/// A page that grows.
pub(super) struct Page {
    text: String,
    paint: Paint,
    pub(super) now: UnixTime,
}

impl Page {
    pub(super) fn new(now: UnixTime, paint: Paint) -> Self {
        Self { text: String::new(), paint, now }
    }

    pub(super) fn text(self) -> String {
        self.text
    }

    /// The text with the sequences of a terminal around it, where they are wanted.
    pub(super) fn ink(&self, ink: Ink, text: &str) -> String {
        self.paint.ink(ink, text)
    }

    /// One line; blanks at its end are left out.
    pub(super) fn line(&mut self, text: &str) {
        self.text.push_str(text.trim_end());
        self.text.push('\n');
    }

    pub(super) fn blank(&mut self) {
        self.text.push('\n');
    }

    /// A name and its value behind a margin; the value may have several lines.
    pub(super) fn field(&mut self, margin: &str, name: &str, value: &str) {
        let margin = self.ink(Ink::Dim, margin);
        for (index, line) in value.lines().enumerate() {
            let name = if index == 0 { name } else { "" };
            self.line(&format!("{margin}{name:<WIDTH$} {line}"));
        }
    }

    /// Every finding with its remedy, and how many there are.
    pub(super) fn findings(&mut self, findings: &[Finding]) {
        if findings.is_empty() {
            let none = self.ink(Ink::Green, "no problems found");
            return self.line(&none);
        }
        let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
        let counted = [(Severity::Error, "error"), (Severity::Warning, "warning"), (Severity::Note, "note")];
        let counted: Vec<_> = counted
            .into_iter()
            .map(|(severity, noun)| Count(count(severity), noun))
            .filter(|count| count.0 > 0)
            .map(|count| count.to_string())
            .collect();
        let heading = self.ink(Ink::Bold, "problems found:");
        self.line(&format!("{heading} {}", counted.join(", ")));
        for finding in findings {
            self.finding(finding);
        }
    }

    fn finding(&mut self, finding: &Finding) {
        let line = finding.line.map(|line| format!(":{line}")).unwrap_or_default();
        let ink = match finding.severity {
            Severity::Error => Ink::Red,
            Severity::Warning => Ink::Yellow,
            Severity::Note => Ink::Cyan,
        };
        let word = self.ink(ink, &format!("{}[{}]", finding.severity.word(), finding.rule.code));
        self.line(&format!("{}{line}: {word}: {}", finding.path, finding.message));
        self.line(&format!("  = help: {}", finding.remedy));
    }
}

/// As wide as the longest name of a field.
const WIDTH: usize = 16;
