//! Identities. Each is its own type, so that one is never taken for another.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::PartitionId;

/// A topic's identity (Kafka's topic id). A topic made again under its old name has another one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TopicId(pub [u8; 16]);

/// The identity of something that names may be reused for: a job, a session of a task's owner, a swap.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Uid(pub [u8; 16]);

/// SHA-256 of a module's bytes as they were uploaded (or of a component encoded from them).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Digest(pub [u8; 32]);

/// A stage of a job: the operators between two shuffles. Cheap to clone; its name stands in every name of its tasks.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StageName(Arc<str>);

/// One of the parallel parts of a stage, written `main/3`. Bytes at rest hold the name, then the number.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TaskId {
    pub stage: StageName,
    /// Counted from 0, below the parallelism of the stage.
    pub number: u32,
}

/// The offset to read next: last offset read + 1. The only form in which positions are kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct NextOffset(pub i64);

impl NextOffset {
    pub fn after(offset: i64) -> Self {
        Self(offset + 1)
    }
}

impl Digest {
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// The first twelve hex digits, for people.
    pub fn short(&self) -> String {
        hex(&self.0[..6])
    }

    /// Reads what `Display` writes (64 hex digits, with or without `sha256:`).
    pub fn parse(text: &str) -> Option<Self> {
        unhex(text.strip_prefix("sha256:").unwrap_or(text)).map(Self)
    }
}

impl StageName {
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The only stage of a job until jobs can repartition.
    pub fn main() -> Self {
        Self::new("main")
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TaskId {
    pub fn new(stage: StageName, number: u32) -> Self {
        Self { stage, number }
    }

    /// A task of the main stage.
    pub fn main(number: u32) -> Self {
        Self::new(StageName::main(), number)
    }

    /// Where the task's deltas stand in the changelog of its stage.
    pub fn changelog_partition(&self) -> PartitionId {
        self.number as PartitionId
    }
}

/// As the text is written at rest.
impl Serialize for StageName {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for StageName {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(|name| Self(name.into()))
    }
}

impl Uid {
    pub fn random() -> Self {
        Self(crate::env::identity())
    }

    /// Reads what `Display` writes (32 hex digits).
    pub fn parse(text: &str) -> Option<Self> {
        unhex(text).map(Self)
    }
}

impl TopicId {
    pub fn random() -> Self {
        Self(crate::env::identity())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex(&self.0))
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Display for StageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.stage, self.number)
    }
}

macro_rules! debug_as_display {
    ($($name:ty),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )*};
}
debug_as_display!(Digest, Uid, TopicId, StageName, TaskId);

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    let mut out = [0; N];
    for (i, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_and_uids_read_what_they_write() {
        let digest = Digest::of(b"abc");
        assert_eq!(Digest::parse(&digest.to_string()), Some(digest));
        let uid = Uid::random();
        assert_eq!(Uid::parse(&uid.to_string()), Some(uid));
        assert_eq!(Uid::parse("zz"), None);
    }
}
