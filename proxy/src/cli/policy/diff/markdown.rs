//! The changes as a comment for a pull request: GitHub's Markdown, bounded, and harmless whatever names policies give.

use portcullis_policy::Mode;
use portcullis_policy::diff::{Change, Diff};

use super::lines::{Line, Policies, Token};
use crate::cli::policy::format::clean;

/// The whole comment.
pub(super) fn page(diff: &Diff, policies: Policies<'_>) -> String {
    let mut text = String::from("### Who may call whom: what this changes\n\n");
    text.push_str(&format!("{}.\n", super::summary(diff)));
    if !diff.left_out.is_empty() {
        text.push_str("\n**This report is incomplete.** Not compared:\n\n");
        for one in diff.left_out.iter().take(MOST_ROWS_SHOWN) {
            text.push_str(&format!("- {}\n", code(one)));
        }
    }
    if diff.marks_changed {
        text.push_str(&format!("\n{}.\n", super::MARKS));
    }
    let sections: [(&str, Belongs); 3] = [
        ("Newly allowed", Change::is_newly_allowed),
        ("No longer allowed", Change::is_no_longer_allowed),
        ("In audit mode, which decides nothing", |change| change.mode == Mode::Audit),
    ];
    let present = sections.iter().filter(|(_, belongs)| diff.changes.iter().any(belongs)).count().max(1);
    for (title, belongs) in sections {
        let changes: Vec<&Change> = diff.changes.iter().filter(|change| belongs(change)).collect();
        if !changes.is_empty() {
            text.push_str(&section(title, &changes, policies, MOST_BYTES / present));
        }
    }
    text
}

/// Whether a change is told in a section.
type Belongs = fn(&Change) -> bool;

/// Documents that do not load, in place of the page.
pub(super) fn mistakes(side: &str, found: &str) -> String {
    let found: String = found.lines().map(|line| clean(line) + "\n").collect();
    let mut end = found.len().min(MOST_BYTES);
    while !found.is_char_boundary(end) {
        end -= 1;
    }
    let found = found.get(..end).unwrap_or_default();
    let fence = "`".repeat(longest_run(found).max(2) + 1);
    format!("### The policies of {} do not load\n\n{fence}text\n{found}\n{fence}\n", code(side))
}

fn section(title: &str, changes: &[&Change], policies: Policies<'_>, most: usize) -> String {
    let mut rows = String::from("| caller | workload | what | rule |\n| --- | --- | --- | --- |\n");
    let mut shown = 0;
    for change in changes {
        let Line { caller, workload, call, rules } = Line::of(change, policies);
        let row = format!("| {} | {} | {} | {} |\n", cell(&caller), cell(&workload), cell(&call), cell(&rules));
        if rows.len() + row.len() > most {
            break;
        }
        rows.push_str(&row);
        shown += 1;
    }
    if shown < changes.len() {
        rows.push_str(&format!("\nand {} more: run the command for all of them.\n", changes.len() - shown));
    }
    let count = changes.len();
    if count > MOST_ROWS_SHOWN {
        return format!("\n<details><summary><b>{title}</b> ({count})</summary>\n\n{rows}\n</details>\n");
    }
    format!("\n**{title}**\n\n{rows}")
}

fn cell(tokens: &[Token]) -> String {
    let shown = tokens.iter().map(|token| match token {
        Token::Word(word) => word.clone(),
        Token::Code(text) => code(text),
    });
    shown.collect()
}

/// A code span: nothing in it is markup, a mention or a link, whatever it holds.
fn code(text: &str) -> String {
    let text = clean(text);
    let fence = "`".repeat(longest_run(&text) + 1);
    let pad = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    // Tables are cut into cells before code is recognised.
    format!("{fence}{pad}{}{pad}{fence}", text.replace('|', "\\|"))
}

fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

/// More are folded away.
const MOST_ROWS_SHOWN: usize = 20;
/// GitHub takes 65,536 characters; a workflow may add some of its own.
const MOST_BYTES: usize = 60_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_spans_hold_whatever_is_in_them() {
        let rows = [
            ("/v1/plans/**", "`/v1/plans/**`"),
            ("a|b", "`a\\|b`"),
            ("a`b", "``a`b``"),
            ("`@everyone <b>", "`` `@everyone <b> ``"),
            ("a\nb", "`a\\nb`"),
        ];
        for (text, expected) in rows {
            assert_eq!(code(text), expected);
        }
    }

    #[test]
    fn mistakes_cannot_end_their_fence() {
        let text = mistakes("main:p`", "a\n````\n@b\u{1b}[1m\n");
        assert!(text.starts_with("### The policies of `` main:p` `` do not load\n\n`````text\na\n````\n"), "{text}");
        assert!(!text.contains('\u{1b}'));
    }
}
