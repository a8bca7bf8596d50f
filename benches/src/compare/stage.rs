//! What is set up in a row: what is carried, through how many proxies, under how many rules.

/// What a peer is to be set up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stage {
    /// What it carries.
    pub carries: Carries,
    /// How many proxies are between caller and application.
    pub hops: Hops,
    /// What has to be decided.
    pub rules: Rules,
}

/// What a proxy carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carries {
    /// HTTP, and the caller speaks HTTP/1.1.
    Http1,
    /// HTTP, and the caller speaks HTTP/2.
    Http2,
    /// Opaque bytes.
    Tcp,
}

/// How many proxies are in the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hops {
    /// The one beside the called service; the generator is its mTLS client.
    One,
    /// Two: the generator speaks plaintext to the one beside the caller.
    Two,
}

/// Who may call what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rules {
    /// One rule: the caller may.
    Caller,
    /// So many rules, each for another caller and path; the last one lets the generator's requests pass.
    Many(usize),
}

/// Which of the proxies in the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Beside the called service.
    Inbound,
    /// Beside the caller.
    Outbound,
}

impl Rules {
    /// The pairs of caller and path that are allowed.
    pub fn pairs(count: usize, caller: &str) -> impl Iterator<Item = (String, String)> {
        (1..count)
            .map(move |number| (format!("{caller}-{number}"), format!("/resource/{number}")))
            .chain(std::iter::once((caller.to_owned(), "/".to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_of_the_rules_is_for_the_generator() {
        let pairs: Vec<_> = Rules::pairs(10, "spiffe://a/b").collect();
        assert_eq!(pairs.len(), 10);
        assert_eq!(pairs.last().unwrap(), &("spiffe://a/b".to_owned(), "/".to_owned()));
        assert_eq!(pairs.iter().filter(|(caller, path)| caller == "spiffe://a/b" || path == "/").count(), 1);
        let distinct: std::collections::BTreeSet<_> = pairs.iter().collect();
        assert_eq!(distinct.len(), 10);
    }
}
