//! Is a text well-formed XML? As much of a parser as that takes.

use std::str::Chars;

/// Every element is closed, every attribute quoted and unique, every `&` an entity, and there is one root.
#[track_caller]
pub fn assert_well_formed(text: &str) {
    if let Err(mistake) = check(text) {
        panic!("{mistake} in {text}");
    }
}

fn check(text: &str) -> Result<(), String> {
    let mut open: Vec<String> = Vec::new();
    let mut roots = 0;
    let mut rest = text.trim();
    while let Some((before, from)) = rest.split_once('<') {
        characters(before)?;
        if open.is_empty() && !before.trim().is_empty() {
            return Err(format!("`{before}` outside the root"));
        }
        let (tag, after) = from.split_once('>').ok_or("a tag without its end")?;
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            let opened = open.pop().ok_or(format!("`{name}` closes nothing"))?;
            if opened != name {
                return Err(format!("`{name}` closes `{opened}`"));
            }
            continue;
        }
        roots += usize::from(open.is_empty());
        let (name, attributes) = tag.trim_end_matches('/').split_once(' ').unwrap_or((tag.trim_end_matches('/'), ""));
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(format!("an element named `{name}`"));
        }
        check_attributes(attributes)?;
        if !tag.ends_with('/') {
            open.push(name.to_owned());
        }
    }
    if !open.is_empty() || roots != 1 || !rest.is_empty() {
        return Err(format!("{roots} roots, {open:?} open, `{rest}` behind"));
    }
    Ok(())
}

fn check_attributes(text: &str) -> Result<(), String> {
    let mut seen = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (name, from) = rest.split_once("=\"").ok_or(format!("`{rest}` is no attribute"))?;
        let (value, after) = from.split_once('"').ok_or(format!("`{name}` is not closed"))?;
        if seen.contains(&name) || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            return Err(format!("the attribute `{name}`"));
        }
        if !(after.is_empty() || after.starts_with(' ')) {
            return Err(format!("no space after `{name}`"));
        }
        characters(value)?;
        seen.push(name);
        rest = after.trim();
    }
    Ok(())
}

fn characters(text: &str) -> Result<(), String> {
    if let Some(c) = text.chars().find(|c| (c.is_control() && *c != '\n') || matches!(c, '\u{fffe}' | '\u{ffff}')) {
        return Err(format!("the character {c:?}"));
    }
    let mut rest: Chars<'_> = text.chars();
    while rest.by_ref().any(|c| c == '&') {
        let entity: String = rest.by_ref().take_while(|c| *c != ';').collect();
        if !["amp", "lt", "gt", "quot", "#39"].contains(&entity.as_str()) {
            return Err(format!("the entity `{entity}`"));
        }
    }
    Ok(())
}

#[test]
fn the_check_finds_mistakes() {
    check("<a b=\"1\" c-d=\"&lt;\"><e/>x &amp; y</a>").unwrap();
    for wrong in ["", "<a>", "<a></b>", "<a/><b/>", "<a b=1/>", "<a b=\"1\" b=\"2\"/>", "<a>&nbsp;</a>", "<a>\x07</a>"]
    {
        check(wrong).expect_err(wrong);
    }
}
