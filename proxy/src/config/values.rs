//! Single values of the configuration: durations, sizes, addresses.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use thiserror::Error;

/// A value that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum ValueError {
    #[error("`{given}` is no duration; write a whole number and a unit, such as 250ms, 10s, 5m or 1h, or 0")]
    Duration { given: String },
    #[error("`{given}` is longer than the {} days that a timeout may last", LONGEST.as_secs() / 86_400)]
    TooLong { given: String },
    #[error("`{given}` is no size; write a whole number of bytes, or with a unit, such as 64KiB or 1MiB")]
    Size { given: String },
    #[error("`{given}` is no address; write an IP address and a port, such as 127.0.0.1:8080 or [::1]:8080")]
    Address { given: String },
    #[error("`{given}` is no destination; write a host name or IP address and a port, such as eligibility:8443")]
    Destination { given: String },
    #[error("`{given}` is no endpoint; write http:// and an address on loopback, such as http://127.0.0.1:4318")]
    Endpoint { given: String },
    #[error("`{given}` is not on loopback: spans name paths and would cross the wire in plaintext")]
    EndpointElsewhere { given: String },
    #[error("`{given}` is no share; write a number from 0 to 1, such as 0.01")]
    Share { given: String },
}

pub(super) fn duration(text: &str) -> Result<Duration, ValueError> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let bad = || ValueError::Duration { given: text.to_owned() };
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| bad())?;
    let millis = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => return Err(bad()),
    };
    let duration = millis.map(Duration::from_millis).filter(|duration| *duration <= LONGEST);
    duration.ok_or_else(|| ValueError::TooLong { given: text.to_owned() })
}

pub(super) fn size(text: &str) -> Result<usize, ValueError> {
    let bad = || ValueError::Size { given: text.to_owned() };
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: usize = number.parse().map_err(|_| bad())?;
    let factor = match unit {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return Err(bad()),
    };
    number.checked_mul(factor).ok_or_else(bad)
}

pub(super) fn address(text: &str) -> Result<SocketAddr, ValueError> {
    text.parse().map_err(|_| ValueError::Address { given: text.to_owned() })
}

/// `host:port`, and the port.
pub(super) fn destination(text: &str) -> Result<u16, ValueError> {
    let bad = || ValueError::Destination { given: text.to_owned() };
    if let Ok(address) = text.parse::<SocketAddr>() {
        return if address.port() == 0 { Err(bad()) } else { Ok(address.port()) };
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
    let is_name = !host.is_empty()
        && host.len() <= 253
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    let port: u16 = port.parse().map_err(|_| bad())?;
    if is_name && port != 0 { Ok(port) } else { Err(bad()) }
}

/// The address of an OTLP/HTTP receiver on loopback.
pub(super) fn endpoint(text: &str) -> Result<SocketAddr, ValueError> {
    let bad = || ValueError::Endpoint { given: text.to_owned() };
    let rest = text.strip_prefix("http://").ok_or_else(bad)?.trim_end_matches('/');
    let rest = rest.replacen("localhost", "127.0.0.1", 1);
    let address: SocketAddr = rest.parse().map_err(|_| bad())?;
    let on_loopback = address.ip().to_canonical().is_loopback();
    if on_loopback { Ok(address) } else { Err(ValueError::EndpointElsewhere { given: text.to_owned() }) }
}

pub(super) fn share(text: &str) -> Result<f64, ValueError> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| ValueError::Share { given: text.to_owned() })
}

/// Whether a listener on `a` takes connections meant for `b`: same port, and the same address or one that takes all of its
/// family. `::` takes those to IPv4 as well, as Linux has it by default.
pub(super) fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let takes = |all: IpAddr, one: IpAddr| all.is_unspecified() && (all.is_ipv6() || one.is_ipv4());
    let (one, other) = (a.ip(), b.ip());
    a.port() != 0 && a.port() == b.port() && (one == other || takes(one, other) || takes(other, one))
}

/// A month: longer than any connection should live, and far from where adding to a clock overflows.
const LONGEST: Duration = Duration::from_secs(31 * 86_400);
