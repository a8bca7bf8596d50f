//! The deny list as a file: identities and certificates that are refused at once, each with its reason.
//!
//! It is read in the hour in which something was stolen, so every mistake comes with its place and what to do. A list that
//! denies nobody has to say so as `{}`: an empty file is what a write that broke off leaves behind, and an empty list what
//! a template makes of a missing value, and neither may lift a denial.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use portcullis_certs_watcher::deny_list::KeyError;
use portcullis_certs_watcher::{CertificateKey, DenyList};
use portcullis_policy::diagnostic::{Codes, Diagnostics};
use portcullis_policy::document::{Content, Item, Node, Reader, parse};
use portcullis_policy::source::{File, Position, Source};
use spiffe::SpiffeId;

/// Reads the content of a deny list that is called `path` in messages, for the watcher.
///
/// # Errors
/// Every mistake in it, each with its place and what to do, in one text.
pub fn read(path: &Path, bytes: &[u8]) -> Result<DenyList, String> {
    deny_list(&path.display().to_string(), bytes).map_err(|found| found.to_string().trim_end().to_owned())
}

/// Checks the deny list of a configuration. One that is not there yet has no mistakes.
///
/// # Errors
/// Every mistake in it; or one, if it cannot be opened.
pub fn check(path: &Path) -> Result<(), Diagnostics> {
    let name = path.display().to_string();
    match fs::read(path) {
        Ok(bytes) => deny_list(&name, &bytes).map(drop),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => {
            // A file without text has no line to show.
            let source = Source::read(File { name: &name, bytes: b"" }, &CODES).map_err(|found| one(*found))?;
            let reader = Reader::new(&source, &CODES);
            reader.error(UNREADABLE, START, format!("the file cannot be read: {error}")).help("see who may read it");
            Err(reader.into_diagnostics())
        }
    }
}

fn deny_list(name: &str, bytes: &[u8]) -> Result<DenyList, Diagnostics> {
    let source = Source::read(File { name, bytes }, &CODES).map_err(|found| one(*found))?;
    let reader = Reader::new(&source, &CODES);
    let documents = parse(&reader);
    let list = match documents.as_slice() {
        [one] => root(reader.item(one, "the deny list"), one),
        [] => {
            let reported = reader.error(CODES.empty, START, "the file holds no deny list");
            reported.help("write `{}` if nobody is to be denied");
            None
        }
        [_, second, ..] => {
            reader.error(TOO_MANY, second.position, "the file holds more than one document").help("make them one");
            None
        }
    };
    let mut found = reader.into_diagnostics();
    found.sort();
    match list {
        Some(list) if !found.has_errors() => Ok(list),
        Some(_) | None => Err(found),
    }
}

fn root(item: Item<'_>, node: &Node) -> Option<DenyList> {
    let mut list = DenyList::default();
    if matches!(&node.content, Content::Mapping(entries) if entries.is_empty()) {
        return Some(list);
    }
    let fields = item.fields(&["identities", "certificates"])?;
    let identities = fields.optional("identities").map_or(Some(Vec::new()), |item| item.each(identity));
    let certificates = fields.optional("certificates").map_or(Some(Vec::new()), |item| item.each(certificate));
    for (id, reason) in identities? {
        list.deny_identity(id, reason);
    }
    for (key, reason) in certificates? {
        list.deny_certificate(key, reason);
    }
    Some(list)
}

fn identity(item: Item<'_>) -> Option<(SpiffeId, String)> {
    let fields = item.fields(&["spiffeId", "reason", "ticket"])?;
    let id = fields.required("spiffeId").and_then(|item| {
        item.parsed(CODES.bad_value, |text| {
            let id = SpiffeId::new(text).map_err(|error| format!("`{text}` is no SPIFFE ID: {error}"))?;
            if id.path().is_empty() {
                return Err(format!("`{id}` names a trust domain: to believe it no longer, take it out of `trust`"));
            }
            Ok(id)
        })
    });
    let reason = reason(fields.required("reason"), fields.optional("ticket"));
    Some((id?, reason?))
}

fn certificate(item: Item<'_>) -> Option<(CertificateKey, String)> {
    let fields = item.fields(&["serial", "issuer", "reason", "ticket"])?;
    // Whatever YAML takes the digits for: `10` and `1e5` are serial numbers as well.
    let serial = fields.required("serial").and_then(|item| Some((item, item.text()?)));
    let issuer = fields.required("issuer").and_then(|item| Some((item, item.string()?)));
    let reason = reason(fields.required("reason"), fields.optional("ticket"));
    let ((serial_at, serial), (issuer_at, issuer)) = (serial?, issuer?);
    let key = CertificateKey::parse(issuer, serial).map_err(|error| {
        let at = match error {
            KeyError::Serial { .. } => serial_at,
            KeyError::Issuer => issuer_at,
        };
        drop(at.error(CODES.bad_value, error.to_string()));
    });
    Some((key.ok()?, reason?))
}

/// What log and admin page say: the reason, and the ticket where there is one.
fn reason(reason: Option<Item<'_>>, ticket: Option<Item<'_>>) -> Option<String> {
    let reason = reason.and_then(words);
    match ticket {
        None => Some(reason?.to_owned()),
        Some(ticket) => {
            let ticket = words(ticket);
            Some(format!("{}, ticket {}", reason?, ticket?))
        }
    }
}

fn words<'a>(item: Item<'a>) -> Option<&'a str> {
    let text = item.string()?;
    if text.chars().any(char::is_control) || text.chars().count() > MOST_WORDS {
        let message = format!("`{}` is not one line of at most {MOST_WORDS} characters", item.name());
        item.error(CODES.bad_value, message).help("it is shown in a log line; leave the long story to the ticket");
        return None;
    }
    Some(text)
}

fn one(found: portcullis_policy::diagnostic::Diagnostic) -> Diagnostics {
    let mut all = Diagnostics::default();
    all.push(found);
    all
}

const START: Position = Position { line: 1, column: 1 };
/// It stands in a log line with the names of identity and certificate.
const MOST_WORDS: usize = 200;

const TOO_MANY: &str = "D015";
const UNREADABLE: &str = "D016";
static CODES: Codes = Codes {
    encoding: "D001",
    too_large: "D002",
    hidden: "D003",
    syntax: "D004",
    too_deep: "D005",
    refused_feature: "D006",
    duplicate_key: "D007",
    bad_key: "D008",
    unknown_key: "D009",
    missing_key: "D010",
    wrong_kind: "D011",
    empty: "D012",
    ambiguous: "D013",
    bad_value: "D014",
};

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<DenyList, Vec<String>> {
        let rendered = |found: Diagnostics| {
            found.iter().map(|d| format!("{}:{}:{} {} {}", d.file, d.line, d.column, d.code, d.message)).collect()
        };
        deny_list("deny.yaml", text.as_bytes()).map_err(rendered)
    }

    #[track_caller]
    fn check_mistakes(text: &str, expected: &[&str]) {
        let found = of(text).expect_err("the list is wrong");
        let matches = found.len() == expected.len() && found.iter().zip(expected).all(|(f, e)| f.contains(e));
        assert!(matches, "expected {expected:#?}\nfound {found:#?}");
    }

    const CLAIMS: &str = "spiffe://prod.test/ns/claims/sa/adjudicator";

    #[test]
    fn identities_and_certificates_are_denied_with_reason_and_ticket() {
        let list = of("
identities:
  - {spiffeId: spiffe://prod.test/ns/claims/sa/adjudicator, reason: stolen laptop, ticket: INC0042}
certificates:
  - {serial: 4c:08:9b, issuer: \"CN=prod, O=health\", reason: key leaked}
  - {serial: 12:08:56, issuer: CN=prod, reason: key leaked}
  - {serial: 0010, issuer: CN=prod, reason: key leaked}
  - {serial: \"0X4C\", issuer: CN=prod, reason: key leaked}
");
        let mut expected = DenyList::default();
        expected.deny_identity(SpiffeId::new(CLAIMS).unwrap(), "stolen laptop, ticket INC0042".to_owned());
        for (issuer, serial) in
            [("CN=prod, O=health", "4c089b"), ("CN=prod", "120856"), ("CN=prod", "10"), ("CN=prod", "4c")]
        {
            let key = CertificateKey::parse(issuer, serial).unwrap();
            expected.deny_certificate(key, "key leaked".to_owned());
        }
        assert_eq!(list, Ok(expected));
    }

    #[test]
    fn only_an_empty_mapping_denies_nobody() {
        assert_eq!(of("{}"), Ok(DenyList::default()));
        assert_eq!(of("# nobody at the moment\n{}\n"), Ok(DenyList::default()));
        check_mistakes("", &["deny.yaml:1:1 D012 the file holds no deny list"]);
        check_mistakes("# nobody at the moment\n", &["deny.yaml:1:1 D012 the file holds no deny list"]);
        check_mistakes("null", &["D012"]);
        check_mistakes("[]", &["D011 `the deny list` must be a mapping, not a list"]);
        check_mistakes("identities: []", &["1:13 D012 `identities` is an empty list"]);
        check_mistakes("identities:\ncertificates: []", &["D012 `identities` is nothing", "D012 `certificates` is an"]);
    }

    #[test]
    fn all_mistakes_are_listed_at_once_with_their_places() {
        check_mistakes(
            "
identitis: []
identities:
  - {spiffeId: spiffe://prod.test, reason: all of it}
  - {spiffeId: https://prod.test/a, reason: \"two\\nlines\"}
  - {spiffeId: spiffe://prod.test/a}
certificates:
  - {serial: 4c 08, issuer: CN=prod, reason: key leaked}
  - {serial: 4c, reason: key leaked}
  - {serial: 4c, issuer: \",\", reason: '', until: tomorrow}
",
            &[
                "2:1 D009 unknown key `identitis`",
                "4:16 D014 `spiffe://prod.test` names a trust domain",
                "5:16 D014 `https://prod.test/a` is no SPIFFE ID",
                "5:45 D014 `reason` is not one line of at most 200 characters",
                "6:5 D010 `identities` lacks the key `reason`",
                "8:14 D014 `4c 08` is no serial number",
                "9:5 D010 `certificates` lacks the key `issuer`",
                "10:26 D014 the issuer is empty",
                "10:39 D012 `reason` is an empty string",
                "10:43 D009 unknown key `until`",
            ],
        );
        check_mistakes(
            &format!("identities: [{{spiffeId: {CLAIMS}, reason: {}}}]", "x".repeat(201)),
            &["D014 `reason`"],
        );
        check_mistakes("{}\n---\n{}", &["3:1 D015 the file holds more than one document"]);
    }

    #[test]
    fn what_the_watcher_is_told_names_file_place_and_remedy() {
        let told = read(Path::new("/etc/portcullis/deny.yaml"), b"identities: []").unwrap_err();
        for words in ["/etc/portcullis/deny.yaml:1:13: error[D012]", "identities: []", "= help: "] {
            assert!(told.contains(words), "{words} is missing from\n{told}");
        }
    }

    #[test]
    fn a_list_that_is_not_there_yet_is_no_mistake_and_one_that_cannot_be_read_is() {
        let folder = tempfile::tempdir().unwrap();
        check(&folder.path().join("deny.yaml")).unwrap();
        let found = check(folder.path()).unwrap_err();
        assert!(found.iter().any(|found| found.code == UNREADABLE), "{found}");
    }
}
