//! How text stands out on a terminal, and how what others wrote is shown there: without a control sequence of theirs.

use std::fmt;
use std::io::IsTerminal;

/// When to use colours: the value of `--color`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Colour {
    Auto,
    Always,
    Never,
}

impl Colour {
    pub(super) fn paint(self, found: Paint) -> Paint {
        match self {
            Self::Auto => found,
            Self::Always => Paint::Colours,
            Self::Never => Paint::Plain,
        }
    }
}

/// How text is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// As it is.
    Plain,
    /// With the control sequences of a terminal.
    Colours,
}

impl Paint {
    /// What suits an output.
    pub fn of(output: &impl IsTerminal) -> Self {
        if output.is_terminal() { Self::Colours } else { Self::Plain }
    }

    /// The text with the sequences of a terminal around it, where they are wanted.
    pub(super) fn ink(self, ink: Ink, text: &str) -> String {
        let code = match ink {
            Ink::Bold => "1",
            Ink::Dim => "2",
            Ink::Red => "1;31",
            Ink::Yellow => "1;33",
            Ink::Green => "1;32",
            Ink::Cyan => "1;36",
        };
        match self {
            Self::Plain => text.to_owned(),
            Self::Colours => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        }
    }
}

/// How a piece of text stands out.
#[derive(Clone, Copy)]
pub(super) enum Ink {
    Bold,
    Dim,
    Red,
    Yellow,
    Green,
    Cyan,
}

/// A number and what is counted.
pub(super) struct Count(pub(super) usize, pub(super) &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(number, noun) = self;
        write!(f, "{number} {noun}{}", if *number == 1 { "" } else { "s" })
    }
}
