//! Parser events to trees, one tree for each document of a file.
//!
//! The stack is explicit and bounded, so that a hostile file can neither exhaust the thread's stack here nor when the
//! tree is dropped. A node that is refused leaves [`Content::Refused`], and the rest of the file is still read.

use std::collections::HashSet;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle};

use super::scalar::{Meaning, meaning};
use super::{Content, Entry, Node, Reader, Style};
use crate::diagnostic::quoted;
use crate::source::Position;

/// How deep lists and mappings may nest. The deepest document of ours has ten levels.
pub const MAX_DEPTH: usize = 32;

/// The documents of the file that `reader` was made for; what is wrong with their form is reported to it.
///
/// After a syntax error the documents before it are returned: their mistakes are worth knowing too.
pub fn parse(reader: &Reader<'_>) -> Vec<Node> {
    let mut builder = Builder { reader, stack: Vec::new(), roots: Vec::new() };
    let mut parser = Parser::new_from_str(reader.source().text());
    while let Some(next) = parser.next_event() {
        let (event, span) = match next {
            Ok(next) => next,
            Err(error) => {
                let message = format!("this is not valid YAML: {}", error.info().to_lowercase());
                reader.error(reader.codes().syntax, position(error.marker()), message);
                return builder.roots;
            }
        };
        if builder.take(event, position(&span.start)).is_err() {
            return builder.roots;
        }
    }
    builder.roots
}

/// Nesting went beyond [`MAX_DEPTH`]; reported already.
struct TooDeep;

struct Builder<'r, 's> {
    reader: &'r Reader<'s>,
    stack: Vec<Open>,
    roots: Vec<Node>,
}

/// A list or mapping whose end has not come yet.
enum Open {
    Sequence(Position, Vec<Node>),
    Mapping(Position, Entries),
}

#[derive(Default)]
struct Entries {
    list: Vec<Entry>,
    seen: HashSet<String>,
    key: Option<Key>,
    /// A key was refused, so that a mapping without entries is not one that was written empty.
    refused: bool,
}

enum Key {
    Good(String, Position),
    /// Refused and reported; its value is dropped.
    Refused,
}

impl Builder<'_, '_> {
    fn take(&mut self, event: Event<'_>, at: Position) -> Result<(), TooDeep> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_extras(anchor, tag.is_some(), at);
                let style = if style == ScalarStyle::Plain { Style::Plain } else { Style::Quoted };
                self.attach(Node { position: at, content: Content::Scalar(text.into_owned(), style) });
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_extras(anchor, tag.is_some(), at);
                self.open(Open::Sequence(at, Vec::new()), at)?;
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_extras(anchor, tag.is_some(), at);
                self.open(Open::Mapping(at, Entries::default()), at)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(_) => {
                self.refuse("an alias (`*name`)", at);
                self.attach(Node { position: at, content: Content::Refused });
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn open(&mut self, open: Open, at: Position) -> Result<(), TooDeep> {
        if self.stack.len() == MAX_DEPTH {
            let message = format!("lists and mappings nest deeper than {MAX_DEPTH} levels");
            self.reader.error(self.reader.codes().too_deep, at, message);
            return Err(TooDeep);
        }
        self.stack.push(open);
        Ok(())
    }

    fn close(&mut self) {
        let node = match self.stack.pop() {
            Some(Open::Sequence(position, list)) => Node { position, content: Content::Sequence(list) },
            Some(Open::Mapping(position, entries)) if entries.refused && entries.list.is_empty() => {
                Node { position, content: Content::Refused }
            }
            Some(Open::Mapping(position, entries)) => Node { position, content: Content::Mapping(entries.list) },
            None => return,
        };
        self.attach(node);
    }

    /// Puts a finished node where it belongs: a document of its own, an item, a key or a value.
    fn attach(&mut self, node: Node) {
        let reader = self.reader;
        match self.stack.last_mut() {
            None if is_nothing(&node) => {} // an empty document between two `---`, as templating tools leave them
            None => self.roots.push(node),
            Some(Open::Sequence(_, list)) => list.push(node),
            Some(Open::Mapping(_, entries)) => match entries.key.take() {
                None => entries.key = Some(key(reader, node, &mut entries.seen)),
                Some(Key::Good(key, position)) => {
                    // A value that is not there is best shown at its key.
                    let at = if is_nothing(&node) { position } else { node.position };
                    entries.list.push(Entry { key, position, value: Node { position: at, ..node } });
                }
                Some(Key::Refused) => entries.refused = true,
            },
        }
    }

    fn refuse_extras(&self, anchor: usize, tagged: bool, at: Position) {
        if anchor != 0 {
            self.refuse("an anchor (`&name`)", at);
        }
        if tagged {
            self.refuse("a tag (`!name`)", at);
        }
    }

    fn refuse(&self, what: &str, at: Position) {
        let message = format!("{what} is not part of this language");
        self.reader
            .error(self.reader.codes().refused_feature, at, message)
            .help("write the value out where it is used");
    }
}

fn is_nothing(node: &Node) -> bool {
    matches!(&node.content, Content::Scalar(text, Style::Plain) if text.is_empty())
}

fn key(reader: &Reader<'_>, node: Node, seen: &mut HashSet<String>) -> Key {
    let at = node.position;
    let codes = reader.codes();
    let (text, style) = match node.content {
        Content::Scalar(text, style) => (text, style),
        Content::Refused => return Key::Refused,
        Content::Sequence(_) | Content::Mapping(_) => {
            reader.error(codes.bad_key, at, "a key must be a string, not a list or a mapping");
            return Key::Refused;
        }
    };
    if style == Style::Plain && text == "<<" {
        let found = reader.error(codes.refused_feature, at, "a merge key (`<<`) is not part of this language");
        found.help("write the keys out where they are used");
        return Key::Refused;
    }
    if text.is_empty() || (style == Style::Plain && meaning(&text) != Meaning::Text) {
        let message = format!("the key {} is not a string to every reader of YAML", quoted(&text));
        reader.error(codes.bad_key, at, message).help("write it in quotes if it is meant");
        return Key::Refused;
    }
    if !seen.insert(text.clone()) {
        let message = format!("the key {} stands here a second time", quoted(&text));
        reader.error(codes.duplicate_key, at, message).help("keep one of the two");
        return Key::Refused;
    }
    Key::Good(text, at)
}

fn position(marker: &Marker) -> Position {
    Position { line: marker.line().max(1), column: marker.col() + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::CODES;
    use crate::source::{File, Source};
    use proptest::prelude::*;

    fn read(text: &str) -> (Vec<Node>, Vec<String>) {
        let source = Source::read(File { name: "a.yaml", bytes: text.as_bytes() }, &CODES).unwrap();
        let reader = Reader::new(&source, &CODES);
        let nodes = parse(&reader);
        let found = reader.into_diagnostics();
        let lines = found.iter().map(|d| format!("{}:{} {} {}", d.line, d.column, d.code, d.message)).collect();
        (nodes, lines)
    }

    #[test]
    fn keeps_places_and_styles() {
        let (nodes, found) = read("a: b\n---\n# nothing\n---\nc:\n  - \"d\"\n");
        assert_eq!(found, Vec::<String>::new());
        let at = |line, column| Position { line, column };
        let scalar = |line, column, text: &str, style| Node {
            position: at(line, column),
            content: Content::Scalar(text.to_owned(), style),
        };
        let entry = |key: &str, position, value| Content::Mapping(vec![Entry { key: key.to_owned(), position, value }]);
        let first = Node { position: at(1, 1), content: entry("a", at(1, 1), scalar(1, 4, "b", Style::Plain)) };
        assert_eq!(nodes.len(), 2);
        assert_eq!(nodes[0], first);
        let Content::Mapping(entries) = &nodes[1].content else { panic!("{nodes:?}") };
        assert_eq!(entries[0].position, at(5, 1));
        assert_eq!(entries[0].value.content, Content::Sequence(vec![scalar(6, 5, "d", Style::Quoted)]));
    }

    #[test]
    fn refuses_what_the_language_leaves_out() {
        let rows: &[(&str, &str)] = &[
            ("a: &x b", "1:4 P006 an anchor (`&name`) is not part of this language"),
            ("a: *x", "1:4 P004 this is not valid YAML: while parsing node, found unknown anchor"),
            ("a: !!str b", "1:4 P006 a tag (`!name`) is not part of this language"),
            ("<<: b", "1:1 P006 a merge key (`<<`) is not part of this language"),
            ("a: b\na: c", "2:1 P007 the key `a` stands here a second time"),
            ("no: b", "1:1 P008 the key `no` is not a string to every reader of YAML"),
            ("8080: b", "1:1 P008 the key `8080` is not a string to every reader of YAML"),
            ("? [a]\n: b", "1:3 P008 a key must be a string, not a list or a mapping"),
        ];
        for (text, expected) in rows {
            assert_eq!(read(text).1, [*expected], "{text}");
        }
        let found = read("a: &x b\nc: *x").1;
        assert_eq!(found[1], "2:4 P006 an alias (`*name`) is not part of this language");
    }

    #[test]
    fn bounds_depth() {
        let found = read(&"[".repeat(MAX_DEPTH + 1)).1;
        assert_eq!(found, ["1:33 P005 lists and mappings nest deeper than 32 levels"]);
        let (nodes, found) = read(&format!("{}a{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH)));
        assert_eq!((nodes.len(), found.len()), (1, 0));
    }

    #[test]
    fn returns_the_documents_before_a_syntax_error() {
        let (nodes, found) = read("a: b\n---\nc: [d\n");
        assert_eq!(nodes.len(), 1);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains(" P004 this is not valid YAML: "), "{found:?}");
    }

    proptest! {
        #[test]
        fn never_panics(text in "[-a:\\[\\]{}&*!|>'\"#%@`, \n?<0~\t]{0,60}") {
            if let Ok(source) = Source::read(File { name: "a.yaml", bytes: text.as_bytes() }, &CODES) {
                parse(&Reader::new(&source, &CODES));
            }
        }
    }
}
