//! The distribution of latency: how long the fastest half took, the fastest 90 %, 99 % and so on.
//!
//! Each step to the right is a tenth of what was left, so that the slowest few are as wide as all the others.

use super::axis::Axis;
use super::canvas::{Anchor, Area, Canvas, Face, MARGIN, Point, Stroke, WIDTH};
use super::palette::{Paint, dashes, slots};
use super::points::thin;
use crate::outcome::Latency;
use crate::report::{figures, text};

const PLOT: Area = Area { x: 92.0, y: 76.0, width: WIDTH - 92.0 - 32.0, height: 280.0 };

/// Where the figures of a curve end, below the plot.
const COLUMNS: [(&str, f64); 5] = [("p50", 442.0), ("p90", 528.0), ("p99", 614.0), ("p99.9", 700.0), ("max", 776.0)];

/// From the plot to the first line of figures, and from line to line.
const LEGEND: f64 = 64.0;
const LINE: f64 = 22.0;

/// Nobody measures a billion operations; it keeps the axis short when a count is nonsense.
const MOST_NINES: f64 = 9.0;

struct Curve<'a> {
    label: &'a str,
    latency: &'a Latency,
    slot: usize,
    /// The nines of a quantile and its time.
    points: Vec<Point>,
}

/// One curve for each label, with their figures below. Whoever has no times is only named.
pub fn distribution(title: &str, curves: &[(&str, &Latency)]) -> String {
    let labels: Vec<&str> = curves.iter().map(|(label, _)| *label).collect();
    let curves: Vec<Curve<'_>> = curves
        .iter()
        .zip(slots(&labels))
        .map(|((label, latency), slot)| Curve { label, latency, slot, points: points(latency) })
        .collect();

    let legend = PLOT.y + PLOT.height + LEGEND;
    let height = curves.iter().fold(legend + 4.0, |height, _| height + LINE);
    let note = "latency by percentile, both axes logarithmic; lower is better";
    let mut canvas = Canvas::new(title, note, height);

    let values = curves.iter().flat_map(|curve| &curve.points).map(|(_, us)| *us);
    let down = Axis::logarithmic(values, (PLOT.y + PLOT.height, PLOT.y));
    let nines = curves.iter().flat_map(|curve| &curve.points).map(|(nines, _)| *nines).fold(1.0, f64::max);
    let across = Axis::exact(nines, (PLOT.x, PLOT.x + PLOT.width));
    draw_grid(&mut canvas, across, down, nines);

    // The first label is the one that matters most: it lies on top.
    for curve in curves.iter().rev() {
        draw_curve(&mut canvas, across, down, curve);
    }
    if curves.iter().all(|curve| curve.points.is_empty()) {
        let middle = (PLOT.x + PLOT.width / 2.0, PLOT.y + PLOT.height / 2.0);
        canvas.text(middle, Face::Note, Anchor::Middle, "no times were measured");
    }
    draw_legend(&mut canvas, &curves, legend);
    canvas.finish()
}

/// The quantiles that can be drawn, or those that have a name if there are no others.
fn points(latency: &Latency) -> Vec<Point> {
    if latency.count == 0 {
        return Vec::new();
    }
    let named = [
        (0.5, latency.p50_us),
        (0.9, latency.p90_us),
        (0.99, latency.p99_us),
        (0.999, latency.p999_us),
        (1.0, latency.max_us),
    ];
    let quantiles: &[(f64, f64)] = if latency.quantiles.is_empty() { &named } else { &latency.quantiles };
    #[expect(clippy::cast_precision_loss, reason = "only its size matters")]
    let finest = (latency.count as f64).log10().clamp(1.0, MOST_NINES);
    let mut points: Vec<Point> = quantiles
        .iter()
        .filter(|(quantile, us)| (0.0..=1.0).contains(quantile) && us.is_finite() && *us > 0.0)
        // The longest of all lies at 100 %, which would be infinitely far to the right.
        .map(|(quantile, us)| ((-(1.0 - quantile).log10()).clamp(0.0, finest), *us))
        .collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points
}

fn draw_grid(canvas: &mut Canvas, across: Axis, down: Axis, nines: f64) {
    let (left, right, bottom) = (PLOT.x, PLOT.x + PLOT.width, PLOT.y + PLOT.height);
    let grid = Stroke::solid(Paint::Grid, 1.0);
    for us in down.ticks() {
        let y = down.at(us);
        canvas.line((left, y), (right, y), grid);
        canvas.text((left - 10.0, y + 4.0), Face::Note, Anchor::End, &figures::time_tick(us));
    }
    // Many nines push it into its neighbour.
    let zero = if nines > 6.5 { "" } else { "0 %" };
    let named = ["90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %", "99.99999 %"];
    let ticks = [(0.0, zero), (2.0_f64.log10(), "50 %")].into_iter().chain((1..).map(f64::from).zip(named));
    for (at, name) in ticks.filter(|(at, _)| *at <= nines + 1e-9) {
        let x = across.at(at);
        canvas.line((x, PLOT.y), (x, bottom), grid);
        canvas.text((x, bottom + 20.0), Face::Note, Anchor::Middle, name);
    }
    canvas.line((left, bottom), (right, bottom), Stroke::solid(Paint::Muted, 1.0));
}

fn draw_curve(canvas: &mut Canvas, across: Axis, down: Axis, curve: &Curve<'_>) {
    let paint = Paint::Slot(curve.slot);
    let pixels: Vec<Point> = curve.points.iter().map(|(nines, us)| (across.at(*nines), down.at(*us))).collect();
    let last = pixels.last().copied();
    canvas.curve(&thin(pixels), Stroke { paint, width: 2.2, dashes: dashes(curve.slot) });
    if let Some(last) = last {
        canvas.dot(last, paint);
    }
}

fn draw_legend(canvas: &mut Canvas, curves: &[Curve<'_>], top: f64) {
    let rule = top - 14.0;
    for (name, x) in COLUMNS {
        canvas.text((x, rule - 6.0), Face::Note, Anchor::End, name);
    }
    canvas.line((MARGIN, rule), (WIDTH - MARGIN, rule), Stroke::solid(Paint::Grid, 1.0));
    let mut y = top + 4.0;
    for curve in curves {
        let stroke = Stroke { paint: Paint::Slot(curve.slot), width: 2.6, dashes: dashes(curve.slot) };
        canvas.line((MARGIN, y - 4.0), (MARGIN + 30.0, y - 4.0), stroke);
        let start = MARGIN + 40.0;
        let label = text::fit(curve.label, Face::Label.size(), 300.0);
        canvas.text((start, y), Face::Label, Anchor::Start, &label);
        let latency = curve.latency;
        let times = [latency.p50_us, latency.p90_us, latency.p99_us, latency.p999_us, latency.max_us];
        for ((_, x), us) in COLUMNS.into_iter().zip(times) {
            let figure = if latency.count == 0 { figures::NONE.to_owned() } else { figures::time(us) };
            canvas.text((x, y), Face::Label, Anchor::End, &figure);
        }
        y += LINE;
    }
}
