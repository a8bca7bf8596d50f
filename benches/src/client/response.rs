//! What an answer must be: every one like the first, status and body, and to the question that was asked.

use super::failure::Failure;

/// The header with which requests are numbered. A backend that sends it back lets every answer be matched with its
/// question, so that a proxy that mixes them up is found out.
pub const NUMBER: &str = "x-portcullis-bench";

/// The status of a good answer.
pub const STATUS: u16 = 200;

/// The first answer, which all others must equal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Model {
    /// Its body.
    pub body: Vec<u8>,
    /// Whether it carried the number of its request.
    pub is_numbered: bool,
}

/// Where the body of an answer goes: into the first model, or along an existing one.
#[derive(Debug)]
pub enum Sink<'a> {
    /// Nothing is known yet.
    Learn(Vec<u8>),
    /// Compared with the model up to this place.
    Compare(&'a Model, usize),
}

impl<'a> Sink<'a> {
    /// Learns without a model, compares with one.
    pub fn of(model: Option<&'a Model>) -> Self {
        match model {
            Some(model) => Self::Compare(model, 0),
            None => Self::Learn(Vec::new()),
        }
    }

    /// Checks the head of the answer to the request with this number.
    ///
    /// # Errors
    /// When it is the answer to another request, or lacks the number that others had.
    pub fn head(&self, number: u64, answered: Option<&[u8]>) -> Result<(), Failure> {
        let expected = number_text(number);
        match (self, answered) {
            (_, Some(found)) if found != expected => {
                Err(Failure::differs("the answer is the one to another request: its number differs"))
            }
            (Self::Compare(model, _), None) if model.is_numbered => {
                Err(Failure::differs("the answer has lost the number of its request, which the first one had"))
            }
            _ => Ok(()),
        }
    }

    /// Takes the next piece of the body.
    ///
    /// # Errors
    /// When it differs from the model, or is too long to be kept as one.
    pub fn body(&mut self, piece: &[u8]) -> Result<(), Failure> {
        match self {
            Self::Learn(learned) => {
                if learned.len() + piece.len() > LONGEST {
                    return Err(Failure::protocol(format!("the body is longer than {LONGEST} bytes")));
                }
                learned.extend_from_slice(piece);
            }
            Self::Compare(model, at) => {
                let end = *at + piece.len();
                if model.body.get(*at..end) != Some(piece) {
                    return Err(Failure::differs("the body differs from that of the first answer"));
                }
                *at = end;
            }
        }
        Ok(())
    }

    /// The end of the body. Returns its length.
    ///
    /// # Errors
    /// When it is shorter than the model's.
    pub fn end(&self) -> Result<u64, Failure> {
        match self {
            Self::Learn(learned) => Ok(learned.len() as u64),
            Self::Compare(model, at) if *at == model.body.len() => Ok(*at as u64),
            Self::Compare(..) => Err(Failure::differs("the body is shorter than that of the first answer")),
        }
    }

    /// What was learned.
    pub fn learned(self) -> Vec<u8> {
        match self {
            Self::Learn(learned) => learned,
            Self::Compare(..) => Vec::new(),
        }
    }
}

/// A number as it goes over the wire: of one length, so that all requests are equally long.
pub fn number_text(number: u64) -> [u8; 16] {
    let mut text = [0; 16];
    for (place, digit) in text.iter_mut().zip((0..16).rev()) {
        let value = u8::try_from((number >> (digit * 4)) & 0xf).unwrap_or_default();
        *place = if value < 10 { b'0' + value } else { b'a' + value - 10 };
    }
    text
}

/// The model is kept in memory.
const LONGEST: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_hexadecimal_and_of_one_length() {
        assert_eq!(&number_text(0), b"0000000000000000");
        assert_eq!(&number_text(0xdead_beef), b"00000000deadbeef");
        assert_eq!(&number_text(u64::MAX), b"ffffffffffffffff");
    }

    #[test]
    fn an_answer_must_equal_the_first_one() {
        let model = Model { body: b"hello".to_vec(), is_numbered: true };
        let check = |pieces: &[&[u8]]| {
            let mut sink = Sink::of(Some(&model));
            pieces.iter().try_for_each(|piece| sink.body(piece)).and_then(|()| sink.end())
        };
        assert_eq!(check(&[b"he", b"", b"llo"]), Ok(5));
        for wrong in [&[b"hell" as &[u8]] as &[&[u8]], &[b"hello!"], &[b"jello"], &[b"hello", b"x"], &[]] {
            assert_eq!(check(wrong).unwrap_err().kind, "body_differs", "{wrong:?}");
        }
        let sink = Sink::of(Some(&model));
        assert_eq!(sink.head(7, Some(&number_text(7))), Ok(()));
        assert!(sink.head(7, Some(&number_text(8))).is_err());
        assert!(sink.head(7, None).is_err());
        assert_eq!(Sink::of(None).head(7, None), Ok(()));
    }
}
