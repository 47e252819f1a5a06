//! Input as it will stand in a topic: per partition a list of records, each at the offset of its position.
//!
//! Owns its own murmur2 on purpose: that the runtime agrees with it is part of what is judged.

/// A record as it is produced. What is wrong with a bad one shows in its bytes, nowhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    /// The record's own timestamp: when it arrived.
    pub timestamp_ms: i64,
}

/// All records of one topic.
#[derive(Clone, Debug, Default)]
pub struct Partitioned {
    pub topic: String,
    pub partitions: Vec<Vec<Record>>,
}

impl Partitioned {
    pub fn new(topic: &str, partitions: usize) -> Self {
        Self { topic: topic.to_owned(), partitions: vec![Vec::new(); partitions] }
    }

    /// Adds a record where Kafka's default partitioner puts it; one without a key goes to partition 0.
    pub fn push(&mut self, record: Record) {
        let partition = record.key.as_ref().map_or(0, |key| partition_of(key, self.partitions.len()));
        self.partitions[partition].push(record);
    }

    /// Adds a record to a partition that is not its own.
    pub fn push_astray(&mut self, record: Record) {
        let own = record.key.as_ref().map_or(0, |key| partition_of(key, self.partitions.len()));
        let astray = (own + 1) % self.partitions.len();
        self.partitions[astray].push(record);
    }

    pub fn len(&self) -> usize {
        self.partitions.iter().map(Vec::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

pub fn partition_of(key: &[u8], partitions: usize) -> usize {
    (murmur2(key) & 0x7fff_ffff) as usize % partitions
}

/// murmur2 as Kafka's Java client has it.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut h = 0x9747_b28c ^ data.len() as u32;
    let mut rest = data;
    while let Some((four, tail)) = rest.split_first_chunk::<4>() {
        let k = u32::from_le_bytes(*four).wrapping_mul(M);
        h = h.wrapping_mul(M) ^ (k ^ (k >> 24)).wrapping_mul(M);
        rest = tail;
    }
    if !rest.is_empty() {
        h ^= rest.iter().rev().fold(0, |word, byte| (word << 8) | u32::from(*byte));
        h = h.wrapping_mul(M);
    }
    h = (h ^ (h >> 13)).wrapping_mul(M);
    h ^ (h >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_kafkas_java_client() {
        for (key, expected) in [("21", -973_932_308_i32), ("foobar", -790_332_482), ("abc", 479_470_107)] {
            assert_eq!(murmur2(key.as_bytes()) as i32, expected, "{key}");
        }
    }
}
