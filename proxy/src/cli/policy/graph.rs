//! `portcullis policy graph`: who may call whom, as a picture.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use portcullis_policy::graph::{Filter, Graph};
use portcullis_policy::{Compiled, Policy};
use spiffe::SpiffeId;

use super::explain::parse_label;
use super::format::{Format, print_mistakes};
use super::{Error, Setting, files, parse_time};
use crate::cli::paint::Paint;
use crate::policy_store::directory;
use crate::policy_store::unix_seconds;

/// Options of `policy graph`.
#[derive(Debug, Args)]
pub struct Options {
    /// Directory with policy documents; may be repeated, and all of them are one set.
    #[arg(value_name = "DIR", required = true)]
    directories: Vec<PathBuf>,
    /// In which language to draw; `html` is a page that needs nothing else.
    #[arg(long, value_enum, default_value_t = GraphFormat::Mermaid)]
    format: GraphFormat,
    /// Only callers and workloads of this Kubernetes namespace, and what is at the other end.
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// Only what may call this workload.
    #[arg(long, value_name = "ID", value_parser = parse_identity)]
    workload: Option<SpiffeId>,
    #[command(flatten)]
    setting: Setting,
    /// A label of the workload, for policies that select workloads by label; may be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    labels: Vec<(String, String)>,
    /// Draw as of this time (RFC 3339, as in 2026-11-22T03:29:01Z) instead of now.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    at: Option<i64>,
}

/// In which language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum GraphFormat {
    Mermaid,
    Dot,
    Svg,
    Html,
}

pub(super) fn run(options: &Options, paint: Paint, out: &mut dyn Write) -> Result<(), Error> {
    let contents = directory::read(&options.directories)?;
    let labels = options.labels.iter().cloned().collect();
    let policy = match Policy::compile_with(&files(&contents), &options.setting.options(labels)) {
        Ok(Compiled { policy, .. }) => policy,
        Err(found) => {
            print_mistakes(&found, Format::Human, paint, out)?;
            return Err(Error::do_not_load(&found));
        }
    };
    let filter = Filter { namespace: options.namespace.as_deref(), workload: options.workload.as_ref() };
    let graph = Graph::of(&policy, filter, options.at.unwrap_or_else(unix_seconds));
    let text = match options.format {
        GraphFormat::Mermaid => graph.mermaid(),
        GraphFormat::Dot => graph.dot(),
        GraphFormat::Svg => graph.svg(),
        GraphFormat::Html => graph.html(),
    };
    out.write_all(text.as_bytes())?;
    Ok(())
}

fn parse_identity(text: &str) -> Result<SpiffeId, String> {
    SpiffeId::new(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use crate::cli::policy::tests::{AT, POLICY, compare, directory, portcullis};

    #[test]
    fn every_language_is_drawn() {
        let folder = directory(&[("policy.yaml", POLICY)]);
        for (format, extension) in [("mermaid", "mmd"), ("dot", "dot"), ("svg", "svg"), ("html", "html")] {
            let (text, error) = portcullis(&format!("graph DIR {AT} --format {format}"), folder.path());
            assert_eq!(error, None);
            compare(&format!("graph.{extension}"), &text, folder.path());
        }
        let (text, _) = portcullis(&format!("graph DIR {AT} --namespace nowhere"), folder.path());
        assert_eq!(text, "flowchart LR\n");
        let (text, _) = portcullis(&format!("graph DIR {AT} --workload spiffe://t/ns/x/sa/y"), folder.path());
        assert_eq!(text, "flowchart LR\n");
    }

    #[test]
    fn mistakes_are_told_in_place_of_a_picture() {
        let folder = directory(&[("policy.yaml", &POLICY.replace("spec:", "spce:"))]);
        let (text, error) = portcullis("graph DIR --format svg", folder.path());
        assert_eq!(error.as_deref(), Some("the policies do not load: 2 mistakes"));
        assert!(text.contains("error[P009]"), "{text}");
        assert!(portcullis("graph DIR --workload x", folder.path()).1.unwrap().starts_with("usage"));
    }
}
