//! The memory of all value caches of a process together.
//!
//! Owns the sum: each cache has a part of it, the same for all, which shrinks as others come and grows as they go.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Cheap to clone; all clones are one budget.
#[derive(Clone)]
pub struct CacheBudget(Arc<Inner>);

struct Inner {
    total_bytes: usize,
    parts: AtomicUsize,
}

impl CacheBudget {
    pub fn new(total_bytes: usize) -> Self {
        Self(Arc::new(Inner { total_bytes, parts: AtomicUsize::new(0) }))
    }

    /// A part for one more cache, until it is dropped.
    pub(super) fn part(&self, bytes_max: usize) -> CachePart {
        self.0.parts.fetch_add(1, Ordering::Relaxed);
        CachePart { budget: self.clone(), bytes_max }
    }
}

pub(super) struct CachePart {
    budget: CacheBudget,
    bytes_max: usize,
}

impl CachePart {
    /// What the cache may hold now.
    pub(super) fn bytes(&self) -> usize {
        let Inner { total_bytes, parts } = &*self.budget.0;
        self.bytes_max.min(total_bytes / parts.load(Ordering::Relaxed).max(1))
    }
}

impl Drop for CachePart {
    fn drop(&mut self) {
        self.budget.0.parts.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_the_same_for_all_and_never_more_than_the_whole() {
        let budget = CacheBudget::new(1_000);
        let first = budget.part(600);
        assert_eq!(first.bytes(), 600);
        let others: Vec<_> = (0..9).map(|_| budget.part(600)).collect();
        assert_eq!(first.bytes() + others.iter().map(CachePart::bytes).sum::<usize>(), 1_000);
        drop(others);
        assert_eq!(first.bytes(), 600);
    }
}
