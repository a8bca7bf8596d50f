//! General names as people write them: in subject alternative names and in name constraints.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;
use x509_parser::extensions::GeneralName;

use crate::certificate::{hex, name_text, printable};

/// One name and its kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Name {
    /// `URI`, `DNS`, `IP`, `email`, `directory` or another kind of general name.
    pub kind: &'static str,
    /// The name, fit for a terminal.
    pub value: String,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = if self.value.is_empty() { "(empty)" } else { &self.value };
        write!(f, "{} {value}", self.kind)
    }
}

impl Name {
    pub(super) fn of(name: &GeneralName<'_>) -> Self {
        let (kind, value) = match name {
            GeneralName::URI(uri) => ("URI", printable(uri)),
            GeneralName::DNSName(name) => ("DNS", printable(name)),
            GeneralName::IPAddress(bytes) => ("IP", address(bytes)),
            GeneralName::RFC822Name(name) => ("email", printable(name)),
            GeneralName::DirectoryName(name) => ("directory", name_text(name)),
            GeneralName::RegisteredID(number) => ("registered ID", printable(&number.to_id_string())),
            GeneralName::OtherName(number, _) => ("other name", printable(&number.to_id_string())),
            GeneralName::X400Address(_) => ("X.400 address", NOT_SHOWN.to_owned()),
            GeneralName::EDIPartyName(_) => ("EDI party name", NOT_SHOWN.to_owned()),
            GeneralName::Invalid(tag, _) => ("unreadable", format!("tag {}", tag.0)),
        };
        Self { kind, value }
    }
}

/// An address, or, in a constraint, an address and its mask.
fn address(bytes: &[u8]) -> String {
    if let Some(address) = single(bytes) {
        return address.to_string();
    }
    let network = match bytes.len() {
        8 | 32 => bytes.split_at_checked(bytes.len() / 2),
        _ => None,
    };
    let text = network.and_then(|(address, mask)| Some(format!("{}/{}", single(address)?, prefix(mask)?)));
    text.unwrap_or_else(|| printable(&hex(bytes)))
}

fn single(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(|bytes| IpAddr::V4(Ipv4Addr::from(bytes)));
    let sixteen = <[u8; 16]>::try_from(bytes).map(|bytes| IpAddr::V6(Ipv6Addr::from(bytes)));
    four.or(sixteen).ok()
}

/// The length of a mask that is ones and then zeros.
fn prefix(mask: &[u8]) -> Option<u32> {
    let ones: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
    let mut leading = 0;
    for byte in mask {
        leading += byte.leading_ones();
        if *byte != 0xff {
            break;
        }
    }
    (ones == leading).then_some(ones)
}

const NOT_SHOWN: &str = "(not shown)";
