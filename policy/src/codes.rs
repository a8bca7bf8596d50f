//! What each code means. A code names one thing for ever: it is what pipelines filter by.
//!
//! `P0…` is a mistake in a document, which keeps the whole set from coming into force. `P1…` is what `policy check` and
//! `policy test` find in a set that is in force all the same. `P2…` is what `policy import` cannot carry over.

/// One code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// The code, such as `P101`.
    pub code: &'static str,
    /// What it says, in a few words.
    pub title: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
}

const fn code(code: &'static str, title: &'static str, remedy: &'static str) -> Code {
    Code { code, title, remedy }
}

/// Every code, in order.
pub const ALL: &[Code] = &[
    code(
        "C022",
        "HTTP matchers on an opaque TCP port",
        "split the rule: one for the port without HTTP matchers, one for the HTTP ports",
    ),
    code("P001", "not UTF-8", "save the file as UTF-8"),
    code("P002", "file too large", "split it into several files of at most 1 MiB"),
    code("P003", "invisible character", "remove it, or write it as an escape in double quotes"),
    code("P004", "no YAML", "mend the syntax at the place shown"),
    code("P005", "nested too deep", "no document needs such nesting: remove it"),
    code("P006", "YAML feature that is refused", "write it without anchors, aliases, tags and other extras of YAML"),
    code("P007", "key given twice", "remove one of the two"),
    code("P008", "key that is no string", "write the key as a plain string"),
    code("P009", "unknown key", "correct or remove the key"),
    code("P010", "missing key", "add the key"),
    code("P011", "wrong kind of value", "write the kind of value that the message asks for"),
    code("P012", "empty value", "give it a value; leave out a key that is not needed"),
    code("P013", "value that readers of YAML disagree on", "write it in quotes, or plainly"),
    code("P014", "value out of its bounds", "write one of the values that the message names"),
    code("P020", "unknown API version or kind", "write policy.portcullis.dev/v1 and one of its kinds"),
    code("P022", "not a name", "use letters, digits, `-`, `_` and `.`"),
    code("P023", "name given twice", "rename one of the two"),
    code("P024", "not a SPIFFE ID or pattern", "write it as spiffe://trust.domain/ns/namespace/sa/account"),
    code("P025", "not an address range", "write it as 10.0.0.0/8 or fd00::/8"),
    code("P026", "not a host", "write a DNS name or an address, without port"),
    code("P027", "not a method", "write methods such as GET"),
    code("P028", "not a path pattern", "write it in normal form, wildcards as whole segments"),
    code("P029", "not a gRPC name", "write a service as package.Service and a method as Method"),
    code("P030", "not a header to match", "use a header name; match host and identity under their own keys"),
    code("P031", "not a header value", "write a value; `*` only at one of its ends"),
    code("P032", "unknown identity set", "define it with `kind: IdentitySet`, or correct the name"),
    code("P033", "not a time", "write it as in 2026-12-31T00:00:00Z"),
    code("P034", "policy without rules", "add `allow` or `deny`"),
    code("P035", "target outside the policy's namespace", "move the policy, or leave `namespace` out"),
    code("P036", "not a ticket", "use at most 128 printable characters"),
    code("P037", "test case that says too much or too little", "give it either a `request` or a `connection`"),
    code("P040", "host or address and port of two Services", "remove one of the two"),
    code("P041", "Service without hosts and addresses", "add `hosts` for HTTP, `addresses` for opaque TCP"),
    code("P042", "port given twice", "remove one of the two"),
    code("P043", "Service for which nobody may answer", "name identities under `identities` or `identitySets`"),
    code("P044", "pattern that may answer for a Service", "name each identity"),
    code("P045", "identity outside the Service's namespace", "correct it, or leave `namespace` out"),
    code("P050", "no policy at all", "add an AuthorizationPolicy that allows who may call"),
    code("P051", "identity set that nothing names", "remove it, or name it in a rule"),
    code(
        "P060",
        "kind of Istio's that is no policy",
        "remove it; mutual TLS is always strict, and JWTs are the application's",
    ),
    code("P061", "policy that depends on a JWT", "match callers by `principals`; leave JWTs to the application"),
    code("P062", "policy that another service or Envoy decides", "write what it decides as ALLOW and DENY"),
    code("P063", "address that the caller names", "match the address of the connection: `ipBlocks`, `source.ip`"),
    code("P064", "policy for a gateway or waypoint", "select workloads by their labels"),
    code("P065", "DENY policy without rules", "add `rules: [{}]` to deny everything, or the rules that are meant"),
    code(
        "P066",
        "name that no caller has",
        "write principals as trust.domain/ns/namespace/sa/account, `*` only at an end",
    ),
    code(
        "P067",
        "fields that exclude each other",
        "write service accounts as namespace/account, in a source of their own",
    ),
    code("P068", "more than a policy may hold", "split the policy into several"),
    code("P069", "not a port", "write a number from 0 to 65535, in quotes"),
    code("P070", "not an attribute for `when`", "write one of the attributes that the message names"),
    code("P071", "not a dry-run annotation", "write \"true\" or \"false\", on ALLOW or DENY"),
    code("P072", "not a label", "write labels as they stand, without wildcards"),
    code("P080", "Istio policy without namespace", "write the namespace that it is applied to"),
    code("P081", "nothing allows what a policy does not deny", "add an ALLOW policy for the same workloads"),
    code("P082", "host denied with and without port", "write `host:*` beside the host, so that Istio agrees"),
    code(
        "P083",
        "namespace pattern that stops at the segment",
        "write the namespaces one by one, or `*` at the end only",
    ),
    code("P084", "header that may be repeated", "nothing to do where callers send it once"),
    code("P085", "DENY on HTTP that denies all opaque TCP", "add `ports` to each operation"),
    code("P086", "ALLOW that allows no opaque TCP", "write a rule of its own for opaque TCP"),
    code(
        "P087",
        "DENY of what several negations leave over",
        "write a rule for each condition that must not be broken",
    ),
    code("P088", "path that no request has in normal form", "write it in normal form"),
    code("P089", "host that misses requests with a port", "add the host with its port; better, match ports and paths"),
    code("P090", "asterisk that is no wildcard", "write `{*}` for a segment, or `*` at an end"),
    code("P091", "`cluster.local` taken as it stands", "write the trust domain, or configure what it stands for"),
    code("P092", "policies by label, and no labels", "give the labels of the workload"),
    code("P101", "rule that another makes superfluous", "remove it, or narrow the other rule"),
    code("P102", "allow rule that a deny rule swallows", "remove it, or narrow the deny rule"),
    code("P103", "rule written twice", "remove one of the two"),
    code("P104", "rule that matches nothing", "remove what contradicts itself"),
    code("P110", "allow rule for every workload", "name the callers, or the namespaces that they are in"),
    code("P111", "allow rule for every request", "name methods and paths, or the ports of opaque TCP"),
    code("P112", "allow rule for another trust domain", "check that the other environment is meant to call this one"),
    code("P120", "expired rule", "remove it, or extend it under a new ticket"),
    code("P121", "rule that expires soon", "extend it under a new ticket, or tell its callers"),
    code("P130", "identity that no known workload has", "correct it, or add it to the inventory"),
    code("P131", "inventory line that is no SPIFFE ID", "write one SPIFFE ID a line, comments after `#`"),
    code("P140", "policy without a test", "add a PolicyTest with a case for one of its workloads"),
    code("P150", "port that no listener forwards", "correct the port, or add the listener"),
    code(
        "P160",
        "opaque TCP of a Service without addresses",
        "add `addresses`, or name the Service in an outbound listener: opaque TCP shows no host",
    ),
    code("P161", "host or address taken out of another Service", "check that both are meant"),
    code("P162", "Service that no document defines", "define it with `kind: Service`, or correct the configuration"),
    code("P190", "test case that failed", "correct the policy, or what the case expects"),
    code("P191", "rule that no test case exercises", "add a case that this rule decides"),
    code("P192", "too few rules exercised", "add cases for the rules that are listed"),
    code("P193", "no test case", "add a PolicyTest, or name the directory that has them"),
    code("P199", "set compared in part", "check parts of the set by themselves"),
    code("P200", "object that is not imported", "leave it out of the files that are imported"),
    code("P201", "feature without counterpart", "write the object without it, or the policy by hand"),
    code("P202", "callers without identity", "name the identities that may call"),
    code("P203", "access without a policy", "name the callers in a policy"),
    code("P204", "reference to nothing", "import all files that belong together at once"),
    code("P205", "workload that is not known", "say which identity it has with --workload"),
    code("P206", "port that is not known", "say which number it has with --port"),
    code("P207", "trust domain that is not known", "say it with --trust-domain"),
    code("P208", "identity without counterpart", "name a service account, or write the SPIFFE ID"),
    code("P209", "path without counterpart", "match the exact path, or a prefix by whole segments"),
    code("P210", "routes that overlap", "let them match different paths, methods or hosts"),
    code("P211", "object given twice", "import one version of each object"),
    code("P212", "header without counterpart", "match an exact value of another header"),
    code("P213", "addresses that are not known", "say them with --cluster-network"),
    code("P219", "result that does not compile", "write the policy by hand, and report this"),
    code("P220", "no words for it", "write the policy by hand"),
    code("P221", "two conditions of one kind", "write the values that are in both lists"),
    code("P222", "policies that only deny", "add a policy that allows what may be called"),
];

/// The meaning of a code.
#[must_use]
pub fn find(code: &str) -> Option<&'static Code> {
    ALL.iter().find(|known| known.code == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_the_crate_is_explained_once() {
        let sources = [
            include_str!("native.rs"),
            include_str!("istio.rs"),
            include_str!("findings.rs"),
            include_str!("import.rs"),
        ];
        let used =
            sources.iter().flat_map(|text| text.match_indices("\"P").filter_map(|(at, _)| text.get(at + 1..at + 5)));
        let used: Vec<&str> = used.filter(|code| code[1..].bytes().all(|b| b.is_ascii_digit())).collect();
        assert!(used.len() > 30, "{used:?}");
        for code in used {
            assert!(find(code).is_some(), "{code}");
        }
        assert!(ALL.is_sorted_by(|a, b| a.code < b.code));
    }
}
