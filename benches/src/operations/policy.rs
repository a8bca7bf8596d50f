//! Decisions at policies of three sizes, the request being what the very last rule is for.
//!
//! The documents are those of a mesh in which teams add a policy each: a hundred rules to a policy, every tenth of them
//! denying, the others allowing one caller some paths, a namespace all below a prefix, or one a gRPC method.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use http::{HeaderMap, HeaderValue};
use portcullis::policy_store::Fields;
use portcullis_policy::path::{EncodedSlash, Path};
use portcullis_policy::{Admission, Connection, File, Policy, Request, RuleRef, Verdict};
use spiffe::SpiffeId;

use super::{Failure, Work};

/// A request at a policy of so many rules.
pub fn decide(rules: usize) -> Result<Work, Failure> {
    let (policy, expected) = compiled(rules)?;
    let mut facts = several_facts()?;
    let path = Path::normalise(b"/v1/members/4711/coverage", EncodedSlash::Refuse)?;
    let mut headers = HeaderMap::new();
    headers.insert("x-tenant", HeaderValue::from_static("acme"));
    Ok(Work::whole(move || {
        let facts = facts.next().ok_or(Failure::Wrong("there are no facts"))?;
        let request = Request {
            connection: facts.connection(),
            method: "GET",
            host: "eligibility.eligibility.svc.cluster.local",
            path: &path,
            headers: &Fields::of(&headers),
        };
        let decision = policy.decide(std::hint::black_box(&request));
        match decision.verdict {
            Verdict::Allow(rule) if rule == expected => Ok(decision),
            Verdict::Allow(_) | Verdict::AllowByDefault | Verdict::Deny(_) => {
                Err(Failure::Wrong("not the last rule decided"))
            }
        }
    }))
}

/// What is asked of every open connection when a policy of so many rules has changed.
pub fn admit(rules: usize) -> Result<Work, Failure> {
    let (policy, _) = compiled(rules)?;
    let mut facts = several_facts()?;
    Ok(Work::whole(move || {
        let facts = facts.next().ok_or(Failure::Wrong("there are no facts"))?;
        match policy.admit(std::hint::black_box(&facts.connection())) {
            Admission::PerRequest => Ok(()),
            Admission::Allow(_) | Admission::Deny(_) => Err(Failure::Wrong("it depends on the request")),
        }
    }))
}

/// The same facts at several places in memory, in turn. Comparing text costs a little more where it happens to lie at the
/// end of a page; if that befell the only caller there is, it would be the same for every rule, in this run and not in the next.
fn several_facts() -> Result<impl Iterator<Item = Rc<Facts>>, Failure> {
    let all = (0..PLACES).map(|_| Facts::new().map(Rc::new)).collect::<Result<Vec<_>, _>>()?;
    Ok(all.into_iter().cycle())
}

struct Facts {
    caller: SpiffeId,
    workload: SpiffeId,
}

impl Facts {
    fn new() -> Result<Self, Failure> {
        Ok(Self { caller: SpiffeId::new(CALLER)?, workload: SpiffeId::new(WORKLOAD)? })
    }

    fn connection(&self) -> Connection<'_> {
        Connection {
            caller: &self.caller,
            workload: &self.workload,
            port: 8080,
            source: IpAddr::V4(Ipv4Addr::new(10, 12, 3, 45)),
            destination: IpAddr::V4(Ipv4Addr::new(10, 12, 3, 46)),
            server_name: None,
            now: 1_800_000_000,
        }
    }
}

/// The policy, and its last rule.
fn compiled(rules: usize) -> Result<(Policy, RuleRef), Failure> {
    let texts: Vec<String> = (0..rules).step_by(RULES_OF_ONE).map(|first| document(first, rules)).collect();
    let names: Vec<String> = (0..texts.len()).map(|index| format!("team-{index:04}.yaml")).collect();
    let files: Vec<File<'_>> =
        names.iter().zip(&texts).map(|(name, text)| File { name, bytes: text.as_bytes() }).collect();
    let policy = Policy::compile(&files).map_err(Failure::Policy)?.policy;
    if policy.rules().count() != rules {
        return Err(Failure::Wrong("another number of rules"));
    }
    let last = policy.rules().find(|(_, rule)| *rule.name == *format!("r{}", rules - 1));
    let last = last.ok_or(Failure::Wrong("the last rule is missing"))?.0;
    Ok((policy, last))
}

/// The policy of one team, beginning with this rule.
fn document(first: usize, rules: usize) -> String {
    let (mut allow, mut deny) = (String::new(), String::new());
    for number in first..rules.min(first + RULES_OF_ONE) {
        let account = format!("spiffe://{DOMAIN}/ns/team-{:04}/sa/svc-{number:05}", number / 10);
        let namespace = format!("spiffe://{DOMAIN}/ns/team-{number:05}/sa/*");
        let (section, from, to) = match number % 10 {
            _ if number + 1 == rules => (&mut allow, CALLER, GET_COVERAGE),
            0 => (&mut deny, &*namespace, ADMINISTER),
            1 | 2 => (&mut allow, &*namespace, GET_PLANS),
            3 => (&mut allow, &*account, CALL_CLAIMS),
            // The caller's own, for something else: its identity matches, and the paths have to be looked at.
            4 => (&mut allow, CALLER, GET_CARDS),
            _ => (&mut allow, &*account, GET_COVERAGE),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(section, "    - {{name: r{number}, from: {{identities: ['{from}']}}, to: {{{to}}}}}");
    }
    let section =
        |name: &str, rules: &str| if rules.is_empty() { String::new() } else { format!("  {name}:\n{rules}") };
    format!(
        "apiVersion: policy.portcullis.dev/v1\nkind: AuthorizationPolicy\n\
         metadata: {{name: team-{first:05}, namespace: eligibility}}\n\
         spec:\n  target: {{identities: ['{WORKLOAD}']}}\n{}{}",
        section("deny", &deny),
        section("allow", &allow)
    )
}

const DOMAIN: &str = "prod.health.internal";
const CALLER: &str = "spiffe://prod.health.internal/ns/claims/sa/adjudicator";
const WORKLOAD: &str = "spiffe://prod.health.internal/ns/eligibility/sa/api";
const GET_COVERAGE: &str = "ports: [8080], methods: [GET], paths: ['/v1/members/{id}/coverage']";
const GET_CARDS: &str = "methods: [GET], paths: ['/v1/members/{id}/cards/**']";
const GET_PLANS: &str = "ports: [8080], methods: [GET], paths: ['/v1/plans/**']";
const CALL_CLAIMS: &str = "ports: [9090], grpc: {services: [claims.v1.Claims], methods: [Get]}";
const ADMINISTER: &str = "ports: [8080], paths: ['/v1/admin/**']";
/// Few enough that each has its turn within every count.
const PLACES: usize = 16;
/// Far below what one file may hold.
const RULES_OF_ONE: usize = 100;
