//! The messages of the Workload API as protobuf defines them, encoded by prost, and the parts that tests make them of.
//!
//! The client under test reads them with a reader of its own, so the two check each other.

use std::collections::HashMap;

use prost::Message;
use rcgen::{CertificateRevocationListParams, KeyIdMethod, SerialNumber, date_time_ymd};

use crate::pki::{Authority, Leaf};

#[derive(Clone, PartialEq, Message)]
pub struct Response {
    #[prost(message, repeated, tag = "1")]
    pub svids: Vec<Svid>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub crl: Vec<Vec<u8>>,
    #[prost(map = "string, bytes", tag = "3")]
    pub federated_bundles: HashMap<String, Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Svid {
    #[prost(string, tag = "1")]
    pub spiffe_id: String,
    #[prost(bytes = "vec", tag = "2")]
    pub x509_svid: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub x509_svid_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub bundle: Vec<u8>,
    #[prost(string, tag = "5")]
    pub hint: String,
}

impl Svid {
    /// What an agent sends for this leaf, with the root as bundle.
    pub fn new(id: &str, leaf: &Leaf, root: &Authority) -> Self {
        Self {
            spiffe_id: id.to_owned(),
            x509_svid: leaf.chain.iter().flat_map(|der| der.to_vec()).collect(),
            x509_svid_key: leaf.key.serialize_der(),
            bundle: root.der.to_vec(),
            hint: String::new(),
        }
    }

    pub fn hinted(self, hint: &str) -> Self {
        Self { hint: hint.to_owned(), ..self }
    }
}

impl Response {
    pub fn of(svids: impl IntoIterator<Item = Svid>) -> Self {
        Self { svids: svids.into_iter().collect(), ..Self::default() }
    }

    pub fn federated(mut self, name: &str, bundle: &[u8]) -> Self {
        self.federated_bundles.insert(name.to_owned(), bundle.to_vec());
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.encode_to_vec()
    }
}

/// A CRL that revokes nothing, from the day before the tests take place to the day after.
pub fn crl(authority: &Authority) -> Vec<u8> {
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2027, 1, 14),
        next_update: date_time_ymd(2027, 1, 16),
        crl_number: SerialNumber::from(1_u64),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(&authority.issuer).unwrap().der().to_vec()
}
