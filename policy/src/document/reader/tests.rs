//! Tests of `document/reader.rs`.

use super::*;
use crate::document::parse;
use crate::native::CODES;
use crate::source::File;

/// What reading the value under `a` finds, as `line:column code message | help`.
fn found<T>(text: &str, read: impl for<'a> Fn(Item<'a>) -> Option<T>) -> (Option<T>, Vec<String>) {
    let source = Source::read(File { name: "a.yaml", bytes: text.as_bytes() }, &CODES).unwrap();
    let reader = Reader::new(&source, &CODES);
    let nodes = parse(&reader);
    let fields = reader.item(&nodes[0], "document").fields(&["a"]);
    let value = fields.and_then(|fields| fields.required("a")).and_then(&read);
    let found = reader.into_diagnostics();
    let line = |d: &Diagnostic| {
        let help = d.help.as_ref().map(|help| format!(" | {help}")).unwrap_or_default();
        format!("{}:{} {} {}{help}", d.line, d.column, d.code, d.message)
    };
    (value, found.iter().map(line).collect())
}

fn refused<T: std::fmt::Debug>(text: &str, read: impl for<'a> Fn(Item<'a>) -> Option<T>) -> String {
    let (value, mut lines) = found(text, read);
    assert!(value.is_none(), "{text}: {value:?}");
    assert_eq!(lines.len(), 1, "{text}: {lines:?}");
    lines.remove(0)
}

#[test]
fn strings() {
    let read = |item: Item<'_>| item.string().map(str::to_owned);
    for (text, expected) in [("a: b c", "b c"), ("a: \"no\"", "no"), ("a: '010'", "010"), ("a: 10.0.0.1", "10.0.0.1")] {
        assert_eq!(found(text, read).0.as_deref(), Some(expected));
    }
    let empty = "give it a value; a key that is not needed is left out";
    assert_eq!(
        refused("a: no", read),
        "1:4 P013 `a` must be a string, but YAML can take `no` for a boolean | write it in quotes: \"no\""
    );
    assert_eq!(
        refused("a: 010", read),
        "1:4 P013 `a` must be a string, but YAML can take `010` for a number | write it in quotes: \"010\""
    );
    assert_eq!(
        refused("a: 42", read),
        "1:4 P013 `a` must be a string, but YAML can take `42` for a number | write it in quotes: \"42\""
    );
    assert_eq!(refused("a: ~", read), format!("1:4 P012 `a` is nothing (null) | {empty}"));
    assert_eq!(refused("a: ''", read), format!("1:4 P012 `a` is an empty string | {empty}"));
    assert_eq!(refused("a: [b]", read), "1:4 P011 `a` must be a string, not a list");
}

#[test]
fn numbers() {
    let read = |item: Item<'_>| item.integer(1..=65535);
    assert_eq!(found("a: 8080", read).0, Some(8080));
    assert_eq!(refused("a: 0", read), "1:4 P014 `a` is `0`, which is not within 1 to 65535");
    assert_eq!(refused("a: -1", read), "1:4 P014 `a` is `-1`, which is not within 1 to 65535");
    assert_eq!(
        refused("a: 99999999999999999999", read),
        "1:4 P014 `a` is `99999999999999999999`, which is not within 1 to 65535"
    );
    let decimal = "write it in decimal, without leading zeros, signs or underscores";
    assert_eq!(
        refused("a: 1_000", read),
        format!("1:4 P013 readers of YAML disagree about the number `1_000` | {decimal}")
    );
    assert_eq!(
        refused("a: 010", read),
        format!("1:4 P013 readers of YAML disagree about the number `010` | {decimal}")
    );
    assert_eq!(
        refused("a: '80'", read),
        "1:4 P011 `a` must be a number, and `80` in quotes is a string | write it without quotes"
    );
    assert_eq!(
        refused("a: http", read),
        "1:4 P011 `a` must be a number, not `http` | write a whole number from 1 to 65535"
    );
}

#[test]
fn booleans() {
    let read = |item: Item<'_>| item.boolean();
    assert_eq!(found("a: true", read).0, Some(true));
    assert_eq!(found("a: false", read).0, Some(false));
    assert_eq!(
        refused("a: yes", read),
        "1:4 P013 `yes` is a boolean to some readers of YAML only | write `true` or `false`"
    );
    assert_eq!(
        refused("a: 'true'", read),
        "1:4 P011 `a` must be `true` or `false`, not `true` | write `true` or `false`, without quotes"
    );
}

#[test]
fn lists_and_mappings() {
    let list = |item: Item<'_>| item.each(|item| item.string().map(str::to_owned));
    assert_eq!(found("a: [b, c]", list).0, Some(vec!["b".to_owned(), "c".to_owned()]));
    assert_eq!(
        refused("a: []", list),
        "1:4 P012 `a` is an empty list | give it a value; a key that is not needed is left out"
    );
    assert_eq!(
        refused("a: b", list),
        "1:4 P011 `a` must be a list, not a single value | write it as a list, even if it has one item: [item]"
    );
    let (value, lines) = found("a: [b, no, '']", list);
    assert_eq!((value, lines.len()), (None, 2));
    let mapping = |item: Item<'_>| item.fields(&["b"]).map(|_| ());
    assert_eq!(
        refused("a: {}", mapping),
        "1:4 P012 `a` is an empty mapping | give it a value; a key that is not needed is left out"
    );
    assert_eq!(
        refused("a:", mapping),
        "1:1 P012 `a` is nothing (null) | give it a value; a key that is not needed is left out"
    );
    assert_eq!(found("a: {bb: c}", mapping).1, ["1:5 P009 unknown key `bb` in `a` | did you mean `b`?"]);
    assert_eq!(found("a: {colour: c}", mapping).1, ["1:5 P009 unknown key `colour` in `a` | the keys are b"]);
    let (value, lines) = found("a: {b: c}", |item| item.fields(&["b", "d"])?.required("d").map(|_| ()));
    assert_eq!((value, lines), (None, vec!["1:4 P010 `a` lacks the key `d` | add `d: …`".to_owned()]));
}

#[test]
fn choices_and_own_syntax() {
    let mode = |item: Item<'_>| item.choice(&[("enforce", 1), ("audit", 2)]);
    assert_eq!(found("a: audit", mode).0, Some(2));
    assert_eq!(refused("a: enforced", mode), "1:4 P014 `a` cannot be `enforced` | did you mean `enforce`?");
    assert_eq!(refused("a: maybe", mode), "1:4 P014 `a` cannot be `maybe` | write one of enforce, audit");
    assert_eq!(found("a: 10", |item| item.text().map(str::to_owned)).0.as_deref(), Some("10"));
    let parsed = |item: Item<'_>| item.parsed("P099", str::parse::<std::net::IpAddr>);
    assert_eq!(refused("a: x", parsed), "1:4 P099 invalid IP address syntax");
}
