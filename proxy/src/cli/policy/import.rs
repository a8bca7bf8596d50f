//! `portcullis policy import`: policies of Istio or Linkerd as documents of our language, or why not.
//!
//! Standard output gets policies that mean the same, or none. What is refused goes to standard error, so that it cannot
//! end up in a file of policies.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ipnet::IpNet;
use portcullis_policy::diagnostic::Severity;
use portcullis_policy::import::{self, Mapping, Workload};
use portcullis_policy::source::MAX_FILE_BYTES;
use portcullis_policy::write;
use portcullis_policy::{File, Options};
use serde_json::json;
use spiffe::TrustDomain;

use super::format::{self, Format};
use super::{Error, count, read_file};
use crate::cli::paint::{Colour, Paint};

/// Options of `policy import`.
#[derive(Debug, Args)]
pub struct Import {
    /// Whose policies they are.
    #[arg(value_enum)]
    mesh: Mesh,
    /// Files with the policies, all that belong together.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Which identity the pods with some labels have, as in `app=web=spiffe://trust.domain/ns/shop/sa/web`, with commas
    /// between several labels; may be repeated.
    #[arg(long, value_name = "LABELS=ID", value_parser = parse_workload)]
    workload: Vec<Workload>,
    /// What the name of a port stands for; may be repeated.
    #[arg(long, value_name = "NAME=NUMBER", value_parser = parse_port)]
    port: Vec<(String, u16)>,
    /// The trust domain of the cluster's workloads; of other clusters as in `cluster.west=west.example`, by their identity
    /// domain in Linkerd. May be repeated.
    #[arg(long, value_name = "[DOMAIN=]TRUST-DOMAIN", value_parser = parse_trust_domain)]
    trust_domain: Vec<(Option<String>, TrustDomain)>,
    /// Addresses of the cluster's pods, as in 10.0.0.0/8; may be repeated.
    #[arg(long, value_name = "CIDR", value_parser = parse_network)]
    cluster_network: Vec<IpNet>,
    /// The namespace whose policies of Istio's hold for the whole mesh.
    #[arg(long, value_name = "NAMESPACE", default_value = "istio-system")]
    root_namespace: String,
    /// How to print what is refused.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
    /// When to use colours; `auto` is on a terminal.
    #[arg(long, value_enum, default_value_t = Colour::Auto)]
    color: Colour,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mesh {
    Istio,
    Linkerd,
}

pub(super) fn run(import: &Import, out: &mut dyn Write) -> Result<(), Error> {
    let mapping = mapping(import)?;
    let mut contents = Vec::new();
    for path in &import.files {
        contents.push((path.display().to_string(), read_file(path, MAX_FILE_BYTES as u64)?));
    }
    let files: Vec<File<'_>> = contents.iter().map(|(name, bytes)| File { name, bytes }).collect();
    let imported = match import.mesh {
        Mesh::Linkerd => import::linkerd(&files, &mapping),
        Mesh::Istio => {
            let cluster_local = mapping.trust_domain.clone();
            let options =
                Options { root_namespace: import.root_namespace.clone(), cluster_local, ..Options::default() };
            import::istio(&files, &mapping, &options)
        }
    };
    let documents = match imported {
        Ok(documents) => documents,
        Err(found) => {
            // Standard error may be a terminal or not, whatever standard output is.
            let paint = import.color.paint(Paint::Plain);
            let mut told = String::new();
            match import.format {
                Format::Human => told = format::human(&found, paint),
                Format::Json | Format::Sarif | Format::Github => {
                    format::print(&found, import.format, paint, |found| json!({ "findings": found }), out)?;
                }
            }
            return Err(Error::NotImported { told, errors: count(&found, Severity::Error) });
        }
    };
    if documents.is_empty() {
        return Err(Error::NothingImported);
    }
    out.write_all(write::write(&documents)?.as_bytes())?;
    Ok(())
}

fn mapping(import: &Import) -> Result<Mapping, Error> {
    let mut mapping = Mapping {
        workloads: import.workload.clone(),
        ports: BTreeMap::new(),
        trust_domain: None,
        trust_domains: BTreeMap::new(),
        cluster_networks: import.cluster_network.clone(),
    };
    for (name, port) in &import.port {
        if mapping.ports.insert(name.clone(), *port).is_some() {
            return Err(Error::GivenTwice { what: format!("--port {name}=…") });
        }
    }
    for (of, domain) in &import.trust_domain {
        let known = match of {
            None => mapping.trust_domain.replace(domain.clone()),
            Some(of) => mapping.trust_domains.insert(of.clone(), domain.clone()),
        };
        if known.is_some() {
            return Err(Error::GivenTwice { what: "--trust-domain for one cluster".to_owned() });
        }
    }
    Ok(mapping)
}

fn parse_workload(text: &str) -> Result<Workload, String> {
    Workload::parse(text).map_err(|error| error.to_string())
}

fn parse_port(text: &str) -> Result<(String, u16), String> {
    let parsed =
        text.split_once('=').and_then(|(name, port)| Some((name, port.parse().ok().filter(|port| *port > 0)?)));
    let (name, port) = parsed.filter(|(name, _)| !name.is_empty()).ok_or("write it as NAME=NUMBER, as in http=8080")?;
    Ok((name.to_owned(), port))
}

fn parse_trust_domain(text: &str) -> Result<(Option<String>, TrustDomain), String> {
    let (of, domain) = text.split_once('=').map_or((None, text), |(of, domain)| (Some(of.to_owned()), domain));
    TrustDomain::new(domain).map(|domain| (of, domain)).map_err(|error| error.to_string())
}

fn parse_network(text: &str) -> Result<IpNet, String> {
    let network: IpNet = text.parse().map_err(|_| "write it as 10.0.0.0/8 or fd00::/8".to_owned())?;
    if network.trunc() == network { Ok(network) } else { Err(format!("write {}", network.trunc())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::path::Path;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        import: Import,
    }

    /// What is printed, and how it ends.
    fn import(folder: &Path, line: &str) -> (String, Option<String>) {
        let line = line.replace("DIR", &folder.display().to_string());
        let program = match Program::try_parse_from(std::iter::once("import").chain(line.split_whitespace())) {
            Ok(program) => program,
            Err(error) => return (String::new(), Some(format!("usage: {error}"))),
        };
        let mut out = Vec::new();
        let error = run(&program.import, &mut out).err();
        let error = error.map(|error| format!("{}: {error}", error.exit_code()));
        (String::from_utf8(out).unwrap(), error)
    }

    const LINKERD: &str = "apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: web, namespace: shop}
spec: {podSelector: {matchLabels: {app: web}}, port: http, proxyProtocol: HTTP/1}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: cart, namespace: shop}
spec:
  targetRef: {group: policy.linkerd.io, kind: Server, name: web}
  requiredAuthenticationRefs: [{kind: ServiceAccount, name: cart}]
";

    #[test]
    fn linkerd_is_imported_or_refused_whole() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.yaml"), LINKERD).unwrap();
        std::fs::write(folder.path().join("server.yaml"), LINKERD.split("---\n").next().unwrap()).unwrap();
        std::fs::write(folder.path().join("hostile\u{1b}[31m.yaml"), "kind: \"\\e[31m\"\napiVersion: x/y\n").unwrap();
        let known = "--workload app=web=spiffe://t/ns/shop/sa/web --port http=8080 --trust-domain t";
        let (text, error) = import(folder.path(), &format!("linkerd DIR/a.yaml {known}"));
        assert_eq!(error, None);
        assert!(
            text.contains("from: {identities: [spiffe://t/ns/shop/sa/cart]}\n      to: {ports: [8080]}\n"),
            "{text}"
        );
        let (text, error) = import(folder.path(), "linkerd DIR/a.yaml");
        let error = error.unwrap();
        assert!(text.is_empty() && error.starts_with("1: nothing was imported: 3 mistakes\n"), "{text}{error}");
        assert!(
            error.contains("a.yaml:4:21: error[P205]: ") && error.contains("  = help: say it with --workload"),
            "{error}"
        );
        let (text, error) = import(folder.path(), "linkerd DIR/a.yaml --format json");
        let found: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(found["findings"].as_array().unwrap().len(), 3);
        assert_eq!(error.unwrap(), "1: nothing was imported: 3 mistakes");
        let (_, error) = import(folder.path(), "linkerd DIR/hostile\u{1b}[31m.yaml");
        assert!(!error.as_ref().unwrap().contains('\u{1b}') && error.unwrap().contains("P200"));
        let (text, error) = import(folder.path(), &format!("linkerd DIR/server.yaml {known}"));
        assert!(text.is_empty() && error.unwrap().starts_with("1: there is nothing to import"));
    }

    #[test]
    fn wrong_command_lines_are_usage_errors() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.yaml"), LINKERD).unwrap();
        for (line, expected) in [
            ("linkerd", "usage: "),
            ("consul DIR/a.yaml", "usage: "),
            ("linkerd DIR/a.yaml --workload app=web", "usage: "),
            ("linkerd DIR/a.yaml --workload app=web=spiffe://t/*", "usage: "),
            ("linkerd DIR/a.yaml --port http", "usage: "),
            ("linkerd DIR/a.yaml --port http=0", "usage: "),
            ("linkerd DIR/a.yaml --trust-domain t!", "usage: "),
            ("linkerd DIR/a.yaml --cluster-network 10.0.0.1/8", "usage: "),
            ("linkerd DIR/a.yaml --port a=1 --port a=2", "64: --port a=… is given twice"),
            (
                "linkerd DIR/a.yaml --trust-domain t --trust-domain u",
                "64: --trust-domain for one cluster is given twice",
            ),
            ("linkerd DIR/nowhere.yaml", "1: `"),
        ] {
            let (text, error) = import(folder.path(), line);
            assert!(
                text.is_empty() && error.as_deref().is_some_and(|error| error.starts_with(expected)),
                "{line}: {error:?}"
            );
        }
    }
}
