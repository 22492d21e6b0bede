//! The backend's part of the run: what it sends, how it answers, and how it fails.

use super::super::super::*;
use super::super::connection::Item;
use super::super::plan::{MILLI, Outage, Promise, SECOND};
use super::super::upstream::Request;
use super::{Ending, Happening, World};

impl World {
    pub(super) fn emit(&mut self, client: usize) {
        while let Some((generation, event)) = self.upstream.next_event(client) {
            self.send(client, generation, Item::Event(event));
        }
    }

    pub(super) fn send(&mut self, client: usize, generation: u64, item: Item) {
        let arrival = self.now + self.latency();
        let account = &mut self.upstream.accounts[client];
        account.last_arrival = account.last_arrival.max(arrival);
        let arrival = account.last_arrival;
        self.at(arrival, Happening::Arrives(client, generation, item));
    }

    /// A stream ends: behind all that was sent, or in the middle of it. Half an event is no event.
    pub(super) fn cut(&mut self, client: usize) {
        let Some(generation) = self.upstream.accounts[client].attached.take() else { return };
        let end = self.random.pick(&[StreamEnd::Complete, StreamEnd::Broken]);
        if self.random.percent(50) {
            self.send(client, generation, Item::End(end));
        } else {
            self.after(1, Happening::Arrives(client, generation, Item::End(end)));
        }
    }

    pub(super) fn crash(&mut self) {
        self.upstream.is_down = true;
        for client in 0..self.connections.len() {
            self.cut(client);
        }
        for (_, request) in std::mem::take(&mut self.upstream.held) {
            self.act_late(request);
        }
        let under_way: Vec<u64> = self.posts.iter().filter(|(_, post)| post.has_arrived).map(|(id, _)| *id).collect();
        for id in under_way {
            let latency = self.latency();
            self.after(latency, Happening::PostEnds(id, Ending::InDoubt(Doubt::Broken)));
        }
    }

    pub(super) fn ends(&mut self, outage: Outage) {
        match outage {
            Outage::Crash => self.upstream.is_down = false,
            Outage::Stall => {
                self.upstream.is_stalled = false;
                for (id, request) in std::mem::take(&mut self.upstream.held) {
                    if self.posts.contains_key(&id) { self.answer(id, request) } else { self.act_late(request) }
                }
                (0..self.connections.len()).for_each(|client| self.emit(client));
            }
        }
        self.upstream.warm = self.now + 5 * SECOND;
    }

    /// A request that nobody waits for any more may still be acted on.
    fn act_late(&mut self, request: Request) {
        if self.random.percent(50) {
            self.act_on(request);
        }
    }

    fn act_on(&mut self, request: Request) {
        self.upstream.act_on(request, self.plan.promise != Promise::NothingIsDoubled);
    }

    pub(super) fn post_arrives(&mut self, id: u64) {
        let Some(post) = self.posts.get_mut(&id) else { return };
        if self.upstream.is_down {
            let latency = self.latency();
            return self.after(latency, Happening::PostEnds(id, Ending::NotSent));
        }
        post.has_arrived = true;
        let request = post.request.clone();
        if self.upstream.is_stalled {
            self.upstream.held.push((id, request));
        } else {
            self.answer(id, request);
        }
    }

    /// Whether something goes wrong now. What was started a moment ago fails often.
    fn fails(&mut self) -> bool {
        let chance = if self.now < self.upstream.warm { 30 } else { self.plan.flaky };
        self.random.percent(chance)
    }

    fn answer(&mut self, id: u64, request: Request) {
        let latency = self.latency();
        if !self.fails() {
            self.act_on(request);
            return self.after(latency, Happening::PostEnds(id, Ending::Accepted));
        }
        let broken = Ending::InDoubt(Doubt::Broken);
        let (acts, time, ending) = match self.random.between(0, 6) {
            0 | 1 => (false, latency, Ending::Wait(self.random.between(0, 4))),
            2 => (false, latency, Ending::NotSent),
            3 => (true, self.random.between(MILLI, 5 * SECOND), Ending::Accepted),
            4 => (true, latency, broken),
            _ => (false, latency, broken),
        };
        if acts {
            self.act_on(request);
        }
        self.after(time, Happening::PostEnds(id, ending));
    }

    pub(super) fn reopen_arrives(&mut self, client: usize, generation: u64, position: u64) {
        if self.connections[client].reopening != Some(generation) || self.upstream.is_stalled {
            return;
        }
        let latency = self.latency();
        let refused =
            |status, seconds: Option<u64>| Reopened::Refused { status, retry_after: seconds.map(Duration::from_secs) };
        if self.upstream.is_down {
            return self.after(latency, Happening::ReopenEnds(client, generation, Reopened::Failed));
        }
        if self.fails() {
            let wait = self.random.between(0, 4);
            let outcome =
                self.random.pick(&[refused(503, Some(wait)), refused(429, None), refused(502, None), Reopened::Failed]);
            return self.after(latency, Happening::ReopenEnds(client, generation, outcome));
        }
        // A backend may send again what it has sent before.
        let again = self.random.pick(&[0, 0, 3]);
        let arrival = self.now + latency;
        let account = &mut self.upstream.accounts[client];
        account.attached = Some(generation);
        account.sent_up_to = position.saturating_sub(again);
        account.last_arrival = arrival;
        self.at(arrival, Happening::ReopenEnds(client, generation, Reopened::Open));
        self.emit(client);
    }
}
