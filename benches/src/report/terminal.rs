//! The table that a terminal shows.
//!
//! Invariant: no line is wider than `WIDTH`, and nothing in it makes a terminal do anything but show it.

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};

use crate::outcome::Outcome;
use crate::report::facts::{Cells, Facts, facts};
use crate::report::text;
use crate::report::verdict::{Weight, sentences};

/// What fits on about every terminal and into an issue.
const WIDTH: u16 = 100;

/// One rule below the head, and blanks for the rest.
const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// Longer cells are nobody's reading; the JSON has them whole.
const LONGEST: usize = 300;

/// What a run found, for people. Ends with a line break.
pub fn table(outcome: &Outcome) -> String {
    let mut written = String::new();
    let from = format!("portcullis-bench {}, started {}", outcome.version, outcome.started);
    add(&mut written, &paragraph(&[vec![format!("{} {}", outcome.command, outcome.target)], vec![from]]));
    for facts in facts(outcome) {
        written.push('\n');
        add(&mut written, &lines(&facts));
    }
    if !outcome.examples.is_empty() {
        written.push('\n');
        let examples = outcome.examples.iter().map(|example| vec!["for example".to_owned(), example.clone()]);
        add(&mut written, &paragraph(&examples.collect::<Vec<_>>()));
    }
    let sentences = sentences(outcome);
    if !sentences.is_empty() {
        written.push('\n');
        let marked = sentences.into_iter().map(|sentence| match sentence.weight {
            Weight::Warning => vec!["WARNING".to_owned(), sentence.text],
            Weight::Note => vec!["note".to_owned(), sentence.text],
        });
        add(&mut written, &paragraph(&marked.collect::<Vec<_>>()));
    }
    written
}

fn add(written: &mut String, table: &Table) {
    for line in table.lines() {
        written.push_str(line.trim_end());
        written.push('\n');
    }
}

/// Lines without a frame.
fn paragraph(lines: &[Vec<String>]) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE).set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    for line in lines {
        table.add_row(line.iter().map(|words| cell(words)));
    }
    table
}

fn lines(facts: &Facts) -> Table {
    let mut table = paragraph(&facts.lines);
    if facts.columns.is_empty() {
        return table;
    }
    table.set_header(facts.columns.iter().map(|words| cell(words)));
    if facts.cells == Cells::Figures {
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn cell(words: &str) -> String {
    text::shorten(&text::harmless(words), LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{assert_no_false_numbers, empty, hostile, realistic};

    #[test]
    fn a_run_reads_well() {
        assert_eq!(table(&realistic()), include_str!("tests/table.txt"));
    }

    #[test]
    fn no_run_leaves_the_width_or_moves_the_cursor() {
        for outcome in [realistic(), empty(), hostile()] {
            let table = table(&outcome);
            for line in table.lines() {
                assert!(line.chars().count() <= 100, "{} in {line}", line.chars().count());
            }
            assert!(table.ends_with('\n'));
            assert!(!table.chars().any(|c| c.is_control() && c != '\n'), "{table:?}");
            assert_no_false_numbers(&table);
        }
    }
}
