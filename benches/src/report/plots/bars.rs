//! Bars that compare: the same measurement of several, group by group.

use super::axis::Axis;
use super::canvas::{Anchor, Area, Canvas, Face, MARGIN, Stroke, WIDTH};
use super::palette::{Paint, slots};
use crate::report::{figures, text};

/// Where the bars begin, so that labels fit before them, and where the longest ends, so that figures fit behind it.
const BARS: (f64, f64) = (150.0, 600.0);

const TOP: f64 = 72.0;
const HEADING: f64 = 30.0;
const LINE: f64 = 24.0;
const THICK: f64 = 16.0;
const BETWEEN: f64 = 12.0;

/// One bar.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// What was measured. Bars of equal groups stand together, in the order in which they come.
    pub group: String,
    /// Who was measured. Decides the colour.
    pub label: String,
    /// How long the bar is. What is no number has no bar and reads `not measured`.
    pub value: f64,
    /// Where its whisker begins.
    pub low: f64,
    /// Where its whisker ends. There is none where that is also its beginning.
    pub high: f64,
}

/// Which end of the bars is the good one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Costs and times.
    Lower,
    /// Rates.
    Higher,
}

/// Horizontal bars on one axis from zero, whose unit is given in words. The value stands beside each bar.
pub fn bars(title: &str, unit: &str, better: Better, bars: &[Bar]) -> String {
    let labels: Vec<&str> = bars.iter().map(|bar| bar.label.as_str()).collect();
    let painted: Vec<(&Bar, usize)> = bars.iter().zip(slots(&labels)).collect();
    let groups = group(&painted);

    let bottom =
        groups.iter().fold(TOP, |y, (name, bars)| bars.iter().fold(y + heading(name) + BETWEEN, |y, _| y + LINE));
    let note = match better {
        Better::Lower => format!("{unit}; lower is better"),
        Better::Higher => format!("{unit}; higher is better"),
    };
    let mut canvas = Canvas::new(title, &note, bottom + 28.0);

    let values = bars.iter().flat_map(|bar| [bar.value, bar.low, bar.high]).filter(|value| value.is_finite());
    let greatest = values.fold(0.0, f64::max);
    let axis = Axis::linear(if greatest > 0.0 { greatest } else { 1.0 }, BARS);
    for tick in axis.ticks() {
        canvas.text((axis.at(tick), bottom + 10.0), Face::Note, Anchor::Middle, &figures::tick(tick));
    }

    let mut y = TOP;
    for (name, bars) in groups {
        if heading(name) > 0.0 {
            let words = text::fit(name, Face::Heading.size(), WIDTH - 2.0 * MARGIN);
            canvas.text((MARGIN, y + 18.0), Face::Heading, Anchor::Start, &words);
        }
        y += heading(name);
        let end = bars.iter().fold(y, |y, _| y + LINE);
        for tick in axis.ticks() {
            let x = axis.at(tick);
            canvas.line((x, y), (x, end), Stroke::solid(Paint::Grid, 1.0));
        }
        canvas.line((BARS.0, y), (BARS.0, end), Stroke::solid(Paint::Muted, 1.0));
        for (bar, slot) in bars {
            draw(&mut canvas, axis, y, bar, Paint::Slot(slot));
            y += LINE;
        }
        y += BETWEEN;
    }
    canvas.finish()
}

fn group<'a>(bars: &[(&'a Bar, usize)]) -> Vec<(&'a str, Vec<(&'a Bar, usize)>)> {
    let mut groups: Vec<(&str, Vec<(&Bar, usize)>)> = Vec::new();
    for (bar, slot) in bars {
        match groups.iter_mut().find(|(name, _)| *name == bar.group) {
            Some((_, group)) => group.push((bar, *slot)),
            None => groups.push((&bar.group, vec![(bar, *slot)])),
        }
    }
    groups
}

/// The height of a group's name, which may be empty.
fn heading(name: &str) -> f64 {
    if name.is_empty() { 0.0 } else { HEADING }
}

fn draw(canvas: &mut Canvas, axis: Axis, top: f64, bar: &Bar, paint: Paint) {
    let (middle, base) = (top + LINE / 2.0, top + LINE / 2.0 + 4.5);
    let label = text::fit(&bar.label, Face::Label.size(), BARS.0 - MARGIN - 10.0);
    canvas.text((BARS.0 - 10.0, base), Face::Label, Anchor::End, &label);
    if !bar.value.is_finite() {
        canvas.text((BARS.0 + 8.0, base), Face::Note, Anchor::Start, "not measured");
        return;
    }
    let end = axis.at(bar.value);
    canvas.area(Area { x: BARS.0, y: middle - THICK / 2.0, width: end - BARS.0, height: THICK }, paint);

    let spread = Some((bar.low, bar.high)).filter(|(low, high)| low.is_finite() && high.is_finite() && low < high);
    let mut reach = end;
    let mut range = String::new();
    if let Some((low, high)) = spread {
        draw_whisker(canvas, (axis.at(low), axis.at(high)), middle);
        reach = reach.max(axis.at(high));
        range = format!("{} to {}", figures::number(low), figures::number(high));
    }
    let value = figures::number(bar.value);
    canvas.text((reach + 10.0, base), Face::Heading, Anchor::Start, &value);
    let behind = reach + 10.0 + text::width(&value, Face::Heading.size()) + 10.0;
    canvas.text((behind, base), Face::Note, Anchor::Start, &range);
}

/// With a seam of the background, so that it is seen on every colour.
fn draw_whisker(canvas: &mut Canvas, (low, high): (f64, f64), y: f64) {
    for (paint, width) in [(Paint::Surface, 4.5), (Paint::Ink, 1.5)] {
        let stroke = Stroke::solid(paint, width);
        canvas.line((low, y), (high, y), stroke);
        canvas.line((low, y - 4.0), (low, y + 4.0), stroke);
        canvas.line((high, y - 4.0), (high, y + 4.0), stroke);
    }
}
