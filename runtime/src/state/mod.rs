//! Keyed state and timers of one task.
