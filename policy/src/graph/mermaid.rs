//! The picture in the language of Mermaid, which GitHub draws.

use std::fmt::Write as _;

use super::words::cut;
use super::{Edge, Graph};
use crate::rules::Mode;

impl Graph {
    /// A Mermaid flowchart.
    #[must_use]
    pub fn mermaid(&self) -> String {
        let mut text = String::from("flowchart LR\n");
        for remark in self.remarks() {
            let _ = writeln!(text, "  %% {}", cut(&remark, WIDTH).replace(['{', '}'], " "));
        }
        for (number, node) in self.nodes.iter().enumerate() {
            let _ = writeln!(text, "  n{number}[\"{}\"]", escaped(&cut(&node.short, WIDTH)));
        }
        for edge in &self.edges {
            let arrow = match edge.mode {
                Mode::Enforce => "-->",
                Mode::Audit | Mode::Mark => "-.->",
            };
            let _ = writeln!(text, "  n{} {arrow}|\"{}\"| n{}", edge.from, label(edge), edge.to);
        }
        text
    }
}

fn label(edge: &Edge) -> String {
    edge.lines().iter().map(|line| escaped(&cut(line, WIDTH))).collect::<Vec<_>>().join("<br/>")
}

/// Everything but plain characters by number: quotes, brackets and marks mean something to Mermaid.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_alphanumeric() || matches!(c, ' ' | '/' | '.' | ',' | ':' | '-' | '…') {
            out.push(c);
        } else {
            let _ = write!(out, "#{};", u32::from(c));
        }
    }
    out
}

const WIDTH: usize = 60;
