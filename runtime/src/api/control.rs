//! Remembers which control topic the data directory belongs to, so that a deleted topic is not mistaken for a server's
//! first start.
//!
//! Owns a file with the cluster's address and the topic's name and id. Never creates the topic. Not used where the log
//! is in the data directory itself.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Kind;
use crate::log::{self, Log};

const FILE: &str = "control-topic";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "open the control topic {topic}: {found}, and with it what this server knew of its jobs; restore it with its records, \
         or, to begin with no jobs, remove {}: their changelogs stay, and what is applied then starts anew", .file.display()
    )]
    Gone { topic: String, found: String, file: PathBuf },
    #[error("{doing}: {source}")]
    Io { doing: String, source: io::Error },
    #[error(transparent)]
    Log(#[from] log::Error),
}

impl Error {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Gone { .. } => Kind::Corrupt,
            Self::Io { .. } => Kind::Retry,
            Self::Log(error) => error.kind(),
        }
    }
}

/// The control topic of a server on a cluster.
pub struct ControlTopic {
    log: Arc<dyn Log>,
    file: PathBuf,
    /// The cluster's address, as the server was told it.
    cluster: String,
    topic: String,
}

impl ControlTopic {
    pub fn new(log: Arc<dyn Log>, data_dir: &Path, cluster: &str, topic: &str) -> Self {
        Self { log, file: data_dir.join(FILE), cluster: cluster.to_owned(), topic: topic.to_owned() }
    }

    pub fn name(&self) -> &str {
        &self.topic
    }

    /// Checked before the topic is opened, since opening creates a missing one.
    ///
    /// # Errors
    /// [`Error::Gone`] where it is not the one that this data directory has seen.
    pub fn check(&self) -> Result<(), Error> {
        match self.lost()? {
            None => Ok(()),
            Some(found) => Err(Error::Gone { topic: self.topic.clone(), found, file: self.file.clone() }),
        }
    }

    /// Writes down which topic was opened.
    ///
    /// # Errors
    /// Those of the log and of the directory.
    pub fn remember(&self) -> Result<(), Error> {
        let id = self.log.topic(&self.topic)?.id;
        let written = fs::write(&self.file, format!("{}\n{}\n{id}\n", self.cluster, self.topic));
        written.map_err(|source| Error::Io { doing: format!("write {}", self.file.display()), source })
    }

    /// Says what has happened to the topic that was opened, where it no longer exists.
    ///
    /// # Errors
    /// The log does not answer, or the file cannot be read.
    pub fn lost(&self) -> Result<Option<String>, Error> {
        let Some(known) = self.known()? else { return Ok(None) };
        match self.log.topic(&self.topic).map(|topic| topic.id) {
            Ok(found) if found.to_string() == known => Ok(None),
            Ok(found) => Ok(Some(format!("it was made again: its id was {known} and is {found}"))),
            Err(log::Error::UnknownTopic(_)) => Ok(Some("it was deleted".to_owned())),
            Err(error) => Err(error.into()),
        }
    }

    /// The id of the topic that this directory has seen on this cluster.
    fn known(&self) -> Result<Option<String>, Error> {
        let text = match fs::read_to_string(&self.file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Io { doing: format!("read {}", self.file.display()), source }),
        };
        let mut lines = text.lines();
        let is_this = lines.next() == Some(self.cluster.as_str()) && lines.next() == Some(self.topic.as_str());
        Ok(lines.next().filter(|_| is_this).map(str::to_owned))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::embedded::{Embedded, Settings};
    use crate::log::{Cleanup, TopicSpec};

    #[test]
    fn a_control_topic_that_is_gone_or_was_made_again_is_told_and_another_clusters_is_not_missed() {
        let dir = tempfile::tempdir().unwrap();
        let log: Arc<dyn Log> = Embedded::open(&dir.path().join("log"), Settings::default()).unwrap();
        let (cleanup, max_record_bytes) = (Cleanup::Compact, 1 << 20);
        let spec = TopicSpec { name: "control".to_owned(), partitions: 1, cleanup, max_record_bytes };
        let control = ControlTopic::new(Arc::clone(&log), dir.path(), "broker:9092", "control");
        control.check().unwrap();
        log.create_topic(&spec).unwrap();
        control.remember().unwrap();
        control.check().unwrap();
        log.delete_topic("control").unwrap();
        let gone = control.check().unwrap_err().to_string();
        assert!(gone.contains("it was deleted") && gone.contains(FILE) && gone.contains("restore"), "{gone}");
        ControlTopic::new(Arc::clone(&log), dir.path(), "other:9092", "control").check().unwrap();
        ControlTopic::new(Arc::clone(&log), dir.path(), "broker:9092", "other").check().unwrap();
        log.create_topic(&spec).unwrap();
        let again = control.check().unwrap_err().to_string();
        assert!(again.contains("made again"), "{again}");
        fs::remove_file(dir.path().join(FILE)).unwrap();
        control.check().unwrap();
    }
}
