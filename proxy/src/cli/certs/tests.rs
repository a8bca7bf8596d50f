//! Tests of `certs.rs` through its command line: what is printed, and how it ends.

use std::fs;
use std::path::Path;

use clap::{CommandFactory, Parser};
use serde_json::Value;

use self::pki::{API, Authority, DAY, HOUR, NOW, Prod, set_validity};
use super::*;

#[path = "../../../../certs-watcher/tests/it/pki.rs"]
mod pki;

#[derive(Debug, Parser)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

/// What is printed, and the error that it ends with.
fn portcullis_with(paint: Paint, line: &str) -> (String, Option<String>) {
    let program = match Program::try_parse_from(std::iter::once("certs").chain(line.split_whitespace())) {
        Ok(program) => program,
        Err(error) => return (String::new(), Some(format!("usage: {error}"))),
    };
    let mut out = Vec::new();
    let error = run(&program.command, paint, &mut out).err();
    let error = error.map(|error| format!("{}{error}", if error.exit_code() == 64 { "usage: " } else { "" }));
    (String::from_utf8(out).unwrap(), error)
}

fn portcullis(line: &str) -> (String, Option<String>) {
    portcullis_with(Paint::Plain, line)
}

/// The moment of the tests.
const AT: &str = "--at 2027-01-15T08:00:00Z";

fn write(path: &Path, content: impl AsRef<[u8]>) -> String {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
    path.display().to_string()
}

/// A Secret directory with a leaf that is fine but for its intermediate, and its path.
fn secret(directory: &Path, prod: &Prod) -> String {
    write(&directory.join("id/tls.crt"), prod.leaf.chain_pem());
    write(&directory.join("id/tls.key"), prod.leaf.key_pem());
    write(&directory.join("id/ca.crt"), prod.root.pem());
    directory.join("id").display().to_string()
}

/// The text without what differs from run to run.
fn stable(text: &str, directory: &Path, certificates: &[(&str, &[u8])]) -> String {
    let mut text = text.replace(&directory.display().to_string(), "DIR");
    for (name, der) in certificates {
        text = text.replace(&portcullis_certs_watcher::Fingerprint::of(der).to_string(), &format!("<{name}>"));
    }
    text
}

/// The prod estate with fixed serial numbers.
fn prod() -> Prod {
    let serial = |number: u64| Some(rcgen::SerialNumber::from(number));
    let root = Authority::root_with("root", |params| params.serial_number = serial(1));
    let intermediate = root.intermediate_with("prod", |params| params.serial_number = serial(2));
    let leaf = intermediate.leaf(API);
    Prod { root, intermediate, leaf }
}

#[test]
fn the_command_line_is_well_formed() {
    Program::command().debug_assert();
}

#[test]
fn a_secret_directory_is_drawn() {
    let (prod, scratch) = (prod(), tempfile::tempdir().unwrap());
    let id = secret(scratch.path(), &prod);
    let (text, error) = portcullis(&format!("inspect {id} {AT}"));
    assert_eq!(error, None);
    let ders: [(&str, &[u8]); 3] =
        [("leaf", &prod.leaf.chain[0]), ("prod", &prod.intermediate.der), ("root", &prod.root.der)];
    // A signature may be a byte shorter, and the leaf with it a line.
    let second =
        prod.leaf.chain_pem().match_indices('\n').zip(1..).find_map(|((end, _), line)| {
            prod.leaf.chain_pem()[end + 1..].starts_with("-----BEGIN").then_some(line + 1)
        });
    let text = stable(&text, scratch.path(), &ders).replace(&format!("tls.crt:{}:", second.unwrap()), "tls.crt:LINE:");
    let expected = include_str!("tests/secret.txt");
    assert!(text == expected, "it prints\n{text}\nand should print\n{expected}");
}

#[test]
fn times_are_told_from_the_moment_that_is_asked_for() {
    let (prod, scratch) = (prod(), tempfile::tempdir().unwrap());
    let id = secret(scratch.path(), &prod);
    let (text, error) = portcullis(&format!("inspect {id} --at 2027-01-16T10:03:00+02:00"));
    assert!(text.contains("2027-01-16T08:00:00Z (expired 3 min ago)"), "{text}");
    assert!(text.contains("error[K006]: `CN=leaf` (serial 0abc) expired at 2027-01-16T08:00:00Z"), "{text}");
    assert_eq!(error.unwrap(), "1 problem would make a sidecar refuse this");
}

#[test]
fn warnings_end_with_1_only_if_asked_for() {
    let (prod, scratch) = (prod(), tempfile::tempdir().unwrap());
    let id = secret(scratch.path(), &prod);
    assert_eq!(portcullis(&format!("inspect {id} {AT}")).1, None);
    let denied = portcullis(&format!("inspect {id} {AT} --deny-warnings")).1.unwrap();
    assert_eq!(denied, "2 warnings, and --deny-warnings is given");
    let root = write(&scratch.path().join("root.pem"), prod.root.pem());
    let (text, error) = portcullis(&format!("inspect prod.test={root} {AT} --deny-warnings"));
    assert!(text.ends_with("no problems found\n") && error.is_none(), "{text}");
}

#[test]
fn colours_and_control_sequences_only_where_they_are_wanted() {
    let scratch = tempfile::tempdir().unwrap();
    let leaf = Authority::root("root").leaf_with(API, |params| {
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "\u{1b}]0;title\u{7}");
    });
    let path = write(&scratch.path().join("leaf.pem"), leaf.chain_pem());
    let inspect = format!("inspect {path} {AT}");
    for line in [inspect.clone(), format!("{inspect} --json"), format!("{inspect} --format sarif")] {
        let (text, _) = portcullis(&line);
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    }
    let (text, _) = portcullis_with(Paint::Colours, &inspect);
    assert!(text.contains("\u{1b}[1m") && !text.contains("\u{1b}]") && !text.contains('\u{7}'), "{text:?}");
    assert!(portcullis(&format!("{inspect} --color always")).0.contains("\u{1b}[1m"));
    assert!(!portcullis_with(Paint::Colours, &format!("{inspect} --color never")).0.contains('\u{1b}'));
}

#[test]
fn json_holds_facts_and_findings() {
    let (prod, scratch) = (prod(), tempfile::tempdir().unwrap());
    let id = secret(scratch.path(), &prod);
    let (text, error) = portcullis(&format!("inspect {id} {AT} --json"));
    assert_eq!(error, None);
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["at"], "2027-01-15T08:00:00Z");
    let path = &json["paths"][0];
    assert_eq!((path["purpose"].as_str(), path["files"].as_array().unwrap().len()), (Some("secret"), 2));
    let file = &path["files"][0];
    assert_eq!(file["certificates"][0]["spiffeId"], API);
    assert_eq!(file["chain"], serde_json::json!([1, 2]));
    assert_eq!(file["key"]["fits"], "fits");
    let codes: Vec<_> = json["findings"].as_array().unwrap().iter().map(|finding| &finding["code"]).collect();
    assert_eq!(codes, ["K103", "K104"]);
    let finding = &json["findings"][0];
    assert_eq!(
        (&finding["severity"], finding["certificate"].as_str()),
        (&"warning".into(), Some("`CN=prod` (serial 02)"))
    );
    for key in ["path", "line", "message", "remedy"] {
        assert!(!finding[key].is_null(), "{key}");
    }
    let key_pem = prod.leaf.key_pem();
    assert!(key_pem.lines().filter(|line| !line.starts_with("-----")).all(|line| !text.contains(line)));
}

#[test]
fn sarif_is_what_code_scanning_reads() {
    let (prod, scratch) = (prod(), tempfile::tempdir().unwrap());
    let id = secret(scratch.path(), &prod);
    let (text, error) = portcullis(&format!("inspect {id} --at 2027-02-15T08:00:00Z --format sarif"));
    assert!(error.is_some());
    let log: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(log["version"], "2.1.0");
    let run = &log["runs"][0];
    let driver = &run["tool"]["driver"];
    assert_eq!(driver["name"], "portcullis");
    let rules = driver["rules"].as_array().unwrap();
    for rule in rules {
        for text in [&rule["id"], &rule["name"], &rule["shortDescription"]["text"], &rule["help"]["text"]] {
            assert!(text.as_str().is_some_and(|text| !text.is_empty()), "{rule}");
        }
    }
    let results = run["results"].as_array().unwrap();
    assert_eq!(results.len(), 3, "{text}");
    for result in results {
        let rule = &rules[usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap()];
        assert_eq!(rule["id"], result["ruleId"]);
        assert!(["error", "warning", "note"].contains(&result["level"].as_str().unwrap()), "{result}");
        assert!(result["message"]["text"].is_string());
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], format!("file://{id}/tls.crt"));
        assert!(place["region"]["startLine"].as_u64().unwrap() >= 1);
    }
    assert_eq!((&results[0]["ruleId"], &results[0]["level"]), (&"K006".into(), &"error".into()));
}

#[test]
fn lists_bundles_and_keys_are_drawn() {
    let (prod, scratch) = (prod(), tempfile::tempdir().unwrap());
    let at = |name: &str| scratch.path().join(name);
    let x5c = pki::base64(&prod.root.der);
    let json = format!(
        r#"{{"spiffe_sequence":12,"spiffe_refresh_hint":300,"keys":[{{"use":"x509-svid","kty":"EC","x5c":["{x5c}"]}}]}}"#
    );
    let short = Authority::root_with("short", |params| set_validity(params, NOW - DAY, NOW + HOUR));
    for (name, content, words) in [
        ("bundle.json", json, &["SPIFFE bundle in JSON, 1 certificate", "sequence         12", "every 5 min"][..]),
        (
            "roots.pem",
            format!("{}{}", prod.root.pem(), short.pem()),
            &["2 certificates", "root CN=short", "in 60 min, 4 %"],
        ),
        ("key.pem", prod.leaf.key_pem(), &["private key (PKCS#8), not shown"]),
    ] {
        let path = write(&at(name), content);
        let (text, error) = portcullis(&format!("inspect {path} {AT}"));
        assert_eq!(error, None, "{text}");
        for words in words {
            assert!(text.contains(words), "{name}: {words} is missing from\n{text}");
        }
    }
}

#[test]
fn targets_are_paths_or_bundles() {
    let target = |text: &str| parse_target(text).map(|target| (target.trust_domain, target.path));
    let prod = TrustDomain::new("prod.test").unwrap();
    assert_eq!(target("prod.test=a=b.pem"), Ok((Some(prod), PathBuf::from("a=b.pem"))));
    assert_eq!(target("./prod.test=a"), Ok((None, PathBuf::from("./prod.test=a"))));
    assert_eq!(target("/a/b=c"), Ok((None, PathBuf::from("/a/b=c"))));
    for (text, word) in [("PROD=x", "prod"), ("spiffe:=x", "trust domain"), ("prod.test=", "no path"), ("", "empty")] {
        let error = target(text).unwrap_err();
        assert!(error.contains(word), "{text}: {error}");
    }
}

#[test]
fn wrong_command_lines_are_usage_errors() {
    for (line, word) in [
        ("inspect", "PATH"),
        ("inspect x --at yesterday", "RFC 3339"),
        ("inspect x --at 1960-01-01T00:00:00Z", "before 1970"),
        ("inspect x --format xml", "sarif"),
        ("inspect x --json --format text", "cannot be used with"),
        ("inspect BAD=x", "bare trust domain"),
    ] {
        let error = portcullis(line).1.unwrap();
        assert!(error.starts_with("usage: ") && error.contains(word), "{line}: {error}");
    }
}

#[test]
fn a_peer_is_explained_step_by_step() {
    let (prod, scratch) = (prod(), tempfile::tempdir().unwrap());
    let peer = write(&scratch.path().join("chain.pem"), prod.leaf.chain_pem());
    let roots = write(&scratch.path().join("roots.pem"), prod.root.pem());
    let verify = format!("verify --peer {peer} --trust prod.test={roots}");
    let (text, error) = portcullis(&format!("{verify} {AT}"));
    assert_eq!(error, None, "{text}");
    let bytes: usize = prod.leaf.chain.iter().map(|der| der.len()).sum();
    let text = stable(&text, scratch.path(), &[]).replace(&format!("bytes: {bytes}"), "bytes: BYTES");
    let expected = include_str!("tests/accepted.txt");
    assert!(text == expected, "it prints\n{text}\nand should print\n{expected}");

    let (text, error) = portcullis(&format!("{verify} --at 2027-02-15T08:00:00Z"));
    assert_eq!(error.unwrap(), "a sidecar would refuse this peer as client and server");
    let text = stable(&text, scratch.path(), &[]).replace(&format!("bytes: {bytes}"), "bytes: BYTES");
    let expected = include_str!("tests/refused.txt");
    assert!(text == expected, "it prints\n{text}\nand should print\n{expected}");
}

#[test]
fn verify_takes_secrets_lists_roles_and_identities() {
    let (prod, scratch) = (prod(), tempfile::tempdir().unwrap());
    let at = |name: &str| scratch.path().join(name);
    let id = secret(scratch.path(), &prod);
    let roots = write(&at("roots.pem"), prod.root.pem());
    let crl = write(&at("root.crl"), crl(&prod.root, 2));
    let der = write(&at("leaf.der"), &prod.leaf.chain[0]);
    let intermediate = write(&at("prod.pem"), prod.intermediate.pem());
    let broken = write(&at("broken.pem"), "nothing");
    let denied = "certificates: [{serial: 02, issuer: CN=root, reason: key leaked}]\n";
    let denied = write(&at("deny.yaml"), denied);
    let nobody = write(&at("nobody.yaml"), "{}\n");
    let refused = Some("a sidecar would refuse this peer as client and server");
    for (line, error, words) in [
        (format!("--peer {id} --trust prod.test={roots}"), None, "as client and server, at"),
        (format!("--peer {der} --trust prod.test={intermediate}"), None, "accepted as `spiffe://prod.test/"),
        (format!("--peer {id} --trust prod.test={roots} --role client"), None, "as client, at"),
        (format!("--peer {id} --trust prod.test={roots} --expect {API}"), None, "8 identity      ok"),
        (format!("--peer {id} --trust prod.test={roots} --expect spiffe://prod.test/x"), refused, "(wrong_identity)"),
        (format!("--peer {id} --trust prod.test={roots} --crl prod.test={crl}"), refused, "is revoked by CRL 7 of"),
        (format!("--peer {id} --trust prod.test={roots} --deny-list {denied}"), refused, "(denied): "),
        (format!("--peer {id} --trust prod.test={roots} --deny-list {nobody}"), None, "accepted as"),
        (
            format!("--peer {id} --trust prod.test={roots} --role server --expect spiffe://prod.test/x"),
            Some("a sidecar would refuse this peer as server"),
            "at fault: `CN=leaf` (serial 0abc)",
        ),
        (format!("--peer {id} --trust prod.test={broken}"), refused, "cannot be loaded"),
        (format!("--peer {id} --trust dev.test={roots}"), refused, "no bundle was given for `prod.test`"),
    ] {
        let (text, ended) = portcullis(&format!("verify {line} {AT}"));
        assert_eq!(ended.as_deref(), error, "{line}: {text}");
        assert!(text.contains(words), "{line}: {words} is missing from\n{text}");
    }
    for (line, word) in [
        (format!("--peer {broken} --trust prod.test={roots}"), "broken.pem` cannot be used"),
        (format!("--peer {id}/none --trust prod.test={roots}"), "does not exist"),
        (format!("--peer {id} --trust prod.test={roots} --crl prod.test={broken}"), "broken.pem` cannot be used"),
        (format!("--peer {id} --trust prod.test={roots} --deny-list {broken}"), "broken.pem` has mistakes:\n"),
        (format!("--peer {id} --trust prod.test={roots} --deny-list {id}/none"), "does not exist"),
        (format!("--peer {id} --trust prod.test={roots} --crl dev.test={crl}"), "usage: --crl is given"),
        (format!("--peer {id} --trust prod.test={roots} --trust prod.test={roots}"), "usage: --trust is given twice"),
        (format!("--peer {id}"), "usage: "),
        (format!("--peer {id} --trust {roots}"), "TRUST_DOMAIN=PATH"),
        (format!("--peer {id} --trust prod.test={roots} --expect x"), "usage: "),
    ] {
        let (text, error) = portcullis(&format!("verify {line} {AT}"));
        let error = error.unwrap();
        assert!(error.contains(word) && text.is_empty(), "{line}: {error}");
    }
}

#[test]
fn verify_writes_its_steps_as_json() {
    let (prod, scratch) = (prod(), tempfile::tempdir().unwrap());
    let id = secret(scratch.path(), &prod);
    let roots = write(&scratch.path().join("roots.pem"), Authority::root("other").pem());
    let (text, error) = portcullis(&format!("verify --peer {id} --trust prod.test={roots} {AT} --json"));
    assert!(error.is_some());
    let json: Value = serde_json::from_str(&text).unwrap();
    let roles: Vec<_> = json["examinations"].as_array().unwrap().iter().map(|found| &found["role"]).collect();
    assert_eq!(roles, ["client", "server"]);
    let found = &json["examinations"][0];
    assert_eq!((&found["accepted"], &found["label"]), (&false.into(), &"unknown_issuer".into()));
    assert_eq!(found["atFault"], "`CN=prod` (serial 02)");
    let outcomes: Vec<_> = found["steps"].as_array().unwrap().iter().map(|step| &step["outcome"]).collect();
    assert_eq!(outcomes, ["passed", "passed", "passed", "failed", "notReached", "notReached", "notReached"]);
    assert_eq!(found["steps"][3]["notes"].as_array().unwrap().last().unwrap()["tone"], "bad");
}

fn crl(issuer: &Authority, revoked: u64) -> Vec<u8> {
    let params = rcgen::CertificateRevocationListParams {
        this_update: pki::date(NOW - HOUR),
        next_update: pki::date(NOW + HOUR),
        crl_number: rcgen::SerialNumber::from(7_u64),
        issuing_distribution_point: None,
        revoked_certs: vec![rcgen::RevokedCertParams {
            serial_number: rcgen::SerialNumber::from(revoked),
            revocation_time: pki::date(NOW - HOUR),
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    params.signed_by(&issuer.issuer).unwrap().der().to_vec()
}
