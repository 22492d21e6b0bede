//! What `tidegate doctor` and the gateway's diagnostic endpoint say to each other: JSON over HTTP, so that everything in
//! between takes it for ordinary traffic.
//!
//! A request names its probe in the query. `seen` is what the gateway says of a request, `events` are the timed events of a
//! stream, `upload` is when the pieces of a body arrived.

mod answer;
mod heard;
mod wanted;

pub use answer::{Arrived, Beat, Chunk, PeerClass, Seen, Upload};
pub use heard::Heard;
pub use wanted::{BadQuery, Events, Probe, Wanted};

use http::header::{HeaderName, HeaderValue};

/// Version of the exchange. It is in every answer, by which a doctor knows that it talks to a gateway at all.
pub const VERSION: u32 = 1;

/// Stands in every request and answer: the doctor sees whether unknown fields come through, both ways. In requests it names the
/// host that is asked for, so that the gateway sees whether that has changed on the way.
pub const TIDEGATE_DOCTOR: HeaderName = HeaderName::from_static("tidegate-doctor");

/// Value of that field in answers.
pub const DOCTOR_VERSION: HeaderValue = HeaderValue::from_static("1");

/// Where the endpoint is unless its operator says otherwise; the doctor looks there.
pub const DEFAULT_PATH: &str = "/.well-known/tidegate/doctor";

/// Longest event stream in milliseconds, from its first event to its last. Above the idle limits that are usual in front of
/// gateways, 60 seconds, and not much above.
pub const LONGEST_MS: u64 = 120_000;

/// Most events in one stream: enough to see a buffer of 4 KiB fill up.
pub const MOST_EVENTS: u32 = 100;

/// Shortest time between two events in milliseconds: below it the network's own jitter is all that is measured.
pub const SHORTEST_MS: u64 = 10;

/// Largest body of an upload in bytes.
pub const LARGEST_UPLOAD: usize = 1024 * 1024;

/// Most pieces of an upload that are told apart; what comes later is added to the last.
pub const MOST_CHUNKS: usize = 64;
