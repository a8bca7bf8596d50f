//! The little DER that x509-parser and webpki do not hand out: elements as they stand in the bytes.
//!
//! Only definite lengths and one-byte tags, which is all that certificates and CRLs use. Nothing here judges content.

use x509_parser::asn1_rs::{Any, FromDer};

/// One element: where it stands, and what is in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'a> {
    /// The identifier octet.
    pub(crate) tag: u8,
    /// The whole element, header included.
    pub(crate) whole: &'a [u8],
    /// What the header announces.
    pub(crate) content: &'a [u8],
}

/// The elements that follow each other in `input`; `None` if it is not DER to its end.
pub(crate) fn elements(mut input: &[u8]) -> Option<Vec<Element<'_>>> {
    let mut elements = Vec::new();
    while let Some(tag) = input.first().copied() {
        let (rest, any) = Any::from_der(input).ok()?;
        let whole = input.get(..input.len() - rest.len())?;
        elements.push(Element { tag, whole, content: any.data });
        input = rest;
    }
    Some(elements)
}

/// The one element that `input` is, if it has this tag.
pub(crate) fn only(input: &[u8], tag: u8) -> Option<Element<'_>> {
    match elements(input)?.as_slice() {
        [element] if element.tag == tag => Some(*element),
        _ => None,
    }
}

/// Puts a header before `content`.
pub(crate) fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut whole = vec![tag];
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => whole.push(short),
        _ => {
            let bytes = length.to_be_bytes();
            let significant = bytes.len() - bytes.iter().take_while(|byte| **byte == 0).count();
            // At most the eight bytes of a usize.
            whole.push(0x80 | u8::try_from(significant).unwrap_or(8));
            whole.extend(bytes.iter().skip(bytes.len() - significant));
        }
    }
    whole.extend_from_slice(content);
    whole
}

/// SEQUENCE, constructed.
pub(crate) const SEQUENCE: u8 = 0x30;

/// BIT STRING.
pub(crate) const BIT_STRING: u8 = 0x03;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrapped_is_read_again() {
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let content = vec![7; length];
            let whole = wrap(SEQUENCE, &content);
            let element = only(&whole, SEQUENCE).unwrap();
            assert_eq!((element.content, element.whole), (&*content, &*whole), "{length}");
        }
    }

    #[test]
    fn what_is_no_der_is_nothing() {
        for bytes in [&[0x30][..], &[0x30, 1], &[0x30, 0x80, 0, 0], &[0x30, 0, 0x30]] {
            assert!(elements(bytes).is_none(), "{bytes:?}");
        }
        assert!(elements(&[]).unwrap().is_empty());
        assert!(only(&[0x31, 0], SEQUENCE).is_none());
    }
}
