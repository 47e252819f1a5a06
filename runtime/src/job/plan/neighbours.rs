//! Compares a spec with the other jobs of the server, and warns of what is allowed but rarely intended.

use std::collections::{BTreeMap, BTreeSet};

use super::super::spec::JobSpec;
use super::Findings;

/// What another job reads and writes at home, and where else it writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    pub job: String,
    reads: BTreeSet<String>,
    writes: BTreeSet<Place>,
}

/// A topic and its cluster; `None` is the home cluster.
type Place = (Option<String>, String);

impl Neighbour {
    pub fn of(spec: &JobSpec) -> Self {
        let sinks = spec.sinks.iter().map(|sink| (sink.cluster.clone(), sink.topic.clone()));
        Self {
            job: spec.name.clone(),
            reads: spec.sources.iter().map(|source| source.topic.clone()).collect(),
            writes: sinks.chain([(None, spec.dead_letter_topic())]).collect(),
        }
    }

    fn feeds(&self, other: &Self) -> bool {
        self.writes.iter().any(|(cluster, topic)| cluster.is_none() && other.reads.contains(topic))
    }
}

pub(super) fn warn(spec: &JobSpec, neighbours: &[Neighbour], findings: &mut Findings) {
    for sink in &spec.sinks {
        let place = (sink.cluster.clone(), sink.topic.clone());
        for other in neighbours.iter().filter(|other| other.writes.contains(&place)) {
            let (topic, job) = (&sink.topic, &other.job);
            findings.warn(format!("sinks[{}]: job {job} writes to topic {topic} too: its readers see both", sink.id));
        }
    }
    let dead_letters = spec.dead_letter_topic();
    for other in neighbours.iter().filter(|other| other.writes.contains(&(None, dead_letters.clone()))) {
        findings.warn(format!("bad_records.topic: job {} writes to topic {dead_letters} too", other.job));
    }
    if let Some(ring) = ring(&Neighbour::of(spec), neighbours) {
        findings.warn(format!(
            "records may go round for ever: each of these jobs reads what the one before it writes: {}",
            ring.join(" → ")
        ));
    }
}

/// The shortest way of records from a job back to it, over others; both ends are the job.
fn ring(job: &Neighbour, others: &[Neighbour]) -> Option<Vec<String>> {
    // For each job that was reached: the job that feeds it on a shortest way from the start.
    let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut reached = vec![job];
    while !reached.is_empty() {
        let mut next = Vec::new();
        for from in reached {
            if from.job != job.job && from.feeds(job) {
                let mut way = vec![job.job.clone(), from.job.clone()];
                while let Some(before) = way.last().and_then(|last| came_from.get(last.as_str())) {
                    way.push((*before).to_owned());
                }
                way.reverse();
                return Some(way);
            }
            for to in others.iter().filter(|other| from.feeds(other)) {
                if !came_from.contains_key(to.job.as_str()) {
                    came_from.insert(&to.job, &from.job);
                    next.push(to);
                }
            }
        }
        reached = next;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(job: &str, reads: &str, writes: &str) -> JobSpec {
        let yaml = format!(
            "name: {job}\nsources: [{{id: in, topic: {reads}}}]\nsinks: [{{id: out, topic: {writes}, from: in}}]\n"
        );
        JobSpec::parse(&yaml).unwrap()
    }

    fn warnings(spec: &JobSpec, others: &[JobSpec]) -> Vec<String> {
        let mut findings = Findings::default();
        let others: Vec<_> = others.iter().map(Neighbour::of).collect();
        warn(spec, &others, &mut findings);
        findings.warnings
    }

    #[test]
    fn two_jobs_on_one_sink_are_told() {
        let others = [spec("b", "prices", "results"), spec("c", "results", "elsewhere")];
        assert_eq!(
            warnings(&spec("a", "orders", "results"), &others),
            ["sinks[out]: job b writes to topic results too: its readers see both"]
        );
        let mut remote = spec("a", "orders", "results");
        remote.sinks[0].cluster = Some("far".into());
        assert_eq!(warnings(&remote, &others), Vec::<String>::new(), "a topic of that name on another cluster");
    }

    #[test]
    fn a_ring_of_jobs_is_told_with_its_way() {
        let ring = [spec("b", "two", "three"), spec("c", "three", "one"), spec("d", "two", "nowhere")];
        assert_eq!(
            warnings(&spec("a", "one", "two"), &ring),
            ["records may go round for ever: each of these jobs reads what the one before it writes: a → b → c → a"]
        );
        assert_eq!(warnings(&spec("a", "one", "five"), &ring), Vec::<String>::new());
        // A ring that this job feeds without being part of it is reported for the jobs in the ring.
        let beside = [spec("x", "two", "three"), spec("y", "three", "two")];
        assert_eq!(
            warnings(&spec("a", "one", "two"), &beside),
            ["sinks[out]: job y writes to topic two too: its readers see both"]
        );
    }

    #[test]
    fn dead_letters_that_are_read_again_by_another_job_close_a_ring_too() {
        let redrive = spec("redrive", "a.dead-letters", "one");
        let found = warnings(&spec("a", "one", "two"), &[redrive]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].ends_with("a → redrive → a"), "{found:?}");
    }
}
