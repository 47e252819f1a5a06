//! Why a task cannot go on, and what its owner should do about it.

use std::path::PathBuf;

use crate::error::Kind;
use crate::model::{PartitionId, TopicId, Uid};
use crate::{checkpoint, log, operator, state};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Log(#[from] log::Error),
    #[error(transparent)]
    State(#[from] state::Error),
    #[error(transparent)]
    Operator(#[from] operator::Error),
    #[error("commit epoch {epoch}: nobody knows whether it happened: {source}")]
    Indefinite { epoch: u64, source: log::Error },
    #[error("read changelog {topic}/{partition} at offset {offset}: {source}")]
    Changelog { topic: String, partition: PartitionId, offset: i64, source: checkpoint::Error },
    #[error("commit epoch {epoch}: the log does not say where in changelog {topic}/{partition} its delta stands")]
    NoPlace { epoch: u64, topic: String, partition: PartitionId },
    #[error(
        "another process owns the task since epoch {epoch} (session {owner}): this one has given it up; stop the other \
         one and apply the job again to bring it back"
    )]
    TakenOver { epoch: u64, owner: Uid },
    #[error("changelog {topic}/{partition} has grown since this process last wrote to it: the task is read anew")]
    Overtaken { topic: String, partition: PartitionId },
    #[error("write epoch {epoch}: {source}; the topic's rules or rights were changed: restore them")]
    Refused { epoch: u64, source: log::Error },
    #[error("encode epoch {epoch}: {source}")]
    Encode { epoch: u64, source: checkpoint::Error },
    #[error(
        "read changelog {topic}/{partition} to its end at {end}: nothing came behind {reached} for {seconds} s; {why}"
    )]
    ChangelogStuck { topic: String, partition: PartitionId, end: i64, reached: i64, seconds: u64, why: &'static str },
    #[error(
        "changelog {topic}/{partition} holds no header: the job was never deployed, or the topic was emptied; \
         deploy the job again under a new name, or restore the topic"
    )]
    NoHeader { topic: String, partition: PartitionId },
    #[error(
        "the local store stands at epoch {stored} (offset {offset}), changelog {topic}/{partition} {found}: the changelog \
         has lost data; restore the topic, or delete the job and start it from chosen offsets"
    )]
    ChangelogLost { topic: String, partition: PartitionId, stored: u64, offset: i64, found: String },
    #[error(
        "changelog {topic}/{partition} ends at epoch {last} (offset {end}), this server has committed epoch {noted} (offset \
         {offset}) as it has noted in {}: the changelog has lost its end, and what was written since epoch {last} would be \
         written again; restore the topic, or delete the job and start it from chosen offsets; to go on and have that \
         output twice, remove the note and apply the job again", note.display()
    )]
    ChangelogCutOff {
        topic: String,
        partition: PartitionId,
        end: i64,
        last: u64,
        noted: u64,
        offset: i64,
        note: PathBuf,
    },
    #[error(
        "input {topic}/{partition} starts at offset {start}, the position is {offset}: records {offset} to {} are gone \
         by retention or truncation; restore them, or start the job anew from chosen offsets", start - 1
    )]
    InputGone { topic: String, partition: PartitionId, offset: i64, start: i64 },
    #[error(
        "input {topic}/{partition} ends at offset {end}, the position is {offset}: the topic has lost records; restore \
         them, or start the job anew from chosen offsets"
    )]
    InputShrunk { topic: String, partition: PartitionId, offset: i64, end: i64 },
    #[error(
        "topic {topic} has id {found}, the task was deployed on {expected}: it was made again under its name, and \
         positions in the old one mean nothing in it; delete the job and start it anew"
    )]
    TopicChanged { topic: String, expected: TopicId, found: TopicId },
    #[error(
        "topic {topic} is gone, on which the task was deployed; restore it with its records, or delete the job and \
         start it anew"
    )]
    TopicGone { topic: String },
    #[error("read {topic}/{partition}: record {offset} came where {expected} was asked for")]
    OutOfPlace { topic: String, partition: PartitionId, offset: i64, expected: i64 },
    #[error("read {topic}/{partition}: the reader brought records that nobody asked for")]
    Unasked { topic: String, partition: PartitionId },
    #[error("start operator {operator}: {found}")]
    Module { operator: String, found: String, kind: Kind },
}

impl Error {
    /// It is about the local store, which is a cache of the changelog and can be rebuilt.
    pub(super) fn is_of_local_store(&self) -> bool {
        matches!(self, Self::State(_) | Self::Operator(operator::Error::State(_)))
    }

    pub fn kind(&self) -> Kind {
        match self {
            Self::Log(error) => error.kind(),
            Self::State(error) => error.kind(),
            Self::Operator(error) => error.kind(),
            Self::Indefinite { .. } | Self::ChangelogStuck { .. } => Kind::Retry,
            Self::Module { kind, .. } => *kind,
            Self::Changelog { source, .. } => source.kind(),
            Self::NoPlace { .. } => Kind::Retry,
            Self::Overtaken { .. } | Self::TakenOver { .. } => Kind::Fenced,
            Self::Refused { .. } => Kind::Invalid,
            Self::Encode { .. } | Self::OutOfPlace { .. } | Self::Unasked { .. } => Kind::Bug,
            Self::NoHeader { .. }
            | Self::ChangelogLost { .. }
            | Self::ChangelogCutOff { .. }
            | Self::InputGone { .. }
            | Self::InputShrunk { .. }
            | Self::TopicChanged { .. }
            | Self::TopicGone { .. } => Kind::Corrupt,
        }
    }
}
