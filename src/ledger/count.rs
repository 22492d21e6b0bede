//! How many different ones there were, without keeping who: exact for a few, estimated for many. Pure.
//!
//! Up to [`EXACT`] of their keyed hashes are kept; beyond that a `HyperLogLog` of 4096 registers (Flajolet et al. 2007, with
//! linear counting below 2.5 times its registers), whose standard error is 1.6 %. It takes 4 KiB, whatever it has seen.

/// So many are counted exactly, in as much memory as half the registers take.
pub const EXACT: usize = 256;

/// Bits of a hash that choose the register.
const BITS: u32 = 12;

/// Registers of an estimate.
const REGISTERS: usize = 1 << BITS;

/// How many different ones were seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distinct(Seen);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    /// Hashes in order, each once.
    Exactly(Vec<u64>),
    /// For each register the longest run of zeros so far, and one.
    About(Box<[u8; REGISTERS]>),
}

impl Default for Distinct {
    fn default() -> Self {
        Self(Seen::Exactly(Vec::new()))
    }
}

impl Distinct {
    /// Counts one by its hash, of which all 64 bits must look random. Says whether that changed anything.
    pub fn add(&mut self, hash: u64) -> bool {
        match &mut self.0 {
            Seen::Exactly(hashes) => match hashes.binary_search(&hash) {
                Ok(_) => false,
                Err(place) if hashes.len() < EXACT => {
                    hashes.insert(place, hash);
                    true
                }
                Err(_) => {
                    if let Some(registers) = self.registers() {
                        note(registers, hash);
                    }
                    true
                }
            },
            Seen::About(registers) => note(registers, hash),
        }
    }

    /// Counts all that the other has seen.
    pub fn merge(&mut self, other: &Self) {
        match &other.0 {
            Seen::Exactly(hashes) => {
                for hash in hashes {
                    self.add(*hash);
                }
            }
            Seen::About(theirs) => {
                if let Some(ours) = self.registers() {
                    ours.iter_mut().zip(theirs.iter()).for_each(|(our, their)| *our = (*our).max(*their));
                }
            }
        }
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        match &self.0 {
            Seen::Exactly(hashes) => hashes.len() as u64,
            Seen::About(registers) => estimate(registers),
        }
    }

    /// Whether [`count`](Self::count) is exact.
    #[must_use]
    pub const fn is_exact(&self) -> bool {
        matches!(self.0, Seen::Exactly(_))
    }

    /// What [`from_bytes`](Self::from_bytes) reads: the registers, or less than half as many bytes of hashes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match &self.0 {
            Seen::Exactly(hashes) => hashes.iter().flat_map(|hash| hash.to_be_bytes()).collect(),
            Seen::About(registers) => registers.to_vec(),
        }
    }

    /// Reads what [`to_bytes`](Self::to_bytes) gave; `None` for anything else.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if let Ok(registers) = <[u8; REGISTERS]>::try_from(bytes) {
            let good = registers.iter().all(|register| u32::from(*register) <= 64 - BITS + 1);
            return good.then(|| Self(Seen::About(Box::new(registers))));
        }
        let (hashes, rest) = bytes.as_chunks::<8>();
        let hashes: Vec<_> = hashes.iter().map(|hash| u64::from_be_bytes(*hash)).collect();
        let good = rest.is_empty() && hashes.len() <= EXACT && hashes.is_sorted_by(|one, next| one < next);
        good.then_some(Self(Seen::Exactly(hashes)))
    }

    /// The registers, made of the hashes if there are only those so far.
    fn registers(&mut self) -> Option<&mut [u8; REGISTERS]> {
        if let Seen::Exactly(hashes) = &self.0 {
            let mut registers = Box::new([0; REGISTERS]);
            for hash in hashes {
                note(&mut registers, *hash);
            }
            self.0 = Seen::About(registers);
        }
        match &mut self.0 {
            Seen::About(registers) => Some(registers),
            Seen::Exactly(_) => None,
        }
    }
}

/// Notes a hash: the first bits choose the register, the run of zeros behind them is what it remembers.
fn note(registers: &mut [u8; REGISTERS], hash: u64) -> bool {
    let index = usize::try_from(hash >> (64 - BITS)).unwrap_or(0);
    // The bit below those that are left bounds the run.
    let run = ((hash << BITS) | (1 << (BITS - 1))).leading_zeros() + 1;
    let (Some(register), Ok(run)) = (registers.get_mut(index), u8::try_from(run)) else { return false };
    let longer = run > *register;
    *register = run.max(*register);
    longer
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate above zero and far below 2^52 for whatever the registers hold"
)]
fn estimate(registers: &[u8; REGISTERS]) -> u64 {
    let most = REGISTERS as f64;
    let sum: f64 = registers.iter().map(|register| (-f64::from(*register)).exp2()).sum();
    let raw = 0.7213 / (1.0 + 1.079 / most) * most * most / sum;
    let empty = REGISTERS - registers.iter().map(|register| usize::from(*register > 0)).sum::<usize>();
    let estimate = if raw <= 2.5 * most && empty > 0 { most * (most / empty as f64).ln() } else { raw };
    estimate.round() as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A hash of a number (`splitmix64`).
    fn hash(number: u64) -> u64 {
        let mut mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn seen(numbers: std::ops::Range<u64>) -> Distinct {
        let mut distinct = Distinct::default();
        for number in numbers {
            distinct.add(hash(number));
        }
        distinct
    }

    #[test]
    fn a_few_are_counted_exactly_however_often_they_come() {
        let mut distinct = seen(0..200);
        assert_eq!((distinct.count(), distinct.is_exact()), (200, true));
        assert!(!distinct.add(hash(7)) && distinct.add(hash(200)));
        assert_eq!(distinct.count(), 201);
    }

    #[test]
    fn many_are_estimated_within_five_percent() {
        for many in [257, 1_000, 5_000, 10_000, 50_000, 1_000_000_u64] {
            let counted = seen(0..many).count();
            assert!(counted.abs_diff(many) * 20 <= many, "{counted} of {many}");
        }
    }

    #[test]
    fn those_that_two_have_seen_are_one() {
        for (ours, theirs, all) in
            [(0..100, 50..150, 150), (0..20_000, 10_000..30_000, 30_000), (0..10_000, 9_990..10_040, 10_040_u64)]
        {
            let (mut one, mut other) = (seen(ours.clone()), seen(theirs.clone()));
            one.merge(&seen(theirs));
            other.merge(&seen(ours));
            assert_eq!(one.count(), other.count());
            assert!(one.count().abs_diff(all) * 20 <= all, "{} of {all}", one.count());
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_is_read_back(count in 0_u64..600) {
            let distinct = seen(0..count);
            let kept = distinct.to_bytes();
            prop_assert!(kept.len() <= REGISTERS);
            prop_assert_eq!(Distinct::from_bytes(&kept), Some(distinct));
        }

        #[test]
        fn whatever_was_kept_is_read_or_refused(bytes: Vec<u8>, registers in proptest::collection::vec(any::<u8>(), REGISTERS)) {
            for bytes in [bytes, registers] {
                if let Some(mut distinct) = Distinct::from_bytes(&bytes) {
                    distinct.add(7);
                    let _ = distinct.count();
                }
            }
        }
    }
}
