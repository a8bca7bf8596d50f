//! What the comparison ran on.

use std::fs;

use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The model of its processor.
    pub processor: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Release of its kernel.
    pub kernel: String,
    /// The distribution.
    pub system: String,
    /// How the cores were divided.
    pub division: String,
}

impl Machine {
    /// Looks around. What cannot be found out is `unknown`.
    pub fn look(cores: usize, division: String) -> Self {
        let unknown = || "unknown".to_owned();
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self {
            processor: value(&read("/proc/cpuinfo"), "model name", ':').unwrap_or_else(unknown),
            cores,
            kernel: Some(read("/proc/sys/kernel/osrelease").trim().to_owned())
                .filter(|release| !release.is_empty())
                .unwrap_or_else(unknown),
            system: value(&read("/etc/os-release"), "PRETTY_NAME", '=').unwrap_or_else(unknown),
            division,
        }
    }
}

/// The value behind a key in lines of keys and values.
fn value(text: &str, key: &str, separator: char) -> Option<String> {
    let mut lines = text.lines().filter_map(|line| line.split_once(separator));
    let (_, value) = lines.find(|(found, _)| found.trim() == key)?;
    Some(value.trim().trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_keys() {
        assert_eq!(value("a\t: 1\nmodel name\t: Fast 9\n", "model name", ':').as_deref(), Some("Fast 9"));
        assert_eq!(value("PRETTY_NAME=\"A B\"\n", "PRETTY_NAME", '=').as_deref(), Some("A B"));
        assert_eq!(value("", "x", ':'), None);
    }
}
