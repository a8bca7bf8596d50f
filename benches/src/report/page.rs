//! The page of a report: one HTML document that needs nothing else, not even a script.
//!
//! Invariant: every text of an outcome passes `text::escape`, and the page forbids itself to run or to load anything.

use crate::outcome::{Latency, Outcome};
use crate::report::facts::{self, Cells, Facts};
use crate::report::plots::dark_style;
use crate::report::verdict::{Sentence, Weight, failed, limited_by, sentences};
use crate::report::{Plot, figures, text};

const STYLE: &str = include_str!("page.css");

const DARK: &str = ":root{--ink:#e9ecf0;--muted:#a3acb8;--line:#2c3138;--back:#0e1013;--card:#16181c;\
                    --alarm:#ff6b6b;--alarm-back:#2a1718;--link:#5b9aed}";

/// Longer texts are cut; the JSON has them whole.
const LONGEST: usize = 400;

/// The whole document. The plots belong to the outcomes by their index, those without one to all of them.
pub fn page(outcomes: &[Outcome], plots: &[Plot]) -> String {
    let several = outcomes.len() > 1;
    let title = match outcomes {
        [only] => named(only),
        _ => format!("{} runs", outcomes.len()),
    };
    let mut body = format!("<h1>{}</h1>\n", safe(&title));
    if outcomes.is_empty() {
        body.push_str("<p class=\"muted\">Nothing was run.</p>\n");
    }
    if several {
        body.push_str(&overview(outcomes));
        body.push_str(&figures_of(plots, None));
    }
    for (index, outcome) in outcomes.iter().enumerate() {
        if several {
            let number = index + 1;
            body.push_str(&format!("<h2 id=\"run-{number}\">{number}. {}</h2>\n", safe(&named(outcome))));
        }
        body.push_str(&run(outcome, &figures_of(plots, Some(index))));
    }
    // A page on paper stays light. The colours of the plots are those of the file unless the screen is dark.
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{} – portcullis-bench</title>\n<style>\n{STYLE}@media screen and (prefers-color-scheme: dark) \
         {{{DARK}{}}}\n</style>\n</head>\n<body>\n{body}</body>\n</html>\n",
        safe(&title),
        dark_style(),
    )
}

fn named(outcome: &Outcome) -> String {
    format!("{} {}", outcome.command, outcome.target)
}

fn safe(words: &str) -> String {
    text::escape(&text::shorten(words, LONGEST))
}

/// Spaces at the start of a name show that it belongs to the line above.
fn cell(tag: &str, words: &str) -> String {
    format!("<{tag}>{}</{tag}>", safe(words))
}

fn run(outcome: &Outcome, plots: &str) -> String {
    let version = format!("portcullis-bench {}, started {}", outcome.version, outcome.started);
    let facts: String = facts::facts(outcome).iter().map(listed).collect();
    format!(
        "<p class=\"muted\">{}</p>\n{}{}{plots}{facts}{}",
        safe(&version),
        key_figures(outcome),
        said(&sentences(outcome)),
        examples(&outcome.examples),
    )
}

/// What most readers come for.
fn key_figures(outcome: &Outcome) -> String {
    let mut all = Vec::new();
    if outcome.rate > 0.0 {
        all.push((figures::number(outcome.rate), format!("{} per second", text::plural(&outcome.unit))));
    }
    if let Some(latency) = facts::measured(outcome) {
        all.push((figures::time(latency.p50_us), "latency, p50".to_owned()));
        all.push((figures::time(latency.p99_us), "latency, p99".to_owned()));
    }
    if let Some(cost) = outcome.costs.get("target").filter(|cost| cost.us_per_operation() > 0.0) {
        let per = format!("CPU of the target per {}", outcome.unit);
        all.push((figures::time(cost.us_per_operation()), per));
    }
    all.push((figures::count(failed(outcome)), "failures".to_owned()));
    let items = all.iter().map(|(value, name)| format!("<li><b>{}</b><span>{}</span></li>\n", safe(value), safe(name)));
    format!("<ul class=\"key\">\n{}</ul>\n", items.collect::<String>())
}

fn said(sentences: &[Sentence]) -> String {
    if sentences.is_empty() {
        return String::new();
    }
    let items = sentences.iter().map(|sentence| match sentence.weight {
        Weight::Warning => format!("<li class=\"warning\"><b>Warning.</b> {}</li>\n", with_code(&sentence.text)),
        Weight::Note => format!("<li>{}</li>\n", with_code(&sentence.text)),
    });
    format!("<ul class=\"said\">\n{}</ul>\n", items.collect::<String>())
}

/// Backticks become the typeface of code.
fn with_code(words: &str) -> String {
    let words = text::shorten(words, LONGEST);
    let parts = words.split('`').enumerate();
    parts
        .map(|(index, part)| match index % 2 {
            0 => text::escape(part),
            _ => format!("<code>{}</code>", text::escape(part)),
        })
        .collect()
}

fn examples(examples: &[String]) -> String {
    if examples.is_empty() {
        return String::new();
    }
    let items: String = examples.iter().map(|example| format!("<li><code>{}</code></li>\n", safe(example))).collect();
    format!("<p>Failures, for example:</p>\n<ul>\n{items}</ul>\n")
}

fn listed(facts: &Facts) -> String {
    let class = match facts.cells {
        Cells::Words => "words",
        Cells::Figures => "figures",
    };
    let head: String = facts.columns.iter().map(|column| cell("th", column)).collect();
    let head = if head.is_empty() { head } else { format!("<thead><tr>{head}</tr></thead>\n") };
    let lines = facts.lines.iter().map(|line| {
        let cells = line.iter().enumerate().map(|(index, words)| cell(if index == 0 { "th" } else { "td" }, words));
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    });
    let lines: String = lines.collect();
    format!("<div class=\"wide\"><table class=\"{class}\">\n{head}<tbody>\n{lines}</tbody></table></div>\n")
}

/// One line for each run.
fn overview(outcomes: &[Outcome]) -> String {
    let columns = ["run", "per second", "p50", "p99", "target CPU", "failures", "limited by"];
    let head: String = columns.iter().map(|column| cell("th", column)).collect();
    let lines = outcomes.iter().enumerate().map(|(index, outcome)| {
        let number = index + 1;
        let time = |of: fn(&Latency) -> f64| {
            facts::measured(outcome).map_or(figures::NONE.to_owned(), |latency| figures::time(of(latency)))
        };
        let cpu = outcome.costs.get("target").map_or(figures::NONE.to_owned(), |c| figures::time(c.us_per_operation()));
        let cells = [
            format!("{} {}", figures::number(outcome.rate), text::plural(&outcome.unit)),
            time(|latency| latency.p50_us),
            time(|latency| latency.p99_us),
            cpu,
            figures::count(failed(outcome)),
            limited_by(outcome.limited_by).to_owned(),
        ];
        let cells: String = cells.iter().map(|words| cell("td", words)).collect();
        format!(
            "<tr><th><a href=\"#run-{number}\">{number}. {}</a></th>{cells}</tr>\n",
            safe(&text::shorten(&named(outcome), 80))
        )
    });
    let lines: String = lines.collect();
    format!(
        "<div class=\"wide\"><table class=\"overview\">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{lines}</tbody></table></div>\n"
    )
}

fn figures_of(plots: &[Plot], outcome: Option<usize>) -> String {
    let own = plots.iter().filter(|plot| plot.outcome == outcome);
    own.map(|plot| format!("<figure>\n{}</figure>\n", plot.svg)).collect()
}
