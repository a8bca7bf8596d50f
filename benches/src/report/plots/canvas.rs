//! Writes one SVG: lines, rectangles and text, in pixels.
//!
//! Invariant: the result is well-formed whatever is drawn. Text is escaped here and nowhere else, and a coordinate that
//! is no number becomes 0. Colours are attributes, so that a file stands alone, and classes, so that the style sheet of
//! a page may change them.

use super::palette::Paint;
use crate::report::text;

/// Every plot is that wide: what GitHub shows of an image without shrinking it.
pub const WIDTH: f64 = 800.0;

/// Kept free at the left and right of everything.
pub const MARGIN: f64 = 24.0;

const FONTS: &str = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', Arial, sans-serif";

/// A plot that is being drawn.
pub struct Canvas {
    name: String,
    height: f64,
    body: String,
}

/// A pair of coordinates, from the left and from the top.
pub type Point = (f64, f64);

/// How a line is drawn.
#[derive(Debug, Clone, Copy)]
pub struct Stroke {
    /// Its colour.
    pub paint: Paint,
    /// Its width.
    pub width: f64,
    /// Lengths of dashes and gaps; empty for none.
    pub dashes: &'static str,
}

/// A rectangle, by its upper left corner.
#[derive(Debug, Clone, Copy)]
pub struct Area {
    /// From the left.
    pub x: f64,
    /// From the top.
    pub y: f64,
    /// To the right.
    pub width: f64,
    /// Downwards.
    pub height: f64,
}

/// What kind of text it is.
#[derive(Debug, Clone, Copy)]
pub enum Face {
    /// The name of the plot.
    Title,
    /// The name of a part of it.
    Heading,
    /// What belongs to a curve or a bar.
    Label,
    /// What is said beside it.
    Note,
    /// The same about failures.
    Alarm,
}

/// Which end of a text lies at its point.
#[derive(Debug, Clone, Copy)]
pub enum Anchor {
    /// Its first character.
    Start,
    /// Its middle.
    Middle,
    /// Its last character.
    End,
}

impl Stroke {
    /// A line without dashes.
    pub fn solid(paint: Paint, width: f64) -> Self {
        Self { paint, width, dashes: "" }
    }
}

impl Face {
    /// The size of the font.
    pub fn size(self) -> f64 {
        match self {
            Self::Title => 17.0,
            Self::Heading | Self::Label => 13.0,
            Self::Note | Self::Alarm => 12.0,
        }
    }

    fn weight(self) -> &'static str {
        match self {
            Self::Title | Self::Heading => "600",
            Self::Label | Self::Note | Self::Alarm => "400",
        }
    }

    fn paint(self) -> Paint {
        match self {
            Self::Title | Self::Heading | Self::Label => Paint::Ink,
            Self::Note => Paint::Muted,
            Self::Alarm => Paint::Alarm,
        }
    }
}

impl Canvas {
    /// A plot of that height with its title, and what its axes mean below that.
    pub fn new(title: &str, note: &str, height: f64) -> Self {
        let mut canvas = Self { name: text::shorten(title, 200), height, body: String::new() };
        let room = WIDTH - 2.0 * MARGIN;
        canvas.text((MARGIN, 32.0), Face::Title, Anchor::Start, &text::fit(title, Face::Title.size(), room));
        canvas.text((MARGIN, 52.0), Face::Note, Anchor::Start, &text::fit(note, Face::Note.size(), room));
        canvas
    }

    /// A straight line.
    pub fn line(&mut self, from: Point, to: Point, stroke: Stroke) {
        self.curve(&[from, to], stroke);
    }

    /// A line through all the points.
    pub fn curve(&mut self, points: &[Point], stroke: Stroke) {
        let path: Vec<String> = points.iter().map(|(x, y)| format!("{} {}", pixels(*x), pixels(*y))).collect();
        if path.is_empty() {
            return;
        }
        let dashes = match stroke.dashes {
            "" => String::new(),
            dashes => format!(" stroke-dasharray=\"{dashes}\""),
        };
        self.body.push_str(&format!(
            "<path d=\"M{}\" fill=\"none\" stroke=\"{}\" class=\"s-{}\" stroke-width=\"{}\" stroke-linejoin=\"round\"{dashes}/>\n",
            path.join("L"),
            stroke.paint.light(),
            stroke.paint.name(),
            pixels(stroke.width),
        ));
    }

    /// A filled rectangle.
    pub fn area(&mut self, area: Area, paint: Paint) {
        self.body.push_str(&format!(
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\" class=\"f-{}\"/>\n",
            pixels(area.x),
            pixels(area.y),
            pixels(area.width.max(0.0)),
            pixels(area.height.max(0.0)),
            paint.light(),
            paint.name(),
        ));
    }

    /// A dot that stands out from the lines below it.
    pub fn dot(&mut self, (x, y): Point, paint: Paint) {
        self.body.push_str(&format!(
            "<circle cx=\"{}\" cy=\"{}\" r=\"4\" fill=\"{}\" stroke=\"{}\" stroke-width=\"1.5\" class=\"f-{} s-{}\"/>\n",
            pixels(x),
            pixels(y),
            paint.light(),
            Paint::Surface.light(),
            paint.name(),
            Paint::Surface.name(),
        ));
    }

    /// A line of text, whose point lies on the line that the letters stand on. Lines below it keep a little away.
    pub fn text(&mut self, (x, y): Point, face: Face, anchor: Anchor, words: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        self.body.push_str(&format!(
            "<text paint-order=\"stroke\" stroke-width=\"3\" stroke-linejoin=\"round\" x=\"{}\" y=\"{}\" font-size=\"{}\" font-weight=\"{}\" text-anchor=\"{anchor}\" fill=\"{}\" stroke=\"{}\" class=\"f-{} s-{}\">{}</text>\n",
            pixels(x),
            pixels(y),
            pixels(face.size()),
            face.weight(),
            face.paint().light(),
            Paint::Surface.light(),
            face.paint().name(),
            Paint::Surface.name(),
            text::escape(words),
        ));
    }

    /// The whole document, which may also stand within a page.
    pub fn finish(self) -> String {
        let (width, height) = (pixels(WIDTH), pixels(self.height));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"{FONTS}\">\n\
             <title>{}</title>\n\
             <rect width=\"{width}\" height=\"{height}\" rx=\"6\" fill=\"{}\" class=\"f-{}\"/>\n\
             {}</svg>\n",
            text::escape(&self.name),
            Paint::Surface.light(),
            Paint::Surface.name(),
            self.body,
        )
    }
}

/// Tenths of a pixel are more than anybody sees.
fn pixels(value: f64) -> String {
    if !value.is_finite() {
        return "0".to_owned();
    }
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{assert_no_false_numbers, assert_well_formed};

    #[test]
    fn whatever_is_drawn_is_well_formed() {
        let mut canvas = Canvas::new("<&>\x1b", "\"'", 10.0);
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.04, 1.96] {
            canvas.curve(&[(value, value), (value, value)], Stroke::solid(Paint::Slot(usize::MAX), value));
            canvas.area(Area { x: value, y: value, width: value, height: value }, Paint::Alarm);
            canvas.dot((value, value), Paint::User);
            canvas.text((value, value), Face::Alarm, Anchor::Middle, "</svg>");
        }
        canvas.curve(&[], Stroke::solid(Paint::Ink, 1.0));
        let svg = canvas.finish();
        assert_well_formed(&svg);
        assert_no_false_numbers(&svg);
        assert!(!svg.contains(" width=\"-"), "{svg}");
    }
}
