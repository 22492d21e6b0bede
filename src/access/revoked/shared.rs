//! The revocations of all gateways: a stream in Redis, to which each appends and which each reads.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redis::cmd;
use redis::streams::StreamRangeReply;
use uuid::Uuid;

use crate::access::redis::{Redis, Unusable};
use crate::identity::{Revocation, What};

/// Entries that are read at once: some 100 kB.
const PAGE: usize = 1000;

/// How much further back is read than revocations are kept: the ids of the stream are of Redis's clock.
const CLOCKS_DIFFER: Duration = Duration::from_mins(5);

/// The stream `{prefix}revocations`.
#[derive(Debug)]
pub(super) struct Shared {
    redis: Arc<Redis>,
}

/// How far the stream was read.
#[derive(Debug, Default)]
pub(super) struct Position {
    /// Which connection to Redis it was read on; after another one all is read again, because Redis may have lost what it
    /// had, and with it what the ids of its stream mean.
    connected: u64,
    /// The first id that was not read.
    next: Option<String>,
}

impl Shared {
    pub(super) fn new(redis: Arc<Redis>) -> Self {
        Self { redis }
    }

    /// Whether this is where it is.
    pub(super) fn is_in(&self, redis: &Arc<Redis>) -> bool {
        Arc::ptr_eq(&self.redis, redis)
    }

    /// Appends one. The stream is cut at about `max` entries: `MINID` would be the better measure, but Redis 6.0 does not
    /// have it. The whole stream is gone when nothing was appended for as long as revocations are kept.
    pub(super) async fn append(&self, revocation: &Revocation, max: usize, keep: Duration) -> Result<(), Unusable> {
        let key = self.redis.key(&["revocations"]);
        let mut add = cmd("XADD");
        add.arg(&key).arg("MAXLEN").arg("~").arg(max).arg("*");
        add.arg("kind").arg(revocation.what.kind()).arg("name").arg(revocation.what.name());
        add.arg("at").arg(millis(revocation.at)).arg("id").arg(revocation.id.as_hyphenated().to_string());
        self.redis.run::<String>(&add).await?;
        let mut expire = cmd("PEXPIRE");
        expire.arg(&key).arg(u64::try_from((keep + CLOCKS_DIFFER).as_millis()).unwrap_or(u64::MAX));
        // The others are told. A stream that stays for longer costs room and nothing else.
        let _ = self.redis.run::<u64>(&expire).await;
        Ok(())
    }

    /// The next page of what others have appended, and whether there is more.
    pub(super) async fn read(
        &self,
        position: &mut Position,
        keep: Duration,
        now: SystemTime,
    ) -> Result<(Vec<Revocation>, bool), Unusable> {
        let connected = self.redis.connected();
        if position.connected != connected {
            *position = Position { connected, next: None };
        }
        let oldest = || millis(now.checked_sub(keep + CLOCKS_DIFFER).unwrap_or(UNIX_EPOCH)).to_string();
        let from = position.next.clone().unwrap_or_else(oldest);
        let mut range = cmd("XRANGE");
        range.arg(self.redis.key(&["revocations"])).arg(from).arg("+").arg("COUNT").arg(PAGE);
        let page: StreamRangeReply = self.redis.run(&range).await?;
        if let Some(last) = page.ids.last() {
            position.next = after(&last.id);
        }
        let more = page.ids.len() >= PAGE;
        let fields = |entry: &redis::streams::StreamId| {
            entry.map.keys().filter_map(|name| Some((name.clone(), entry.get(name)?))).collect()
        };
        Ok((page.ids.iter().filter_map(|entry| read(&fields(entry))).collect(), more))
    }
}

/// A revocation from the fields of an entry; `None` for what another version may have written.
fn read(fields: &HashMap<String, String>) -> Option<Revocation> {
    let what = What::read(fields.get("kind")?, fields.get("name")?).ok()?;
    let at = UNIX_EPOCH.checked_add(Duration::from_millis(fields.get("at")?.parse().ok()?))?;
    Some(Revocation { what, at, id: Uuid::try_parse(fields.get("id")?).ok()? })
}

/// The least id behind this one: two numbers, of which the second counts within a millisecond. Redis 6.0 has no ranges
/// without their ends.
fn after(id: &str) -> Option<String> {
    let (millis, sequence) = id.split_once('-')?;
    let sequence: u64 = sequence.parse().ok()?;
    match sequence.checked_add(1) {
        Some(sequence) => Some(format!("{millis}-{sequence}")),
        None => Some(format!("{}-0", millis.parse::<u64>().ok()?.checked_add(1)?)),
    }
}

fn millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_or_left_out() {
        let entry = |fields: &[(&str, &str)]| {
            read(&fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
        };
        let id = "01890a5d-ac96-774b-bcce-b302099a8057";
        let sound = [("kind", "subject"), ("name", "ada"), ("at", "1500"), ("id", id), ("more", "x")];
        let read = entry(&sound).expect("a revocation");
        assert_eq!((read.what.to_string().as_str(), millis(read.at)), ("subject ada", 1500));
        for left_out in 0..4 {
            let some: Vec<_> =
                sound.iter().enumerate().filter(|(at, _)| *at != left_out).map(|(_, field)| *field).collect();
            assert_eq!(entry(&some), None, "{some:?}");
        }
        assert_eq!(entry(&[("kind", "subject"), ("name", "ada"), ("at", "-1"), ("id", id)]), None);
        assert_eq!(entry(&[("kind", "subject"), ("name", "ada"), ("at", &u64::MAX.to_string()), ("id", "x")]), None);
    }

    #[test]
    fn reading_goes_on_behind_the_last_entry() {
        assert_eq!(after("1500-0").as_deref(), Some("1500-1"));
        assert_eq!(after(&format!("1500-{}", u64::MAX)).as_deref(), Some("1501-0"));
        assert_eq!(after("1500"), None);
        assert_eq!(after("-"), None);
    }
}
