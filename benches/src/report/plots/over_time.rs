//! How a run went second by second: the rate with its failures, and below it the latency.

use std::collections::BTreeSet;

use super::axis::Axis;
use super::canvas::{Anchor, Area, Canvas, Face, Point, Stroke, WIDTH};
use super::palette::Paint;
use super::points::thin;
use crate::outcome::{Outcome, Second};
use crate::report::{figures, text};

const WIDE: f64 = WIDTH - 92.0 - 32.0;
const RATE: Area = Area { x: 92.0, y: 96.0, width: WIDE, height: 150.0 };
const LATENCY: Area = Area { x: 92.0, y: 296.0, width: WIDE, height: 150.0 };
const HEIGHT: f64 = LATENCY.y + LATENCY.height + 52.0;

/// From this many seconds on a second is hardly two pixels wide.
const DENSE: usize = 300;

/// Marks of failures that are closer than this would be one blot.
const MARK: f64 = 4.0;

/// The rate over time, its failures marked, and the latency of half and of 99 % of the operations below it.
pub fn over_time(title: &str, outcome: &Outcome) -> String {
    let seconds = seconds(outcome);
    let units = text::plural(&outcome.unit);
    let mut canvas = Canvas::new(title, &format!("{units} per second, and their latency, second by second"), HEIGHT);

    let end = seconds.last().map_or(1.0, |second| second.at);
    let across = Axis::exact(end, (RATE.x, RATE.x + RATE.width));
    let greatest = seconds.iter().map(|second| second.rate).filter(|rate| rate.is_finite()).fold(0.0, f64::max);
    let rate = Axis::linear(if greatest > 0.0 { greatest } else { 1.0 }, (RATE.y + RATE.height, RATE.y));
    let times = seconds.iter().flat_map(|second| [second.p50_us, second.p99_us]);
    let latency = Axis::logarithmic(times, (LATENCY.y + LATENCY.height, LATENCY.y));

    draw_grid(&mut canvas, RATE, across, rate, figures::tick);
    draw_grid(&mut canvas, LATENCY, across, latency, figures::time_tick);
    for tick in across.ticks() {
        let x = across.at(tick);
        canvas.text((x, HEIGHT - 32.0), Face::Note, Anchor::Middle, &figures::tick(tick));
    }
    canvas.text((RATE.x + RATE.width, HEIGHT - 12.0), Face::Note, Anchor::End, "seconds since the start");
    if seconds.is_empty() {
        let middle = (RATE.x + RATE.width / 2.0, RATE.y + RATE.height / 2.0);
        canvas.text(middle, Face::Note, Anchor::Middle, "no second was measured");
        return canvas.finish();
    }

    let heading = text::fit(&format!("{units} per second"), Face::Heading.size(), 300.0);
    canvas.text((RATE.x, RATE.y - 12.0), Face::Heading, Anchor::Start, &heading);
    draw_failures(&mut canvas, across, &seconds);
    // Lines that go up and down from pixel to pixel would be one blot if they were wide.
    let width = if seconds.len() > DENSE { 1.0 } else { 2.0 };
    let blue = Stroke::solid(Paint::Slot(0), width);
    draw_steps(&mut canvas, &seconds, across, blue, |second| Some(rate.at(second.rate)));

    let grey = Stroke { paint: Paint::Muted, width, dashes: "4 3" };
    draw_latency_heading(&mut canvas, grey, blue);
    draw_steps(&mut canvas, &seconds, across, grey, |second| known(second.p50_us).map(|us| latency.at(us)));
    draw_steps(&mut canvas, &seconds, across, blue, |second| known(second.p99_us).map(|us| latency.at(us)));
    canvas.finish()
}

/// Those whose time makes sense: each must end after the one before.
fn seconds(outcome: &Outcome) -> Vec<&Second> {
    let mut end = 0.0;
    let later = |second: &&Second| {
        let is_later = second.at.is_finite() && second.at > end;
        if is_later {
            end = second.at;
        }
        is_later
    };
    outcome.series.iter().filter(later).collect()
}

/// A second without operations has no latency.
fn known(us: f64) -> Option<f64> {
    Some(us).filter(|us| us.is_finite() && *us > 0.0)
}

fn draw_grid(canvas: &mut Canvas, area: Area, across: Axis, down: Axis, figure: fn(f64) -> String) {
    let (left, right, bottom) = (area.x, area.x + area.width, area.y + area.height);
    let grid = Stroke::solid(Paint::Grid, 1.0);
    for tick in down.ticks() {
        let y = down.at(tick);
        canvas.line((left, y), (right, y), grid);
        canvas.text((left - 10.0, y + 4.0), Face::Note, Anchor::End, &figure(tick));
    }
    for tick in across.ticks() {
        let x = across.at(tick);
        canvas.line((x, bottom), (x, bottom + 5.0), Stroke::solid(Paint::Muted, 1.0));
    }
    canvas.line((left, bottom), (right, bottom), Stroke::solid(Paint::Muted, 1.0));
}

/// A level for each second, with a gap where there is none.
fn draw_steps(
    canvas: &mut Canvas,
    seconds: &[&Second],
    across: Axis,
    stroke: Stroke,
    level: impl Fn(&Second) -> Option<f64>,
) {
    let mut from = 0.0;
    let mut steps: Vec<Point> = Vec::new();
    for second in seconds {
        match level(second) {
            Some(y) => steps.extend([(across.at(from), y), (across.at(second.at), y)]),
            None => canvas.curve(&thin(std::mem::take(&mut steps)), stroke),
        }
        from = second.at;
    }
    canvas.curve(&thin(steps), stroke);
}

fn draw_latency_heading(canvas: &mut Canvas, half: Stroke, most: Stroke) {
    let y = LATENCY.y - 12.0;
    canvas.text((LATENCY.x, y), Face::Heading, Anchor::Start, "latency");
    let mut x = LATENCY.x + LATENCY.width;
    for (name, stroke) in [("p50", half), ("p99", most)] {
        canvas.text((x, y), Face::Note, Anchor::End, name);
        canvas.line((x - 60.0, y - 4.0), (x - 32.0, y - 4.0), stroke);
        x -= 80.0;
    }
}

#[expect(clippy::cast_precision_loss, reason = "numbers that are shown with three figures")]
fn draw_failures(canvas: &mut Canvas, across: Axis, seconds: &[&Second]) {
    let failures = seconds.iter().fold(0.0, |sum, second| sum + second.failures as f64);
    if failures == 0.0 {
        return;
    }
    let mut from = 0.0;
    let mut columns = BTreeSet::new();
    for second in seconds {
        if second.failures > 0 {
            let middle = across.at(f64::midpoint(from, second.at));
            #[expect(clippy::cast_possible_truncation, reason = "a pixel of the plot")]
            columns.insert((middle / MARK).round() as i32);
        }
        from = second.at;
    }
    let stroke = Stroke::solid(Paint::Alarm, 1.6);
    for column in columns {
        let x = f64::from(column) * MARK;
        let (y, reach) = (RATE.y + 2.0, 3.5);
        canvas.line((x, y + reach + 3.0), (x, RATE.y + RATE.height), Stroke { dashes: "1 4", ..stroke });
        canvas.line((x - reach, y - reach), (x + reach, y + reach), stroke);
        canvas.line((x - reach, y + reach), (x + reach, y - reach), stroke);
    }
    let failed = seconds.iter().filter(|second| second.failures > 0).count() as f64;
    let [failures, failed, all] = [failures, failed, seconds.len() as f64].map(figures::count);
    let words = format!("× failures: {failures}, in {failed} of {all} seconds");
    canvas.text((RATE.x + RATE.width, RATE.y - 12.0), Face::Alarm, Anchor::End, &words);
}
