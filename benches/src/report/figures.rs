//! Numbers as people read them: three significant figures, thousands separated, a unit that fits.
//!
//! Invariant: what is not a finite number reads `–`, never `NaN` or `inf`.

/// Stands where there is no number.
pub const NONE: &str = "–";

/// Beyond this nobody counts digits.
const READABLE: f64 = 1e15;

/// Beyond this a figure does not fit beside an axis.
const LONG: f64 = 1e8;

/// Three significant figures, and every digit before the point: `0.0123`, `1.23`, `12.3`, `12,346`.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return NONE.to_owned();
    }
    let size = value.abs();
    if size >= READABLE || (size > 0.0 && size < 1e-4) {
        return format!("{value:.2e}");
    }
    // The thresholds are where rounding gains a digit: 9.996 reads 10.0, not 10.00.
    let decimals = match size {
        0.0 => 0,
        s if s < 0.009995 => 5,
        s if s < 0.09995 => 4,
        s if s < 0.9995 => 3,
        s if s < 9.995 => 2,
        s if s < 99.95 => 1,
        _ => 0,
    };
    separated(&format!("{value:.decimals$}"))
}

/// Three significant figures and no more: `12,300`.
pub fn about(value: f64) -> String {
    // Through text, since that is where figures are; it reads back always.
    number(format!("{value:.2e}").parse().unwrap_or(f64::NAN))
}

/// A number without zeros at its end, for the ticks of an axis: `0.5`, `10`.
pub fn tick(value: f64) -> String {
    let size = value.abs();
    if value.is_finite() && (size >= LONG || (size > 0.0 && size < 1e-4)) {
        return format!("{value:.1e}").replace(".0e", "e");
    }
    let number = number(value);
    if !number.contains('.') {
        return number;
    }
    number.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A number of things: whole if it is whole.
pub fn count(value: f64) -> String {
    if value.is_finite() && value.fract() == 0.0 && value.abs() < READABLE {
        return separated(&format!("{value:.0}"));
    }
    number(value)
}

/// A time, given in microseconds: `90.1 µs`, `1.23 ms`, `12.0 s`.
pub fn time(us: f64) -> String {
    in_unit(us, number)
}

/// A time at an axis: `100 µs`, `1 ms`.
pub fn time_tick(us: f64) -> String {
    in_unit(us, tick)
}

/// A size, given in KiB: `512 KiB`, `12.3 MiB`, `1.50 GiB`.
pub fn size(kib: f64) -> String {
    if !kib.is_finite() {
        return NONE.to_owned();
    }
    match kib.abs() {
        s if s < 1.0 && s > 0.0 => format!("{} B", number(kib * 1024.0)),
        s if s < 1023.5 => format!("{} KiB", tick(kib)),
        s if s < 1023.5 * 1024.0 => format!("{} MiB", number(kib / 1024.0)),
        _ => format!("{} GiB", number(kib / (1024.0 * 1024.0))),
    }
}

/// A share of the whole: `12.3 %`.
pub fn share(of_one: f64) -> String {
    if !of_one.is_finite() {
        return NONE.to_owned();
    }
    format!("{} %", tick(of_one * 100.0))
}

fn in_unit(us: f64, number: fn(f64) -> String) -> String {
    if !us.is_finite() {
        return NONE.to_owned();
    }
    match us.abs() {
        s if s < 999.5 => format!("{} µs", number(us)),
        s if s < 999_500.0 => format!("{} ms", number(us / 1e3)),
        _ => format!("{} s", number(us / 1e6)),
    }
}

fn separated(digits: &str) -> String {
    // There is a floating-point zero with a sign.
    let digits = if digits == "-0" { "0" } else { digits };
    let (whole, rest) = digits.split_once('.').map_or((digits, None), |(whole, rest)| (whole, Some(rest)));
    let (sign, whole) = whole.strip_prefix('-').map_or(("", whole), |whole| ("-", whole));
    let mut text = sign.to_owned();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if let Some(rest) = rest {
        text.push('.');
        text.push_str(rest);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOT_NUMBERS: [f64; 3] = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];

    #[test]
    fn numbers_have_three_figures_and_separated_thousands() {
        for (value, text) in [
            (0.0, "0"),
            (0.01234, "0.0123"),
            (0.5, "0.500"),
            (1.234, "1.23"),
            (9.996, "10.0"),
            (99.96, "100"),
            (-12.34, "-12.3"),
            (999.4, "999"),
            (12_345.6, "12,346"),
            (-123_456.0, "-123,456"),
            (1e12, "1,000,000,000,000"),
            (-0.0, "0"),
            (1e300, "1.00e300"),
            (1e-9, "1.00e-9"),
        ] {
            assert_eq!(number(value), text);
        }
        for (value, text) in [(12_345.6, "12,300"), (1.234, "1.23"), (0.0, "0")] {
            assert_eq!(about(value), text);
        }
        for (value, text) in
            [(0.5, "0.5"), (10.0, "10"), (100.0, "100"), (2e7, "20,000,000"), (2.5e12, "2.5e12"), (1e-10, "1e-10")]
        {
            assert_eq!(tick(value), text);
        }
        for (value, text) in [(5.0, "5"), (-0.0, "0"), (1234.0, "1,234"), (1.5, "1.50")] {
            assert_eq!(count(value), text);
        }
    }

    #[test]
    fn times_and_sizes_choose_their_unit() {
        for (us, text) in [
            (0.0, "0 µs"),
            (90.14, "90.1 µs"),
            (999.4, "999 µs"),
            (999.6, "1.00 ms"),
            (12_345.0, "12.3 ms"),
            (999_600.0, "1.00 s"),
            (1.2e9, "1,200 s"),
            (1e12, "1,000,000 s"),
        ] {
            assert_eq!(time(us), text);
        }
        assert_eq!(time_tick(1000.0), "1 ms");
        for (kib, text) in [
            (0.0, "0 KiB"),
            (0.5, "512 B"),
            (33.5, "33.5 KiB"),
            (512.0, "512 KiB"),
            (2048.0, "2.00 MiB"),
            (1.5 * 1024.0 * 1024.0, "1.50 GiB"),
        ] {
            assert_eq!(size(kib), text);
        }
        assert_eq!(share(0.125), "12.5 %");
    }

    #[test]
    fn what_is_no_number_is_not_shown_as_one() {
        for value in NOT_NUMBERS {
            for text in [
                number(value),
                about(value),
                tick(value),
                count(value),
                time(value),
                time_tick(value),
                size(value),
                share(value),
            ] {
                assert_eq!(text, NONE);
            }
        }
    }
}
