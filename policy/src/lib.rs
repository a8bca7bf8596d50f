//! Policy language, compiler and decision engine of Portcullis.
//!
//! Documents go in as bytes and come out as one immutable [`Policy`], or as every mistake in them; a decision is a pure
//! function of that policy and of borrowed facts. No files, no async, no TLS, no clock: time comes in as a value, and
//! what is missing or not understood never allows.
//!
//! Each group of modules uses only itself and those above it.

// Reading: files as trees, and what is wrong with them.
pub mod diagnostic;
pub mod document;
pub mod source;

// Words of the language, and the facts they are matched with.
mod identity;
pub mod path;
mod request;
mod text;

mod matchers;

// One intermediate form, and what is lowered to it.
mod case;
mod rules;
mod service;

mod istio;
mod native;

// The engine.
mod index;

mod policy;

mod decide;

mod explain;

pub mod testing;

// The whole set, for its authors.
pub mod codes;
pub mod diff;
pub mod findings;
pub mod graph;

// Documents for authors: what tools write, and what they write it from.
pub mod import;
pub mod suggest;
pub mod write;

pub use decide::{Admission, Decision, Denial, Verdict};
pub use explain::{Candidate, Explanation, Miss};
pub use identity::{IdentityPattern, IdentityPatternError, IdentitySegment};
pub use policy::{Compiled, DefaultAction, Options, Policy, RuleRef};
pub use request::{Connection, HeaderValues, Request};
pub use rules::{Effect, Mode, Origin, Rule};
pub use service::{Protocol, Service, ServiceName, Services};
pub use source::File;
pub use text::{Glob, TextPattern};
