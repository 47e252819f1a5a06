//! Reading a partition up to an end that is known, the same for everyone who does.

use std::time::Duration;

use super::{Assignment, Budget, Error, Isolation, Log};
use crate::model::{PartitionBatch, PartitionId};

const BUDGET: Budget = Budget { max_records: 2_000, max_bytes: 8 << 20 };
const POLL_WAIT: Duration = Duration::from_millis(20);
/// Polls without a record or a step forward, one after the other, before the partition counts as stuck: 10 s.
const EMPTY_POLLS_MAX: u32 = 500;

/// Hands the committed records of a partition from `from` up to `end` to `each`, in order, until it says that it has
/// had enough. Returns the next offset to read. Offsets are not dense, and the last one is usually a marker that is
/// never delivered: what counts is the position.
///
/// # Errors
/// [`Error::Unavailable`] where nothing comes, beside those of the log and of `each`.
pub fn read_to<E: From<Error>>(
    log: &dyn Log,
    (topic, partition): (&str, PartitionId),
    from: i64,
    end: i64,
    mut each: impl FnMut(&PartitionBatch) -> Result<Goes, E>,
) -> Result<i64, E> {
    let mut next = from;
    if next >= end {
        return Ok(next);
    }
    let id = log.topic(topic)?.id;
    let mut reader = log.reader(Isolation::ReadCommitted)?;
    reader.assign(&[Assignment::new(topic, id, partition, from)])?;
    let mut batch = PartitionBatch::new(topic, partition);
    let mut empty = 0;
    while next < end {
        let brought = reader.poll(BUDGET, POLL_WAIT, &mut batch)?;
        let goes = if brought { each(&batch)? } else { Goes::On };
        let position = reader.position(topic, partition).unwrap_or(next);
        empty = if brought || position > next { 0 } else { empty + 1 };
        next = next.max(position);
        if goes == Goes::Enough {
            return Ok(next);
        }
        if empty == EMPTY_POLLS_MAX {
            let seconds = (POLL_WAIT * EMPTY_POLLS_MAX).as_secs();
            let doing = format!("read {topic}/{partition} to its end at {end}");
            let found = format!("nothing came behind {next} for {seconds} s; an open transaction may hold it back");
            return Err(Error::Unavailable { doing, found }.into());
        }
    }
    Ok(next)
}

/// Whether reading goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goes {
    On,
    Enough,
}
