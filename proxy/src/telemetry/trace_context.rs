//! W3C Trace Context: reading and writing `traceparent`. See <https://www.w3.org/TR/trace-context/>.

use http::HeaderValue;

/// The header's name.
pub const TRACEPARENT: &str = "traceparent";

/// One `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace, not zero.
    pub trace_id: u128,
    /// The span of whoever sent it, not zero.
    pub span_id: u64,
    /// Whether the caller records its span.
    pub sampled: bool,
}

impl TraceContext {
    /// Reads a header value. Version `ff`, zero IDs, upper-case hex and wrong lengths make it no trace context, which
    /// section 3.2.2 of the specification treats as an absent header.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let version = hex(value.get(0..2)?)?;
        // A later version may add fields behind a dash; the first four keep their places.
        let ends_right =
            if version == 0 { value.len() == LENGTH } else { value.get(LENGTH).is_none_or(|b| *b == b'-') };
        let dashes = [2, 35, 52].iter().all(|at| value.get(*at) == Some(&b'-'));
        if version == 0xff || !ends_right || !dashes {
            return None;
        }
        let trace_id = hex(value.get(3..35)?)?;
        let span_id = u64::try_from(hex(value.get(36..52)?)?).ok()?;
        let flags = hex(value.get(53..55)?)?;
        (trace_id != 0 && span_id != 0).then_some(Self { trace_id, span_id, sampled: flags & 1 == 1 })
    }

    /// A new trace, not sampled, with IDs from the given source of random numbers.
    pub fn generate() -> Self {
        Self { trace_id: fastrand::u128(1..), span_id: fastrand::u64(1..), sampled: false }
    }

    /// The header value.
    pub fn header(&self) -> HeaderValue {
        let text = format!("00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled));
        // Hexadecimal digits and dashes always make a header value.
        HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0u128, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u128::from(digit))
    })
}

/// Version, trace ID, span ID, flags and three dashes.
const LENGTH: usize = 55;

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn valid_headers_round_trip() {
        let context = TraceContext::parse(VALID.as_bytes()).unwrap();
        assert!(context.sampled);
        assert_eq!(context.header(), VALID);
        let generated = TraceContext::generate();
        assert_eq!(TraceContext::parse(generated.header().as_bytes()), Some(generated));
    }

    #[test]
    fn a_later_version_may_carry_more() {
        let later = VALID.replacen("00-", "01-", 1) + "-extra";
        assert!(TraceContext::parse(later.as_bytes()).is_some());
    }

    #[test]
    fn what_the_specification_rejects_is_rejected() {
        for bad in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.",
            "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
        ] {
            assert_eq!(TraceContext::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
