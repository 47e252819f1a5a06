//! The log on Apache Kafka and what speaks its protocol, through librdkafka.
//!
//! Reads by explicit assignment at explicit offsets, writes epochs as transactions, and creates topics with the
//! settings that the runtime relies on. Never uses a consumer group to find a position, never resets one.
//! Read `profile` for how a cluster is reached, then `writer`, then `reader`, then `stalls`.

mod admin;
mod consumers;
mod groups;
mod native;
pub mod profile;
mod reader;
mod stalls;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use admin::{Admin, Described, OffsetOf};
use consumers::Consumers;
use groups::Groups;
use native::Code;
use profile::Cluster;
pub use profile::Profile;
use stalls::Stalls;

use super::{
    Cleanup, Error, GroupPosition, Isolation, Log, Outlet, Reader, Span, TimestampBounds, TopicInfo, TopicRules,
    TopicSpec, Writer,
};
use crate::model::{NextOffset, PartitionBatch, PartitionId, TopicId, names};

/// What a batch of one record weighs beside the record, at most: Kafka bounds batches, callers bound records.
const RECORD_OVERHEAD_BYTES: u32 = 128;
/// A topic that was just created or deleted is waited for so long: each broker hears of it by itself.
const METADATA_PATIENCE: Duration = Duration::from_secs(15);
const METADATA_PAUSE: Duration = Duration::from_millis(20);
/// Copies of what must not be lost, where there are as many brokers.
const REPLICATION: i32 = 3;

pub struct Kafka {
    shared: Arc<Shared>,
    /// One producer for all that is written outside epochs, made when it is first needed.
    plain: Mutex<Option<writer::Plain>>,
}

/// What readers, writers and the log itself hold together.
struct Shared {
    cluster: Arc<Cluster>,
    admin: Admin,
    groups: Groups,
    consumers: Consumers,
    stalls: Stalls,
    replication: i32,
    /// What was last heard of each topic.
    topics: Mutex<HashMap<String, TopicInfo>>,
    /// Topics that were just created from here, and until when a broker may not have heard of them.
    created: Mutex<HashMap<String, Instant>>,
}

impl Kafka {
    /// Connects to the cluster.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where no broker answers, [`Error::Denied`] where the profile is wrong.
    pub fn connect(profile: &Profile) -> Result<Arc<Self>, Error> {
        let cluster = Arc::new(profile.resolve()?);
        let admin = Admin::new(Arc::clone(&cluster))?;
        let brokers = admin.brokers(&format!("connect to Kafka at {}", cluster.bootstrap))?;
        let replication = cluster.replication.map_or(REPLICATION.min(brokers.max(1) as i32), i32::from);
        let (consumers, groups) = (Consumers::new(Arc::clone(&cluster)), Groups::new(Arc::clone(&cluster)));
        let shared = Arc::new(Shared {
            cluster,
            admin,
            groups,
            consumers,
            stalls: Stalls::default(),
            replication,
            topics: Mutex::default(),
            created: Mutex::default(),
        });
        Ok(Arc::new(Self { shared, plain: Mutex::default() }))
    }

    pub fn bootstrap(&self) -> &str {
        &self.shared.cluster.bootstrap
    }
}

impl Log for Kafka {
    fn create_topic(&self, spec: &TopicSpec) -> Result<TopicInfo, Error> {
        let shared = &self.shared;
        let partitions = i32::try_from(spec.partitions).unwrap_or(i32::MAX);
        if partitions == 0 {
            let reason = "it has no partitions".to_owned();
            return Err(Error::InvalidTopic { topic: spec.name.clone(), reason });
        }
        shared.admin.create(&spec.name, partitions, shared.replication, &settings_of(spec, shared.replication))?;
        shared.created().insert(spec.name.clone(), crate::env::instant() + METADATA_PATIENCE);
        // Each broker hears of it by itself; a partition without a leader takes nothing.
        shared.wait_for(&spec.name, "it was created, and is not there yet", |found| {
            found.is_some_and(|topic| topic.led && topic.partitions == spec.partitions)
        })?;
        shared.topic(&spec.name)
    }

    fn delete_topic(&self, name: &str) -> Result<(), Error> {
        let shared = &self.shared;
        let id = shared.topic(name)?.id;
        shared.admin.delete(name)?;
        shared.topics().remove(name);
        shared.created().remove(name);
        shared.wait_for(name, "it was deleted, and is still there", |found| found.is_none_or(|topic| topic.id != id))
    }

    fn topic(&self, name: &str) -> Result<TopicInfo, Error> {
        self.shared.topic(name)
    }

    fn topics(&self) -> Result<Vec<TopicInfo>, Error> {
        let mut names = self.shared.admin.topic_names()?;
        names.sort();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.shared.infos(&names)
    }

    fn topics_named(&self, names: &[&str]) -> Result<Vec<TopicInfo>, Error> {
        self.shared.infos(names)
    }

    fn check_internal(&self, name: &str, partitions: u32, cleanup: Cleanup) -> Result<(), Error> {
        let described = self.shared.describe(&[name])?.pop();
        let described = described.ok_or_else(|| Error::UnknownTopic(name.to_owned()))?;
        let settings = self.shared.configs(&[name])?.remove(name).unwrap_or_default();
        super::check_shape(&info_of(&described, &settings).spec, partitions, cleanup)?;
        let wanted = [kept_for_ever(cleanup).as_slice(), &[NO_UNCLEAN_ELECTION]].concat();
        // A cluster that does not know a setting does not do what it would forbid.
        let wrong = wanted.into_iter().find_map(|(setting, wanted)| {
            settings.get(setting).filter(|found| found.as_str() != wanted).map(|found| (setting, found, wanted))
        });
        match wrong {
            None => Ok(()),
            Some((setting, found, wanted)) => Err(super::unsafe_setting(name.to_owned(), setting, found, wanted)),
        }
    }

    fn start_offset(&self, topic: &str, partition: PartitionId) -> Result<i64, Error> {
        self.shared.offset(topic, partition, OffsetOf::Start)
    }

    fn end_offset(&self, topic: &str, partition: PartitionId, isolation: Isolation) -> Result<i64, Error> {
        self.shared.offset(topic, partition, OffsetOf::End(isolation))
    }

    fn spans(&self, topic: &TopicSpec) -> Result<Vec<Span>, Error> {
        let partitions: Vec<_> = (0..topic.partitions as i32).collect();
        let all = |of| self.shared.offsets(&topic.name, &partitions, of);
        let (start, stable) = (all(OffsetOf::Start)?, all(OffsetOf::End(Isolation::ReadCommitted))?);
        let end = all(OffsetOf::End(Isolation::ReadUncommitted))?;
        let spans = start.into_iter().zip(stable).zip(end);
        Ok(spans.map(|((start, stable), end)| Span { start, stable, end }).collect())
    }

    fn offset_for_timestamp(&self, topic: &str, partition: PartitionId, timestamp_ms: i64) -> Result<i64, Error> {
        match self.shared.offset(topic, partition, OffsetOf::Timestamp(timestamp_ms))? {
            -1 => self.end_offset(topic, partition, Isolation::ReadCommitted),
            offset => Ok(offset),
        }
    }

    fn delete_records(&self, topic: &str, partition: PartitionId, offset: i64) -> Result<(), Error> {
        match self.shared.admin.delete_records(topic, partition, offset) {
            Ok(()) => Ok(()),
            Err(Code::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE) => Err(self.shared.out_of_range(topic, partition, offset)),
            Err(code) => {
                let doing = format!("truncate {topic}/{partition} before offset {offset}");
                Err(admin::error(&doing, code, "", Some(topic)))
            }
        }
    }

    fn reader(&self, isolation: Isolation) -> Result<Box<dyn Reader>, Error> {
        Ok(Box::new(reader::KafkaReader::new(Arc::clone(&self.shared), isolation)))
    }

    fn epoch_timeout(&self) -> Option<Duration> {
        Some(self.shared.cluster.transaction_timeout)
    }

    fn expect_readers(&self, topics: &[&str], isolation: Isolation) {
        self.shared.consumers.look_up(topics, isolation);
    }

    fn writer(&self, transactional_id: &str) -> Result<Box<dyn Writer>, Error> {
        Ok(Box::new(writer::KafkaWriter::take_over(Arc::clone(&self.shared), transactional_id)?))
    }

    fn produce(&self, records: &PartitionBatch) -> Result<i64, Error> {
        let mut plain = self.plain.lock().unwrap_or_else(PoisonError::into_inner);
        let mut producer = match plain.take() {
            Some(producer) => producer,
            None => writer::Plain::new(Arc::clone(&self.shared))?,
        };
        let produced = producer.produce(records);
        // After trouble another one is made: what this one still holds must not be sent behind later records.
        if !matches!(produced, Err(Error::Unavailable { .. } | Error::Denied { .. })) {
            *plain = Some(producer);
        }
        produced
    }

    fn outlet(&self) -> Result<Box<dyn Outlet>, Error> {
        Ok(Box::new(writer::KafkaOutlet::new(Arc::clone(&self.shared))?))
    }

    fn mirror(&self, group: &str, positions: &[GroupPosition]) -> Result<(), Error> {
        self.shared.groups.write(group, positions)
    }

    fn group_positions(&self, group: &str, topic: &str) -> Result<Vec<Option<NextOffset>>, Error> {
        self.shared.groups.read(group, topic, self.shared.topic(topic)?.spec.partitions)
    }
}

/// With these no record goes by time or size.
fn kept_for_ever(cleanup: Cleanup) -> [(&'static str, &'static str); 3] {
    [("cleanup.policy", cleanup.name()), ("retention.ms", "-1"), ("retention.bytes", "-1")]
}

/// A replica that lags behind never becomes the leader: it would not have the newest commits.
const NO_UNCLEAN_ELECTION: (&str, &str) = ("unclean.leader.election.enable", "false");

/// Nothing of what Forebay creates is deleted by time; what it keeps for itself must not be lost by an election, and
/// carries append time, since retention and bounds judge by the timestamp.
fn settings_of(spec: &TopicSpec, replication: i32) -> Vec<(&'static str, String)> {
    let mut settings: Vec<_> = kept_for_ever(spec.cleanup).map(|(setting, wanted)| (setting, wanted.to_owned())).into();
    settings.push(("max.message.bytes", spec.max_record_bytes.saturating_add(RECORD_OVERHEAD_BYTES).to_string()));
    if names::is_internal(&spec.name) {
        settings.push((NO_UNCLEAN_ELECTION.0, NO_UNCLEAN_ELECTION.1.to_owned()));
        settings.push(("message.timestamp.type", "LogAppendTime".to_owned()));
        settings.push(("min.insync.replicas", (replication - 1).clamp(1, 2).to_string()));
    }
    settings
}

/// What the cluster's settings of a topic mean here.
fn info_of(described: &Described, settings: &BTreeMap<String, String>) -> TopicInfo {
    let number = |name: &str| settings.get(name).and_then(|value| value.parse::<i64>().ok());
    let compacted = settings.get("cleanup.policy").is_some_and(|policy| policy.contains("compact"));
    let max = number("max.message.bytes").unwrap_or(1 << 20).clamp(0, i64::from(u32::MAX)) as u32;
    let appended = settings.get("message.timestamp.type").is_some_and(|kind| kind == "LogAppendTime");
    let deletes = settings.get("cleanup.policy").is_none_or(|policy| policy.contains("delete"));
    let bounded = |ms: Option<i64>| ms.filter(|ms| (0..i64::MAX).contains(ms));
    let retention = bounded(number("retention.ms")).filter(|_| deletes);
    let before = bounded(number("message.timestamp.before.max.ms"));
    let timestamps = if appended {
        TimestampBounds::default()
    } else {
        TimestampBounds {
            max_behind_ms: [retention, before].into_iter().flatten().min(),
            max_ahead_ms: bounded(number("message.timestamp.after.max.ms")),
        }
    };
    TopicInfo {
        id: described.id,
        spec: TopicSpec {
            name: described.name.clone(),
            partitions: described.partitions,
            cleanup: if compacted { Cleanup::Compact } else { Cleanup::Delete },
            max_record_bytes: max.saturating_sub(RECORD_OVERHEAD_BYTES),
        },
        timestamps,
    }
}

impl Shared {
    fn topics(&self) -> MutexGuard<'_, HashMap<String, TopicInfo>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn created(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.created.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks again while a broker does not know a topic that was just created from here: it has not heard of it yet,
    /// though another one had.
    fn until_heard<T>(&self, ask: impl Fn() -> Result<T, Error>) -> Result<T, Error> {
        loop {
            match ask() {
                Err(Error::UnknownTopic(name)) if self.is_new(&name) => std::thread::sleep(METADATA_PAUSE),
                answer => return answer,
            }
        }
    }

    fn is_new(&self, topic: &str) -> bool {
        let mut created = self.created();
        created.retain(|_, until| crate::env::instant() < *until);
        created.contains_key(topic)
    }

    /// Those of the topics that exist.
    fn describe(&self, names: &[&str]) -> Result<Vec<Described>, Error> {
        self.until_heard(|| {
            let found = self.admin.describe(names)?;
            let is_missing = |name: &str| found.iter().all(|topic| topic.name != name);
            match names.iter().find(|name| is_missing(name) && self.is_new(name)) {
                Some(name) => Err(Error::UnknownTopic((*name).to_owned())),
                None => Ok(found),
            }
        })
    }

    fn configs(&self, topics: &[&str]) -> Result<BTreeMap<String, BTreeMap<String, String>>, Error> {
        self.until_heard(|| self.admin.configs(topics))
    }

    fn offsets(&self, topic: &str, partitions: &[PartitionId], of: OffsetOf) -> Result<Vec<i64>, Error> {
        self.until_heard(|| self.admin.offsets(topic, partitions, of))
    }

    /// As the cluster says now.
    fn topic(&self, name: &str) -> Result<TopicInfo, Error> {
        let found = self.infos(&[name])?.pop();
        found.ok_or_else(|| Error::UnknownTopic(name.to_owned()))
    }

    /// As the cluster last said to this process.
    fn topic_cached(&self, name: &str) -> Result<TopicInfo, Error> {
        let known = self.topics().get(name).cloned();
        known.map_or_else(|| self.topic(name), Ok)
    }

    /// Nothing newer is known of the topic's rules.
    fn is_current(&self, name: &str, rules: TopicRules) -> bool {
        self.topics().get(name).is_some_and(|info| info.rules() == rules)
    }

    fn infos(&self, names: &[&str]) -> Result<Vec<TopicInfo>, Error> {
        let names: Vec<&str> = names.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let names = names.as_slice();
        let described = if names.is_empty() { Vec::new() } else { self.describe(names)? };
        let found: Vec<&str> = described.iter().map(|topic| topic.name.as_str()).collect();
        let settings = if found.is_empty() { BTreeMap::new() } else { self.configs(&found)? };
        let none = BTreeMap::new();
        let infos: Vec<_> =
            described.iter().map(|topic| info_of(topic, settings.get(&topic.name).unwrap_or(&none))).collect();
        let mut topics = self.topics();
        names.iter().for_each(|name| drop(topics.remove(*name)));
        infos.iter().for_each(|info| drop(topics.insert(info.spec.name.clone(), info.clone())));
        Ok(infos)
    }

    /// The topic is still there, and still the same.
    fn check_topic(&self, name: &str, id: TopicId) -> Result<(), Error> {
        let found = self.describe(&[name])?.pop();
        match found {
            None => Err(Error::UnknownTopic(name.to_owned())),
            Some(topic) if topic.id != id => {
                Err(Error::TopicRecreated { topic: name.to_owned(), expected: id, found: topic.id })
            }
            Some(_) => Ok(()),
        }
    }

    fn check_partition(&self, topic: &str, partition: PartitionId, partitions: u32) -> Result<(), Error> {
        if partition >= 0 && (partition as u32) < partitions {
            return Ok(());
        }
        Err(Error::UnknownPartition { topic: topic.to_owned(), partition, partitions })
    }

    fn offset(&self, topic: &str, partition: PartitionId, of: OffsetOf) -> Result<i64, Error> {
        let known = self.topics().get(topic).map(|info| info.spec.partitions);
        // A partition that is new, or a topic that is not known yet, is asked for.
        if known.is_none_or(|partitions| partition < 0 || partition as u32 >= partitions) {
            self.check_partition(topic, partition, self.topic(topic)?.spec.partitions)?;
        }
        Ok(self.offsets(topic, &[partition], of)?[0])
    }

    fn wait_for(&self, name: &str, found: &str, is_so: impl Fn(Option<&Described>) -> bool) -> Result<(), Error> {
        let deadline = crate::env::instant() + METADATA_PATIENCE;
        while !is_so(self.admin.describe(&[name])?.first()) {
            if crate::env::instant() >= deadline {
                let doing = format!("wait for topic {name}");
                return Err(Error::Unavailable { doing, found: found.to_owned() });
            }
            std::thread::sleep(METADATA_PAUSE);
        }
        Ok(())
    }
}
