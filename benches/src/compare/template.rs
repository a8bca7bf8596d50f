//! Fills in the configuration files of `benches/peers/`.
//!
//! A placeholder is a name of small letters, digits and underscores in braces: `{listen}`. Other braces, of which the
//! configuration languages are full, stay. What is filled in is not searched for placeholders again.

/// A template asks for something that nobody filled in.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the template's placeholder `{{{name}}}` has no value: give it one where the peer fills in its template")]
pub struct Unfilled {
    /// The placeholder.
    pub name: String,
}

/// The template with its placeholders replaced.
///
/// # Errors
/// When a placeholder has no value.
pub fn fill(template: &str, values: &[(&str, &str)]) -> Result<String, Unfilled> {
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let name = after.split_once('}').map(|(name, _)| name).filter(|name| is_name(name));
        let Some(name) = name else {
            filled.push('{');
            rest = after;
            continue;
        };
        let value = values.iter().find(|(key, _)| *key == name);
        let (_, value) = value.ok_or_else(|| Unfilled { name: name.to_owned() })?;
        filled.push_str(value);
        rest = after.get(name.len() + 1..).unwrap_or_default();
    }
    filled.push_str(rest);
    Ok(filled)
}

fn is_name(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    !text.is_empty() && text.bytes().all(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(template: &str, expected: &str) {
        let values = [("listen", "4443"), ("path", "/a{listen}b")];
        assert_eq!(fill(template, &values).unwrap(), expected);
    }

    #[test]
    fn placeholders_are_replaced_and_other_braces_stay() {
        check("port {listen};", "port 4443;");
        check("server { port {listen}; }", "server { port 4443; }");
        check("{path: x, \"@type\": y}", "{path: x, \"@type\": y}");
        check("{{listen}}", "{4443}");
        check("{", "{");
        check("{}", "{}");
        check("{listen}{listen}", "44434443");
    }

    #[test]
    fn what_is_filled_in_is_not_filled_again() {
        check("{path}", "/a{listen}b");
    }

    #[test]
    fn a_placeholder_without_a_value_is_named() {
        assert_eq!(fill("a {liste} b", &[("listen", "1")]), Err(Unfilled { name: "liste".to_owned() }));
    }
}
