//! Chance, clock and death of a simulated process, decided by a seed.
//!
//! Owns the dice, and what this thread's failpoints and random identities do while a simulation runs in it. Nothing
//! here is part of a build that is used.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use super::Clock;

/// Random numbers that stay the same for ever (splitmix64), so that a seed that was found once is found again.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `sides`; 0 where there is none.
    pub fn roll(&mut self, sides: u64) -> u64 {
        if sides == 0 { 0 } else { self.number() % sides }
    }

    pub fn index(&mut self, len: usize) -> usize {
        self.roll(len as u64) as usize
    }

    /// True so often in a thousand.
    pub fn chance(&mut self, per_mille: u32) -> bool {
        self.roll(1_000) < u64::from(per_mille)
    }

    /// Dice of their own for another part of the world, so that one part's throws do not change another's.
    pub fn fork(&mut self) -> Self {
        Self(self.number())
    }
}

/// What a simulated process dies with: unwound to where it was started.
pub struct Killed;

type Hook = Box<dyn FnMut(&str)>;

thread_local! {
    static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
    static IDENTITIES: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Makes identities of this thread follow from the seed, and its failpoints call `hook`, until the answer is dropped.
pub fn begin(seed: u64, hook: impl FnMut(&str) + 'static) -> Simulating {
    HOOK.set(Some(Box::new(hook)));
    IDENTITIES.set(Some(seed));
    Simulating
}

pub struct Simulating;

impl Drop for Simulating {
    fn drop(&mut self) {
        HOOK.set(None);
        IDENTITIES.set(None);
    }
}

/// A place where a simulated process may die; what its hook does about it.
pub fn strike(place: &str) {
    /// Puts the hook back where it was taken from, also while it unwinds.
    struct Taken(Option<Hook>);
    impl Drop for Taken {
        fn drop(&mut self) {
            HOOK.set(self.0.take());
        }
    }
    let mut taken = Taken(HOOK.take());
    if let Some(hook) = &mut taken.0 {
        hook(place);
    }
}

/// Bytes for an identity; none outside a simulation.
pub(super) fn identity() -> Option<[u8; 16]> {
    let mut dice = Dice(IDENTITIES.get()?);
    let (high, low) = (dice.number(), dice.number());
    IDENTITIES.set(Some(dice.0));
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&high.to_le_bytes());
    bytes[8..].copy_from_slice(&low.to_le_bytes());
    Some(bytes)
}

/// A clock whose wall time jumps, also back, while the time that passes only grows.
#[derive(Default)]
pub struct JumpingClock {
    elapsed: AtomicI64,
    wall: AtomicI64,
}

impl JumpingClock {
    pub fn pass(&self, time: Duration) {
        self.elapsed.fetch_add(time.as_nanos() as i64, Ordering::SeqCst);
        self.wall.fetch_add(time.as_nanos() as i64, Ordering::SeqCst);
    }

    pub fn jump(&self, nanoseconds: i64) {
        self.wall.fetch_add(nanoseconds, Ordering::SeqCst);
    }
}

impl Clock for JumpingClock {
    fn now(&self) -> i64 {
        self.wall.load(Ordering::SeqCst)
    }

    fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.elapsed.load(Ordering::SeqCst).unsigned_abs())
    }
}
