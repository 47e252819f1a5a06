//! Watermarks: how far event time has come in one task.
//!
//! Owns one generator per input partition and the minimum over the active ones. Never moves
//! backwards. Never reads a clock: the caller says how much time has passed, to notice idle partitions.

use std::time::Duration;

/// How event time advances on one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatermarkSettings {
    /// watermark = newest event time − this − 1 ns
    pub out_of_orderness: Duration,
    /// A partition that brought nothing for this long no longer holds back the others. `None` = never.
    pub idle_after: Option<Duration>,
}
