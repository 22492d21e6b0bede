//! From the client to upstream: messages that wait, POSTs under way, and POSTs that are to be repeated.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::PLACE;
use super::batch;
use super::settings::{Batch, Settings};
use super::signals::{Delivery, Payload};
use crate::protocol::message::Message;

/// The way up. What it holds is either queued, waiting to be repeated, or under way.
#[derive(Debug, Default)]
pub(super) struct Uplink {
    /// Messages that wait for their first POST.
    queue: VecDeque<Message>,
    queued_bytes: usize,
    waiting: Vec<Waiting>,
    /// POSTs under way, and the messages in them.
    flying: u32,
    flying_messages: u64,
    /// The number of the newest message that was posted.
    sequence: u64,
    /// For how long nothing could be delivered so far: that time counts against nobody.
    stood_still: Duration,
}

/// A POST that is to be repeated.
#[derive(Debug)]
struct Waiting {
    at: Instant,
    /// Upstream has asked for the wait, and for no more messages until then.
    asked: bool,
    delivery: Delivery,
}

impl Uplink {
    pub(super) fn push(&mut self, message: Message) {
        self.queued_bytes += message.len() + PLACE;
        self.queue.push_back(message);
    }

    /// How much waits, in bytes; each message counts 128 more than its payload.
    pub(super) const fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Whether upstream has asked for no more messages for now.
    pub(super) fn is_held(&self) -> bool {
        self.waiting.iter().any(|waiting| waiting.asked)
    }

    /// Whether nothing is left to deliver.
    pub(super) fn is_empty(&self) -> bool {
        self.flying == 0 && self.queue.is_empty() && self.waiting.is_empty()
    }

    /// Whether POSTs are under way.
    pub(super) const fn is_flying(&self) -> bool {
        self.flying > 0
    }

    /// The next POST, as far as order and limits allow. `first` says whether messages that were not posted yet may go.
    pub(super) fn next(&mut self, first: bool, now: Instant, settings: &Settings) -> Option<Delivery> {
        if let Some(due) = self.waiting.iter().position(|waiting| waiting.at <= now) {
            let mut delivery = self.waiting.remove(due).delivery;
            self.set_forward(&mut delivery);
            delivery.attempt = delivery.attempt.saturating_add(1);
            self.take_off(&delivery);
            return Some(delivery);
        }
        if !first || !self.waiting.is_empty() || self.flying >= settings.in_flight.get() {
            return None;
        }
        let payload = self.payload(settings)?;
        let sequence = self.sequence + 1;
        let delivery = self.delivery(sequence, payload, now, settings);
        self.sequence += delivery.count();
        self.take_off(&delivery);
        Some(delivery)
    }

    /// A POST that is no message: it has no number of its own.
    pub(super) fn leave(&mut self, body: bytes::Bytes, now: Instant, settings: &Settings) -> Delivery {
        let delivery = self.delivery(self.sequence, Payload::Leave(body), now, settings);
        self.take_off(&delivery);
        delivery
    }

    fn delivery(&self, sequence: u64, payload: Payload, now: Instant, settings: &Settings) -> Delivery {
        let give_up = now + settings.delivery_timeout;
        Delivery { sequence, payload, attempt: 0, doubt: None, give_up, stood_still: self.stood_still }
    }

    fn take_off(&mut self, delivery: &Delivery) {
        self.flying += 1;
        self.flying_messages += delivery.count();
    }

    fn payload(&mut self, settings: &Settings) -> Option<Payload> {
        if settings.batch == Batch::Off || !self.queue.front().is_some_and(batch::takes) {
            return self.pop().map(Payload::Message);
        }
        let mut builder = batch::Builder::new(settings.batch);
        while let Some(message) = self.queue.front() {
            let is_first = builder.is_empty();
            let fits = builder.size_with(message.len()) <= settings.batch_size && batch::takes(message);
            if !is_first && !fits {
                break;
            }
            let Some(message) = self.pop() else { break };
            builder.add(&message);
        }
        let (body, count) = builder.finish();
        Some(Payload::Batch { form: settings.batch, body, count })
    }

    fn pop(&mut self) -> Option<Message> {
        let message = self.queue.pop_front()?;
        self.queued_bytes -= message.len() + PLACE;
        if self.queue.is_empty() && self.queue.capacity() > 8 {
            // What a burst has taken is given back.
            self.queue = VecDeque::new();
        }
        Some(message)
    }

    /// A POST has come to its end, whichever.
    pub(super) fn landed(&mut self, delivery: &Delivery) {
        self.flying = self.flying.saturating_sub(1);
        self.flying_messages = self.flying_messages.saturating_sub(delivery.count());
    }

    /// Keeps a POST to repeat it after `wait`, unless it would have run out of time by then. While time `stands_still`, none
    /// does.
    ///
    /// # Errors
    ///
    /// The delivery, when it has.
    pub(super) fn repeat(
        &mut self,
        mut delivery: Delivery,
        wait: Duration,
        asked: bool,
        stands_still: bool,
        now: Instant,
    ) -> Result<(), Delivery> {
        self.set_forward(&mut delivery);
        match now.checked_add(wait).filter(|at| stands_still || *at < delivery.give_up) {
            Some(at) => {
                self.waiting.push(Waiting { at, asked, delivery });
                Ok(())
            }
            None => Err(delivery),
        }
    }

    /// Gives a delivery back the time that stood still since its end was set.
    fn set_forward(&self, delivery: &mut Delivery) {
        let since = self.stood_still.saturating_sub(delivery.stood_still);
        delivery.give_up = delivery.give_up.checked_add(since).unwrap_or(delivery.give_up);
        delivery.stood_still = self.stood_still;
    }

    /// Nothing could be delivered for this long.
    pub(super) fn stood_still(&mut self, time: Duration) {
        self.stood_still = self.stood_still.saturating_add(time);
    }

    /// When [`next`](Self::next) has something to repeat.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.waiting.iter().map(|waiting| waiting.at).min()
    }

    /// Gives up on everything, and says how many messages that were.
    pub(super) fn clear(&mut self) -> u64 {
        let waiting: u64 = self.waiting.iter().map(|waiting| waiting.delivery.count()).sum();
        let count = self.queue.len() as u64 + waiting + self.flying_messages;
        *self = Self { sequence: self.sequence, stood_still: self.stood_still, ..Self::default() };
        count
    }
}
