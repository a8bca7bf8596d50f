//! What every code looks like: the whole text that a person gets to see, for documents that bring it about.
//!
//! `tests/diagnostics/CODE.yaml` (and `CODE-2.yaml`, …) is a file with mistakes, `CODE.txt` what is printed about it. To
//! add one, write the `.yaml` and run `UPDATE_GOLDEN=1 cargo test -p portcullis-policy --test it diagnostics`; then read
//! the `.txt`. A file beside it with the ending `.inventory` is the inventory that it is checked with; one that names
//! `spiffe://t/sidecar` is checked for the sidecar of that workload.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use portcullis_policy::diagnostic::Diagnostics;
use portcullis_policy::findings::{Inventory, Question, Sidecar, examine};
use portcullis_policy::source::MAX_FILE_BYTES;
use portcullis_policy::{File, Options, Policy, ServiceName, codes};
use spiffe::SpiffeId;

/// 2026-11-22T00:00:00Z
const NOW: i64 = 1_795_305_600;

/// What nobody wants in a repository, because editors, viewers and Git stumble over it; made here instead.
fn made() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("P001", b"metadata: {name: caf\xe9}\n".to_vec()),
        ("P002", vec![b'#'; MAX_FILE_BYTES + 1]),
        ("P003", "metadata: {name: p} # \u{202e}lla wolla\u{202c}\n".as_bytes().to_vec()),
        ("P003-2", b"metadata: {name: \"\x1b[31m\"}\n".to_vec()),
        ("P024-2", long_identity().into_bytes()),
    ]
}

/// Codes that no document here brings about, with the tests that show what they look like.
const ELSEWHERE: &[(&str, &str)] = &[
    ("P199", "the test below, since it takes ten seconds"),
    ("P190", "portcullis policy test: proxy/src/cli/policy/tests/test.sarif"),
    ("P191", "portcullis policy test: proxy/src/cli/policy/tests/test.sarif"),
    ("P192", "portcullis policy test: proxy/src/cli/policy/tests/no-cases.sarif"),
    ("P193", "portcullis policy test: proxy/src/cli/policy/tests/no-cases.sarif"),
    ("P200", "policy import and suggest, which read no documents of policy: policy/src/import/tests.rs"),
    ("P201", "policy import and suggest, which read no documents of policy: policy/src/import/tests.rs"),
    ("P202", "policy import and suggest, which read no documents of policy: policy/src/import/tests.rs"),
    ("P203", "policy import and suggest, which read no documents of policy: policy/src/import/tests.rs"),
    ("P204", "policy import and suggest, which read no documents of policy: policy/src/import/tests.rs"),
    ("P205", "policy import and suggest, which read no documents of policy: policy/src/import/tests.rs"),
    ("P206", "policy import and suggest, which read no documents of policy: policy/src/import/tests.rs"),
    ("P207", "policy import and suggest, which read no documents of policy: policy/src/import/tests.rs"),
    ("P208", "policy import and suggest, which read no documents of policy: policy/src/import/tests.rs"),
    ("P209", "policy import and suggest, which read no documents of policy: policy/src/import/tests.rs"),
    ("P210", "policy import and suggest, which read no documents of policy: policy/src/import/tests.rs"),
    ("P211", "policy import and suggest, which read no documents of policy: policy/src/import/tests.rs"),
    ("P212", "policy import and suggest, which read no documents of policy: policy/src/import/tests.rs"),
    ("P213", "policy import and suggest, which read no documents of policy: policy/src/import/tests.rs"),
    ("P219", "policy import and suggest, which read no documents of policy: policy/src/import/tests.rs"),
    ("P220", "policy import and suggest, which read no documents of policy: policy/src/import/tests.rs"),
    ("P221", "policy import and suggest, which read no documents of policy: policy/src/import/tests.rs"),
    ("P222", "policy import and suggest, which read no documents of policy: policy/src/import/tests.rs"),
];

#[test]
fn every_code_is_shown_and_looks_as_it_should() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diagnostics");
    let mut all = made();
    let on_disk = documents(&folder);
    all.extend(on_disk.iter().map(|path| (stem(path), fs::read(path).unwrap())));
    let (mut wrong, mut shown) = (Vec::new(), BTreeSet::new());
    for (name, bytes) in &all {
        let text = printed(name, bytes, &folder);
        let code = name.split('-').next().unwrap();
        if text.contains(&format!("[{code}]: ")) {
            shown.insert(code);
        } else {
            wrong.push(format!("{name} is to bring about {code}, and brings about:\n{text}"));
        }
        let golden = folder.join(format!("{name}.txt"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &text).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        if text != expected {
            wrong.push(format!("{name}.txt has\n{expected}and it is\n{text}"));
        }
    }
    let elsewhere: BTreeSet<&str> = ELSEWHERE.iter().map(|(code, _)| *code).collect();
    for code in codes::ALL {
        if shown.contains(code.code) == elsewhere.contains(code.code) {
            wrong.push(format!("{} is shown neither here nor elsewhere, or in both places", code.code));
        }
    }
    for known in shown.iter().chain(&elsewhere).filter(|code| codes::find(code).is_none()) {
        wrong.push(format!("{known} is no code"));
    }
    for text in listed(&folder, "txt").iter().filter(|text| all.iter().all(|(name, _)| *name != stem(text))) {
        wrong.push(format!("{} has no document", text.display()));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_set_too_large_to_be_compared_whole_says_so() {
    let found = check("P199", many_rules_alike().as_bytes(), Path::new("")).unwrap();
    let text: Vec<String> = found.iter().filter(|one| one.code == "P199").map(ToString::to_string).collect();
    assert_eq!(text, ["note[P199]: so many rules could cover each other that not all of them were compared\n"]);
}

/// All that `policy check` would print about a file.
fn printed(name: &str, bytes: &[u8], folder: &Path) -> String {
    match check(name, bytes, folder) {
        Ok(found) | Err(found) => found.to_string(),
    }
}

fn check(name: &str, bytes: &[u8], folder: &Path) -> Result<Diagnostics, Diagnostics> {
    let file = format!("{name}.yaml");
    let files = [File { name: &file, bytes }];
    let options = Options::default();
    let inventory = match fs::read(folder.join(format!("{name}.inventory"))) {
        Ok(bytes) => Some(Inventory::parse(&format!("{name}.inventory"), &bytes)?),
        Err(_) => None,
    };
    let workload = SpiffeId::new("spiffe://t/sidecar").unwrap();
    let text = String::from_utf8_lossy(bytes);
    let is_for_sidecar = text.contains("spiffe://t/sidecar");
    let named = ["claim", "ledger"].map(|name| ServiceName { namespace: None, name: name.into() });
    let services = if text.contains("kind: Service\n") { named.to_vec() } else { Vec::new() };
    let sidecar = Sidecar { workload, opaque: vec![5432], http: vec![8080], services };
    let mut found = Policy::compile_with(&files, &options)?.warnings;
    let question = Question {
        now: NOW,
        options: &options,
        inventory: inventory.as_ref(),
        sidecar: is_for_sidecar.then_some(&sidecar),
    };
    found.append(examine(&files, &question)?);
    Ok(found)
}

fn documents(folder: &Path) -> Vec<PathBuf> {
    listed(folder, "yaml")
}

fn listed(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|one| one == extension)).collect();
    files.sort();
    files
}

fn stem(path: &Path) -> &str {
    path.file_stem().unwrap().to_str().unwrap()
}

fn long_identity() -> String {
    let id = format!("spiffe://t/{}", "a".repeat(2048));
    format!(
        "apiVersion: policy.portcullis.dev/v1\nkind: IdentitySet\nmetadata: {{name: s}}\nspec: {{identities: [{id}]}}\n"
    )
}

/// So many rules that could cover each other, and do not, that comparing all of them would take too long.
fn many_rules_alike() -> String {
    let mut text = String::from(
        "apiVersion: policy.portcullis.dev/v1\nkind: AuthorizationPolicy\nmetadata: {name: p}\nspec:\n  allow:\n",
    );
    let named = |n: usize| {
        format!("    - {{name: r{n}, from: {{identities: [spiffe://t/a]}}, to: {{methods: [M{n}], paths: [/a]}}}}\n")
    };
    text.extend((0..6000).map(named));
    text
}
