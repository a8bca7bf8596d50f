//! Logs and spans.

use portcullis_policy::document::Item;
use tracing::Level;

use super::CODES;
use crate::config::Logs;
use crate::config::values;
use crate::telemetry::access_log::Destination;
use crate::telemetry::log::Format;
use crate::telemetry::spans::SpanExport;

pub(super) fn logs(item: Item<'_>) -> Option<Logs> {
    let fields = item.fields(&["access", "format", "level"])?;
    let default = Logs::default();
    let access = fields.optional("access").map_or(Some(default.access), |item| {
        // `off` is a boolean to readers of YAML 1.1; here it can only be meant as a word.
        Some(match item.text()? {
            "stdout" => Destination::Stdout,
            "off" => Destination::Off,
            path if path.starts_with('/') => Destination::File(path.into()),
            _ => {
                let reported = item.error(CODES.bad_value, "`access` names no destination");
                reported.help("write stdout, off, or the absolute path of a file");
                return None;
            }
        })
    });
    let formats = [("json", Format::Json), ("text", Format::Text)];
    let format = fields.optional("format").map_or(Some(default.format), |item| item.choice(&formats));
    let levels = [
        ("error", Level::ERROR),
        ("warn", Level::WARN),
        ("info", Level::INFO),
        ("debug", Level::DEBUG),
        ("trace", Level::TRACE),
    ];
    let level = fields.optional("level").map_or(Some(default.level), |item| item.choice(&levels));
    Some(Logs { access: access?, format: format?, level: level? })
}

pub(super) fn tracing(item: Option<Item<'_>>, environment: Option<&str>, root: Item<'_>) -> Option<Option<SpanExport>> {
    let Some(item) = item else {
        let Some(endpoint) = environment else { return Some(None) };
        return match values::endpoint(endpoint) {
            Ok(endpoint) => Some(Some(SpanExport { endpoint, sample_ratio: SAMPLE_RATIO })),
            Err(error) => {
                let reported = root.error(CODES.bad_value, format!("OTEL_EXPORTER_OTLP_ENDPOINT: {error}"));
                reported.help("send spans to a collector on this host, or through an outbound listener");
                None
            }
        };
    };
    let fields = item.fields(&["endpoint", "sampleRatio"])?;
    let endpoint = fields.required("endpoint").and_then(|item| item.parsed(CODES.bad_value, values::endpoint));
    let sample_ratio = fields.optional("sampleRatio").map_or(Some(SAMPLE_RATIO), |item| {
        values::share(item.text()?).map_err(|error| drop(item.error(CODES.bad_value, error.to_string()))).ok()
    });
    Some(Some(SpanExport { endpoint: endpoint?, sample_ratio: sample_ratio? }))
}

/// One request in a hundred: enough to see, little enough to store.
const SAMPLE_RATIO: f64 = 0.01;
