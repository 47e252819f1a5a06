//! An entry of a hash table: a position, and enough of the hash to tell most keys apart without
//! following it. Looking up a batch in two steps, tables first and keys after, lets the processor wait
//! for many reads of memory at once.

#[derive(Clone, Copy)]
pub(super) struct Tagged {
    pub at: u32,
    tag: u32,
}

impl Tagged {
    pub(super) fn new(hash: u64, at: u32) -> Self {
        Self { at, tag: tag(hash) }
    }

    pub(super) fn may_be(&self, hash: u64) -> bool {
        self.tag == tag(hash)
    }
}

/// From the middle of the hash: the table itself uses its lowest and highest bits.
fn tag(hash: u64) -> u32 {
    (hash >> 24) as u32
}
