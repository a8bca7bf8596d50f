//! A file as a tree of YAML nodes with places, and the hand that converts it.
//!
//! Strict on purpose: anchors, aliases, tags, merge keys and duplicate keys are refused, scalars that YAML 1.1 and 1.2
//! read differently are refused where they matter, and all mistakes are collected instead of stopping at the first
//! (which is why this is not serde). The policy language and the proxy's own configuration are both read with it.
//!
//! ```
//! use portcullis_policy::diagnostic::Codes;
//! use portcullis_policy::document::{Reader, parse};
//! use portcullis_policy::source::{File, Source};
//!
//! static CODES: Codes = Codes {
//!     encoding: "C001", too_large: "C002", hidden: "C003", syntax: "C004", too_deep: "C005",
//!     refused_feature: "C006", duplicate_key: "C007", bad_key: "C008", unknown_key: "C009",
//!     missing_key: "C010", wrong_kind: "C011", empty: "C012", ambiguous: "C013", bad_value: "C014",
//! };
//!
//! let bytes = b"workers: 010\nadmni: {listen: 127.0.0.1:15000}";
//! let file = File { name: "portcullis.yaml", bytes };
//! let source = Source::read(file, &CODES).unwrap();
//! let reader = Reader::new(&source, &CODES);
//! for node in &parse(&reader) {
//!     let root = reader.item(node, "configuration").fields(&["workers", "admin"]).unwrap();
//!     let workers = root.optional("workers").and_then(|item| item.integer(1..=1024));
//!     assert_eq!(workers, None);
//! }
//! let found = reader.into_diagnostics();
//! let codes: Vec<&str> = found.iter().map(|one| one.code).collect();
//! assert_eq!(codes, ["C009", "C013"]);
//! ```

mod parse;
mod reader;
mod scalar;

pub use parse::{MAX_DEPTH, parse};
pub use reader::{Fields, Item, Reader};
pub(crate) use scalar::reads_as_text;

use crate::source::Position;

/// A node of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Where it starts.
    pub position: Position,
    /// What it is.
    pub content: Content,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A scalar, with its escapes resolved.
    Scalar(String, Style),
    /// A list.
    Sequence(Vec<Node>),
    /// Keys with their values, in the order of the file, no key twice.
    Mapping(Vec<Entry>),
    /// A node that was refused and reported; readers pass over it in silence.
    Refused,
}

/// How a scalar was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Bare: YAML may take it for a number, a boolean or null.
    Plain,
    /// In quotes or as a block: always a string.
    Quoted,
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key starts.
    pub position: Position,
    /// The value.
    pub value: Node,
}
