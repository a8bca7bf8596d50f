//! What is written, character for character, and what cannot be. That it says the same is a property in `tests/it`.

use super::*;

fn rule(name: &str, is: Matched) -> RuleBody {
    RuleBody { name: name.to_owned(), is, ..RuleBody::default() }
}

fn policy(allow: Vec<RuleBody>) -> Document {
    let body = PolicyBody {
        name: "eligibility-api".to_owned(),
        namespace: Some("eligibility".to_owned()),
        mode: Mode::Audit,
        target: vec!["spiffe://prod.health.internal/ns/eligibility/sa/api".to_owned()],
        allow,
        deny: Vec::new(),
    };
    Document { comment: Vec::new(), body: Body::Policy(body) }
}

fn strings(all: &[&str]) -> Vec<String> {
    all.iter().map(|one| (*one).to_owned()).collect()
}

const EXPECTED: &str = r#"# yaml-language-server: $schema=policy.schema.json
# word word word word word word word word word word word word word word word word word word word word word word word
# word word word word word word word
apiVersion: policy.portcullis.dev/v1
kind: AuthorizationPolicy
metadata: {name: eligibility-api, namespace: eligibility}
spec:
  mode: audit
  target: {identities: [spiffe://prod.health.internal/ns/eligibility/sa/api]}
  allow:
    # 12 requests.
    #
    - name: reads
      from:
        identities:
          - spiffe://prod.health.internal/ns/claims/sa/adjudicator-0
          - spiffe://prod.health.internal/ns/claims/sa/adjudicator-1
          - spiffe://prod.health.internal/ns/claims/sa/adjudicator-2
          - spiffe://prod.health.internal/ns/claims/sa/adjudicator-3
      to: {ports: [8080], methods: [GET, HEAD], paths: ["/v1/members/{id}/coverage", /v1/plans]}
    - name: calls
      from: {notSources: ["10.0.0.0/8", "fd00::/8"]}
      to: {grpc: {services: [a.B]}}
      when: {headers: {x-tenant: ["*", "no"]}}
      expires: 2026-12-31T00:00:00Z
      ticket: "CHG 1: x"
---
apiVersion: policy.portcullis.dev/v1
kind: PolicyTest
metadata: {name: t}
spec:
  cases:
    - name: it reads
      caller: spiffe://a/b
      workload: spiffe://a/c
      request: {port: 80, method: GET, path: /a}
      expect: deny
      rule: "null"
    - name: it reads
      caller: spiffe://a/b
      workload: spiffe://a/c
      connection: {port: 80}
      expect: allow
---
apiVersion: policy.portcullis.dev/v1
kind: IdentitySet
metadata: {name: s}
spec:
  identities: ["spiffe://a/**"]
"#;

#[test]
fn reads_like_what_people_write() {
    let many = (0..4).map(|number| format!("spiffe://prod.health.internal/ns/claims/sa/adjudicator-{number}"));
    let mut first = rule(
        "reads",
        Matched {
            identities: many.collect(),
            ports: vec![8080],
            methods: strings(&["GET", "HEAD"]),
            paths: strings(&["/v1/members/{id}/coverage", "/v1/plans"]),
            ..Matched::default()
        },
    );
    first.comment = strings(&["12 requests.", ""]);
    let mut second = rule(
        "calls",
        Matched {
            grpc: Some(GrpcBody { services: strings(&["a.B"]), methods: Vec::new() }),
            headers: BTreeMap::from([("x-tenant".to_owned(), strings(&["*", "no"]))]),
            ..Matched::default()
        },
    );
    second.is_not.sources = strings(&["10.0.0.0/8", "fd00::/8"]);
    second.expires = Some(1_798_675_200);
    second.ticket = Some("CHG 1: x".to_owned());
    let mut document = policy(vec![first, second]);
    document.comment = vec!["word ".repeat(30)];
    let case = CaseBody {
        name: "it reads".to_owned(),
        caller: "spiffe://a/b".to_owned(),
        workload: "spiffe://a/c".to_owned(),
        port: 80,
        request: Some(("GET".to_owned(), "/a".to_owned())),
        expect: Effect::Deny,
        rule: Some("null".to_owned()),
    };
    let connects = CaseBody { request: None, rule: None, expect: Effect::Allow, ..case.clone() };
    let test = Document { comment: Vec::new(), body: Body::Test("t".to_owned(), vec![case, connects]) };
    let set = Document { comment: Vec::new(), body: Body::Set("s".to_owned(), strings(&["spiffe://a/**"])) };
    assert_eq!(write(&[document, test, set]).unwrap(), EXPECTED);
}

/// Each is written as a ticket, which may be any text, and read again.
#[test]
fn every_string_stays_the_string_that_it_is() {
    let surprises = [
        "no",
        "NO",
        "y",
        "on",
        "true",
        "null",
        "~",
        "010",
        "0x1f",
        "1e3",
        "1_000",
        "12:30",
        "12:30:45",
        "2026-12-31",
        "8080",
        "+5",
        ".5",
        ".inf",
        "-",
        "- a",
        "-a",
        "--- a",
        "...",
        "*",
        "*a",
        "&a",
        "!a",
        "{",
        "}",
        "[a]",
        "a]",
        "a, b",
        "#",
        "a #b",
        "a#b",
        "a: b",
        "a:",
        ":a",
        "a:b",
        "?",
        "? a",
        "|",
        ">",
        "@a",
        "`a`",
        "%a",
        "'",
        "\"",
        "a\"b",
        "\\",
        "a\\nb",
        "\\x41",
        "=",
        "<<",
        "a  b",
        "ü",
        "日本",
        "€",
        "/a{b}",
        "a: ",
        "spiffe://t/a",
        "http://a:80/b?c#d",
        "a'b",
        "nullé",
    ];
    for text in surprises {
        let mut one = rule("r", Matched::default());
        one.ticket = Some(text.to_owned());
        let written = write(&[policy(vec![one])]).unwrap();
        let compiled = Policy::compile(&[File { name: "a.yaml", bytes: written.as_bytes() }]).unwrap();
        let (_, read) = compiled.policy.rules().next().unwrap();
        assert_eq!(read.ticket.as_deref(), Some(text), "{written}");
    }
}

#[test]
fn what_nobody_could_review_is_refused() {
    for hidden in
        ["a\nb", "a\u{85}b", "a\u{2028}b", "\u{1b}[31m", "a\u{202e}b", "\u{feff}", "a\u{200b}b", "\0", "\u{ad}"]
    {
        let mut one = rule("r", Matched::default());
        one.ticket = Some(hidden.to_owned());
        let refused = write(&[policy(vec![one])]).unwrap_err();
        assert_eq!((refused.clone(), refused.label()), (WriteError::Invisible(hidden.to_owned()), "invisible"));
    }
    let paths = (0..60_000).map(|number| format!("/a/path/{number}")).collect();
    let refused = write(&[policy(vec![rule("r", Matched { paths, ..Matched::default() })])]).unwrap_err();
    assert!(matches!(refused, WriteError::TooLarge(bytes) if bytes > MAX_FILE_BYTES), "{refused}");
    for wrong in [
        Matched { paths: strings(&["/a/../b"]), ..Matched::default() },
        Matched { methods: strings(&["get"]), ..Matched::default() },
        Matched { ports: vec![0], ..Matched::default() },
    ] {
        let refused = write(&[policy(vec![rule("r", wrong)])]).unwrap_err();
        assert_eq!(refused.label(), "not_understood", "{refused}");
    }
}

#[test]
fn comments_cannot_be_broken_out_of() {
    let hostile = ["a\nspec: {}", "\u{2028}b: c", "\u{85}d", "\r\u{1b}]0;x", "\u{202e}x", "---", "#", "  ", "\t!"];
    let mut one = rule("r", Matched::default());
    one.comment = strings(&hostile);
    one.comment.push("x".repeat(1000));
    let mut document = policy(vec![one]);
    document.comment = strings(&hostile);
    let written = write(&[document]).unwrap();
    let bare: Vec<&str> = written.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    assert_eq!(bare.len(), 8, "{written}");
    assert!(written.chars().all(|c| c == '\n' || !c.is_control()), "{written:?}");
    assert!(written.contains("a\\u{a}spec:"), "{written}");
}
