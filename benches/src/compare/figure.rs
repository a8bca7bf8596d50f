//! What is measured, in which unit it is shown, and which end of it is good.

use serde::{Deserialize, Serialize};

/// One kind of number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// CPU time of all proxies in the path for one operation, user and system.
    CpuUs,
    /// The same for one gigabyte.
    CpuSecondsPerGb,
    /// Operations per second.
    Rate,
    /// Gigabytes per second.
    GbPerSecond,
    /// Half of the operations took at most this.
    P50Us,
    /// 99 % of the operations took at most this.
    P99Us,
    /// Proportional memory of all processes of the proxy.
    IdleMemoryMib,
    /// Memory of the proxy for one more idle connection.
    ConnectionKib,
    /// From the start of the process to the end of the first exchange.
    StartMs,
    /// From the swap on disk to the first handshake with the new certificate.
    NoticedMs,
    /// Requests that failed while certificates were swapped.
    FailedRequests,
}

/// Which end is the good one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Costs and times.
    Lower,
    /// Rates.
    Higher,
}

impl Figure {
    /// The head of its column.
    pub fn title(self) -> &'static str {
        match self {
            Self::CpuUs => "CPU, µs",
            Self::CpuSecondsPerGb => "CPU, s per GB",
            Self::Rate => "per second",
            Self::GbPerSecond => "GB per second",
            Self::P50Us => "p50, µs",
            Self::P99Us => "p99, µs",
            Self::IdleMemoryMib => "memory, MiB",
            Self::ConnectionKib => "KiB per connection",
            Self::StartMs => "start, ms",
            Self::NoticedMs => "new certificate after, ms",
            Self::FailedRequests => "failed requests",
        }
    }

    /// Its part of the name of a plot's file.
    pub fn file(self) -> &'static str {
        match self {
            Self::CpuUs => "cpu",
            Self::CpuSecondsPerGb => "cpu-per-gb",
            Self::Rate => "rate",
            Self::GbPerSecond => "gb-rate",
            Self::P50Us => "p50",
            Self::P99Us => "p99",
            Self::IdleMemoryMib => "idle",
            Self::ConnectionKib => "connection",
            Self::StartMs => "start",
            Self::NoticedMs => "noticed",
            Self::FailedRequests => "failed",
        }
    }

    /// Which end is the good one.
    pub fn better(self) -> Better {
        match self {
            Self::Rate | Self::GbPerSecond => Better::Higher,
            Self::CpuUs
            | Self::CpuSecondsPerGb
            | Self::P50Us
            | Self::P99Us
            | Self::IdleMemoryMib
            | Self::ConnectionKib
            | Self::StartMs
            | Self::NoticedMs
            | Self::FailedRequests => Better::Lower,
        }
    }
}

/// A number with about three digits that say something, thousands apart.
pub fn readable(value: f64) -> String {
    let size = value.abs();
    let text = if size >= 100.0 || value == value.trunc() {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else if size >= 1.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.3}")
    };
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (text.as_str(), None),
    };
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    match fraction {
        Some(fraction) => format!("{sign}{grouped}.{fraction}"),
        None => format!("{sign}{grouped}"),
    }
}

#[cfg(test)]
mod tests {
    use super::readable;

    #[test]
    fn numbers_have_three_digits_that_matter() {
        let rows = [
            (0.0, "0"),
            (0.0123, "0.012"),
            (1.234, "1.23"),
            (12.34, "12.3"),
            (123.4, "123"),
            (1234.5, "1,234"),
            (1_234_567.0, "1,234,567"),
            (-1234.0, "-1,234"),
            (999.96, "1,000"),
        ];
        for (value, expected) in rows {
            assert_eq!(readable(value), expected);
        }
    }
}
