//! Where a new job starts reading: what its spec says, resolved to an offset per partition.
//!
//! Resolved when the job is created, then kept in its record and committed as header 0 of every task. There is no
//! fallback: a start that cannot be resolved for every partition is refused, with the remedy.

use super::plan::Refusal;
use super::spec::{SourceSpec, StartSpec};
use crate::log::{self, Log, Span, TopicInfo};

pub enum Error {
    Refused(Refusal),
    Log(log::Error),
}

impl From<log::Error> for Error {
    fn from(error: log::Error) -> Self {
        Self::Log(error)
    }
}

/// Whether the offsets come from outside the topic (a consumer group), so that a plan has to look whether they exist.
pub fn may_be_missing(start: &StartSpec) -> bool {
    matches!(start, StartSpec::Group(_) | StartSpec::Offsets(_))
}

/// One offset per partition, from 0 on.
pub fn resolve(source: &SourceSpec, topic: &TopicInfo, log: &dyn Log) -> Result<Vec<i64>, Error> {
    let name = &topic.spec.name;
    let partitions = 0..topic.spec.partitions as i32;
    Ok(match &source.start {
        StartSpec::Earliest => log.spans(&topic.spec)?.iter().map(|span| span.start).collect(),
        StartSpec::Latest => log.spans(&topic.spec)?.iter().map(|span| span.stable).collect(),
        StartSpec::Timestamp(text) => {
            let at: jiff::Timestamp = text.parse().map_err(|error| {
                refused(
                    source,
                    "timestamp",
                    format!("`{text}` is no time: {error}"),
                    "write it like 2026-05-02T02:36:00Z",
                )
            })?;
            let at = at.as_millisecond();
            partitions.map(|p| log.offset_for_timestamp(name, p, at)).collect::<Result<_, _>>()?
        }
        StartSpec::Group(group) => of_group(source, group, topic, log)?,
        StartSpec::Offsets(_) => as_given(source, topic, log)?,
    })
}

fn of_group(source: &SourceSpec, group: &str, topic: &TopicInfo, log: &dyn Log) -> Result<Vec<i64>, Error> {
    let name = &topic.spec.name;
    let found = match log.group_positions(group, name) {
        Ok(found) => found,
        Err(error @ log::Error::NoGroups(_)) => {
            let remedy = "start at `earliest`, `latest`, `{timestamp: …}` or `{offsets: …}`, or run on Kafka";
            return Err(refused(source, "group", error, remedy));
        }
        Err(error) => return Err(error.into()),
    };
    let mut offsets = Vec::new();
    let mut missing = Vec::new();
    for (partition, position) in (0..).zip(&found) {
        match position {
            Some(next) => offsets.push(next.0),
            None => missing.push(partition),
        }
    }
    if offsets.is_empty() {
        let found = format!("group `{}` has committed nothing for topic {name}", group.escape_debug());
        let remedy =
            "name a group that has read it, or start at `earliest`, `latest`, `{timestamp: …}` or `{offsets: …}`";
        return Err(refused(source, "group", found, remedy));
    }
    if !missing.is_empty() {
        let missing = listed(&missing);
        let found = format!("group `{}` has committed nothing for partition {missing} of {name}", group.escape_debug());
        let remedy = format!(
            "say where to start there: `kafka-consumer-groups --group {group} --topic {name}:{missing} --reset-offsets \
             --to-earliest --execute`, or give all of them as `{{offsets: …}}`"
        );
        return Err(refused(source, "group", found, remedy));
    }
    check_held(source, "group", &offsets, topic, log)?;
    Ok(offsets)
}

fn as_given(source: &SourceSpec, topic: &TopicInfo, log: &dyn Log) -> Result<Vec<i64>, Error> {
    let StartSpec::Offsets(given) = &source.start else { return Ok(Vec::new()) };
    let (name, partitions) = (&topic.spec.name, topic.spec.partitions as i32);
    let unknown: Vec<i32> = given.keys().copied().filter(|partition| !(0..partitions).contains(partition)).collect();
    let missing: Vec<i32> = (0..partitions).filter(|partition| !given.contains_key(partition)).collect();
    let (which, wrong) = if unknown.is_empty() { ("lacks", missing) } else { ("names", unknown) };
    if !wrong.is_empty() {
        let found = format!("it {which} partition {}; topic {name} has 0 to {}", listed(&wrong), partitions - 1);
        return Err(refused(source, "offsets", found, "give one offset for each partition"));
    }
    let offsets: Vec<i64> = given.values().copied().collect();
    check_held(source, "offsets", &offsets, topic, log)?;
    Ok(offsets)
}

/// A job that starts at records that retention has deleted would stop at once, so it is refused before it is created.
fn check_held(
    source: &SourceSpec,
    field: &str,
    offsets: &[i64],
    topic: &TopicInfo,
    log: &dyn Log,
) -> Result<(), Error> {
    let name = &topic.spec.name;
    for (partition, (&offset, Span { start, end, .. })) in offsets.iter().zip(log.spans(&topic.spec)?).enumerate() {
        if !(start..=end).contains(&offset) {
            let found =
                format!("partition {partition} of {name} holds {start} to {end}, and is to be read from {offset}");
            let remedy = "start at an offset that it holds; what lies before is gone";
            return Err(refused(source, field, found, remedy));
        }
    }
    Ok(())
}

fn listed(partitions: &[i32]) -> String {
    partitions.iter().map(i32::to_string).collect::<Vec<_>>().join(",")
}

fn refused(source: &SourceSpec, field: &str, found: impl ToString, remedy: impl ToString) -> Error {
    let place = format!("sources[{}].start.{field}", source.id);
    Error::Refused(Refusal { place, found: found.to_string(), remedy: remedy.to_string() })
}

#[cfg(test)]
mod tests {
    use super::super::fakes;
    use super::*;
    use crate::model::PartitionBatch;

    /// What a source that starts so on a topic of two partitions with three records each is resolved to.
    fn resolved(start: &str) -> Result<Vec<i64>, String> {
        let (_dir, log) = fakes::log();
        let topic = log.create_topic(&fakes::topic("orders", 2)).unwrap();
        for partition in 0..2 {
            let mut batch = PartitionBatch::new("orders", partition);
            (0..3).for_each(|i| batch.push(-1, i * 1_000, None, Some(b"{}")));
            log.produce(&batch).unwrap();
        }
        log.delete_records("orders", 0, 1).unwrap();
        let yaml = format!("name: a\nsources: [{{id: in, topic: orders, start: {start}}}]\nsinks: []\n");
        let spec = super::super::spec::JobSpec::parse(&yaml).unwrap();
        resolve(&spec.sources[0], &topic, log.as_ref()).map_err(|error| match error {
            Error::Refused(refusal) => refusal.to_string(),
            Error::Log(error) => error.to_string(),
        })
    }

    #[test]
    fn every_way_to_start_is_an_offset_for_each_partition() {
        assert_eq!(resolved("earliest"), Ok(vec![1, 0]));
        assert_eq!(resolved("latest"), Ok(vec![3, 3]));
        assert_eq!(resolved("{timestamp: 1970-01-01T00:00:02Z}"), Ok(vec![2, 2]));
        assert_eq!(resolved("{offsets: {0: 3, 1: 2}}"), Ok(vec![3, 2]));
    }

    #[test]
    fn offsets_are_refused_where_one_lacks_or_is_not_held() {
        let refused = |start| resolved(start).unwrap_err();
        assert_eq!(
            refused("{offsets: {0: 3}}"),
            "sources[in].start.offsets: it lacks partition 1; topic orders has 0 to 1; give one offset for each partition"
        );
        assert!(refused("{offsets: {0: 3, 1: 3, 2: 1}}").contains("it names partition 2"));
        assert!(
            refused("{offsets: {0: 0, 1: 0}}").contains("partition 0 of orders holds 1 to 3, and is to be read from 0")
        );
        assert!(refused("{offsets: {0: 1, 1: 4}}").contains("partition 1 of orders holds 0 to 3"));
    }

    #[test]
    fn a_group_is_refused_by_a_log_that_has_none() {
        let refused = resolved("{group: billing}").unwrap_err();
        assert!(refused.contains("sources[in].start.group") && refused.contains("no consumer groups"), "{refused}");
    }
}
