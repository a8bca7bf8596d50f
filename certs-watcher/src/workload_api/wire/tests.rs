//! Tests of `wire.rs`: against prost as encoder, and against whatever bytes there are.

use proptest::collection::{hash_map, vec};
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::messages;

fn arbitrary_response() -> impl Strategy<Value = messages::Response> {
    let bytes = || vec(any::<u8>(), 0..40);
    let svid = (".{0,8}", bytes(), bytes(), bytes(), ".{0,8}").prop_map(
        |(spiffe_id, x509_svid, x509_svid_key, bundle, hint)| messages::Svid {
            spiffe_id,
            x509_svid,
            x509_svid_key,
            bundle,
            hint,
        },
    );
    (vec(svid, 0..5), vec(bytes(), 0..5), hash_map(".{0,8}", bytes(), 0..5))
        .prop_map(|(svids, crl, federated_bundles)| messages::Response { svids, crl, federated_bundles })
}

/// What was read, as the type that prost knows.
fn owned(response: &Response<'_>) -> messages::Response {
    let svids = response.svids.iter().map(|entry| messages::Svid {
        spiffe_id: entry.id.to_owned(),
        x509_svid: entry.chain.to_vec(),
        x509_svid_key: entry.key.to_vec(),
        bundle: entry.bundle.to_vec(),
        hint: entry.hint.to_owned(),
    });
    messages::Response {
        svids: svids.collect(),
        crl: response.crls.iter().map(|crl| crl.to_vec()).collect(),
        federated_bundles: response.federated.iter().map(|(name, der)| ((*name).to_owned(), der.to_vec())).collect(),
    }
}

proptest! {
    #[test]
    fn what_prost_writes_is_read(response in arbitrary_response()) {
        prop_assert_eq!(owned(&Response::read(&response.bytes()).unwrap()), response);
    }

    #[test]
    fn whatever_is_read_prost_reads_alike(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(response) = Response::read(&bytes) {
            prop_assert_eq!(Ok(owned(&response)), messages::Response::decode(&bytes[..]));
        }
    }

    #[test]
    fn a_message_that_was_damaged_is_read_alike_or_refused(
        response in arbitrary_response(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut bytes = response.bytes();
        prop_assume!(!bytes.is_empty());
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(response) = Response::read(&bytes) {
            prop_assert_eq!(Ok(owned(&response)), messages::Response::decode(&bytes[..]));
        }
    }
}

#[test]
fn bytes_that_are_no_message_are_refused() {
    let check = |bytes: &[u8], error: WireError| assert_eq!(Response::read(bytes).unwrap_err(), error, "{bytes:x?}");
    check(&[0x0a], WireError::Malformed);
    check(&[0x0a, 0x05, 0x00], WireError::Malformed);
    // A length of 2^64 - 1, and a number that is longer than 64 bits.
    check(&[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], WireError::Malformed);
    check(&[0x20, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], WireError::Malformed);
    // Field 0, the beginning of a group, wire type 7.
    check(&[0x02, 0x00], WireError::Malformed);
    check(&[0x23, 0x24], WireError::Malformed);
    check(&[0x0f], WireError::Malformed);
    check(&[0x08, 0x01], WireError::WrongType);
    check(&[0x0a, 0x03, 0x0a, 0x01, 0xff], WireError::NotText);
}

#[test]
fn fields_from_the_future_are_passed_over() {
    // A number, eight bytes, four bytes, and bytes, all in field 4; then a CRL.
    let bytes = [0x20, 0x01, 0x21, 0, 0, 0, 0, 0, 0, 0, 0, 0x25, 0, 0, 0, 0, 0x22, 0x01, 0xff, 0x12, 0x01, 0x07];
    assert_eq!(Response::read(&bytes).unwrap().crls, [[7]]);
}

#[test]
fn every_list_has_its_limit() {
    let check = |entry: &[u8], limit: usize, what| {
        Response::read(&entry.repeat(limit)).unwrap();
        let error = Response::read(&entry.repeat(limit + 1)).unwrap_err();
        assert_eq!(error, WireError::TooMany { what, limit });
    };
    check(&[0x0a, 0x00], MAX_SVIDS, "SVIDs");
    check(&[0x12, 0x00], MAX_CRLS, "CRLs");
    check(&[0x1a, 0x00], MAX_FEDERATED, "federated bundles");
}
