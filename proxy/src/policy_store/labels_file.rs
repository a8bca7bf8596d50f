//! The labels of the workload as the kubelet writes them into a file of the downward API: `name="value"`, one a line.
//!
//! They say which policies select the workload, a denying one among them, so a file that is missing or not understood is no
//! set without labels: there is no policy until it can be read, or the last good one stays.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::config::labels;

/// Why the labels of the workload are not known.
#[derive(Debug, thiserror::Error)]
pub enum LabelsError {
    /// The file cannot be read.
    #[error("the labels of the workload cannot be read from `{}`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is larger than the labels of any pod.
    #[error("`{}` holds more than {MOST_BYTES} bytes, and no pod has that many labels", .0.display())]
    TooLarge(PathBuf),
    /// A line is something else.
    #[error("line {line} of `{}` is no label; the kubelet writes name=\"value\"", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from one.
        line: usize,
    },
}

impl LabelsError {
    /// The fixed word for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "labels_unreadable",
            Self::TooLarge(_) => "labels_too_large",
            Self::Malformed { .. } => "labels_malformed",
        }
    }
}

/// Reads the labels.
///
/// # Errors
/// When the file is missing, too large, or says anything else.
pub fn read(path: &Path) -> Result<BTreeMap<String, String>, LabelsError> {
    let unreadable = |source| LabelsError::Unreadable { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(LabelsError::TooLarge(path.to_owned()));
    }
    let text = String::from_utf8_lossy(&bytes);
    let mut labels = BTreeMap::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
        let malformed = || LabelsError::Malformed { path: path.to_owned(), line: index + 1 };
        let (name, value) = label(line).ok_or_else(malformed)?;
        if labels.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(malformed());
        }
    }
    Ok(labels)
}

/// Values are quoted, and nothing that a label may have needs an escape.
fn label(line: &str) -> Option<(&str, &str)> {
    let (name, quoted) = line.split_once('=')?;
    let value = quoted.strip_prefix('"')?.strip_suffix('"')?;
    (labels::is_name(name) && labels::is_value(value)).then_some((name, value))
}

/// Two hundred of the longest labels that there can be.
const MOST_BYTES: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Vec<(String, String)>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("labels");
        std::fs::write(&path, text).unwrap();
        read(&path).map(|labels| labels.into_iter().collect()).map_err(|error| match error {
            LabelsError::Malformed { line, .. } => format!("line {line}"),
            other => other.label().to_owned(),
        })
    }

    #[test]
    fn labels_are_read_as_the_kubelet_writes_them_and_nothing_else_is() {
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let written = "app=\"api\"\napp.kubernetes.io/part-of=\"claims\"\npod-template-hash=\"5d8f\"\nempty=\"\"";
        let expected =
            [("app", "api"), ("app.kubernetes.io/part-of", "claims"), ("empty", ""), ("pod-template-hash", "5d8f")];
        assert_eq!(of(written), Ok(expected.map(|(name, value)| label(name, value)).to_vec()));
        assert_eq!(of(""), Ok(Vec::new()));
        for (text, told) in [
            ("app=api", "line 1"),
            ("app=\"api\"\napp: api", "line 2"),
            ("app=\"a\\n\"", "line 1"),
            ("app=\"a\"b\"", "line 1"),
            ("a b=\"c\"", "line 1"),
            ("app=\"api\"\napp=\"other\"", "line 2"),
            ("app=\"\u{1b}\"", "line 1"),
        ] {
            assert_eq!(of(text), Err(told.to_owned()), "{text:?}");
        }
        assert_eq!(of(&"\n".repeat(65_537)), Err("labels_too_large".to_owned()));
        assert_eq!(read(Path::new("/nowhere/labels")).unwrap_err().label(), "labels_unreadable");
    }
}
