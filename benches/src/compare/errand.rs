//! The command line that sends the generator through a path.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use rustls::NamedGroup;

use super::effort::Effort;
use super::peers::{Peer, Renewal};
use super::pki::{ENVIRONMENT, Pki, Workload};
use super::rows::{Pace, Row, Work};
use super::setup::Secure;
use super::stage::Carries;

/// The path that the generator is sent through.
#[derive(Clone, Copy)]
pub struct Way<'a> {
    /// Whose proxies are in it.
    pub peer: Peer,
    /// Where a caller connects to.
    pub port: u16,
    /// What a caller speaks there.
    pub secure: Secure,
    /// The processes of the proxies.
    pub pids: &'a [i32],
    /// The identity of the proxy beside the called service.
    pub identity: &'a Path,
    /// The process of the application.
    pub application: i32,
    /// The certificates.
    pub pki: &'a Pki,
}

/// A command of the generator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errand {
    /// The command and its options.
    pub arguments: Vec<String>,
    /// How long it should take.
    pub expected: Duration,
}

/// The command for the work of a row; none for work that needs no generator.
pub fn errand(way: &Way<'_>, threads: usize, effort: &Effort, row: &Row) -> Option<Errand> {
    let mut words = Words::default();
    let mut expected = effort.duration + effort.warm_up;
    match row.work {
        // Without a proxy there is no TLS to shake hands in.
        Work::Handshakes(_) if way.secure == Secure::Plain => words.say(&["connections"]),
        Work::Handshakes(group) => words.say(&["handshakes", "--group", group_name(group)]),
        Work::Connections => words.say(&["connections"]),
        Work::Requests { pace, .. } => {
            words.say(&["http"]);
            if pace == Pace::Fixed {
                words.option("--rate", effort.rate);
            }
        }
        Work::Stream => {
            words.say(&["stream", "--direction", "up", "--piece", effort.piece, "--connections", "1"]);
        }
        Work::IdleConnections => {
            words.say(&["idle"]);
            words.option("--connections", effort.idle);
            words.option("--hold", millis(effort.hold));
            expected = effort.hold;
        }
        Work::Rotation => {
            words.say(&["rotate", "--environment", ENVIRONMENT, "--id", Workload::Server.id()]);
            words.option("--ca-dir", way.pki.authority().display());
            // The names of the first certificate: hitch does not survive its second reload without a DNS name.
            words.option("--dns", Workload::Server.dns_name());
            words.option("--directory", way.identity.display());
            words.option("--swaps", effort.swaps);
            words.option("--interval", millis(effort.interval));
            if let (Renewal::Reload(signal), Some(pid)) = (way.peer.renewal(), way.pids.first()) {
                words.option("--reload", format!("kill -{} {pid}", signal_name(signal)));
            }
            expected = effort.interval * (effort.swaps + 1);
        }
        Work::IdleMemory | Work::Start => return None,
    }
    pace(&mut words, effort, row);
    words.option("--target", target(row, way));
    credentials(&mut words, way);
    match row.stage.carries {
        Carries::Http1 => words.say(&["--protocol", "http1"]),
        Carries::Http2 => words.say(&["--protocol", "http2"]),
        Carries::Tcp => {}
    }
    // Idle connections are opened one after the other, and cost the application nothing.
    if row.work != Work::IdleConnections {
        words.option("--threads", threads);
        words.option("--backend-pid", way.application);
    }
    for pid in way.pids {
        words.option("--pid", pid);
    }
    words.say(&["--json"]);
    Some(Errand { arguments: words.0, expected })
}

/// How many connections, streams and seconds.
fn pace(words: &mut Words, effort: &Effort, row: &Row) {
    match row.work {
        Work::Handshakes(_) | Work::Connections => words.option("--connections", effort.lanes),
        Work::Requests { .. } | Work::Rotation if row.stage.carries == Carries::Http2 => {
            // As many requests at once as with HTTP/1.1, on fewer connections, which is what HTTP/2 is for.
            words.option("--connections", (effort.connections / STREAMS).max(1));
            words.option("--streams", STREAMS);
        }
        Work::Requests { .. } | Work::Rotation => words.option("--connections", effort.connections),
        Work::Stream => {}
        Work::IdleConnections | Work::IdleMemory | Work::Start => return,
    }
    if row.work != Work::Rotation {
        words.option("--duration", millis(effort.duration));
        words.option("--warm-up", millis(effort.warm_up));
    }
}

fn target(row: &Row, way: &Way<'_>) -> String {
    let scheme = match (row.stage.carries, way.secure) {
        (Carries::Tcp, Secure::Mutual) => "tls",
        (Carries::Tcp, Secure::Plain) => "tcp",
        (Carries::Http1 | Carries::Http2, Secure::Mutual) => "https",
        (Carries::Http1 | Carries::Http2, Secure::Plain) => "http",
    };
    let path = match row.work {
        Work::Requests { path, .. } => path,
        _ if row.stage.carries == Carries::Tcp => "",
        _ => "/",
    };
    format!("{scheme}://127.0.0.1:{}{path}", way.port)
}

fn credentials(words: &mut Words, way: &Way<'_>) {
    if way.secure == Secure::Mutual {
        words.option("--identity", way.pki.caller.display());
        words.option("--ca", way.pki.trust().display());
        words.option("--expect", Workload::Server.id());
        words.option("--sni", "none");
    }
}

#[derive(Default)]
struct Words(Vec<String>);

impl Words {
    fn say(&mut self, words: &[&str]) {
        self.0.extend(words.iter().map(|word| (*word).to_owned()));
    }

    #[expect(clippy::needless_pass_by_value, reason = "numbers and `display()` read better by value")]
    fn option(&mut self, name: &str, value: impl ToString) {
        self.0.extend([name.to_owned(), value.to_string()]);
    }
}

fn group_name(group: NamedGroup) -> &'static str {
    match group {
        NamedGroup::X25519MLKEM768 => "x25519mlkem768",
        _ => "x25519",
    }
}

fn signal_name(signal: Signal) -> &'static str {
    if signal == Signal::USR2 { "USR2" } else { "HUP" }
}

fn millis(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

/// HTTP/2 requests at once on each connection.
const STREAMS: u32 = 8;

#[cfg(test)]
mod tests {
    use super::super::rows::ROWS;
    use super::*;

    /// The command for a row, as a line with the paths of the scratch directory replaced.
    fn line(name: &str, peer: Peer, secure: Secure) -> String {
        let scratch = tempfile::tempdir().unwrap();
        let pki = Pki::make(&scratch.path().join("pki")).unwrap();
        let pids = if peer == Peer::Direct { &[][..] } else { &[11, 12][..] };
        let way = Way { peer, port: 4443, secure, pids, identity: Path::new("ID"), application: 7, pki: &pki };
        let row = ROWS.iter().find(|row| row.name == name).unwrap();
        let errand = errand(&way, 1, &Effort::measuring(Duration::from_secs(5)), row).unwrap();
        errand.arguments.join(" ").replace(&scratch.path().display().to_string(), "")
    }

    const AS_CALLER: &str = "--identity /pki/caller --ca /pki/root.crt --expect spiffe://bench.internal/ns/bench/sa/server \
                             --sni none";

    #[test]
    fn load_over_mutual_tls_says_who_calls_and_who_must_answer() {
        let expected = format!(
            "http --rate 5000 --connections 4 --streams 8 --duration 5000ms --warm-up 1000ms \
             --target https://127.0.0.1:4443/ {AS_CALLER} --protocol http2 --threads 1 --backend-pid 7 --pid 11 --pid 12 --json"
        );
        assert_eq!(line("http2-5000", Peer::Envoy, Secure::Mutual), expected);
    }

    #[test]
    fn plaintext_has_no_certificates() {
        let line = line("two-connection", Peer::Nginx, Secure::Plain);
        assert!(line.starts_with("connections ") && line.contains("--target tcp://127.0.0.1:4443 "), "{line}");
        assert!(!line.contains("--identity") && !line.contains("--protocol"), "{line}");
    }

    #[test]
    fn without_a_proxy_connections_take_the_place_of_handshakes() {
        let direct = line("handshake-x25519", Peer::Direct, Secure::Plain);
        assert!(direct.starts_with("connections ") && !direct.contains("--pid"), "{direct}");
        let proxied = line("handshake-mlkem", Peer::Hitch, Secure::Mutual);
        assert!(proxied.starts_with("handshakes --group x25519mlkem768 "), "{proxied}");
    }

    #[test]
    fn a_reload_is_asked_for_where_files_are_not_watched() {
        assert!(line("rotation", Peer::Haproxy, Secure::Mutual).contains("--reload kill -USR2 11"));
        assert!(line("rotation", Peer::Hitch, Secure::Mutual).contains("--reload kill -HUP 11"));
        for peer in [Peer::Portcullis, Peer::Envoy] {
            assert!(!line("rotation", peer, Secure::Mutual).contains("--reload"));
        }
    }
}
