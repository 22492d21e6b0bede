//! What each promise comes to, for each client, when all is over.

use super::super::*;
use super::connection::Connection;
use super::plan::Promise;
use super::upstream::Account;
use super::world::World;

/// Compares what was sent with what came, and says what does not fit.
pub(super) fn check(world: &World) -> Result<(), String> {
    if let Some(broken) = &world.broken {
        return Err(broken.clone());
    }
    for (client, (connection, account)) in world.connections.iter().zip(&world.upstream.accounts).enumerate() {
        let promise = world.plan.promise;
        check_ending(promise, connection)
            .and_then(|()| check_up(promise, connection, account))
            .and_then(|()| check_down(promise, connection, account))
            .and_then(|()| check_leave(world, connection, account))
            .map_err(|problem| {
                let counts = connection.session.counts();
                format!("client {client}: {problem}; {counts:?}; {:?}", connection.session.closed())
            })?;
    }
    Ok(())
}

fn must(holds: bool, problem: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(problem()) }
}

/// Nobody is closed but by its own doing, or for a message in doubt where that is not posted again.
fn check_ending(promise: Promise, connection: &Connection) -> Result<(), String> {
    let may_be_closed = is_closed_for_doubt(promise, connection);
    let own_doing = matches!(connection.session.closed(), Some(Cause::ClientClosed(_) | Cause::ClientLost));
    let for_doubt = matches!(connection.session.closed(), Some(Cause::MessageInDoubt(_)));
    must(if may_be_closed { for_doubt } else { own_doing }, || "ended otherwise than it should".to_owned())
}

fn is_closed_for_doubt(promise: Promise, connection: &Connection) -> bool {
    promise == Promise::NothingIsDoubled && connection.in_doubt
}

fn check_up(promise: Promise, connection: &Connection, account: &Account) -> Result<(), String> {
    let recorded = &account.recorded;
    let is_prefix = recorded.iter().copied().eq(1..=recorded.len() as u64);
    must(is_prefix, || format!("upstream has {recorded:?}"))?;
    let counts = connection.session.counts();
    let unread = connection.inbound.iter().filter(|said| matches!(said, super::connection::Said::Message(_))).count();
    let accounted = counts.messages_up + counts.undelivered + unread as u64;
    must(accounted == connection.sent, || format!("{} were sent, {unread} unread", connection.sent))?;
    must(counts.messages_up <= recorded.len() as u64, || format!("upstream has {} only", recorded.len()))?;
    let all =
        is_closed_for_doubt(promise, connection) || connection.left_early || recorded.len() as u64 == connection.sent;
    must(all, || format!("{} were sent, upstream has {}", connection.sent, recorded.len()))
}

/// Upstream is told that a client is gone, where the route says so.
fn check_leave(world: &World, connection: &Connection, account: &Account) -> Result<(), String> {
    let (wanted, told) = (world.plan.settings.notify_close, account.told > 0);
    // During an outage it may not be heard.
    let may_fail = connection.left_early || is_closed_for_doubt(world.plan.promise, connection);
    must(told == wanted || (wanted && may_fail), || format!("upstream was told {} times of the end", account.told))
}

fn check_down(promise: Promise, connection: &Connection, account: &Account) -> Result<(), String> {
    let received = &connection.received;
    let in_order = received.iter().zip(received.iter().skip(1)).all(|(one, next)| one < next);
    must(in_order, || format!("received {received:?}"))?;
    let newest = received.last().copied().unwrap_or_default();
    let without_hole = newest == received.len() as u64;
    must(promise == Promise::OldestGiveWay || without_hole, || format!("received {received:?}"))?;
    if connection.left_early || is_closed_for_doubt(promise, connection) {
        return Ok(());
    }
    let dropped = connection.session.counts().dropped;
    let all = received.len() as u64 + dropped == account.events;
    must(all, || format!("{} of {} events received, {dropped} dropped", received.len(), account.events))
}
