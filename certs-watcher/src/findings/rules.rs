//! The table of findings. A code names one thing for ever: it is what pipelines filter by.

use std::fmt;

/// A kind of finding: `K0…` is refused by the sidecar, `K1…` is drift.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// A code that stays the same across versions, such as `K101`.
    pub code: &'static str,
    /// A short name in words joined by hyphens.
    pub name: &'static str,
    /// What it says, in one sentence.
    pub title: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
}

impl Rule {
    /// Every rule, in the order of the codes.
    pub const ALL: [&'static Self; 28] = [
        &UNREADABLE,
        &NOT_AN_SVID,
        &MISSING_AUTH,
        &KEY_MISMATCH,
        &UNUSABLE_KEY,
        &EXPIRED,
        &NOT_YET_VALID,
        &NOT_AN_ISSUER,
        &WEAK_RSA,
        &BROKEN_CHAIN,
        &NO_USABLE_ANCHOR,
        &SHA1_SIGNATURE,
        &LONG_LIVED_LEAF,
        &RSA_LEAF,
        &NO_PATH_LENGTH,
        &NO_NAME_CONSTRAINTS,
        &CA_CRT_AS_TRUST,
        &SHARED_ANCHOR,
        &LITTLE_LIFE_LEFT,
        &CHAIN_OUT_OF_ORDER,
        &ANCHOR_REFUSED,
        &ANCHOR_NOT_VALID,
        &ANCHOR_NEAR_END,
        &CRL_STALE,
        &CRL_NEAR_UPDATE,
        &NOT_PEM,
        &EMPTY_BUNDLE,
        &NOT_OF_CA_CRT,
    ];
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code)
    }
}

pub(super) static UNREADABLE: Rule = Rule {
    code: "K001",
    name: "unreadable",
    title: "A file is missing, unreadable, or not what it should be.",
    remedy: "see whether the right Secret or ConfigMap is mounted there and whether the file was cut off or overwritten; then have it issued or published anew",
};

pub(super) static NOT_AN_SVID: Rule = Rule {
    code: "K002",
    name: "not-an-svid",
    title: "The leaf breaks a rule of the X509-SVID standard.",
    remedy: "correct the request (for cert-manager, the Certificate) or the issuer's template, and issue the leaf anew",
};

pub(super) static MISSING_AUTH: Rule = Rule {
    code: "K003",
    name: "missing-auth",
    title: "The leaf's extended key usage lacks client auth or server auth.",
    remedy: "issue it with both usages; for cert-manager, set `usages: [digital signature, server auth, client auth]` in the Certificate",
};

pub(super) static KEY_MISMATCH: Rule = Rule {
    code: "K004",
    name: "key-mismatch",
    title: "The private key is not the key of the leaf.",
    remedy: "both files have to come from one issuance: write key and certificate together, or have the pair issued anew",
};

pub(super) static UNUSABLE_KEY: Rule = Rule {
    code: "K005",
    name: "unusable-key",
    title: "The private key is missing, encrypted, damaged or of a kind that cannot sign handshakes.",
    remedy: "store one unencrypted key (PKCS#8, PKCS#1 or SEC1 in PEM) beside the certificate, readable for the sidecar's user alone",
};

pub(super) static EXPIRED: Rule = Rule {
    code: "K006",
    name: "expired",
    title: "A certificate has expired.",
    remedy: "see why it was not renewed (for cert-manager, `kubectl describe certificate`); take expired issuers out of the file",
};

pub(super) static NOT_YET_VALID: Rule = Rule {
    code: "K007",
    name: "not-yet-valid",
    title: "A certificate is not valid yet.",
    remedy: "compare the clocks of this machine and of the issuer; if both are right, wait or issue it anew",
};

pub(super) static NOT_AN_ISSUER: Rule = Rule {
    code: "K008",
    name: "not-an-issuer",
    title: "A certificate of the chain may not sign certificates.",
    remedy: "issue the intermediate as a CA: basic constraints with cA true, key usage with certificate signing",
};

pub(super) static WEAK_RSA: Rule = Rule {
    code: "K009",
    name: "weak-rsa",
    title: "An RSA key has fewer than 2048 bits.",
    remedy: "issue it anew with a P-256 key, or with RSA of 2048 bits or more where it must be RSA",
};

pub(super) static BROKEN_CHAIN: Rule = Rule {
    code: "K010",
    name: "broken-chain",
    title: "The certificates of the file do not form a chain that holds.",
    remedy: "put the leaf and its own intermediates into the file, as the issuer delivered them; if they are, correct the issuer's path length, name constraints or extended key usage",
};

pub(super) static NO_USABLE_ANCHOR: Rule = Rule {
    code: "K011",
    name: "no-usable-anchor",
    title: "A bundle has no certificate that can be a trust anchor now.",
    remedy: "publish a bundle with the root, or the intermediate, that signs this trust domain and is valid now",
};

pub(super) static SHA1_SIGNATURE: Rule = Rule {
    code: "K012",
    name: "sha1-signature",
    title: "A certificate is signed with SHA-1 or an older hash.",
    remedy: "have the issuer sign with SHA-256 or better, and issue the certificate anew",
};

pub(super) static LONG_LIVED_LEAF: Rule = Rule {
    code: "K101",
    name: "long-lived-leaf",
    title: "A leaf lives longer than 72 hours.",
    remedy: "shorten it to 24 to 72 hours (for cert-manager, `duration`): a stolen key is of use until the leaf ends, and short lives prove that renewal works",
};

pub(super) static RSA_LEAF: Rule = Rule {
    code: "K102",
    name: "rsa-leaf",
    title: "A leaf has an RSA key.",
    remedy: "use ECDSA P-256 (for cert-manager, `privateKey: {algorithm: ECDSA, size: 256}`): a handshake then costs its owner a small part of the time",
};

pub(super) static NO_PATH_LENGTH: Rule = Rule {
    code: "K103",
    name: "no-path-length",
    title: "An intermediate has no path length.",
    remedy: "issue the intermediate with path length 0, so that it can sign leaves and no further CAs",
};

pub(super) static NO_NAME_CONSTRAINTS: Rule = Rule {
    code: "K104",
    name: "no-name-constraints",
    title: "An intermediate is not held to its trust domain by URI name constraints.",
    remedy: "issue the intermediate with a permitted URI subtree of its trust domain, or put the intermediate itself into the bundle instead of the root",
};

pub(super) static CA_CRT_AS_TRUST: Rule = Rule {
    code: "K105",
    name: "ca-crt-as-trust",
    title: "The ca.crt of an identity's Secret serves as trust bundle.",
    remedy: "publish a bundle of its own, for instance with trust-manager, and name that under `trust`",
};

pub(super) static SHARED_ANCHOR: Rule = Rule {
    code: "K106",
    name: "shared-anchor",
    title: "Several trust domains share an anchor.",
    remedy: "give each trust domain a root of its own, put its intermediate into the bundle instead of the root, or constrain the intermediates by name",
};

pub(super) static LITTLE_LIFE_LEFT: Rule = Rule {
    code: "K107",
    name: "little-life-left",
    title: "A certificate has less than a quarter of its life left.",
    remedy: "renewal is due at two thirds: see why it has not come (for cert-manager, `kubectl describe certificate`)",
};

pub(super) static CHAIN_OUT_OF_ORDER: Rule = Rule {
    code: "K108",
    name: "chain-out-of-order",
    title: "The file is not the leaf followed by its issuers, each once.",
    remedy: "write the leaf first, then each issuer after what it issued, and nothing else: the sidecar sorts it, other programs may not",
};

pub(super) static ANCHOR_REFUSED: Rule = Rule {
    code: "K109",
    name: "anchor-refused",
    title: "A certificate of a bundle cannot be a trust anchor and is not used.",
    remedy: "take it out of the bundle, or put the CA there that was meant",
};

pub(super) static ANCHOR_NOT_VALID: Rule = Rule {
    code: "K110",
    name: "anchor-not-valid",
    title: "An anchor has expired or is not valid yet, and is not used.",
    remedy: "take an expired anchor out of the bundle; for one that is not valid yet, compare the clocks",
};

pub(super) static ANCHOR_NEAR_END: Rule = Rule {
    code: "K111",
    name: "anchor-near-end",
    title: "An anchor is near its end.",
    remedy: "make its successor now and publish both together: a root can go only when nothing chains to it any more",
};

pub(super) static CRL_STALE: Rule = Rule {
    code: "K112",
    name: "crl-stale",
    title: "A revocation list is past its next update.",
    remedy: "publish a new list: what was revoked since is still accepted, and where stale lists are fatal, calls fail",
};

pub(super) static CRL_NEAR_UPDATE: Rule = Rule {
    code: "K113",
    name: "crl-near-update",
    title: "A revocation list has less than a quarter of its time left.",
    remedy: "see that the job which publishes the list runs well before its next update",
};

pub(super) static NOT_PEM: Rule = Rule {
    code: "K114",
    name: "not-pem",
    title: "A certificate is in DER, which the sidecar does not read as identity or bundle.",
    remedy: "convert it to PEM: `openssl x509 -inform der -in FILE -out FILE.pem`",
};

pub(super) static EMPTY_BUNDLE: Rule = Rule {
    code: "K115",
    name: "empty-bundle",
    title: "A SPIFFE bundle has no keys, so nobody of its trust domain is believed.",
    remedy: "if that is not meant, find out why the publisher of the bundle took its keys away",
};

pub(super) static NOT_OF_CA_CRT: Rule = Rule {
    code: "K116",
    name: "not-of-ca-crt",
    title: "The chain does not lead to the ca.crt of its own Secret.",
    remedy: "see whether the issuer has changed its root, and whether the published bundle holds the root that signs now",
};
