//! What every log must do, written against the traits of [`crate::log`] alone.
//!
//! One function per rule, named as the rule. `log_conformance!(subject)` makes a test of each for one
//! implementation; a log that is not embedded in this process runs the same list.

mod epochs;
mod fencing;
mod outlets;
mod reading;
mod records;
mod retention;
mod topics;

use std::time::{Duration, Instant};

pub use epochs::*;
pub use fencing::*;
pub use outlets::*;
pub use reading::*;
pub use records::*;
pub use retention::*;
pub use topics::*;

use crate::log::{Assignment, Budget, Cleanup, CommitOutcome, Isolation, Log, Reader, TopicInfo, TopicSpec, Writer};
use crate::model::{PartitionBatch, PartitionId, Uid};

/// The log under test.
pub trait Subject {
    fn log(&self) -> &dyn Log;
    /// The process dies without a word and comes back. Readers and writers were dropped before.
    fn restart(&mut self);
    /// Compacts a topic, to the last record that stands there. Answers how many records it had to append for that.
    fn compact(&self, topic: &str) -> usize;
}

/// Makes a test of each rule; `$subject` is an expression that makes a fresh [`Subject`], or none where there is no
/// such log on this machine, which it has then said.
macro_rules! log_conformance {
    ($subject:expr) => {
        $crate::log::conformance::log_conformance! { @each $subject;
            a_topic_is_found_as_it_was_created
            a_topic_cannot_be_created_twice
            topics_that_kafka_would_refuse_are_refused
            a_deleted_topic_is_unknown
            a_topic_made_again_has_another_id_and_no_records
            a_reader_of_a_topic_that_was_made_again_is_told
            an_assignment_to_a_topic_that_was_made_again_is_refused
            a_partition_that_does_not_exist_is_named
            topics_survive_a_restart
            records_come_back_as_they_were_written
            a_negative_timestamp_becomes_the_append_time
            plain_records_get_dense_offsets
            a_record_over_the_limit_is_refused_before_anything_of_its_batch_is_added
            a_compacted_topic_refuses_a_record_without_a_key
            many_records_at_once_come_back_whole
            reading_starts_at_exactly_the_offset_asked_for
            a_poll_keeps_to_its_budget_and_always_brings_a_record
            partitions_take_turns
            a_paused_partition_brings_nothing_and_keeps_its_position
            a_poll_waits_for_records_that_come_later
            a_poll_that_waits_is_ended_by_a_waker_whenever_it_wakes
            the_position_moves_over_markers_and_gaps_to_the_end
            a_reader_knows_the_end_that_it_has_reached
            an_offset_that_is_not_held_is_an_error_and_no_reset
            a_new_assignment_replaces_the_old_one
            an_epoch_appears_at_its_commit_and_not_before
            an_epoch_burns_a_marker_offset_in_each_partition_that_it_touched
            a_writer_knows_where_its_last_epoch_stands
            an_epoch_takes_batches_of_several_calls_in_their_order
            an_aborted_epoch_leaves_no_records
            an_epoch_that_was_open_when_the_process_died_is_never_seen
            a_committed_epoch_survives_a_restart
            an_epoch_without_records_commits
            epochs_of_two_ids_do_not_mix_in_a_partition
            a_writer_goes_on_after_a_refused_record
            calls_out_of_order_are_refused
            a_takeover_fences_the_older_writer
            a_takeover_aborts_what_was_open
            a_commit_that_was_fenced_leaves_nothing
            writers_of_different_ids_leave_each_other_alone
            what_an_id_committed_is_readable_when_its_takeover_returns
            an_outlet_has_written_everything_once_it_is_settled
            an_outlet_refuses_what_the_topic_does_not_take
            truncation_moves_the_start_and_removes_what_lies_before
            truncation_behind_the_end_is_refused
            a_reader_that_truncation_has_passed_is_told
            truncation_survives_a_restart
            offsets_are_never_given_twice_after_truncation_of_everything
            an_offset_is_found_by_its_timestamp
            compaction_keeps_the_newest_record_of_each_key_at_its_offset
            a_reader_crosses_what_compaction_removed
        }
    };
    (@each $subject:expr; $($rule:ident)*) => {
        $(#[test]
        fn $rule() {
            if let Some(mut subject) = $subject {
                $crate::log::conformance::$rule(&mut subject);
            }
        })*
    };
}
pub(crate) use log_conformance;

/// Long enough for any log; only a rule that is broken waits for it.
const PATIENCE: Duration = Duration::from_secs(20);
const PLENTY: Budget = Budget { max_records: 100_000, max_bytes: 1 << 30 };

fn spec(partitions: u32) -> TopicSpec {
    let name = format!("conformance.{}", Uid::random());
    TopicSpec { name, partitions, cleanup: Cleanup::Delete, max_record_bytes: 1_000 }
}

fn new_topic(log: &dyn Log, partitions: u32) -> TopicInfo {
    log.create_topic(&spec(partitions)).unwrap()
}

fn new_id() -> String {
    format!("conformance.{}", Uid::random())
}

/// Records without keys, with offsets as timestamps from `first` on.
fn values(topic: &TopicInfo, partition: PartitionId, values: &[&str]) -> PartitionBatch {
    let mut batch = PartitionBatch::new(&topic.spec.name, partition);
    values.iter().for_each(|value| batch.push(-1, 1_000, None, Some(value.as_bytes())));
    batch
}

/// Keyed records; `None` is a tombstone.
fn keyed(topic: &TopicInfo, records: &[(&str, Option<&str>)]) -> PartitionBatch {
    let mut batch = PartitionBatch::new(&topic.spec.name, 0);
    records.iter().for_each(|(k, v)| batch.push(-1, 1_000, Some(k.as_bytes()), v.map(str::as_bytes)));
    batch
}

fn commit(writer: &mut dyn Writer, batches: &[PartitionBatch]) {
    writer.begin().unwrap();
    batches.iter().for_each(|batch| writer.append(batch).unwrap());
    assert!(matches!(writer.commit().unwrap(), CommitOutcome::Committed));
}

fn at(topic: &TopicInfo, partition: PartitionId, offset: i64) -> Assignment {
    Assignment::new(&topic.spec.name, topic.id, partition, offset)
}

fn reader(log: &dyn Log, assignments: &[Assignment]) -> Box<dyn Reader> {
    let mut reader = log.reader(Isolation::ReadCommitted).unwrap();
    reader.assign(assignments).unwrap();
    reader
}

fn end(log: &dyn Log, topic: &TopicInfo, partition: PartitionId) -> i64 {
    log.end_offset(&topic.spec.name, partition, Isolation::ReadUncommitted).unwrap()
}

/// The end once no epoch is open in the partition any more: a marker may come later than the call that ended the epoch.
fn settled_end(log: &dyn Log, topic: &TopicInfo, partition: PartitionId) -> i64 {
    let start = Instant::now();
    loop {
        let stable = log.end_offset(&topic.spec.name, partition, Isolation::ReadCommitted).unwrap();
        if stable == end(log, topic, partition) {
            return stable;
        }
        assert!(start.elapsed() < PATIENCE, "an epoch is still open at {stable}");
    }
}

/// All records of a partition from `offset` to its end of this moment, as a task reads its changelog.
fn read_from(log: &dyn Log, topic: &TopicInfo, partition: PartitionId, offset: i64) -> PartitionBatch {
    let end = end(log, topic, partition);
    let mut reader = reader(log, &[at(topic, partition, offset)]);
    let mut all = PartitionBatch::new(&topic.spec.name, partition);
    let mut batch = PartitionBatch::default();
    let start = Instant::now();
    while reader.position(&topic.spec.name, partition).unwrap() < end {
        assert!(start.elapsed() < PATIENCE, "the end {end} was not reached");
        if reader.poll(PLENTY, PATIENCE, &mut batch).unwrap() {
            assert_eq!((&batch.topic, batch.partition), (&all.topic, partition));
            all.append_range(&batch, 0..batch.len());
        }
    }
    all
}

fn read_all(log: &dyn Log, topic: &TopicInfo, partition: PartitionId) -> PartitionBatch {
    read_from(log, topic, partition, log.start_offset(&topic.spec.name, partition).unwrap())
}

/// Offset and value of each record, as text.
fn shown(batch: &PartitionBatch) -> Vec<(i64, String)> {
    let text = |i| String::from_utf8_lossy(batch.values.bytes(i)).into_owned();
    (0..batch.len()).map(|i| (batch.offsets[i], text(i))).collect()
}

fn texts(batch: &PartitionBatch) -> Vec<String> {
    shown(batch).into_iter().map(|(_, text)| text).collect()
}
