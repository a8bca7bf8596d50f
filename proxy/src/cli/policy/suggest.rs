//! `portcullis policy suggest`: the least allow-list that covers what access logs show, as documents with comments.
//!
//! Reads the log and prints; what is suggested is judged by `portcullis-policy` (`suggest.rs` there).

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use portcullis_policy::Mode;
use portcullis_policy::suggest::{Collector, Options, Suggestion};
use portcullis_policy::write;
use spiffe::SpiffeId;

use super::traffic::{Include, Tally};
use super::{Error, parse_identity};

/// Options of `policy suggest`.
#[derive(Debug, Args)]
pub struct Suggest {
    /// Access log of a sidecar, one JSON object a line; `-` is standard input. May be repeated.
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    from: Vec<PathBuf>,
    /// Take in requests that were denied because no rule allows them, as they are before there is a policy. Review
    /// them: whoever can connect chooses what is denied.
    #[arg(long, value_enum)]
    include: Vec<Included>,
    /// Whether the policies decide; with `--include denied` they are suggested in audit mode unless this says otherwise.
    #[arg(long, value_enum)]
    mode: Option<SuggestedMode>,
    /// Suggest paths as they were seen, without patterns.
    #[arg(long, conflicts_with = "values")]
    exact: bool,
    /// How many numbers, UUIDs or tokens of one caller in one place of a path make the pattern `{id}`.
    #[arg(long, value_name = "NUMBER", default_value_t = 3, value_parser = clap::value_parser!(u16).range(2..=1000))]
    values: u16,
    /// Only for this workload; may be repeated.
    #[arg(long, value_name = "ID", value_parser = parse_identity)]
    workload: Vec<SpiffeId>,
    /// Write the tests to this new file instead of behind the policies.
    #[arg(long, value_name = "FILE")]
    tests: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Included {
    Denied,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SuggestedMode {
    Enforce,
    Audit,
}

pub(super) fn run(suggest: &Suggest, out: &mut dyn Write) -> Result<(), Error> {
    let include = if suggest.include.is_empty() { Include::Allowed } else { Include::DeniedByDefault };
    let mode = match (suggest.mode, include) {
        (Some(SuggestedMode::Enforce), _) | (None, Include::Allowed) => Mode::Enforce,
        (Some(SuggestedMode::Audit), _) | (None, Include::DeniedByDefault) => Mode::Audit,
    };
    if mode == Mode::Audit && suggest.tests.is_some() {
        return Err(Error::NoTestsInAudit);
    }
    let enough = (!suggest.exact).then_some(usize::from(suggest.values));
    let mut collector = Collector::new(Options { enough, mode });
    let mut tally = Tally::new(include, &suggest.workload);
    for path in &suggest.from {
        let unusable = |error: io::Error| Error::Input { path: path.clone(), reason: error.to_string() };
        let input: Box<dyn Read> = match path == Path::new("-") {
            true => Box::new(io::stdin()),
            false => Box::new(File::open(path).map_err(unusable)?),
        };
        tally.read(&path.display().to_string(), BufReader::new(input), &mut collector).map_err(unusable)?;
    }
    if collector.is_empty() {
        return Err(Error::NothingSeen { summary: tally.summary().join(" ") });
    }
    let mut suggestion = collector.finish()?;
    tally.leave_opaque_out(suggestion.opaque_on_http);
    if suggestion.policies.is_empty() {
        return Err(Error::NothingSeen { summary: tally.summary().join(" ") });
    }
    let head = head(suggest, mode, &tally);
    if let Some(first) = suggestion.policies.first_mut() {
        first.comment.splice(0..0, head);
    }
    print(suggestion, suggest.tests.as_deref(), out)
}

fn head(suggest: &Suggest, mode: Mode, tally: &Tally) -> Vec<String> {
    let mut lines = vec![
        "Written by `portcullis policy suggest`. It allows what was seen, which is not yet what should be.".to_owned(),
    ];
    lines.extend(tally.summary());
    if !suggest.exact {
        lines.push(
            "`{id}` is any one segment, words too. Values that it stands for are shown by their form: digits as 0, letters \
             as a."
                .to_owned(),
        );
    }
    if mode == Mode::Audit {
        lines.push(
            "In audit mode a policy allows nothing; what it would have decided is counted and logged.".to_owned(),
        );
    }
    lines.push(String::new());
    lines
}

/// Everything is made before anything is written.
fn print(suggestion: Suggestion, tests: Option<&Path>, out: &mut dyn Write) -> Result<(), Error> {
    let Suggestion { mut policies, tests: cases, .. } = suggestion;
    match tests {
        None => {
            policies.extend(cases);
            out.write_all(write::write(&policies)?.as_bytes())?;
        }
        Some(path) => {
            let (policies, cases) = (write::write(&policies)?, write::write(&cases)?);
            let written = OpenOptions::new().write(true).create_new(true).open(path);
            let written = written.and_then(|mut file| file.write_all(cases.as_bytes()));
            written.map_err(|error| Error::Input { path: path.to_owned(), reason: error.to_string() })?;
            out.write_all(policies.as_bytes())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        suggest: Suggest,
    }

    /// What is printed, or how it ends.
    fn suggest(folder: &Path, line: &str) -> Result<String, String> {
        let line = line.replace("DIR", &folder.display().to_string());
        let program = Program::try_parse_from(std::iter::once("suggest").chain(line.split_whitespace()));
        let program = program.map_err(|error| format!("usage: {error}"))?;
        let mut out = Vec::new();
        run(&program.suggest, &mut out).map_err(|error| format!("{}: {error}", error.exit_code()))?;
        Ok(String::from_utf8(out).unwrap())
    }

    fn line(caller: &str, path: &str, more: &str) -> String {
        let path = serde_json::to_string(path).unwrap();
        format!(
            "{{\"time\":\"2026-11-24T10:00:00.5Z\",\"direction\":\"inbound\",\"protocol\":\"h2\",\"caller\":\"spiffe://t/ns/x/sa/{caller}\",\
             \"workload\":\"spiffe://t/ns/y/sa/api\",\"port\":80,\"method\":\"GET\",\"path\":{path},\"status\":200,{more}}}\n"
        )
    }

    fn log() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let mut text: String =
            (0..3).map(|number| line("a", &format!("/m/{number}"), "\"decision\":\"allow\"")).collect();
        text.push_str(&line("b", "/denied", "\"decision\":\"deny\",\"reason\":\"no_rule\""));
        text.push_str("\u{1b}[31m\n");
        std::fs::write(folder.path().join("a.log"), text).unwrap();
        std::fs::write(folder.path().join("empty.log"), "\n").unwrap();
        folder
    }

    #[test]
    fn options_say_what_is_suggested() {
        let folder = log();
        for (line, has, has_not) in [
            ("--from DIR/a.log", "paths: [\"/m/{id}\"]", "mode: audit"),
            ("--from DIR/a.log", "# Left out: 1 that are no lines of this access log, the first at", "\u{1b}"),
            ("--from DIR/a.log", "kind: PolicyTest", "denied]"),
            ("--from DIR/a.log DIR/empty.log", "# 5 lines read, of which 3 covered.", "/m/0]"),
            ("--from DIR/a.log --from DIR/a.log", "# 10 lines read, of which 6 covered.", "/m/0]"),
            ("--from DIR/a.log --exact", "paths: [/m/0, /m/1, /m/2]", "{id}"),
            ("--from DIR/a.log --values 4", "paths: [/m/0, /m/1, /m/2]", "/{id}"),
            ("--from DIR/a.log --include denied", "mode: audit", "kind: PolicyTest"),
            ("--from DIR/a.log --include denied", "paths: [/denied]", "no rule allows them"),
            ("--from DIR/a.log --include denied --mode enforce", "kind: PolicyTest", "mode: audit"),
            ("--from DIR/a.log --workload spiffe://t/ns/y/sa/api", "/m/{id}", "other workloads"),
        ] {
            let text = suggest(folder.path(), line).unwrap();
            assert!(text.contains(has) && !text.contains(has_not), "{line}: {text}");
        }
    }

    #[test]
    fn tests_may_go_to_a_file_of_their_own_but_never_over_another() {
        let folder = log();
        let text = suggest(folder.path(), "--from DIR/a.log --tests DIR/tests.yaml").unwrap();
        let tests = std::fs::read_to_string(folder.path().join("tests.yaml")).unwrap();
        assert!(!text.contains("PolicyTest") && tests.contains("rule: x-a-reads"), "{text}{tests}");
        let again = suggest(folder.path(), "--from DIR/a.log --tests DIR/tests.yaml").unwrap_err();
        assert!(again.starts_with("1: ") && again.contains("exists"), "{again}");
    }

    #[test]
    fn without_traffic_or_with_a_wrong_command_line_nothing_is_printed() {
        let folder = log();
        for (line, expected) in [
            ("--from DIR/empty.log", "1: there is nothing to suggest from. 0 lines read, of which 0 covered."),
            ("--from DIR/a.log --workload spiffe://t/z", "1: there is nothing to suggest from. 5 lines read"),
            ("--from DIR/nowhere", "1: `"),
            ("", "usage: "),
            ("--from DIR/a.log --values 1", "usage: "),
            ("--from DIR/a.log --exact --values 3", "usage: "),
            ("--from DIR/a.log --include everything", "usage: "),
            ("--from DIR/a.log --workload api", "usage: "),
            ("--from DIR/a.log --mode audit --tests DIR/t.yaml", "64: tests of a policy in audit mode would fail"),
        ] {
            let error = suggest(folder.path(), line).unwrap_err();
            assert!(error.starts_with(expected), "{line}: {error}");
        }
    }
}
