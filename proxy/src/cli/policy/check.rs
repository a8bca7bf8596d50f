//! `portcullis policy check`: every mistake, and what the authors of the documents should look at.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use portcullis_policy::diagnostic::{Diagnostics, Severity};
use portcullis_policy::findings::{self, Inventory, Question, Sidecar};
use portcullis_policy::{Compiled, Policy};
use serde_json::json;
use spiffe::SpiffeId;

use super::format::{self, Format, print_mistakes};
use super::{Common, Error, count, files, parse_identity, read_file};
use crate::cli::paint::Paint;
use crate::config::{Config, Protocol};

/// Options of `policy check`.
#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    common: Common,
    /// The identities that workloads have, one SPIFFE ID a line, comments after `#`.
    #[arg(long, value_name = "FILE")]
    inventory: Option<PathBuf>,
    /// Whose sidecar --config is for, where it names no `identity.spiffeId`. Rules for it must fit its ports.
    #[arg(long, value_name = "ID", requires = "config", value_parser = parse_identity)]
    workload: Option<SpiffeId>,
    /// Leave out findings with this code, as in P112; errors stay. May be repeated.
    #[arg(long, value_name = "CODE")]
    ignore: Vec<String>,
}

pub(super) fn run(check: &Check, paint: Paint, out: &mut dyn Write) -> Result<(), Error> {
    let format = check.common.format;
    let paint = check.common.color.paint(paint);
    let config = match check.common.configuration()? {
        Ok(config) => config,
        Err(found) => return refuse(&found, format, paint, out),
    };
    let options = check.common.options(config.as_ref())?;
    let sidecar = config.map(|config| sidecar(check, config)).transpose()?;
    let contents = check.common.read()?;
    let files = files(&contents);
    let inventory = match &check.inventory {
        None => None,
        Some(path) => match Inventory::parse(&path.display().to_string(), &read_file(path, MOST_INVENTORY)?) {
            Ok(inventory) => Some(inventory),
            Err(found) => return refuse(&found, format, paint, out),
        },
    };
    let Compiled { warnings, .. } = match Policy::compile_with(&files, &options) {
        Ok(compiled) => compiled,
        Err(found) => return refuse(&found, format, paint, out),
    };
    let question = Question {
        now: check.common.now(),
        options: &options,
        inventory: inventory.as_ref(),
        sidecar: sidecar.as_ref(),
    };
    let mut found = match findings::examine(&files, &question) {
        Ok(found) => found,
        Err(found) => return refuse(&found, format, paint, out),
    };
    found.append(warnings);
    let mut kept = Diagnostics::default();
    let is_kept = |code: &str, severity| severity == Severity::Error || !check.ignore.iter().any(|one| one == code);
    found.iter().filter(|one| is_kept(one.code, one.severity)).for_each(|one| kept.push(one.clone()));
    kept.sort();
    let (errors, warnings) = (count(&kept, Severity::Error), count(&kept, Severity::Warning));
    let rules = contents.files.len();
    format::print(&kept, format, paint, |found| json!({ "files": rules, "findings": found }), out)?;
    if format == Format::Human {
        writeln!(out, "{}", format::summary(&kept, paint))?;
    }
    if errors + warnings + found.dropped() > 0 { Err(Error::Found { errors, warnings }) } else { Ok(()) }
}

fn refuse(found: &Diagnostics, format: Format, paint: Paint, out: &mut dyn Write) -> Result<(), Error> {
    print_mistakes(found, format, paint, out)?;
    Err(Error::do_not_load(found))
}

/// What the policies must fit.
fn sidecar(check: &Check, config: Config) -> Result<Sidecar, Error> {
    let services = config.services().cloned().collect();
    let workload = check.workload.clone().or(config.identity.spiffe_id).ok_or(Error::NoWorkload)?;
    let (opaque, http): (Vec<_>, Vec<_>) = config.inbound.iter().partition(|inbound| inbound.protocol == Protocol::Tcp);
    let ports = |all: Vec<&crate::config::Inbound>| all.iter().map(|inbound| inbound.forward.port()).collect();
    Ok(Sidecar { workload, opaque: ports(opaque), http: ports(http), services })
}

/// A hundred thousand identities take a tenth of it.
const MOST_INVENTORY: u64 = 64 << 20;
