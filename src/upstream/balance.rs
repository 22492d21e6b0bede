//! Which endpoint a new event stream tries first. Pure: what is known of each endpoint comes in, an order comes out.

use std::time::{Duration, Instant};

use uuid::Uuid;

/// How new event streams are spread over the endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// The fewest open event streams for its weight.
    #[default]
    LeastStreams,
    /// By chance, in proportion to the weights.
    Weighted,
    /// By the connection's id: the same connection comes back to the same endpoint for as long as that is there, and
    /// one endpoint more or less moves its own share of the connections alone.
    Hash,
}

/// What is known of one endpoint.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    /// Stands for the endpoint wherever a choice is drawn by its name.
    pub key: u64,
    /// Its weight as it is now, above zero.
    pub weight: f64,
    /// Event streams that are open or being opened there.
    pub streams: u32,
    /// What the health checks say; `true` without any.
    pub healthy: bool,
    /// Whether its breaker would let an event stream out.
    pub admits: bool,
}

/// An order of endpoints, as indices.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// Which to try, best first.
    pub indices: Vec<usize>,
    /// No endpoint is healthy, so that all are used.
    pub desperate: bool,
}

/// The order for one connection. `turn` is different each time that it is asked for.
///
/// Unhealthy endpoints are left out unless there is no other. Those whose breaker refuses come last: asking them costs
/// nothing, and says when they can be tried again.
pub(super) fn order(balance: Balance, views: &[View], connection: &Uuid, turn: u64) -> Order {
    let desperate = !views.iter().any(|view| view.healthy);
    let (high, low) = connection.as_u64_pair();
    let id = mix(high ^ mix(low));
    let count = views.len() as u64;
    let mut ranked: Vec<(usize, &View, f64)> = views
        .iter()
        .enumerate()
        .filter(|(_, view)| desperate || view.healthy)
        .map(|(index, view)| {
            let rank = match balance {
                // The stream to come counts, so that of two empty endpoints the heavier one is first.
                Balance::LeastStreams => (f64::from(view.streams) + 1.0) / view.weight,
                Balance::Weighted => draw(mix(id ^ mix(turn)) ^ view.key, view.weight),
                Balance::Hash => draw(id ^ view.key, view.weight),
            };
            (index, view, rank)
        })
        .collect();
    // Equals take turns.
    let place = |index: usize| (index as u64 + count - turn % count.max(1)) % count.max(1);
    ranked.sort_by(|(a, left, left_rank), (b, right, right_rank)| {
        right.admits.cmp(&left.admits).then(left_rank.total_cmp(right_rank)).then(place(*a).cmp(&place(*b)))
    });
    Order { indices: ranked.into_iter().map(|(index, ..)| index).collect(), desperate }
}

/// A weight that grows from a tenth to the whole over `slow_start`, from when the endpoint came back.
pub(super) fn ramp(weight: u32, back: Option<Instant>, now: Instant, slow_start: Duration) -> f64 {
    const FIRST: f64 = 0.1;
    let weight = f64::from(weight.max(1));
    let Some(back) = back.filter(|_| !slow_start.is_zero()) else { return weight };
    let done = now.saturating_duration_since(back).as_secs_f64() / slow_start.as_secs_f64();
    weight * (FIRST + (1.0 - FIRST) * done.min(1.0))
}

/// What an endpoint is called where choices are drawn by its name. The same for the same text for as long as the process
/// runs, which is longer than any connection.
pub(super) fn key(name: &str) -> u64 {
    // FNV-1a; what matters of the spread is done by `mix`.
    mix(name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)))
}

/// An exponential variate for `seed` with the rate `weight`. The smallest of several is each one's with a chance in
/// proportion to its weight, and taking one away changes nothing among the others: weighted rendezvous hashing.
fn draw(seed: u64, weight: f64) -> f64 {
    // Shifted off zero: a number above 0 and not above 1.
    let uniform = (f64::from(u32::try_from(mix(seed) >> 32).unwrap_or(0)) + 1.0) / (f64::from(u32::MAX) + 1.0);
    -uniform.ln() / weight
}

/// The finaliser of splitmix64: every bit of the input changes half of the output.
fn mix(mut value: u64) -> u64 {
    value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn views(weights: &[u32]) -> Vec<View> {
        let view = |(index, weight): (usize, &u32)| View {
            key: key(&format!("10.0.0.{index}:80")),
            weight: f64::from(*weight),
            streams: 0,
            healthy: true,
            admits: true,
        };
        weights.iter().enumerate().map(view).collect()
    }

    fn first(balance: Balance, views: &[View], connection: u128, turn: u64) -> usize {
        order(balance, views, &Uuid::from_u128(connection), turn).indices[0]
    }

    /// Opens streams that stay, and gives how many each endpoint has.
    fn opened(balance: Balance, mut views: Vec<View>, streams: u64) -> Vec<u32> {
        for turn in 0..streams {
            let at = first(balance, &views, u128::from(turn) << 64, turn);
            views[at].streams += 1;
        }
        views.iter().map(|view| view.streams).collect()
    }

    #[test]
    fn least_streams_follow_the_weights_exactly() {
        assert_eq!(opened(Balance::LeastStreams, views(&[1, 1, 1]), 30), [10, 10, 10]);
        assert_eq!(opened(Balance::LeastStreams, views(&[1, 2, 5]), 80), [10, 20, 50]);
    }

    #[test]
    fn equals_take_turns() {
        let three = views(&[1, 1, 1]);
        let firsts: Vec<_> = (0..6).map(|turn| first(Balance::LeastStreams, &three, 7, turn)).collect();
        assert_eq!(firsts, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn chance_follows_the_weights_nearly() {
        for balance in [Balance::Weighted, Balance::Hash] {
            let counts = opened(balance, views(&[1, 2, 5]), 8000);
            for (count, expected) in counts.iter().zip([1000.0, 2000.0, 5000.0]) {
                assert!((f64::from(*count) / expected - 1.0).abs() < 0.1, "{balance:?}: {counts:?}");
            }
        }
    }

    #[test]
    fn chance_is_drawn_anew_each_time_and_a_hash_is_not() {
        let four = views(&[1, 1, 1, 1]);
        let distinct = |balance| {
            let firsts: std::collections::BTreeSet<_> = (0..100).map(|turn| first(balance, &four, 7, turn)).collect();
            firsts.len()
        };
        assert_eq!((distinct(Balance::Weighted), distinct(Balance::Hash)), (4, 1));
    }

    #[test]
    fn a_hash_moves_only_the_connections_of_the_endpoint_that_goes_and_moves_them_back() {
        let all = views(&[1, 2, 3]);
        let mut less = all.clone();
        less[1].admits = false;
        for connection in 0..500_u128 {
            let connection = connection * 0x1234_5678_9abc_def1_0203_0405;
            let (before, without) =
                (first(Balance::Hash, &all, connection, 1), first(Balance::Hash, &less, connection, 2));
            assert_ne!(without, 1);
            assert!(before == without || before == 1);
            assert_eq!(first(Balance::Hash, &all, connection, 3), before);
        }
    }

    #[test]
    fn what_is_unhealthy_is_left_out_and_what_refuses_comes_last() {
        let mut three = views(&[1, 1, 1]);
        three[0].healthy = false;
        three[1].admits = false;
        let got = order(Balance::LeastStreams, &three, &Uuid::nil(), 0);
        assert_eq!(got, Order { indices: vec![2, 1], desperate: false });
    }

    #[test]
    fn with_none_healthy_all_are_used() {
        let mut two = views(&[1, 1]);
        for view in &mut two {
            view.healthy = false;
        }
        let got = order(Balance::LeastStreams, &two, &Uuid::nil(), 1);
        assert_eq!(got, Order { indices: vec![1, 0], desperate: true });
        assert_eq!(order(Balance::Hash, &[], &Uuid::nil(), 1).indices, [0_usize; 0]);
    }

    #[test]
    fn a_weight_grows_from_a_tenth_to_the_whole() {
        let now = Instant::now();
        let slow = Duration::from_secs(10);
        let at = |seconds| ramp(4, Some(now), now + Duration::from_secs(seconds), slow);
        assert!((at(0) - 0.4).abs() < 1e-9 && (at(5) - 2.2).abs() < 1e-9 && (at(10) - 4.0).abs() < 1e-9);
        assert!((at(1000) - 4.0).abs() < 1e-9);
        assert!((ramp(4, None, now, slow) - 4.0).abs() < 1e-9);
        assert!((ramp(4, Some(now), now, Duration::ZERO) - 4.0).abs() < 1e-9);
        // One that may be tried only later is as light as one that has just come back.
        assert!((ramp(4, Some(now + slow), now, slow) - 0.4).abs() < 1e-9);
    }
}
