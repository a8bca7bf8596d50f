//! The picture in the language of Graphviz.

use std::fmt::Write as _;

use super::Graph;
use super::words::cut;
use crate::rules::Mode;

impl Graph {
    /// A Graphviz digraph.
    #[must_use]
    pub fn dot(&self) -> String {
        let mut text = String::from("digraph policy {\n  rankdir=LR;\n  node [shape=box, fontname=monospace];\n");
        text.push_str("  edge [fontname=monospace, fontsize=10];\n");
        let remarks: Vec<String> = self.remarks().iter().map(|remark| escaped(remark) + "\\l").collect();
        let _ = writeln!(text, "  label=\"{}\"; labeljust=l; fontname=monospace;", remarks.concat());
        for (number, node) in self.nodes.iter().enumerate() {
            let (short, name) = (escaped(&cut(&node.short, WIDTH)), escaped(&cut(&node.name, TOOLTIP)));
            let _ = writeln!(text, "  n{number} [label=\"{short}\", tooltip=\"{name}\"];");
        }
        for edge in &self.edges {
            let label: String = edge.lines().iter().map(|line| escaped(&cut(line, WIDTH)) + "\\l").collect();
            let style = match edge.mode {
                Mode::Enforce => "solid",
                Mode::Audit | Mode::Mark => "dashed",
            };
            let _ = writeln!(text, "  n{} -> n{} [label=\"{label}\", style={style}];", edge.from, edge.to);
        }
        text.push_str("}\n");
        text
    }
}

/// A quoted string: a backslash would begin an escape of Graphviz.
fn escaped(text: &str) -> String {
    cut(text, TOOLTIP).replace('\\', "\\\\").replace('"', "\\\"")
}

const WIDTH: usize = 60;
const TOOLTIP: usize = 2048;
