//! Reads an access log as suggestions need it: which lines count as traffic that a policy should allow, and how many do
//! not, and why.
//!
//! Most of a line is what a caller chose. A line is bounded, and one that is not understood is counted, not believed.

use std::collections::BTreeMap;
use std::io::{self, BufRead};
use std::num::NonZeroU16;

use portcullis_policy::IdentityPattern;
use portcullis_policy::suggest::{Asked, Collector, LeftOut, Observed};
use serde::Deserialize;
use spiffe::SpiffeId;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::format::clean;
use crate::cli::paint::Count;

/// Which lines count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Include {
    /// What was allowed.
    Allowed,
    /// And what was denied because nothing allows it.
    DeniedByDefault,
}

/// What became of the lines.
#[derive(Debug)]
pub struct Tally<'a> {
    include: Include,
    workloads: &'a [SpiffeId],
    lines: usize,
    taken: u64,
    skipped: BTreeMap<Skipped, Skips>,
}

/// How many lines were skipped for one reason, and where the first of them is.
#[derive(Debug)]
struct Skips {
    count: u64,
    first: Option<String>,
}

/// Why a line does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
enum Skipped {
    #[error("that are no lines of this access log")]
    Malformed,
    #[error("longer than {} KiB", LONGEST_LINE >> 10)]
    TooLong,
    #[error("about outbound calls")]
    Outbound,
    #[error("of other workloads")]
    OtherWorkload,
    #[error("that were refused before any rule was asked")]
    NotDecided,
    #[error("answered with 400")]
    BadRequest,
    #[error("denied by a rule")]
    DeniedByRule,
    #[error("denied because no rule allows them; `--include denied` takes them in")]
    DeniedByDefault,
    #[error("{0}")]
    LeftOut(#[from] LeftOut),
    #[error("about opaque TCP to ports that carry HTTP too, where a rule for them would allow every request")]
    OpaqueOnHttp,
}

/// A line as `telemetry/access_log.rs` writes it, as far as it is needed.
#[derive(Debug, Deserialize)]
struct Line {
    time: String,
    direction: String,
    protocol: String,
    caller: Option<String>,
    workload: Option<String>,
    port: NonZeroU16,
    method: Option<String>,
    path: Option<String>,
    status: Option<u16>,
    decision: Option<String>,
    rule: Option<String>,
    reason: Option<String>,
}

impl<'a> Tally<'a> {
    /// Of nothing. Without `workloads` all of them count.
    pub fn new(include: Include, workloads: &'a [SpiffeId]) -> Self {
        Self { include, workloads, lines: 0, taken: 0, skipped: BTreeMap::new() }
    }

    /// Gives every line that counts to `collector`.
    ///
    /// # Errors
    /// When the log cannot be read on. What its lines say is never an error.
    pub fn read(&mut self, name: &str, mut log: impl BufRead, collector: &mut Collector) -> io::Result<()> {
        let mut line = Vec::new();
        let mut number = 0_u64;
        loop {
            let outcome = match read_line(&mut log, &mut line)? {
                Taken::End => return Ok(()),
                Taken::TooLong => Err(Skipped::TooLong),
                Taken::Line if line.trim_ascii().is_empty() => {
                    number += 1;
                    continue;
                }
                Taken::Line => self.take(&line, collector),
            };
            number += 1;
            self.lines += 1;
            match outcome {
                Ok(()) => self.taken += 1,
                Err(why) => {
                    let skips = self.skipped.entry(why).or_insert_with(|| {
                        // Of lines that are wrong people want to see one; others are many, and right.
                        let is_wrong = matches!(why, Skipped::Malformed | Skipped::TooLong);
                        Skips { count: 0, first: is_wrong.then(|| format!("{}:{number}", clean(name))) }
                    });
                    skips.count += 1;
                }
            }
        }
    }

    /// Takes note that connections are not covered after all.
    pub(super) fn leave_opaque_out(&mut self, connections: u64) {
        if connections > 0 {
            self.taken = self.taken.saturating_sub(connections);
            self.skipped.insert(Skipped::OpaqueOnHttp, Skips { count: connections, first: None });
        }
    }

    /// How many lines count.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// How many lines there were, and how many were left out for which reason: a sentence each.
    pub fn summary(&self) -> Vec<String> {
        let mut all = vec![format!("{} read, of which {} covered.", Count(self.lines, "line"), self.taken)];
        all.extend(self.skipped.iter().map(|(why, Skips { count, first })| {
            let first = first.as_ref().map(|first| format!(", the first at {first}")).unwrap_or_default();
            format!("Left out: {count} {why}{first}.")
        }));
        all
    }

    fn take(&self, line: &[u8], collector: &mut Collector) -> Result<(), Skipped> {
        let line: Line = serde_json::from_slice(line).map_err(|_| Skipped::Malformed)?;
        match line.direction.as_str() {
            "inbound" => {}
            "outbound" => return Err(Skipped::Outbound),
            _ => return Err(Skipped::Malformed),
        }
        let is_default = matches!(line.reason.as_deref(), Some("no_policy" | "no_rule"));
        match (line.decision.as_deref(), &line.rule) {
            (Some("allow"), _) => {}
            (Some("deny"), Some(_)) => return Err(Skipped::DeniedByRule),
            (Some("deny"), None) if is_default => match self.include {
                Include::Allowed => return Err(Skipped::DeniedByDefault),
                Include::DeniedByDefault => {}
            },
            (Some("deny") | None, _) => return Err(Skipped::NotDecided),
            (Some(_), _) => return Err(Skipped::Malformed),
        }
        if line.status == Some(400) {
            return Err(Skipped::BadRequest);
        }
        let (caller, workload) = (identity(line.caller.as_deref())?, identity(line.workload.as_deref())?);
        if !self.workloads.is_empty() && !self.workloads.contains(&workload) {
            return Err(Skipped::OtherWorkload);
        }
        let asked = match (line.protocol.as_str(), &line.method, &line.path) {
            ("tcp", None, None) => Asked::Connection,
            (protocol @ ("http/1.1" | "h2" | "grpc"), Some(method), Some(path)) => {
                Asked::Request { method, path, grpc: protocol == "grpc" }
            }
            _ => return Err(Skipped::Malformed),
        };
        let at = OffsetDateTime::parse(&line.time, &Rfc3339).map_err(|_| Skipped::Malformed)?.unix_timestamp();
        let observed = Observed { caller: &caller, workload: &workload, port: line.port.get(), asked, at };
        Ok(collector.take(&observed)?)
    }
}

fn identity(text: Option<&str>) -> Result<SpiffeId, Skipped> {
    let Some(Ok(IdentityPattern::Exact(id))) = text.map(IdentityPattern::parse) else { return Err(Skipped::Malformed) };
    Ok(id)
}

/// What was read.
enum Taken {
    Line,
    TooLong,
    End,
}

/// Reads up to and with the next line feed. Of a line that is too long the rest is passed over.
fn read_line(log: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Taken> {
    line.clear();
    let mut length = 0_usize;
    loop {
        let available = match log.fill_buf() {
            Ok(available) => available,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let end = available.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(available.len(), |end| end + 1);
        length = length.saturating_add(taken);
        if length <= LONGEST_LINE {
            line.extend_from_slice(available.get(..taken).unwrap_or_default());
        }
        log.consume(taken);
        if taken == 0 && length == 0 {
            return Ok(Taken::End);
        }
        if taken == 0 || end.is_some() {
            return Ok(if length > LONGEST_LINE { Taken::TooLong } else { Taken::Line });
        }
    }
}

/// Four times what the sidecar takes for a target by default; its lines have little else of any length.
const LONGEST_LINE: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_policy::suggest::Options;

    fn line(fields: &str) -> String {
        format!(
            "{{\"time\":\"2026-11-24T10:00:00.5Z\",\"port\":80,\"caller\":\"spiffe://t/a\",\"workload\":\"spiffe://t/b\",{fields}}}"
        )
    }

    fn summary(include: Include, workloads: &[SpiffeId], log: &[u8]) -> Vec<String> {
        let (mut tally, mut collector) = (Tally::new(include, workloads), Collector::new(Options::default()));
        tally.read("a.log", log, &mut collector).unwrap();
        tally.summary()
    }

    #[test]
    fn every_line_counts_or_is_told_of() {
        let http = "\"direction\":\"inbound\",\"protocol\":\"h2\",\"method\":\"GET\",\"path\":\"/a\"";
        let rows: &[(String, Option<&str>)] = &[
            (format!("{http},\"decision\":\"allow\",\"status\":200"), None),
            (format!("{http},\"decision\":\"allow\""), None),
            ("\"direction\":\"inbound\",\"protocol\":\"tcp\",\"decision\":\"allow\"".to_owned(), None),
            (http.replace("inbound", "outbound"), Some("1 about outbound calls.")),
            (format!("{http},\"status\":400"), Some("1 that were refused before any rule was asked.")),
            (format!("{http},\"decision\":\"allow\",\"status\":400"), Some("1 answered with 400.")),
            (
                format!("{http},\"decision\":\"deny\",\"rule\":\"r\",\"reason\":\"denied_by_rule\""),
                Some("1 denied by a rule."),
            ),
            (
                format!("{http},\"decision\":\"deny\",\"reason\":\"no_rule\""),
                Some("1 denied because no rule allows them"),
            ),
            (
                format!("{http},\"decision\":\"deny\",\"reason\":\"no_policy\""),
                Some("1 denied because no rule allows them"),
            ),
            (format!("{http},\"decision\":\"deny\",\"reason\":\"path_in_doubt\""), Some("1 that were refused before")),
            (
                format!("{http},\"decision\":\"perhaps\""),
                Some("1 that are no lines of this access log, the first at a.log:1."),
            ),
            (http.replace("inbound", "sideways"), Some("1 that are no lines")),
            (format!("{http},\"decision\":\"allow\"").replace("h2", "h3"), Some("1 that are no lines")),
            (format!("{http},\"decision\":\"allow\"").replace("\"path\"", "\"p\""), Some("1 that are no lines")),
            (
                format!("{http},\"decision\":\"allow\"").replace("/a", "/a%2Fb"),
                Some("1 with paths that are answered with 400."),
            ),
            (
                format!("{http},\"decision\":\"allow\"").replace("/a", "/a;b"),
                Some("1 with paths that no pattern can name"),
            ),
            (
                format!("{http},\"decision\":\"allow\"").replace("/a", "/**"),
                Some("1 with paths that no pattern can name"),
            ),
            (
                format!("{http},\"decision\":\"allow\"").replace("/a", &"/a".repeat(65)),
                Some("1 with paths of more than 64 segments."),
            ),
            (
                format!("{http},\"decision\":\"allow\"").replace("GET", "get"),
                Some("1 with methods that no policy can name."),
            ),
        ];
        for (fields, expected) in rows {
            let text = line(fields);
            let told = summary(Include::Allowed, &[], text.as_bytes());
            let taken = usize::from(expected.is_none());
            assert_eq!(told[0], format!("1 line read, of which {taken} covered."), "{text}");
            assert!(
                expected.is_none_or(|words| told[1].starts_with(&format!("Left out: {words}"))),
                "{text}: {told:?}"
            );
        }
        let denied = line(&format!("{http},\"decision\":\"deny\",\"reason\":\"no_rule\""));
        assert_eq!(summary(Include::DeniedByDefault, &[], denied.as_bytes()).len(), 1);
        let others = [SpiffeId::new("spiffe://t/c").unwrap()];
        let allowed = line(&rows[0].0);
        assert_eq!(summary(Include::Allowed, &others, allowed.as_bytes())[1], "Left out: 1 of other workloads.");
        let nobody = line(&rows[0].0).replace("spiffe://t/a", "spiffe://t/*");
        assert!(summary(Include::Allowed, &[], nobody.as_bytes())[1].contains("no lines of this access log"));
    }

    #[test]
    fn long_broken_and_unfinished_lines_are_passed_over() {
        let good = line("\"direction\":\"inbound\",\"protocol\":\"tcp\",\"decision\":\"allow\"");
        let long = vec![b'x'; 3 * LONGEST_LINE];
        let log =
            [good.as_bytes(), b"\n\n", &long, b"\n\xff\xfe\n[]\n", good.as_bytes(), b"\n", &good.as_bytes()[..40]];
        let told = summary(Include::Allowed, &[], &log.concat());
        assert_eq!(
            told,
            [
                "6 lines read, of which 2 covered.",
                "Left out: 3 that are no lines of this access log, the first at a.log:4.",
                "Left out: 1 longer than 64 KiB, the first at a.log:3.",
            ]
        );
        let exact = [vec![b'x'; LONGEST_LINE - 1], vec![b'\n']].concat();
        assert!(summary(Include::Allowed, &[], &exact)[1].contains("no lines"), "at the limit it is read");
    }
}
