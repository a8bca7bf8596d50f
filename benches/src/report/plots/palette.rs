//! The colours of all plots, and which one a label gets.
//!
//! The colours were chosen so that any two of the first six stay apart under the common kinds of colour blindness, and
//! have a contrast of at least 3 to 1 to the background. None of them carries meaning alone: bars are labelled, and
//! curves are dashed differently.

/// What something is painted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// The background.
    Surface,
    /// Text and whiskers.
    Ink,
    /// Text of second rank.
    Muted,
    /// The lines of the grid.
    Grid,
    /// Failures.
    Alarm,
    /// CPU time in user mode.
    User,
    /// CPU time in the kernel.
    System,
    /// A label's own colour.
    Slot(usize),
}

/// Each slot on a light and on a dark background.
const SLOTS: [(&str, &str); 6] = [
    ("#2563b8", "#5b9aed"),
    ("#e07b1a", "#f2a24a"),
    ("#0f5c33", "#2f9462"),
    ("#d0609f", "#d8639f"),
    ("#4a1a6e", "#c9b8ff"),
    ("#8a6a2f", "#e3d36b"),
];

/// Those that are compared again and again keep their colours from plot to plot, whoever else is in it.
const KNOWN: [&str; 5] = ["portcullis", "envoy", "nginx", "haproxy", "hitch"];

const OTHERS: [Paint; 7] =
    [Paint::Surface, Paint::Ink, Paint::Muted, Paint::Grid, Paint::Alarm, Paint::User, Paint::System];

impl Paint {
    /// The colour in a file of its own, which has a light background.
    pub fn light(self) -> &'static str {
        self.colours().0
    }

    /// What style sheets call it, after `f-` where it fills and `s-` where it strokes.
    pub fn name(self) -> String {
        match self {
            Self::Slot(slot) => format!("slot{}", slot % SLOTS.len()),
            other => format!("{other:?}").to_lowercase(),
        }
    }

    fn colours(self) -> (&'static str, &'static str) {
        match self {
            Self::Surface => ("#ffffff", "#16181c"),
            Self::Ink => ("#1b222c", "#e9ecf0"),
            Self::Muted => ("#59636f", "#a3acb8"),
            Self::Grid => ("#e3e7ec", "#2c3138"),
            Self::Alarm => ("#c62128", "#ff6b6b"),
            Self::User => ("#35506b", "#a9c0d8"),
            Self::System => ("#8a99a8", "#5f7387"),
            Self::Slot(slot) => SLOTS.get(slot % SLOTS.len()).copied().unwrap_or(("#1b222c", "#e9ecf0")),
        }
    }
}

/// The style sheet that turns plots within a page dark: a rule wins over the attributes that the plots carry.
pub fn dark_style() -> String {
    let paints = OTHERS.into_iter().chain((0..SLOTS.len()).map(Paint::Slot));
    paints
        .map(|paint| {
            let (name, (_, dark)) = (paint.name(), paint.colours());
            format!(".f-{name}{{fill:{dark}}}.s-{name}{{stroke:{dark}}}")
        })
        .collect()
}

/// The slot of each label. Equal labels get the same; a label whose first word is a known proxy gets that one's if it
/// is free; the others get the free ones in the order in which they come.
pub fn slots(labels: &[&str]) -> Vec<usize> {
    let mut given: Vec<(&str, usize)> = Vec::new();
    for label in labels {
        if given.iter().any(|(other, _)| other == label) {
            continue;
        }
        if let Some(slot) = known(label).filter(|slot| is_free(&given, *slot)) {
            given.push((label, slot));
        }
    }
    let reserved: Vec<usize> = given.iter().map(|(_, slot)| *slot).collect();
    // Without any known one nothing needs to be kept free.
    let mut next = if reserved.is_empty() { 0 } else { KNOWN.len() };
    for label in labels {
        if given.iter().any(|(other, _)| other == label) {
            continue;
        }
        given.push((label, next));
        next += 1;
    }
    labels.iter().filter_map(|label| given.iter().find(|(other, _)| other == label)).map(|(_, slot)| *slot).collect()
}

/// How a curve is dashed, so that it is found without its colour.
pub fn dashes(slot: usize) -> &'static str {
    match slot % 4 {
        0 => "",
        1 => "7 3",
        2 => "2 3",
        _ => "9 3 2 3",
    }
}

fn known(label: &str) -> Option<usize> {
    let first = label.split(|c: char| !c.is_alphanumeric()).next()?.to_lowercase();
    KNOWN.iter().position(|name| *name == first)
}

fn is_free(given: &[(&str, usize)], slot: usize) -> bool {
    given.iter().all(|(_, other)| *other != slot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_keeps_its_colour_whoever_else_is_there() {
        for (labels, expected) in [
            (vec!["Portcullis", "Envoy", "nginx", "HAProxy", "hitch"], vec![0, 1, 2, 3, 4]),
            (vec!["nginx", "Portcullis"], vec![2, 0]),
            (vec!["HAProxy", "HAProxy", "Envoy 1.40"], vec![3, 3, 1]),
            (vec!["mine", "Portcullis"], vec![5, 0]),
            (vec!["portcullis x25519", "portcullis mlkem"], vec![0, 5]),
            (vec!["first", "second", "first"], vec![0, 1, 0]),
            (vec![], vec![]),
        ] {
            assert_eq!(slots(&labels), expected, "{labels:?}");
        }
    }

    #[test]
    fn many_labels_go_round() {
        let names: Vec<String> = (0..20).map(|n| n.to_string()).collect();
        let labels: Vec<&str> = names.iter().map(String::as_str).collect();
        let slots = slots(&labels);
        assert_eq!(slots.len(), 20);
        assert_eq!(Paint::Slot(slots[6]).light(), Paint::Slot(0).light());
        // The same colour, told apart by its dashes.
        assert_ne!(dashes(slots[6]), dashes(slots[0]));
    }

    #[test]
    fn every_paint_has_a_dark_side() {
        let style = dark_style();
        for paint in OTHERS.into_iter().chain((0..SLOTS.len()).map(Paint::Slot)) {
            assert!(style.contains(&format!(".f-{}{{", paint.name())), "{paint:?}");
        }
    }
}
