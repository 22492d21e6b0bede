//! The chat room: who is in it, and what was said. It knows no HTTP.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::sync::mpsc;

/// Events that a stream may be behind before it is ended.
const QUEUE: usize = 256;
/// Events kept for streams that come back with a `Last-Event-ID`; they must fit into a queue.
const HISTORY: usize = 128;
/// Streams at the same time.
const MAX_MEMBERS: usize = 256;
/// Idempotency keys remembered per member.
const KEYS_KEPT: usize = 32;

/// One thing that everybody in the room is told.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) id: u64,
    /// SSE event name; `message` is the default and is not written out.
    pub(super) name: &'static str,
    /// JSON on one line.
    pub(super) data: String,
}

/// Who a stream or a message belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) connection: String,
    pub(super) name: String,
    pub(super) tab: String,
}

/// What a message is to the room.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is new and can be said.
    New(Arc<Who>),
    /// It was accepted before, under the same key.
    Repeated(Arc<Who>),
    /// No stream is open for this connection.
    Unknown,
}

/// The room is full.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

/// The room. Clones are the same room.
#[derive(Clone, Debug, Default)]
pub(super) struct Hub {
    room: Arc<Mutex<Room>>,
}

#[derive(Debug, Default)]
struct Room {
    last_id: u64,
    last_seat: u64,
    members: HashMap<String, Member>,
    history: VecDeque<Arc<Event>>,
}

#[derive(Debug)]
struct Member {
    who: Arc<Who>,
    seat: u64,
    /// `None` once the stream was too far behind.
    queue: Option<mpsc::Sender<Arc<Event>>>,
    keys: VecDeque<String>,
}

/// A place in the room, taken until it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    hub: Hub,
    pub(super) who: Arc<Who>,
    number: u64,
    events: mpsc::Receiver<Arc<Event>>,
}

impl Hub {
    /// Takes a seat and tells the room, unless the connection has one: then the new stream takes its place.
    ///
    /// The stream first gets what was said after `last_event_id`, as far back as the history goes.
    pub(super) fn join(&self, who: Who, last_event_id: Option<u64>) -> Result<Seat, Full> {
        let who = Arc::new(who);
        let mut room = self.room();
        let previous = room.members.remove(&who.connection);
        if room.members.len() >= MAX_MEMBERS {
            return Err(Full);
        }
        room.last_seat += 1;
        let seat = room.last_seat;
        let (queue, events) = mpsc::channel(QUEUE);
        for event in room.history.iter().filter(|event| last_event_id.is_some_and(|last| event.id > last)) {
            let _ = queue.try_send(Arc::clone(event)); // there is room: the history is shorter than the queue
        }
        let returns = previous.is_some();
        let keys = previous.map(|member| member.keys).unwrap_or_default();
        let member = Member { who: Arc::clone(&who), seat, queue: Some(queue), keys };
        room.members.insert(who.connection.clone(), member);
        if !returns {
            room.broadcast("presence", &json!({"joined": who.name}));
        }
        drop(room);
        Ok(Seat { hub: self.clone(), who, number: seat, events })
    }

    /// Judges a message before it is said, and remembers its key.
    pub(super) fn admit(&self, connection: &str, key: Option<&str>) -> Verdict {
        let mut room = self.room();
        let Some(member) = room.members.get_mut(connection) else { return Verdict::Unknown };
        let who = Arc::clone(&member.who);
        let Some(key) = key else { return Verdict::New(who) };
        if member.keys.iter().any(|known| known == key) {
            return Verdict::Repeated(who);
        }
        if member.keys.len() >= KEYS_KEPT {
            member.keys.pop_front();
        }
        member.keys.push_back(key.to_owned());
        Verdict::New(who)
    }

    /// Tells the room what somebody said.
    pub(super) fn say(&self, who: &Who, text: &str) {
        self.room().broadcast("message", &json!({"from": who.name, "text": text}));
    }

    fn leave(&self, who: &Who, seat: u64) {
        let mut room = self.room();
        // A newer stream of the same connection may have taken the place.
        if room.members.get(&who.connection).is_some_and(|member| member.seat == seat) {
            room.members.remove(&who.connection);
            room.broadcast("presence", &json!({"left": who.name}));
        }
    }

    fn room(&self) -> MutexGuard<'_, Room> {
        // Every change is complete before anything can panic.
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room {
    fn broadcast(&mut self, name: &'static str, data: &Value) {
        self.last_id += 1;
        let event = Arc::new(Event { id: self.last_id, name, data: data.to_string() });
        if self.history.len() >= HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(Arc::clone(&event));
        for member in self.members.values_mut() {
            // A stream without its queue ends after what it has, and its reader comes back with a Last-Event-ID.
            member.queue = member.queue.take().filter(|queue| queue.try_send(Arc::clone(&event)).is_ok());
        }
    }
}

impl Seat {
    /// The next event; `None` when this stream fell too far behind or was replaced. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<Arc<Event>> {
        self.events.recv().await
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.hub.leave(&self.who, self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(name: &str) -> Who {
        Who { connection: format!("connection-{name}"), name: name.into(), tab: String::new() }
    }

    async fn next(seat: &mut Seat) -> (u64, String) {
        let event = seat.next().await.unwrap();
        (event.id, event.data.clone())
    }

    #[tokio::test]
    async fn everybody_hears_everything_in_the_same_order() {
        let hub = Hub::default();
        let mut ada = hub.join(who("ada"), None).unwrap();
        let grace = hub.join(who("grace"), None).unwrap();
        hub.say(&grace.who, "hi\nthere");
        drop(grace);
        let mut heard = Vec::new();
        for _ in 0..4 {
            heard.push(next(&mut ada).await);
        }
        let want = [
            r#"{"joined":"ada"}"#,
            r#"{"joined":"grace"}"#,
            r#"{"from":"grace","text":"hi\nthere"}"#,
            r#"{"left":"grace"}"#,
        ];
        assert_eq!(heard, (1..).zip(want.map(String::from)).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_connection_that_comes_back_hears_what_it_missed_and_nobody_notices() {
        let hub = Hub::default();
        let old = hub.join(who("ada"), None).unwrap();
        hub.say(&old.who, "one");
        hub.say(&old.who, "two");
        let mut new = hub.join(who("ada"), Some(2)).unwrap();
        drop(old);
        assert_eq!(next(&mut new).await.0, 3);
        assert!(matches!(hub.admit("connection-ada", None), Verdict::New(_)));
        drop(new);
        assert_eq!(hub.admit("connection-ada", None), Verdict::Unknown);
    }

    #[tokio::test]
    async fn a_stream_that_lags_ends_and_the_others_go_on() {
        let hub = Hub::default();
        let mut slow = hub.join(who("slow"), None).unwrap();
        for _ in 0..QUEUE + 10 {
            hub.say(&slow.who, "x");
        }
        let mut heard = 0;
        while slow.next().await.is_some() {
            heard += 1;
        }
        assert_eq!(heard, QUEUE);
        assert!(hub.join(who("ada"), None).is_ok());
    }

    #[test]
    fn a_message_is_said_once_per_key_and_the_room_has_an_end() {
        let hub = Hub::default();
        let ada = hub.join(who("ada"), None).unwrap();
        assert_eq!(hub.admit("connection-ada", Some("k-1")), Verdict::New(Arc::clone(&ada.who)));
        assert_eq!(hub.admit("connection-ada", Some("k-1")), Verdict::Repeated(Arc::clone(&ada.who)));
        let seats: Vec<_> = (1..MAX_MEMBERS).map(|number| hub.join(who(&number.to_string()), None).unwrap()).collect();
        assert_eq!(hub.join(who("late"), None).unwrap_err(), Full);
        drop(seats);
        assert!(hub.join(who("late"), None).is_ok());
    }
}
