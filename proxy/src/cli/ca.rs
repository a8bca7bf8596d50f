//! `portcullis ca`: the command line of the certificate authority. Parses and prints; [`crate::ca`] does the work.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use spiffe::{SpiffeId, TrustDomain};

use crate::ca::{
    self, Authority, Chain, IdentityPattern, Intermediate, IntermediateOptions, KeyEncoding, Layout, LeafOptions,
    LifetimeLimit, Reason, Request, RevocationList, RootOptions, Serial, UriConstraint, Validity, is_environment_name,
    parse_lifetime, timestamp,
};

/// A small certificate authority for development, drills and virtual machines. Not for production.
#[derive(Debug, Subcommand)]
#[command(about = "A small certificate authority for development, drills and VMs; not for production")]
pub enum Command {
    /// Make a root and an intermediate per environment; not for production.
    ///
    /// Writes root.crt, root/ (take it offline: only `init --add`, `revoke --root` and `crl --root` need it) and
    /// environments/NAME/. A certificate authority that exists is never overwritten.
    Init(Init),
    /// Make a key and a certificate for a workload, in cert-manager's files; not for production.
    ///
    /// Writes tls.crt (leaf, then intermediate), tls.key (mode 0600) and ca.crt (root). Run it again to renew.
    Issue(Issue),
    /// Sign a certificate request that was carried here; not for production.
    ///
    /// Only the key and the SPIFFE ID are taken from the request: its one URI name, which --allow must allow.
    Sign(Sign),
    /// Record that a certificate is revoked; `ca crl` then lists it; not for production.
    Revoke(Revoke),
    /// Write the list of revoked certificates of an issuer; not for production.
    Crl(Crl),
}

/// Options of `ca init`.
#[derive(Debug, Args)]
pub struct Init {
    /// Directory of the certificate authority; empty or missing.
    #[arg(long)]
    dir: PathBuf,
    /// An environment and its trust domain, as in prod=prod.health.internal; may be repeated.
    #[arg(long = "environment", value_name = "NAME=TRUST_DOMAIN", required = true)]
    environments: Vec<Environment>,
    /// Add the environments to the certificate authority that is in DIR; needs its root key.
    #[arg(long, conflicts_with_all = ["name", "lifetime"])]
    add: bool,
    /// Name of the root, to which random digits are added.
    #[arg(long, default_value = "Portcullis root")]
    name: String,
    /// Lifetime of the root.
    #[arg(long, default_value = "3650d", value_parser = parse_lifetime)]
    lifetime: Duration,
    /// Lifetime of the intermediates; ends with the root at the latest.
    #[arg(long, default_value = "365d", value_parser = parse_lifetime)]
    intermediate_lifetime: Duration,
    /// Hold each intermediate to its trust domain by a URI name constraint.
    ///
    /// Off by default: stock webpki, which most rustls programs verify with, implements no URI constraints and refuses
    /// every SPIFFE certificate below such an intermediate. Portcullis judges them.
    #[arg(long)]
    uri_name_constraints: bool,
}

/// Options of `ca issue`.
#[derive(Debug, Args)]
pub struct Issue {
    #[command(flatten)]
    signer: Signer,
    /// SPIFFE ID of the workload, as in spiffe://prod.health.internal/ns/claims/sa/adjudicator.
    #[arg(long, value_name = "SPIFFE_ID", value_parser = parse_identity)]
    id: SpiffeId,
    /// Directory to write tls.crt, tls.key and ca.crt to; made if it is missing.
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    leaf: Leaf,
    /// Encoding of the private key; cert-manager writes sec1 unless told otherwise.
    #[arg(long, value_enum, default_value_t = Encoding::Sec1)]
    key_encoding: Encoding,
    /// Write the symlinks of a kubelet volume and exchange all files in one step; a directory that has them keeps them.
    #[arg(long)]
    kubelet: bool,
}

/// Options of `ca sign`.
#[derive(Debug, Args)]
pub struct Sign {
    #[command(flatten)]
    signer: Signer,
    /// File with the certificate request in PEM.
    #[arg(long, value_name = "FILE")]
    csr: PathBuf,
    /// SPIFFE ID that may be asked for; by whole segment `*` is one and a last `**` the rest; may be repeated.
    #[arg(long, value_name = "PATTERN", required = true)]
    allow: Vec<IdentityPattern>,
    /// Directory to write tls.crt and ca.crt to; without it the chain is printed.
    #[arg(long)]
    out: Option<PathBuf>,
    #[command(flatten)]
    leaf: Leaf,
}

/// Options of `ca revoke`.
#[derive(Debug, Args)]
pub struct Revoke {
    /// Serial number in hexadecimal, with or without colons.
    serial: Serial,
    #[command(flatten)]
    issuer: IssuerChoice,
    /// Why.
    #[arg(long, value_enum, default_value_t = ReasonChoice::Unspecified)]
    reason: ReasonChoice,
}

/// Options of `ca crl`.
#[derive(Debug, Args)]
pub struct Crl {
    #[command(flatten)]
    issuer: IssuerChoice,
    /// How long until verifiers should have a newer list.
    #[arg(long, default_value = "7d", value_parser = parse_lifetime)]
    lifetime: Duration,
    /// File to write the list to, in PEM; without it the list is printed.
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Signer {
    /// Directory of the certificate authority.
    #[arg(long)]
    dir: PathBuf,
    /// Environment whose intermediate signs; without it the one that has the SPIFFE ID's trust domain.
    #[arg(long, value_name = "NAME")]
    environment: Option<String>,
}

impl Signer {
    fn open(&self, trust_domain: &TrustDomain) -> Result<Intermediate, ca::Error> {
        let authority = Authority::open(&self.dir)?;
        match &self.environment {
            Some(environment) => authority.intermediate(environment),
            None => authority.intermediate_for(trust_domain),
        }
    }
}

#[derive(Debug, Args)]
struct Leaf {
    /// Lifetime of the certificate; ends with the intermediate at the latest.
    #[arg(long, default_value = "24h", value_parser = parse_lifetime)]
    lifetime: Duration,
    /// Allow a lifetime of more than 72h.
    #[arg(long)]
    force_long: bool,
    /// DNS name beside the SPIFFE ID, for peers that know none; may be repeated.
    #[arg(long = "dns", value_name = "NAME")]
    dns_names: Vec<String>,
    /// Address beside the SPIFFE ID; may be repeated.
    #[arg(long = "ip", value_name = "ADDRESS")]
    ip_addresses: Vec<IpAddr>,
}

impl Leaf {
    fn options(&self) -> LeafOptions {
        LeafOptions {
            validity: Validity::For(self.lifetime),
            lifetime_limit: if self.force_long { LifetimeLimit::Issuer } else { LifetimeLimit::Hours72 },
            dns_names: self.dns_names.clone(),
            ip_addresses: self.ip_addresses.clone(),
            ..LeafOptions::default()
        }
    }
}

#[derive(Debug, Args)]
struct IssuerChoice {
    /// Directory of the certificate authority.
    #[arg(long)]
    dir: PathBuf,
    /// Environment whose intermediate issued the certificates.
    #[arg(long, value_name = "NAME", required_unless_present = "root", conflicts_with = "root")]
    environment: Option<String>,
    /// The root, which issued the intermediates; needs its key.
    #[arg(long)]
    root: bool,
}

#[derive(Debug, Clone)]
struct Environment {
    name: String,
    trust_domain: TrustDomain,
}

impl FromStr for Environment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, domain) = text.split_once('=').ok_or("write NAME=TRUST_DOMAIN, as in prod=prod.health.internal")?;
        if !is_environment_name(name) {
            return Err(ca::Error::EnvironmentName { name: name.to_owned() }.to_string());
        }
        let trust_domain = TrustDomain::new(domain).map_err(|error| format!("`{domain}`: {error}"))?;
        if trust_domain.as_str() != domain {
            return Err(format!("`{domain}` is not a bare trust domain: write `{trust_domain}`"));
        }
        Ok(Self { name: name.to_owned(), trust_domain })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Encoding {
    Sec1,
    Pkcs8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ReasonChoice {
    Unspecified,
    KeyCompromise,
    CaCompromise,
    AffiliationChanged,
    Superseded,
    CessationOfOperation,
    PrivilegeWithdrawn,
}

impl From<ReasonChoice> for Reason {
    fn from(choice: ReasonChoice) -> Self {
        match choice {
            ReasonChoice::Unspecified => Self::Unspecified,
            ReasonChoice::KeyCompromise => Self::KeyCompromise,
            ReasonChoice::CaCompromise => Self::CaCompromise,
            ReasonChoice::AffiliationChanged => Self::AffiliationChanged,
            ReasonChoice::Superseded => Self::Superseded,
            ReasonChoice::CessationOfOperation => Self::CessationOfOperation,
            ReasonChoice::PrivilegeWithdrawn => Self::PrivilegeWithdrawn,
        }
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The certificate authority refused.
    #[error(transparent)]
    Authority(#[from] ca::Error),
    /// One environment is named twice.
    #[error("the environment `{environment}` is given twice: give each name once")]
    EnvironmentTwice {
        /// Its name.
        environment: String,
    },
    /// The result could not be printed.
    #[error("could not print the result")]
    Print(#[from] io::Error),
}

/// Carries out a command and prints what it did to `out`.
///
/// # Errors
/// When the authority refuses, or `out` does.
pub fn run(command: &Command, out: &mut dyn Write) -> Result<(), Error> {
    match command {
        Command::Init(init) => run_init(init, out),
        Command::Issue(issue) => run_issue(issue, out),
        Command::Sign(sign) => run_sign(sign, out),
        Command::Revoke(revoke) => run_revoke(revoke, out),
        Command::Crl(crl) => run_crl(crl, out),
    }
}

fn run_init(init: &Init, out: &mut dyn Write) -> Result<(), Error> {
    // Before anything is made, since half of it could not be made again.
    let mut names = BTreeSet::new();
    if let Some(twice) = init.environments.iter().find(|environment| !names.insert(&environment.name)) {
        return Err(Error::EnvironmentTwice { environment: twice.name.clone() });
    }
    let dir = init.dir.display();
    let authority = if init.add {
        Authority::open(&init.dir)?
    } else {
        let options = RootOptions { name: init.name.clone(), validity: Validity::For(init.lifetime) };
        let authority = Authority::init(&init.dir, &options)?;
        writeln!(out, "root: {dir}/root.crt, the trust bundle of every environment")?;
        writeln!(out, "  take {dir}/root offline when you are done: issuing works without it")?;
        authority
    };
    let uri_constraint = if init.uri_name_constraints { UriConstraint::TrustDomain } else { UriConstraint::Absent };
    let options = IntermediateOptions { validity: Validity::For(init.intermediate_lifetime), uri_constraint };
    for Environment { name, trust_domain } in &init.environments {
        let made = authority.create_intermediate(name, trust_domain, &options)?;
        writeln!(out, "environment {name}: {dir}/environments/{name}/intermediate.crt signs for {trust_domain}")?;
        let serial = made.serial().map(|serial| serial.to_string()).unwrap_or_default();
        writeln!(out, "  serial {serial}, until {}", timestamp(made.not_after()))?;
    }
    writeln!(out, "not for production: its keys lie unencrypted in files")?;
    Ok(())
}

fn run_issue(issue: &Issue, out: &mut dyn Write) -> Result<(), Error> {
    let intermediate = issue.signer.open(issue.id.trust_domain())?;
    let key_encoding = match issue.key_encoding {
        Encoding::Sec1 => KeyEncoding::Sec1,
        Encoding::Pkcs8 => KeyEncoding::Pkcs8,
    };
    let leaf = intermediate.issue(&issue.id, &LeafOptions { key_encoding, ..issue.leaf.options() })?;
    leaf.write(&issue.out, if issue.kubelet { Layout::Kubelet } else { Layout::AsFound })?;
    report(&issue.id, &leaf.chain, out)?;
    writeln!(out, "  tls.crt, tls.key and ca.crt are in {}", issue.out.display())?;
    Ok(())
}

fn run_sign(sign: &Sign, out: &mut dyn Write) -> Result<(), Error> {
    let request = Request::from_pem(&read(&sign.csr)?)?;
    let intermediate = sign.signer.open(request.identity().trust_domain())?;
    let chain = intermediate.sign(&request, &sign.allow, &sign.leaf.options())?;
    let Some(dir) = &sign.out else {
        // Nothing else is printed, so that the output is the file.
        out.write_all(chain.pem().as_bytes())?;
        return Ok(());
    };
    chain.write(dir)?;
    report(request.identity(), &chain, out)?;
    for name in request.left_out() {
        writeln!(out, "  left out, because names come from --dns and --ip only: {name:?}")?;
    }
    writeln!(out, "  tls.crt and ca.crt are in {}: carry them to the key", dir.display())?;
    Ok(())
}

fn run_revoke(revoke: &Revoke, out: &mut dyn Write) -> Result<(), Error> {
    let authority = Authority::open(&revoke.issuer.dir)?;
    let revocation = match &revoke.issuer.environment {
        Some(environment) => authority.intermediate(environment)?.revoke(revoke.serial, revoke.reason.into()),
        None => authority.revoke(revoke.serial, revoke.reason.into()),
    }?;
    writeln!(out, "serial {} is revoked since {}", revocation.serial, timestamp(revocation.at))?;
    writeln!(out, "  it takes effect with the next list: run `portcullis ca crl` and publish it")?;
    Ok(())
}

fn run_crl(crl: &Crl, out: &mut dyn Write) -> Result<(), Error> {
    let authority = Authority::open(&crl.issuer.dir)?;
    let validity = Validity::For(crl.lifetime);
    let list = match &crl.issuer.environment {
        Some(environment) => authority.intermediate(environment)?.revocation_list(validity),
        None => authority.revocation_list(validity),
    }?;
    let Some(path) = &crl.out else {
        // Nothing else is printed, so that the output is the file.
        out.write_all(list.pem().as_bytes())?;
        return Ok(());
    };
    list.write(path)?;
    let RevocationList { number, revoked, next_update, .. } = list;
    let until = timestamp(next_update);
    writeln!(out, "list {number} with {revoked} revoked, next due by {until}, is in {}", path.display())?;
    Ok(())
}

fn report(identity: &SpiffeId, chain: &Chain, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{identity}\n  serial {}, until {}", chain.serial, timestamp(chain.not_after))
}

fn read(path: &Path) -> Result<String, ca::Error> {
    fs::read_to_string(path).map_err(|source| ca::Error::File { action: "read", path: path.to_owned(), source })
}

fn parse_identity(text: &str) -> Result<SpiffeId, String> {
    SpiffeId::new(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(subcommand)]
        command: Command,
    }

    fn portcullis(line: &str) -> Result<String, String> {
        let program = Program::try_parse_from(std::iter::once("ca").chain(line.split_whitespace()));
        let mut out = Vec::new();
        run(&program.map_err(|error| error.to_string())?.command, &mut out).map_err(|error| error.to_string())?;
        Ok(String::from_utf8(out).unwrap())
    }

    fn word_after(text: &str, word: &str) -> String {
        let mut words = text.split([' ', ',', '\n']).skip_while(|candidate| *candidate != word);
        words.nth(1).unwrap().to_owned()
    }

    #[test]
    fn the_command_line_is_well_formed_and_warns() {
        let mut program = Program::command();
        program.clone().debug_assert();
        for command in program.get_subcommands_mut() {
            let help = command.render_long_help().to_string();
            assert!(help.contains("not for production"), "{help}");
        }
    }

    #[test]
    fn a_drill_from_root_to_revocation() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name).display().to_string();
        let (dir, out) = (at("pki"), at("identity"));

        let init = format!("init --dir {dir} --environment prod=prod.test --environment dev=dev.test");
        assert!(portcullis(&init).unwrap().contains("not for production"));
        assert!(portcullis(&init).unwrap_err().contains("never overwritten"));
        portcullis(&format!("init --dir {dir} --add --environment staging=staging.test")).unwrap();

        fs::rename(at("pki/root"), at("offline")).unwrap();
        let issue = format!("issue --dir {dir} --id spiffe://prod.test/ns/a/sa/b --out {out}");
        let serial = word_after(&portcullis(&issue).unwrap(), "serial");
        assert!(fs::read_to_string(at("identity/tls.key")).unwrap().contains("EC PRIVATE KEY"));
        portcullis(&format!("{issue} --kubelet --key-encoding pkcs8")).unwrap();
        assert!(fs::read_to_string(at("identity/tls.key")).unwrap().contains("BEGIN PRIVATE KEY"));
        assert!(at("identity/..data").parse::<PathBuf>().unwrap().is_symlink());

        let revoke = format!("revoke {serial} --dir {dir} --environment prod --reason key-compromise");
        assert!(portcullis(&revoke).unwrap().contains(&serial));
        let crl = at("prod.crl");
        let listed = portcullis(&format!("crl --dir {dir} --environment prod --out {crl}")).unwrap();
        assert!(listed.starts_with("list 1 with 1 revoked"), "{listed}");
        assert!(portcullis(&format!("crl --dir {dir} --root")).unwrap_err().contains("offline"));
        fs::rename(at("offline"), at("pki/root")).unwrap();
        assert!(portcullis(&format!("crl --dir {dir} --root")).unwrap().starts_with("-----BEGIN X509 CRL-----"));
    }

    #[test]
    fn wrong_command_lines_make_nothing() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("pki").display().to_string();
        for (line, word) in [
            (format!("init --dir {dir}"), "--environment"),
            (format!("init --dir {dir} --environment prod"), "NAME=TRUST_DOMAIN"),
            (format!("init --dir {dir} --environment ../x=prod.test"), "not an environment name"),
            (format!("init --dir {dir} --environment prod=spiffe://prod.test/x"), "bare trust domain"),
            (format!("init --dir {dir} --environment a=a.test --environment a=b.test"), "twice"),
            (format!("init --dir {dir} --environment a=a.test --lifetime 1y"), "length of time"),
            (format!("issue --dir {dir} --id spiffe://a.test/x --out {dir}"), "no certificate authority"),
            (format!("crl --dir {dir}"), "--environment"),
            (format!("crl --dir {dir} --root --environment a"), "cannot be used with"),
        ] {
            let error = portcullis(&line).unwrap_err();
            assert!(error.contains(word), "{line}: {error}");
            assert!(!scratch.path().join("pki").exists(), "{line}");
        }
    }
}
