//! A backend that keeps events under their ids and, where that is promised to it, knows a message again by its key.

use std::collections::BTreeSet;

use super::super::*;
use super::plan::Micros;

/// What the backend keeps; it survives a crash.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// Events so far; the newest has this id.
    pub events: u64,
    /// The stream that is open, as its generation.
    pub attached: Option<u64>,
    pub sent_up_to: u64,
    /// When the newest bytes reach the gateway: a stream keeps its order.
    pub last_arrival: Micros,
    /// Messages, in the order in which they were acted on.
    pub recorded: Vec<u64>,
    pub keys: BTreeSet<u64>,
    /// How often it was told that the client is gone.
    pub told: u64,
}

/// What a POST says.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub client: usize,
    key: u64,
    is_leave: bool,
    numbers: Vec<u64>,
}

impl Request {
    pub(super) fn new(client: usize, delivery: &Delivery) -> Self {
        let body = match &delivery.payload {
            Payload::Message(message) => message.clone().into_bytes(),
            Payload::Batch { body, .. } => body.clone(),
            Payload::Leave(_) => bytes::Bytes::new(),
        };
        let text = String::from_utf8(body.to_vec()).unwrap();
        let numbers = text.split(['[', ',', ']', '\n']).filter(|text| !text.is_empty());
        Self {
            client,
            key: delivery.sequence,
            is_leave: matches!(delivery.payload, Payload::Leave(_)),
            numbers: numbers.map(|text| text.parse().unwrap()).collect(),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Upstream {
    pub accounts: Vec<Account>,
    pub is_down: bool,
    pub is_stalled: bool,
    /// Requests that came during a stall.
    pub held: Vec<(u64, Request)>,
    /// Until when it is warming up, and fails often.
    pub warm: Micros,
}

impl Upstream {
    /// Acts on a request.
    pub(super) fn act_on(&mut self, request: Request, honours_keys: bool) {
        let account = &mut self.accounts[request.client];
        if request.is_leave {
            account.told += 1;
        } else if account.keys.insert(request.key) || !honours_keys {
            account.recorded.extend(request.numbers);
        }
    }

    /// The next event that can go out on a client's stream, with the stream's generation.
    pub(super) fn next_event(&mut self, client: usize) -> Option<(u64, u64)> {
        let account = &mut self.accounts[client];
        let generation = account.attached?;
        if self.is_stalled || account.sent_up_to >= account.events {
            return None;
        }
        account.sent_up_to += 1;
        Some((generation, account.sent_up_to))
    }
}
