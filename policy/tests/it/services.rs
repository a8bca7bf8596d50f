//! Services: whose a host or an address is, against an oracle that asks every one of them.

use std::net::IpAddr;

use portcullis_policy::{File, Policy, ServiceName, Services};
use proptest::prelude::*;

use crate::properties::cases;

/// A Service as its document says it.
#[derive(Debug, Clone)]
struct Model {
    hosts: Vec<&'static str>,
    addresses: Vec<&'static str>,
    ports: Vec<u16>,
}

const HOSTS: [&str; 8] = ["a", "a.x", "A.b.x", "b.x", "*.x", "*.b.x", "*.a.b.x", "*.a"];
const ADDRESSES: [&str; 8] =
    ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "10.1.2.4/31", "::/0", "fd00::/8", "fd00::1"];
const ASKED: [&str; 15] = [
    "a",
    "A.",
    "a.x:80",
    "a.b.x",
    "c.a.b.X",
    "d.c.a.b.x.",
    "b.x",
    "x",
    "c.x",
    "",
    ".x",
    "10.1.2.3",
    "10.1.2.5:80",
    "[fd00::1]:80",
    "[::ffff:10.1.2.3]",
];
const PORTS: [u16; 3] = [80, 81, 82];

fn model() -> impl Strategy<Value = Model> {
    let hosts = prop::sample::subsequence(&HOSTS, 0..3);
    let addresses = prop::sample::subsequence(&ADDRESSES, 1..3);
    let ports = prop::sample::subsequence(&PORTS, 1..=3);
    (hosts, addresses, ports).prop_map(|(hosts, addresses, ports)| Model { hosts, addresses, ports })
}

fn document(number: usize, model: &Model) -> String {
    let list = |items: &[&str]| items.iter().map(|item| format!("'{item}'")).collect::<Vec<_>>().join(", ");
    let hosts = if model.hosts.is_empty() { String::new() } else { format!("  hosts: [{}]\n", list(&model.hosts)) };
    let ports: Vec<String> = model.ports.iter().map(|port| format!("{{port: {port}, protocol: auto}}")).collect();
    format!(
        "apiVersion: policy.portcullis.dev/v1\nkind: Service\nmetadata: {{name: s{number}}}\nspec:\n{hosts}  addresses: \
         [{}]\n  ports: [{}]\n  identities: [spiffe://t/s{number}]\n",
        list(&model.addresses),
        ports.join(", ")
    )
}

/// How narrowly a host is claimed; `None` when it is not.
fn claims_host(claimed: &str, host: &str) -> Option<usize> {
    let (claimed, host) = (claimed.to_lowercase(), host.to_lowercase());
    match claimed.strip_prefix('*') {
        None => (claimed == host).then_some(usize::MAX),
        Some(suffix) => (host.len() > suffix.len() && host.ends_with(suffix)).then_some(suffix.len()),
    }
}

/// The same for an address, bit by bit.
fn claims_address(claimed: &str, address: IpAddr) -> Option<usize> {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => (32, u128::from(address.to_bits()) << 96),
        IpAddr::V6(address) => (128, address.to_bits()),
    };
    let (network, length) =
        claimed.split_once('/').map_or((claimed, None), |(network, length)| (network, Some(length)));
    let (family, network) = bits(network.parse().unwrap());
    let length: u32 = length.map_or(family, |length| length.parse().unwrap());
    let (asked, address) = bits(address);
    let same = length == 0 || (network ^ address) >> (128 - length) == 0;
    (family == asked && same).then_some(length as usize)
}

/// Whose it is, asking everybody.
fn owner(models: &[Model], asked: &str, port: u16) -> Option<usize> {
    let bare = asked.strip_suffix(":80").unwrap_or(asked);
    let bare = bare.strip_suffix('.').unwrap_or(bare);
    let address = bare.trim_matches(['[', ']']).parse::<IpAddr>().ok().map(|address| address.to_canonical());
    let with_port = models.iter().enumerate().filter(|(_, model)| model.ports.contains(&port));
    let narrowness = |model: &Model| match address {
        Some(address) => model.addresses.iter().filter_map(|claimed| claims_address(claimed, address)).max(),
        None => model.hosts.iter().filter_map(|claimed| claims_host(claimed, bare)).max(),
    };
    with_port.filter_map(|(number, model)| Some((narrowness(model)?, number))).max().map(|(_, number)| number)
}

/// Whether two of them claim the same on the same port.
fn is_contested(models: &[Model]) -> bool {
    let pairs = models.iter().enumerate().flat_map(|(at, one)| models[at + 1..].iter().map(move |other| (one, other)));
    { pairs }.any(|(one, other)| {
        let same = one.hosts.iter().any(|host| other.hosts.contains(host))
            || one.addresses.iter().any(|address| other.addresses.contains(address));
        same && one.ports.iter().any(|port| other.ports.contains(port))
    })
}

fn named(number: usize) -> ServiceName {
    ServiceName { namespace: None, name: format!("s{number}").into() }
}

fn check(services: &Services, models: &[Model]) -> Result<(), TestCaseError> {
    for asked in ASKED {
        for port in [80, 81, 82, 83] {
            let expected = owner(models, asked, port).map(named);
            let found = services.by_host(asked, port).map(|service| service.name().clone());
            prop_assert_eq!(&found, &expected, "{} {}", asked, port);
            if let Ok(address) = asked.trim_matches(['[', ']']).parse() {
                let found = services.by_address(address, port).map(|service| service.name().clone());
                prop_assert_eq!(&found, &expected, "{} {}", address, port);
            }
        }
    }
    for (number, model) in models.iter().enumerate() {
        let service = services.by_name(&named(number)).unwrap();
        prop_assert_eq!(service.ports().map(|(port, _)| port).collect::<Vec<_>>(), model.ports.clone());
        prop_assert_eq!(service.identities()[0].to_string(), format!("spiffe://t/s{number}"));
    }
    prop_assert_eq!(services.by_name(&named(models.len())), None);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4 * cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_narrowest_claim_wins_and_no_two_are_the_same(models in prop::collection::vec(model(), 1..5)) {
        let documents: Vec<String> = models.iter().enumerate().map(|(number, model)| document(number, model)).collect();
        let names: Vec<String> = (0..documents.len()).map(|number| format!("{number}.yaml")).collect();
        let mut files: Vec<File<'_>> =
            names.iter().zip(&documents).map(|(name, text)| File { name, bytes: text.as_bytes() }).collect();
        for _ in 0..2 {
            match Policy::compile(&files) {
                Ok(compiled) => {
                    prop_assert!(!is_contested(&models));
                    check(compiled.policy.services(), &models)?;
                }
                Err(found) => {
                    prop_assert!(is_contested(&models), "{}", found);
                    prop_assert!(found.iter().all(|one| one.code == "P040"), "{}", found);
                }
            }
            files.reverse();
        }
    }
}
