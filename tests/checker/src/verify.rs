//! Reads input, output and dead letters for the judge.
//!
//! Owns the order of reading and the patience. The input comes first and must have an end; then what must come is waited
//! for; then there is a pause for what must not come, and only what stands in the logs behind it is judged. Nothing
//! of this says anything about the job: that is the judge's part.

use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::error::Error;
use crate::input::{Guest, Inputs, Refusing};
use crate::judge::{Judge, Kind, Settings as JobSettings, Verdict};
use crate::kafka::{Bounds, Cluster, Reader, View, look_again};
use crate::record::Record;
use crate::third_opinion;

#[derive(Clone, Debug)]
pub struct Settings {
    pub bootstrap: String,
    pub input: String,
    pub output: String,
    pub dead_letters: Option<String>,
    pub guest: Guest,
    /// What the brokers refuse of the output.
    pub refusing: Refusing,
    pub job: JobSettings,
    /// The input is not complete before it has so many records.
    pub expect_records: Option<u64>,
    /// A log without aborted records proves nothing.
    pub require_aborted: bool,
    /// How long to wait for what must come.
    pub wait: Duration,
    /// How long to wait for what must not come.
    pub settle: Duration,
    /// Command of Kafka's console consumer.
    pub third_opinion: Option<String>,
}

/// What was found, and how the log looks to those who read uncommitted records.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub is_good: bool,
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Records of the output that no reader of committed records sees.
    pub aborted: u64,
    /// Records that Kafka's console consumer agreed on.
    pub third_opinion: Option<u64>,
    pub elapsed_ms: u64,
}

/// # Errors
/// Nothing can be said of the job.
pub async fn verify(settings: &Settings) -> Result<Report, Error> {
    let begun = Instant::now();
    let deadline = begun + settings.wait;
    let cluster = Cluster::connect(&settings.bootstrap, deadline).await?;
    let verifier = Verifier { settings, cluster, deadline };
    let (inputs, input_ends) = verifier.inputs().await?;
    inputs.check_senders()?;
    let mut output = verifier.open(&settings.output).await?;
    if settings.guest == Guest::Checked && output.starts.len() != inputs.partitions.len() {
        let (of, out) = (inputs.partitions.len(), output.starts.len());
        let what = format!("{} has {of} partitions and {} has {out}", settings.input, settings.output);
        return Err(Error::unfit(format!("{what}: event time can only be judged where they are as many")));
    }
    let letters = verifier.letters_topic(&inputs).await?;
    let mut letters = match letters {
        Some(topic) => Some(verifier.open(topic).await?),
        None => None,
    };
    let mut judge = Judge::new(&inputs, settings.job.clone(), output.starts.len() as i32);
    verifier.wait(&mut judge, &mut output, &mut letters).await?;
    verifier.check_input_ended(&input_ends).await?;
    let mut verdict = judge.finish();
    let aborted = verifier.aborted(&output).await?;
    if settings.require_aborted && aborted == 0 {
        verdict.found(Kind::NothingAborted, || {
            "no record of the output was aborted: the test has tested nothing".to_owned()
        });
    }
    let mut agreed = None;
    if let Some(command) = &settings.third_opinion {
        let read = third_opinion::read(command, &settings.bootstrap, &settings.output).await?;
        third_opinion::compare(&read, &output.committed, &mut verdict);
        agreed = Some(read.len() as u64);
    }
    let elapsed_ms = begun.elapsed().as_millis() as u64;
    Ok(Report { is_good: verdict.is_good(), verdict, aborted, third_opinion: agreed, elapsed_ms })
}

/// A topic that is read under `read_committed`.
struct Followed {
    topic: String,
    starts: Vec<Bounds>,
    reader: Reader,
    /// Ends as last asked for.
    ends: Vec<i64>,
    /// Per partition the offsets of the records that were read.
    committed: Vec<Vec<i64>>,
}

struct Verifier<'a> {
    settings: &'a Settings,
    cluster: Cluster,
    deadline: Instant,
}

impl Verifier<'_> {
    /// The whole input, once it is complete, and where it ends.
    async fn inputs(&self) -> Result<(Inputs, Vec<i64>), Error> {
        let topic = &self.settings.input;
        let partitions = self.cluster.known_partitions(topic, self.deadline).await?;
        let bounds = self.bounds(topic, partitions).await?;
        let mut inputs = Inputs::new(topic, partitions, self.settings.guest);
        inputs.one_task = self.settings.job.parallelism == Some(1);
        inputs.refusing = self.settings.refusing.clone();
        let mut reader = Reader::open(&self.cluster, topic, &bounds, View::Committed).await?;
        let expected = self.settings.expect_records.unwrap_or(0);
        loop {
            let ends = self.ends(topic, partitions).await?;
            let is_read = reader.read_until(&ends, self.deadline, |record| inputs.add(record)).await?;
            if is_read && inputs.records() >= expected {
                return Ok((inputs, reader.positions().to_vec()));
            }
            if !is_read || Instant::now() >= self.deadline {
                let found = format!("found {} records, expected {expected}", inputs.records());
                return Err(self.impatient(format!("read input {topic} to its end"), found));
            }
            look_again().await;
        }
    }

    async fn bounds(&self, topic: &str, partitions: i32) -> Result<Vec<Bounds>, Error> {
        let bounds = self.cluster.bounds(topic, partitions, self.deadline).await?;
        if let Some((cut, partition)) = bounds.iter().zip(0..).find(|(bounds, _)| bounds.start > 0) {
            let what = format!("{topic}/{partition} begins at offset {}", cut.start);
            return Err(Error::unfit(format!("{what}: what stood before cannot be judged")));
        }
        Ok(bounds)
    }

    async fn ends(&self, topic: &str, partitions: i32) -> Result<Vec<i64>, Error> {
        // Asking must work also when the patience is used up.
        let deadline = self.deadline.max(Instant::now() + self.settings.settle);
        let bounds = self.cluster.bounds(topic, partitions, deadline).await?;
        Ok(bounds.iter().map(|bounds| bounds.end).collect())
    }

    async fn open(&self, topic: &str) -> Result<Followed, Error> {
        let partitions = self.cluster.known_partitions(topic, self.deadline).await?;
        let starts = self.bounds(topic, partitions).await?;
        let reader = Reader::open(&self.cluster, topic, &starts, View::Committed).await?;
        let ends = starts.iter().map(|bounds| bounds.end).collect();
        Ok(Followed { topic: topic.to_owned(), reader, ends, committed: vec![Vec::new(); starts.len()], starts })
    }

    /// The topic of dead letters, where there is one to be read.
    async fn letters_topic(&self, inputs: &Inputs) -> Result<Option<&str>, Error> {
        let Some(topic) = self.settings.dead_letters.as_deref() else {
            let refused = inputs.refused;
            if refused > 0 {
                let what = format!("{refused} records of {} are malformed", inputs.topic);
                return Err(Error::unfit(format!("{what}: name the topic of dead letters with --dead-letters")));
            }
            return Ok(None);
        };
        // A job may make it with its first dead letter.
        while inputs.refused > 0 && self.cluster.partitions(topic, self.deadline).await?.is_none() {
            if Instant::now() >= self.deadline {
                return Err(
                    self.impatient(format!("look for dead letters in {topic}"), "there is no such topic".to_owned())
                );
            }
            look_again().await;
        }
        Ok(self.cluster.partitions(topic, self.deadline).await?.map(|_| topic))
    }

    /// Reads until everything has come that must, or patience ends; then on to the ends as they are a while later.
    async fn wait(
        &self,
        judge: &mut Judge<'_>,
        output: &mut Followed,
        letters: &mut Option<Followed>,
    ) -> Result<(), Error> {
        while self.read(judge, output, letters, self.deadline).await?
            && !judge.is_complete()
            && Instant::now() < self.deadline
        {
            look_again().await;
        }
        // sleep: what must not come has no sign of its own, and is given this time to come
        sleep(self.settings.settle).await;
        let deadline = self.deadline.max(Instant::now() + self.settings.settle.max(Duration::from_secs(5)));
        if self.read(judge, output, letters, deadline).await? {
            return Ok(());
        }
        let behind = [Some(&*output), letters.as_ref()].into_iter().flatten().find_map(Followed::behind);
        let found = format!("{}; {}", behind.unwrap_or_default(), judge.awaited());
        Err(self.impatient("read what is committed".to_owned(), found))
    }

    /// Reads both topics up to their ends as they are now; whether it came so far before `deadline`.
    async fn read(
        &self,
        judge: &mut Judge<'_>,
        output: &mut Followed,
        letters: &mut Option<Followed>,
        deadline: Instant,
    ) -> Result<bool, Error> {
        let is_read = self.follow(output, deadline, |record| judge.output(record)).await?;
        let Some(letters) = letters else { return Ok(is_read) };
        Ok(self.follow(letters, deadline, |record| judge.letter(record)).await? && is_read)
    }

    async fn follow(
        &self,
        followed: &mut Followed,
        deadline: Instant,
        mut take: impl FnMut(&Record),
    ) -> Result<bool, Error> {
        followed.ends = self.ends(&followed.topic, followed.starts.len() as i32).await?;
        let Followed { reader, ends, committed, .. } = followed;
        let take = |record: Record| {
            committed[record.partition as usize].push(record.offset);
            take(&record);
            Ok(())
        };
        reader.read_until(ends, deadline, take).await
    }

    /// What came after the input was read could not be judged.
    async fn check_input_ended(&self, ends: &[i64]) -> Result<(), Error> {
        let topic = &self.settings.input;
        let now = self.bounds(topic, ends.len() as i32).await?;
        match now.iter().zip(ends).zip(0..).find(|((now, end), _)| now.end != **end) {
            None => Ok(()),
            Some(((now, end), partition)) => {
                let what = format!("input {topic}/{partition} ended at {end} and ends at {} now", now.end);
                Err(Error::unfit(format!("{what}: judge it when its producers are done, or give --expect-records")))
            }
        }
    }

    /// How many records a reader of uncommitted records sees beside the committed ones.
    async fn aborted(&self, output: &Followed) -> Result<u64, Error> {
        let topic = &output.topic;
        let deadline = self.deadline.max(Instant::now() + self.settings.wait);
        let mut reader = Reader::open(&self.cluster, topic, &output.starts, View::Uncommitted).await?;
        let mut committed: Vec<_> = output.committed.iter().map(|offsets| offsets.iter().peekable()).collect();
        let mut aborted = 0;
        let take = |record: Record| {
            let next = &mut committed[record.partition as usize];
            match next.peek() {
                Some(offset) if **offset < record.offset => {
                    let place = format!("read {topic}/{} uncommitted", record.partition);
                    return Err(Error::reading(place, format!("the committed record at {offset} is not there")));
                }
                Some(offset) if **offset == record.offset => drop(next.next()),
                _ => aborted += u64::from(record.offset < output.ends[record.partition as usize]),
            }
            Ok(())
        };
        if reader.read_until(&output.ends, deadline, take).await? {
            return Ok(aborted);
        }
        Err(self.impatient(format!("read {topic} uncommitted"), "its end was not reached".to_owned()))
    }

    fn impatient(&self, doing: String, found: String) -> Error {
        Error::Patience { doing, found, waited_s: self.settings.wait.as_secs() }
    }
}

impl Followed {
    /// Where reading has not come to the end, for people.
    fn behind(&self) -> Option<String> {
        let partitions = self.reader.positions().iter().zip(&self.ends).zip(0..);
        let ((position, end), partition) = partitions.into_iter().find(|((position, end), _)| position < end)?;
        let topic = &self.topic;
        Some(format!("{topic}/{partition} is read to {position} of {end}: an open transaction holds its readers back"))
    }
}
