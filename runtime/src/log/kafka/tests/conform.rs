//! The conformance suite on Kafka.

use std::time::{Duration, Instant};

use kafka_cluster::Target;

use super::*;
use crate::log::conformance::{Subject, log_conformance};
use crate::log::{Assignment, Budget};

struct OnCluster {
    target: Target,
    log: Option<Arc<Kafka>>,
}

impl OnCluster {
    fn new() -> Option<Self> {
        let target = Target::for_tests()?;
        Some(Self { target, log: Some(connect()?) })
    }

    fn connected(&self) -> &Kafka {
        self.log.as_ref().unwrap()
    }

    fn records(&self, topic: &TopicInfo) -> usize {
        let end = self.connected().end_offset(&topic.spec.name, 0, Isolation::ReadUncommitted).unwrap();
        let mut reader = self.connected().reader(Isolation::ReadCommitted).unwrap();
        let start = self.connected().start_offset(&topic.spec.name, 0).unwrap();
        reader.assign(&[Assignment::new(&topic.spec.name, topic.id, 0, start)]).unwrap();
        let (mut batch, mut count) = (PartitionBatch::default(), 0);
        while reader.position(&topic.spec.name, 0).unwrap() < end {
            let budget = Budget { max_records: 1_000, max_bytes: 1 << 20 };
            if reader.poll(budget, Duration::from_secs(5), &mut batch).unwrap() {
                count += batch.len();
            }
        }
        count
    }
}

impl Subject for OnCluster {
    fn log(&self) -> &dyn Log {
        self.connected()
    }

    fn restart(&mut self) {
        self.log = None;
        self.log = connect();
    }

    /// Kafka never compacts the segment that is being written: one more record, of a later time, begins another.
    fn compact(&self, topic: &str) -> usize {
        let info = self.connected().topic(topic).unwrap();
        let before = self.records(&info);
        let settings = "segment.ms=1,min.cleanable.dirty.ratio=0.0,min.compaction.lag.ms=0,max.compaction.lag.ms=1";
        let arguments = ["--alter", "--entity-type", "topics", "--entity-name", topic, "--add-config", settings];
        self.target.tool("kafka.admin.ConfigCommand", &arguments).unwrap();
        let mut last = PartitionBatch::new(topic, 0);
        last.push(-1, -1, Some(b"of no concern"), Some(b""));
        self.connected().produce(&last).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.records(&info) > before - 1 {
            assert!(Instant::now() < deadline, "{topic} was not compacted");
            // sleep: the broker's cleaner runs when it runs
            std::thread::sleep(Duration::from_millis(100));
        }
        1
    }
}

log_conformance!(OnCluster::new());
