//! The rows of the comparison. To add one, add an entry.

use rustls::NamedGroup;

use super::figure::Figure;
use super::stage::{Carries, Hops, Rules, Stage};

/// What is compared in one table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Its name on the command line and in `results.json`.
    pub name: &'static str,
    /// The chapter that it belongs to.
    pub theme: Theme,
    /// What it is, for people.
    pub title: &'static str,
    /// What a reader has to know about how it was measured.
    pub remark: &'static str,
    /// What is set up.
    pub stage: Stage,
    /// What is done with it.
    pub work: Work,
    /// What is shown, the figure that matters most first.
    pub figures: &'static [Figure],
}

/// A chapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Theme {
    /// Connections into one proxy.
    Connections,
    /// Requests through one proxy.
    Requests,
    /// Bytes through one proxy.
    Bytes,
    /// Two proxies in the path.
    TwoSidecars,
    /// Rules.
    Policy,
    /// Memory.
    Memory,
    /// Start and renewal.
    Life,
}

/// What is done with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// New connections with a full handshake and one exchange, one after the other on each of some lanes.
    Handshakes(NamedGroup),
    /// New connections with one exchange, over whatever the path speaks.
    Connections,
    /// Requests on open connections.
    Requests {
        /// Of the application.
        path: &'static str,
        /// How many.
        pace: Pace,
    },
    /// Opaque bytes from the caller to the application.
    Stream,
    /// Memory after the start and one exchange.
    IdleMemory,
    /// Memory of open connections on which nothing moves.
    IdleConnections,
    /// From exec to the first exchange.
    Start,
    /// Certificates swapped on disk while requests go on.
    Rotation,
}

/// How many requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// As many as there are answers.
    Saturated,
    /// 5,000 a second, whether there are answers or not.
    Fixed,
}

impl Theme {
    /// All, in the order of the document.
    pub const ALL: [Self; 7] =
        [Self::Connections, Self::Requests, Self::Bytes, Self::TwoSidecars, Self::Policy, Self::Memory, Self::Life];

    /// Its heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Connections => "Inbound connections",
            Self::Requests => "Inbound requests",
            Self::Bytes => "Inbound opaque TCP",
            Self::TwoSidecars => "Two sidecars in the path",
            Self::Policy => "Policy",
            Self::Memory => "Memory",
            Self::Life => "Start and rotation",
        }
    }

    /// The name of its plot.
    pub fn file(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Requests => "requests",
            Self::Bytes => "bytes",
            Self::TwoSidecars => "two-sidecars",
            Self::Policy => "policy",
            Self::Memory => "memory",
            Self::Life => "life",
        }
    }
}

/// The rows, in the order in which they run and are shown.
pub static ROWS: &[Row] = &[
    Row {
        name: "handshake-x25519",
        theme: Theme::Connections,
        title: "New connection, X25519",
        remark: "One operation: TCP connect, full TLS 1.3 handshake with a client certificate, one HTTP/1.1 request and its \
                 answer, close. The row without a proxy has no TLS",
        stage: one(Carries::Http1),
        work: Work::Handshakes(NamedGroup::X25519),
        figures: CPU,
    },
    Row {
        name: "handshake-mlkem",
        theme: Theme::Connections,
        title: "New connection, X25519MLKEM768",
        remark: "The same with the hybrid key exchange that withstands quantum computers",
        stage: one(Carries::Http1),
        work: Work::Handshakes(NamedGroup::X25519MLKEM768),
        figures: CPU,
    },
    Row { title: "HTTP/1.1 request, saturated", ..requests("http1", Carries::Http1, "/", Pace::Saturated) },
    Row { title: "HTTP/1.1 request, 5,000 a second", ..requests("http1-5000", Carries::Http1, "/", Pace::Fixed) },
    Row { title: "HTTP/2 request, saturated", ..requests("http2", Carries::Http2, "/", Pace::Saturated) },
    Row { title: "HTTP/2 request, 5,000 a second", ..requests("http2-5000", Carries::Http2, "/", Pace::Fixed) },
    Row {
        title: "HTTP/1.1 request with an answer of 64 KiB, saturated",
        ..requests("http1-64k", Carries::Http1, "/bytes/65536", Pace::Saturated)
    },
    Row {
        name: "tcp",
        theme: Theme::Bytes,
        title: "Opaque TCP, one gigabyte",
        remark: "From the caller to the application, on one connection: decrypted by the proxy",
        stage: one(Carries::Tcp),
        work: Work::Stream,
        figures: PER_GB,
    },
    Row { title: "HTTP/1.1 request, saturated", ..two("two-http1", Carries::Http1, "/", Pace::Saturated) },
    Row { title: "HTTP/1.1 request, 5,000 a second", ..two("two-http1-5000", Carries::Http1, "/", Pace::Fixed) },
    Row { title: "HTTP/2 request, saturated", ..two("two-http2", Carries::Http2, "/", Pace::Saturated) },
    Row { title: "HTTP/2 request, 5,000 a second", ..two("two-http2-5000", Carries::Http2, "/", Pace::Fixed) },
    Row {
        title: "HTTP/1.1 request with an answer of 64 KiB, saturated",
        ..two("two-http1-64k", Carries::Http1, "/bytes/65536", Pace::Saturated)
    },
    Row {
        name: "two-tcp",
        theme: Theme::TwoSidecars,
        title: "Opaque TCP, one gigabyte",
        remark: "From the caller to the application, on one connection: encrypted by one proxy, decrypted by the other",
        stage: through_two(Carries::Tcp),
        work: Work::Stream,
        figures: PER_GB,
    },
    Row {
        name: "two-connection",
        theme: Theme::TwoSidecars,
        title: "New connection",
        remark: "One operation: a new plaintext connection to the caller's proxy, which opens a new mTLS connection to the \
                 other one for it, one exchange of opaque bytes, close",
        stage: through_two(Carries::Tcp),
        work: Work::Connections,
        figures: CPU,
    },
    Row { title: "10 rules", ..policy("policy-10", 10) },
    Row { title: "1,000 rules", ..policy("policy-1000", 1_000) },
    Row { title: "10,000 rules", ..policy("policy-10000", 10_000) },
    Row {
        name: "idle-memory",
        theme: Theme::Memory,
        title: "Idle proxy",
        remark: "Proportional set size of all its processes after its start and one exchange: pages that they share count \
                 once",
        stage: one(Carries::Http1),
        work: Work::IdleMemory,
        figures: &[Figure::IdleMemoryMib],
    },
    Row {
        name: "connection-memory",
        theme: Theme::Memory,
        title: "Idle connection",
        remark: "What the proportional set size of all its processes grows by for each open mTLS connection, one HTTP/1.1 exchange made on each",
        stage: one(Carries::Http1),
        work: Work::IdleConnections,
        figures: &[Figure::ConnectionKib],
    },
    Row {
        name: "start",
        theme: Theme::Life,
        title: "Start to first exchange",
        remark: "From exec to the end of the first HTTP/1.1 exchange over mTLS, tried every millisecond; the median of the \
                 tries of a round",
        stage: one(Carries::Http1),
        work: Work::Start,
        figures: &[Figure::StartMs],
    },
    Row {
        name: "rotation",
        theme: Theme::Life,
        title: "Certificate rotation under load",
        remark: "The certificate directory is swapped as the kubelet does it. Portcullis watches it by itself, Envoy through \
                 file-based SDS with `watched_directory`; nginx, HAProxy and hitch are told by their reload signal after \
                 each swap. Requests that failed under the load are counted, not forgiven",
        stage: one(Carries::Http1),
        work: Work::Rotation,
        figures: &[Figure::NoticedMs, Figure::FailedRequests],
    },
];

const CPU: &[Figure] = &[Figure::CpuUs, Figure::Rate, Figure::P50Us, Figure::P99Us];
const PER_GB: &[Figure] = &[Figure::CpuSecondsPerGb, Figure::GbPerSecond];

const fn one(carries: Carries) -> Stage {
    Stage { carries, hops: Hops::One, rules: Rules::Caller }
}

const fn through_two(carries: Carries) -> Stage {
    Stage { carries, hops: Hops::Two, rules: Rules::Caller }
}

const fn requests(name: &'static str, carries: Carries, path: &'static str, pace: Pace) -> Row {
    Row {
        name,
        theme: Theme::Requests,
        title: "",
        remark: "",
        stage: one(carries),
        work: Work::Requests { path, pace },
        figures: CPU,
    }
}

const fn two(name: &'static str, carries: Carries, path: &'static str, pace: Pace) -> Row {
    Row { theme: Theme::TwoSidecars, stage: through_two(carries), ..requests(name, carries, path, pace) }
}

const fn policy(name: &'static str, rules: usize) -> Row {
    Row {
        theme: Theme::Policy,
        remark: "HTTP/1.1 request, saturated. Each rule allows one caller one path; the last one is for this request",
        stage: Stage { rules: Rules::Many(rules), ..one(Carries::Http1) },
        ..requests(name, Carries::Http1, "/", Pace::Saturated)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_row_can_be_told_from_the_others_and_shows_something() {
        let names: BTreeSet<_> = ROWS.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), ROWS.len());
        assert!(ROWS.iter().all(|row| !row.title.is_empty() && !row.figures.is_empty()));
        assert!(Theme::ALL.iter().all(|theme| ROWS.iter().any(|row| row.theme == *theme)));
    }
}
