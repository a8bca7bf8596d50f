//! HTTP/2 flow control and liveness, the same for the connections that we accept and those that we open.

use std::time::Duration;

/// Four times the default of RFC 9113: enough for 20 Gbit/s at 100 µs on a host, and what a slow reader of one stream can
/// make us hold.
pub const STREAM_WINDOW: u32 = 256 << 10;
/// Sixteen streams at full speed. It also sets how many small DATA frames may wait for a reader: the HTTP/2 library takes
/// 256 bytes for each from a budget of half this window, and closes the connection, with all its streams, when that is
/// spent. 8,000 small messages of one slow gRPC stream must not do that to the others beside it; at 1 MiB it was 2,000.
pub const CONNECTION_WINDOW: u32 = 4 << 20;
/// With [`PING_TIMEOUT`] finds a peer that is gone without a word in 30 s, while streams are open.
pub const PING_INTERVAL: Duration = Duration::from_secs(20);
/// How long the answer to a ping may take.
pub const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// The smallest buffer for heads that the HTTP library takes, in bytes.
pub const SMALLEST_BUFFER: usize = 8192;
