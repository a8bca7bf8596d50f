//! What one operation cost in CPU time, part by part: user mode, and the kernel behind it.

use super::axis::Axis;
use super::canvas::{Anchor, Area, Canvas, Face, MARGIN, Stroke};
use super::palette::Paint;
use crate::outcome::Cost;
use crate::report::{figures, text};

const BARS: (f64, f64) = (150.0, 560.0);
const TOP: f64 = 104.0;
const LINE: f64 = 34.0;
const THICK: f64 = 20.0;

/// One stacked bar for each part, in the order in which they come.
pub fn costs(title: &str, unit: &str, parts: &[(&str, &Cost)]) -> String {
    let bottom = parts.iter().fold(TOP, |y, _| y + LINE);
    let note = format!("CPU time for one {unit}; lower is better");
    let mut canvas = Canvas::new(title, &note, bottom + 44.0);

    let totals = parts.iter().map(|(_, cost)| sound(cost.user_us_per_operation) + sound(cost.system_us_per_operation));
    let greatest = totals.fold(0.0, f64::max);
    let axis = Axis::linear(if greatest > 0.0 { greatest } else { 1.0 }, BARS);
    for tick in axis.ticks() {
        let x = axis.at(tick);
        canvas.line((x, TOP - 4.0), (x, bottom), Stroke::solid(Paint::Grid, 1.0));
        canvas.text((x, bottom + 18.0), Face::Note, Anchor::Middle, &figures::time_tick(tick));
    }
    let mut x = BARS.0;
    for (name, paint) in [("user mode", Paint::User), ("kernel", Paint::System)] {
        canvas.area(Area { x, y: TOP - 28.0, width: 12.0, height: 12.0 }, paint);
        canvas.text((x + 18.0, TOP - 18.0), Face::Note, Anchor::Start, name);
        x += 104.0;
    }

    let mut y = TOP;
    for (name, cost) in parts {
        draw(&mut canvas, axis, y, name, cost);
        y += LINE;
    }
    canvas.line((BARS.0, TOP - 4.0), (BARS.0, bottom), Stroke::solid(Paint::Muted, 1.0));
    canvas.finish()
}

fn sound(us: f64) -> f64 {
    if us.is_finite() { us.max(0.0) } else { 0.0 }
}

fn draw(canvas: &mut Canvas, axis: Axis, top: f64, name: &str, cost: &Cost) {
    let (middle, base) = (top + LINE / 2.0, top + LINE / 2.0 + 4.5);
    let label = text::fit(name, Face::Label.size(), BARS.0 - MARGIN - 10.0);
    canvas.text((BARS.0 - 10.0, base), Face::Label, Anchor::End, &label);

    let (user, system) = (sound(cost.user_us_per_operation), sound(cost.system_us_per_operation));
    let (seam, end) = (axis.at(user), axis.at(user + system));
    let y = middle - THICK / 2.0;
    canvas.area(Area { x: BARS.0, y, width: seam - BARS.0, height: THICK }, Paint::User);
    canvas.area(Area { x: seam, y, width: end - seam, height: THICK }, Paint::System);
    if user > 0.0 && system > 0.0 {
        canvas.line((seam, y), (seam, y + THICK), Stroke::solid(Paint::Surface, 2.0));
    }
    let total = figures::time(user + system);
    canvas.text((end + 10.0, base), Face::Heading, Anchor::Start, &total);
    let behind = end + 10.0 + text::width(&total, Face::Heading.size()) + 8.0;
    let both = format!("{} + {}", figures::time(user), figures::time(system));
    canvas.text((behind, base), Face::Note, Anchor::Start, &both);
}
