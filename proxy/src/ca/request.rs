//! A certificate request (PKCS#10) that was carried here, and the patterns that say which identity it may ask for.
//!
//! Invariant: a [`Request`] is signed by the key it carries, and asks for exactly one SPIFFE ID.

use std::str::FromStr;

use rcgen::SubjectPublicKeyInfo;
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use spiffe::{SpiffeId, TrustDomain};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

use super::Error;

/// A certificate request whose signature holds.
#[derive(Debug)]
pub struct Request {
    identity: SpiffeId,
    public_key: SubjectPublicKeyInfo,
    left_out: Vec<String>,
}

impl Request {
    /// Reads the one request in a PEM text.
    ///
    /// # Errors
    /// When there is no or more than one, when its signature does not hold, when its key is weak, or when it does not
    /// name exactly one URI, which must be a SPIFFE ID.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        let unreadable = |problem| Error::RequestUnreadable { problem };
        let requests: Result<Vec<_>, _> = CertificateSigningRequestDer::pem_slice_iter(text.as_bytes()).collect();
        let requests = requests.map_err(|_| unreadable("is not in PEM"))?;
        let [der] = requests.as_slice() else { return Err(unreadable("is missing, or there is more than one")) };
        let Ok((rest, parsed)) = X509CertificationRequest::from_der(der) else {
            return Err(unreadable("is malformed"));
        };
        if !rest.is_empty() {
            return Err(unreadable("has bytes after its end"));
        }
        let public_key = accepted_key(&parsed)?;
        parsed.verify_signature().map_err(|_| Error::RequestSignature)?;

        let names = Names::of(&parsed)?;
        let [uri] = names.uris.as_slice() else { return Err(Error::RequestUris { count: names.uris.len() }) };
        let identity = SpiffeId::new(uri).map_err(|source| Error::Identity { text: uri.clone(), source })?;
        Ok(Self { identity, public_key, left_out: names.others })
    }

    /// The SPIFFE ID that it asks for.
    pub fn identity(&self) -> &SpiffeId {
        &self.identity
    }

    /// The other names that it asks for. They are not signed: whoever signs chooses them.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    pub(super) fn public_key(&self) -> &SubjectPublicKeyInfo {
        &self.public_key
    }
}

/// Which SPIFFE IDs a request may ask for: `spiffe://domain/ns/*/sa/**`.
///
/// By whole segment: `*` is one segment, a last `**` is the rest, at least one. No pattern in the trust domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityPattern {
    trust_domain: TrustDomain,
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Exact(String),
    One,
    Rest,
}

impl IdentityPattern {
    /// Whether the identity is one of those meant.
    pub fn matches(&self, identity: &SpiffeId) -> bool {
        let mut path = identity.path().split('/').skip(1);
        let fits = |segment: &Segment| match segment {
            Segment::Exact(expected) => path.next() == Some(expected),
            Segment::One => path.next().is_some(),
            Segment::Rest => path.by_ref().count() > 0,
        };
        identity.is_member_of(&self.trust_domain) && self.segments.iter().all(fits) && path.next().is_none()
    }
}

impl FromStr for IdentityPattern {
    type Err = Error;

    fn from_str(pattern: &str) -> Result<Self, Error> {
        let wrong = |problem| Error::Pattern { pattern: pattern.to_owned(), problem };
        let rest = pattern.strip_prefix("spiffe://").ok_or_else(|| wrong("it must begin with `spiffe://`"))?;
        let (domain, path) = rest.split_once('/').ok_or_else(|| wrong("it has no path"))?;
        let trust_domain = TrustDomain::new(domain).map_err(|_| wrong("its trust domain is malformed"))?;
        if trust_domain.as_str() != domain {
            return Err(wrong("its trust domain must be in lower case"));
        }
        let names: Vec<_> = path.split('/').collect();
        let mut segments = Vec::with_capacity(names.len());
        for (position, name) in names.iter().enumerate() {
            segments.push(match *name {
                "*" => Segment::One,
                "**" if position + 1 == names.len() => Segment::Rest,
                "**" => return Err(wrong("`**` can only be the last segment")),
                name if name.contains('*') => return Err(wrong("`*` stands for a whole segment only")),
                name if SpiffeId::from_segments(trust_domain.clone(), &[name]).is_ok() => {
                    Segment::Exact(name.to_owned())
                }
                _ => return Err(wrong("a segment is empty or has a character that no spiffe id has")),
            });
        }
        Ok(Self { trust_domain, segments })
    }
}

struct Names {
    uris: Vec<String>,
    others: Vec<String>,
}

impl Names {
    fn of(request: &X509CertificationRequest<'_>) -> Result<Self, Error> {
        let mut names = Self { uris: Vec::new(), others: Vec::new() };
        // All of them are searched: two requests for extensions must not hide a second URI.
        let attributes = request.certification_request_info.attributes();
        for attribute in attributes {
            let ParsedCriAttribute::ExtensionRequest(requested) = attribute.parsed_attribute() else { continue };
            for extension in &requested.extensions {
                match extension.parsed_extension() {
                    ParsedExtension::SubjectAlternativeName(san) => {
                        san.general_names.iter().for_each(|name| names.add(name));
                    }
                    ParsedExtension::ParseError { .. } => {
                        return Err(Error::RequestUnreadable { problem: "has a malformed extension" });
                    }
                    _ => {}
                }
            }
        }
        Ok(names)
    }

    fn add(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::URI(uri) => self.uris.push((*uri).to_owned()),
            GeneralName::DNSName(name) => self.others.push(format!("dns name {name}")),
            other => self.others.push(other.to_string()),
        }
    }
}

fn accepted_key(request: &X509CertificationRequest<'_>) -> Result<SubjectPublicKeyInfo, Error> {
    let key = &request.certification_request_info.subject_pki;
    let strong = match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => rsa.key_size() >= 2048,
        Ok(_) => true,
        Err(_) => false,
    };
    let public_key = SubjectPublicKeyInfo::from_der(key.raw).map_err(|_| Error::RequestKey)?;
    let algorithm = rcgen::PublicKeyData::algorithm(&public_key);
    let known =
        [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519, &rcgen::PKCS_RSA_SHA256];
    if !strong || !known.contains(&algorithm) {
        return Err(Error::RequestKey);
    }
    Ok(public_key)
}
