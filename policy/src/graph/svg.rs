//! The picture as SVG: callers on the left, workloads on the right, and what may be asked for between them.
//!
//! Each edge has rows of its own in the middle, in the order of workloads, so that no text lies on another. All text has
//! one width a character, by which every box is measured.

use std::fmt::Write as _;

use super::words::{cut, escaped};
use super::{Edge, Graph};
use crate::rules::Mode;

impl Edge {
    /// What stands on it: one line a rule, a few at most, and what narrows it.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.calls.iter().take(MOST_LINES).map(|call| call.what.clone()).collect();
        if self.calls.len() > MOST_LINES {
            lines.push(format!("and {} rules more", self.calls.len() - MOST_LINES));
        }
        if !self.narrowed.is_empty() {
            let few: Vec<&str> = self.narrowed.iter().take(2).map(String::as_str).collect();
            let more = self.narrowed.len().checked_sub(3).map(|more| format!(" and {} more", more + 1));
            lines.push(format!("may be denied by {}{}", few.join(", "), more.unwrap_or_default()));
        }
        lines
    }
}

/// A box with its text.
struct Drawn {
    node: usize,
    top: usize,
}

/// An edge with its rows.
struct Row<'a> {
    edge: &'a Edge,
    lines: Vec<String>,
    top: usize,
}

impl Row<'_> {
    fn height(&self) -> usize {
        (self.lines.len() * LINE).max(BOX)
    }

    fn middle(&self) -> usize {
        self.top + self.height() / 2
    }
}

impl Graph {
    /// An SVG picture that stands for itself.
    #[must_use]
    pub fn svg(&self) -> String {
        let remarks = self.remarks();
        let begin = MARGIN + LINE * (remarks.len() + 2);
        let rows = self.rows(begin);
        let end = rows.last().map_or(begin, |row| row.top + row.height());
        let workloads = place(self, &rows, begin, |edge| edge.to);
        let callers = place(self, &rows, begin, |edge| edge.from);
        let lowest = callers.iter().chain(&workloads).map(|one| one.top + BOX).max().unwrap_or(end).max(end);
        let width_of = |all: &[Drawn]| all.iter().map(|one| width(&self.shown(one.node))).max().unwrap_or(0);
        let label = rows.iter().flat_map(|row| &row.lines).map(|line| width(line)).max().unwrap_or(0);
        let (left, middle, right) =
            (width_of(&callers) * GLYPH + 2 * PAD, label * GLYPH + 2 * PAD, width_of(&workloads) * GLYPH + 2 * PAD);
        let columns = Columns { left, middle, right };
        let longest = remarks.iter().map(|remark| width(remark) * GLYPH).max().unwrap_or(0);
        let (width, height) = ((columns.end() + MARGIN).max(longest + 2 * MARGIN), lowest + MARGIN);
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" font-family=\"ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace\" font-size=\"{FONT}\" role=\"img\">\n\
             <title>Who may call whom</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
        );
        for (index, remark) in remarks.iter().enumerate() {
            write_text(&mut text, (MARGIN, MARGIN + LINE * (index + 1)), "#57606a", remark);
        }
        let heading = begin - LINE / 2;
        for (x, title) in [(MARGIN, "callers"), (columns.middle(), "may"), (columns.right(), "workloads")] {
            write_text(&mut text, (x, heading), "#1f2328", title);
        }
        for row in &rows {
            self.draw_edge(&mut text, row, &columns, (&callers, &workloads));
        }
        for (all, x, width) in [(&callers, MARGIN, columns.left), (&workloads, columns.right(), columns.right)] {
            all.iter().for_each(|one| self.draw_node(&mut text, one, x, width));
        }
        text.push_str("</svg>\n");
        text
    }

    /// Workload by workload from the top.
    fn rows(&self, begin: usize) -> Vec<Row<'_>> {
        let mut edges: Vec<&Edge> = self.edges.iter().collect();
        edges.sort_by_key(|edge| (edge.to, edge.from, edge.mode == Mode::Audit));
        let (mut top, mut last) = (begin, None);
        let mut rows = Vec::new();
        for edge in edges {
            top += if last.is_some_and(|last| last != edge.to) { 2 * GAP } else { 0 };
            last = Some(edge.to);
            let lines = edge.lines().iter().map(|line| cut(line, WIDTH)).collect();
            let row = Row { edge, lines, top };
            top += row.height() + GAP;
            rows.push(row);
        }
        rows
    }

    fn shown(&self, node: usize) -> String {
        cut(self.node(node).1, WIDTH)
    }

    fn draw_node(&self, text: &mut String, drawn: &Drawn, x: usize, width: usize) {
        let (name, _) = self.node(drawn.node);
        let _ = writeln!(
            text,
            "<g class=\"node\" data-text=\"{0}\"><title>{0}</title><rect x=\"{x}\" y=\"{1}\" width=\"{width}\" height=\"{BOX}\" \
             rx=\"4\" fill=\"#f6f8fa\" stroke=\"#57606a\"/>",
            escaped(name),
            drawn.top
        );
        write_text(text, (x + PAD, drawn.top + BASELINE), "#1f2328", &self.shown(drawn.node));
        text.push_str("</g>\n");
    }

    fn draw_edge(
        &self,
        text: &mut String,
        row: &Row<'_>,
        columns: &Columns,
        (callers, workloads): (&[Drawn], &[Drawn]),
    ) {
        let top_of =
            |all: &[Drawn], node: usize| all.iter().find(|one| one.node == node).map_or(row.top, |one| one.top);
        let (from, to) = (top_of(callers, row.edge.from) + BOX / 2, top_of(workloads, row.edge.to) + BOX / 2);
        let dashes = match row.edge.mode {
            Mode::Enforce => "",
            Mode::Audit | Mode::Mark => " stroke-dasharray=\"6 4\"",
        };
        let words: Vec<String> =
            row.edge.calls.iter().map(|call| format!("{} {} {}", call.what, call.rule, call.origin)).collect();
        let ends = [self.node(row.edge.from).0, self.node(row.edge.to).0].join(" ");
        let _ = writeln!(
            text,
            "<g class=\"edge\" data-text=\"{}\"><title>{}</title>",
            escaped(&format!("{ends} {}", cut(&words.join(" "), MOST_SEARCHED))),
            escaped(&cut(&words.join("; "), MOST_SEARCHED))
        );
        let curve = |(x1, y1): (usize, usize), (x2, y2): (usize, usize)| {
            let half = usize::midpoint(x1, x2);
            format!(
                "<path d=\"M{x1} {y1} C{half} {y1} {half} {y2} {x2} {y2}\" fill=\"none\" stroke=\"#0969da\"{dashes}/>\n"
            )
        };
        text.push_str(&curve((MARGIN + columns.left, from), (columns.middle(), row.middle())));
        text.push_str(&curve((columns.middle() + columns.middle, row.middle()), (columns.right() - ARROW, to)));
        let tip = columns.right();
        let _ = writeln!(text, "<path d=\"M{tip} {to} l-{ARROW} -4 v8 z\" fill=\"#0969da\"/>");
        let _ = writeln!(
            text,
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"4\" fill=\"#ddf4ff\" stroke=\"none\"/>",
            columns.middle(),
            row.top,
            columns.middle,
            row.height()
        );
        for (index, line) in row.lines.iter().enumerate() {
            let colour = if line.starts_with("may be denied") { "#9a6700" } else { "#0550ae" };
            let padding = (row.height() - row.lines.len() * LINE) / 2;
            let y = row.top + padding + LINE * index + LINE - 5;
            write_text(text, (columns.middle() + PAD, y), colour, line);
        }
        text.push_str("</g>\n");
    }
}

/// The widths of the three columns.
struct Columns {
    left: usize,
    middle: usize,
    right: usize,
}

impl Columns {
    fn middle(&self) -> usize {
        MARGIN + self.left + BETWEEN
    }

    fn right(&self) -> usize {
        self.middle() + self.middle + BETWEEN
    }

    fn end(&self) -> usize {
        self.right() + self.right
    }
}

/// Boxes as near to the middle of their rows as the others leave room, from the top.
fn place(graph: &Graph, rows: &[Row<'_>], begin: usize, end: impl Fn(&Edge) -> usize) -> Vec<Drawn> {
    let mut sums = vec![(0, 0); graph.nodes.len()];
    for row in rows {
        if let Some((sum, count)) = sums.get_mut(end(row.edge)) {
            *sum += row.middle();
            *count += 1;
        }
    }
    let mut wished: Vec<(usize, usize)> = Vec::new();
    for (node, (sum, count)) in sums.into_iter().enumerate() {
        if let Some(middle) = usize::checked_div(sum, count) {
            wished.push((middle.saturating_sub(BOX / 2), node));
        }
    }
    wished.sort_unstable();
    let mut free = begin;
    let placed = wished.into_iter().map(|(top, node)| {
        let top = top.max(free);
        free = top + BOX + GAP;
        Drawn { node, top }
    });
    placed.collect()
}

/// How many characters wide it is at most: those of East Asian scripts take two.
fn width(text: &str) -> usize {
    text.chars().map(|c| if c < '\u{1100}' || c == '…' { 1 } else { 2 }).sum()
}

fn write_text(out: &mut String, (x, y): (usize, usize), colour: &str, text: &str) {
    let _ =
        writeln!(out, "<text x=\"{x}\" y=\"{y}\" fill=\"{colour}\" xml:space=\"preserve\">{}</text>", escaped(text));
}

const FONT: usize = 12;
/// Monospace fonts are about 0.6 of their size wide, and some a little more.
const GLYPH: usize = 8;
const LINE: usize = 18;
const BOX: usize = 26;
const BASELINE: usize = 17;
const GAP: usize = 8;
const PAD: usize = 8;
const MARGIN: usize = 16;
/// Room for curves.
const BETWEEN: usize = 90;
const ARROW: usize = 7;
const WIDTH: usize = 72;
const MOST_LINES: usize = 4;
const MOST_SEARCHED: usize = 1000;
