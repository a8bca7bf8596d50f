//! What the reader sees: steps, what was expected and what was seen, and the count of promises kept and broken.
//!
//! Standard output may be closed early; the demo goes on then, because its exit code still says something.

use std::io::Write;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::place::Place;

/// Whether the narration has colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// For a terminal.
    Coloured,
    /// For a file or a pipe.
    Plain,
}

/// How the time passes while something runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A bar on standard error, for a terminal.
    Bar,
    /// One line at its beginning.
    Line,
}

/// What came of a promise.
#[derive(Debug)]
pub(super) struct Seen {
    /// Whether it was kept.
    pub as_promised: bool,
    /// What was there, kept or not.
    pub text: String,
}

/// Writes the narration and counts.
pub(super) struct Narrator<'a> {
    out: &'a mut dyn Write,
    style: Style,
    progress: Progress,
    steps: usize,
    kept: usize,
    broken: usize,
}

impl<'a> Narrator<'a> {
    pub(super) fn new(out: &'a mut dyn Write, style: Style, progress: Progress) -> Self {
        Self { out, style, progress, steps: 0, kept: 0, broken: 0 }
    }

    pub(super) fn title(&mut self, text: &str, place: &Place) {
        let text = self.painted(BOLD, text);
        let dir = place.dir().display();
        let fate = if place.is_kept() { "kept" } else { "removed at the end; --keep DIR leaves everything" };
        self.write(&format!("{text}\nFiles are in {dir} ({fate})\n"));
    }

    /// Begins a step: its name, and what will be done and should be seen.
    pub(super) fn step(&mut self, title: &str, plan: &str) {
        self.steps += 1;
        let title = self.painted(BOLD, &format!("{}. {title}", self.steps));
        let plan = plan.lines().map(|line| self.painted(DIM, &format!("   {line}"))).collect::<Vec<_>>().join("\n");
        self.write(&format!("\n{title}\n{plan}\n"));
    }

    /// One promise, and what was seen of it.
    pub(super) fn promise(&mut self, promise: &str, seen: Seen) {
        let mark = if seen.as_promised {
            self.kept += 1;
            self.painted(GREEN, "✓")
        } else {
            self.broken += 1;
            self.painted(RED, "✗")
        };
        let text = if seen.as_promised { seen.text } else { format!("not as promised: {}", seen.text) };
        // Bytes of a peer may be among it.
        let text: String = text.trim_end().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let text = if text.is_empty() { text } else { format!("\n     {text}") };
        self.write(&format!("   {mark} {promise}{text}\n"));
    }

    /// How many promises were not kept.
    pub(super) fn broken(&self) -> usize {
        self.broken
    }

    /// A bar that runs to `length`; without a terminal one line says how long it will take.
    pub(super) fn bar(&mut self, what: &str, length: Duration) -> ProgressBar {
        if self.progress == Progress::Line {
            self.write(&format!("   … {what}, {} s\n", length.as_secs()));
            return ProgressBar::hidden();
        }
        // The template is a constant; should it be wrong, the bar looks plain.
        let style = ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
        ProgressBar::new(millis(length)).with_style(style).with_prefix(what.to_owned())
    }

    /// The end of it all.
    pub(super) fn summary(&mut self, took: Duration) {
        let all = self.kept + self.broken;
        let (colour, end) = match self.broken {
            0 => (GREEN, format!("All {all} promises kept")),
            broken => (RED, format!("{broken} of {all} promises BROKEN")),
        };
        let end = self.painted(colour, &end);
        self.write(&format!("\n{end}, in {} steps and {:.1} s\n", self.steps, took.as_secs_f64()));
    }

    /// Text as it is.
    pub(super) fn lines(&mut self, text: &str) {
        self.write(&format!("\n{text}"));
    }

    fn painted(&self, colour: &str, text: &str) -> String {
        match self.style {
            Style::Plain => text.to_owned(),
            Style::Coloured => format!("{colour}{text}{RESET}"),
        }
    }

    fn write(&mut self, text: &str) {
        let _ = self.out.write_all(text.as_bytes());
        let _ = self.out.flush();
    }
}

/// For the length and position of a bar.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[1;31m";
const RESET: &str = "\x1b[0m";
const BAR: &str = "   {prefix} [{bar:30}] {msg}";

#[cfg(test)]
mod tests {
    use super::*;

    fn told(style: Style, tell: impl FnOnce(&mut Narrator<'_>)) -> String {
        let mut out = Vec::new();
        tell(&mut Narrator::new(&mut out, style, Progress::Line));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn promises_are_marked_and_counted() {
        let text = told(Style::Plain, |narrator| {
            narrator.step("Calls", "One works.\nOne does not.");
            narrator.promise("it works", Seen { as_promised: true, text: "200".to_owned() });
            narrator.promise("it is refused", Seen { as_promised: false, text: "200\x1b[2J".to_owned() });
            assert_eq!(narrator.broken(), 1);
            narrator.summary(Duration::from_millis(1240));
        });
        let expected = "\n1. Calls\n   One works.\n   One does not.\n   ✓ it works\n     200\n   ✗ it is refused\n     \
                        not as promised: 200 [2J\n\n1 of 2 promises BROKEN, in 1 steps and 1.2 s\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn only_a_terminal_gets_colours() {
        let promise = |narrator: &mut Narrator<'_>| {
            narrator.promise("it works", Seen { as_promised: true, text: String::new() });
        };
        assert_eq!(told(Style::Plain, promise), "   ✓ it works\n");
        assert_eq!(told(Style::Coloured, promise), "   \x1b[32m✓\x1b[0m it works\n");
    }

    #[test]
    fn without_a_terminal_a_bar_is_a_line() {
        let text = told(Style::Plain, |narrator| {
            assert!(narrator.bar("rotating", Duration::from_secs(6)).is_hidden());
        });
        assert_eq!(text, "   … rotating, 6 s\n");
    }
}
