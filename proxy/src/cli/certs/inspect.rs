//! `portcullis certs inspect`: describe, judge, print in one of three forms.

use std::io::Write;

use clap::{Args, ValueEnum};
use portcullis_certs_watcher::Timestamp;
use portcullis_certs_watcher::findings::{self, Finding, Rule, Severity};
use portcullis_certs_watcher::inspect::{Inspection, Target, read};
use rustls_pki_types::UnixTime;

use super::page::Page;
use super::{Common, Error, parse_target, tree};
use crate::cli::paint::Paint;
use crate::cli::sarif;

/// Options of `certs inspect`.
#[derive(Debug, Args)]
pub struct Inspect {
    /// What to look at; TRUST_DOMAIN=PATH for a bundle, so that bundles can be compared.
    #[arg(value_name = "PATH", required = true, value_parser = parse_target)]
    targets: Vec<Target>,
    /// How to print it; `sarif` holds the findings alone, for code scanning.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// The same as --format json.
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// End with 1 on a warning too, for pipelines.
    #[arg(long)]
    deny_warnings: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
    Sarif,
}

pub(super) fn run(inspect: &Inspect, paint: Paint, out: &mut dyn Write) -> Result<(), Error> {
    let now = inspect.common.now();
    let describe = |target| Inspection::of(target, read(target), now);
    let inspections: Vec<_> = inspect.targets.iter().map(describe).collect();
    let findings = findings::list(&inspections, now);
    match if inspect.json { Format::Json } else { inspect.format } {
        Format::Text => {
            let page = text(&inspections, &findings, now, inspect.common.paint(paint));
            out.write_all(page.as_bytes())?;
        }
        Format::Json => print_json(&json(&inspections, &findings, now), out)?,
        Format::Sarif => print_json(&as_sarif(&findings), out)?,
    }
    out.flush()?;
    verdict(&findings, inspect.deny_warnings)
}

fn verdict(findings: &[Finding], deny_warnings: bool) -> Result<(), Error> {
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    match (count(Severity::Error), count(Severity::Warning)) {
        (0, warnings) if warnings > 0 && deny_warnings => Err(Error::Warned { warnings }),
        (0, _) => Ok(()),
        (errors, _) => Err(Error::Refused { errors }),
    }
}

fn text(inspections: &[Inspection], findings: &[Finding], now: UnixTime, paint: Paint) -> String {
    let mut page = Page::new(now, paint);
    for inspection in inspections {
        tree::inspection(&mut page, inspection);
        page.blank();
    }
    page.findings(findings);
    page.text()
}

fn json(inspections: &[Inspection], findings: &[Finding], now: UnixTime) -> serde_json::Value {
    serde_json::json!({ "at": Timestamp(now), "paths": inspections, "findings": findings })
}

fn as_sarif(findings: &[Finding]) -> serde_json::Value {
    let rules =
        Rule::ALL.map(|rule| sarif::Rule { code: rule.code, name: rule.name, title: rule.title, remedy: rule.remedy });
    let entries = findings.iter().map(|finding| sarif::Entry {
        code: finding.rule.code,
        level: finding.severity.word(),
        message: format!("{}; {}", finding.message, finding.remedy),
        path: finding.path.clone(),
        line: finding.line,
        column: None,
    });
    sarif::log(&rules, &entries.collect::<Vec<_>>())
}

pub(super) fn print_json(value: &serde_json::Value, out: &mut dyn Write) -> Result<(), Error> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)?;
    Ok(())
}
