//! The copy of the last good policy: believed with its digest alone, and what is believed can be written and read again.
//! An input is what the digest is over, so that the header and the documents are reached.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use portcullis::policy_store::state::State;
use sha2::{Digest, Sha256};

static STATE: LazyLock<State> = LazyLock::new(|| State::new("/state".into(), vec!["/policy".into()]));

const FORMAT: &str = "portcullis-last-good-policy 1 sha256:";

fn with_digest(content: &[u8], digest: [u8; 32]) -> Vec<u8> {
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    [format!("{FORMAT}{digits}\n").as_bytes(), content].concat()
}

fuzz_target!(|content: &[u8]| {
    let mut digest: [u8; 32] = Sha256::digest(content).into();
    match STATE.decode(&with_digest(content, digest)) {
        Ok(copy) => {
            let again = STATE.encode(&copy).expect("what was read can be written");
            assert_eq!(STATE.decode(&again).expect("what was written can be read"), copy);
        }
        Err(error) => assert!(!error.label().is_empty() && !error.to_string().is_empty()),
    }
    // Which byte of the digest is wrong goes by its last, so that every place comes up.
    let at = usize::from(digest[31] % 32);
    digest[at] ^= 1;
    assert_eq!(STATE.decode(&with_digest(content, digest)).map_err(|error| error.label()), Err("damaged"));
    // The whole file as it comes.
    if STATE.decode(content).is_ok() {
        let line = content.iter().position(|byte| *byte == b'\n').expect("a first line");
        let (first, rest) = content.split_at(line + 1);
        assert_eq!(with_digest(rest, Sha256::digest(rest).into()), [first, rest].concat());
    }
});
