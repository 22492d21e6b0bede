//! `[route.limits]`: how many connections a route lets be open at once.

use std::num::NonZeroU32;

use super::reader::TableReader;
use crate::access::limits::RouteLimits;

pub(super) fn read(mut table: TableReader<'_>) -> RouteLimits {
    let mut most = |key| {
        // As many as a listener may let in at most.
        let number = table.field(key).and_then(|field| field.integer(1..=10_000_000));
        number.and_then(|number| NonZeroU32::new(u32::try_from(number).ok()?))
    };
    let (connections, per_identity, per_address) = (most("connections"), most("per_identity"), most("per_address"));
    table.finish();
    RouteLimits { connections, per_identity, per_address }
}
