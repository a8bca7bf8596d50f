//! A user that makes a new connection for every operation: connect, exchange, close.

use std::sync::Arc;
use std::time::Instant;

use super::exchange::Question;
use crate::client::connect::{Agreed, Route};
use crate::client::failure::Failure;
use crate::client::response::{Model, Sink};
use crate::load::crew::User;
use crate::load::tally::Done;

/// See the module.
#[derive(Clone)]
pub struct Cycle {
    /// How to get to the target.
    pub route: Arc<Route>,
    /// What is asked.
    pub question: Question,
    /// What every answer must be.
    pub model: Arc<Model>,
    /// How often it is asked on each connection.
    pub exchanges: u32,
    /// Which kind of handshake an operation has to have.
    pub wanted: Wanted,
}

/// Which handshakes count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Any, or none in plaintext.
    Any,
    /// Full ones only.
    Full,
    /// Resumed ones only.
    Resumed,
}

impl User for Cycle {
    async fn prepare(&mut self) -> Result<(), Failure> {
        // The first contact was enough: each operation connects anew.
        Ok(())
    }

    async fn act(&mut self, number: u64) -> Result<Done, Failure> {
        let connected = self.route.connect().await?;
        let (tcp, tls) = (connected.tcp, connected.tls);
        let is_resumed = Agreed::of(&connected.stream).is_resumed();
        let mut conversation = self.question.begin(connected.stream).await?;
        let asked = Instant::now();
        let mut bytes = 0;
        let mut first = None;
        for turn in 0..self.exchanges {
            let mut sink = Sink::of(Some(&self.model));
            bytes += conversation.exchange(number + u64::from(turn), &mut sink).await?.bytes;
            // A client of TLS 1.3 is done before the server has judged it: this answer is the judgement.
            first.get_or_insert_with(|| asked.elapsed());
        }
        conversation.close().await;
        match (self.wanted, is_resumed) {
            (Wanted::Resumed, false) => return Err(Failure::new("not_resumed", "the handshake was a full one")),
            (Wanted::Full, true) => return Err(Failure::new("resumed", "the handshake was not a full one")),
            _ => {}
        }
        let secure = self.route.tls.is_some();
        Ok(Done {
            bytes,
            spans: [Some(("tcp", tcp)), secure.then_some(("tls", tls)), first.map(|first| ("first_answer", first))],
            count: secure.then_some(if is_resumed { "resumed" } else { "full" }),
        })
    }
}
