//! A record as any reader of the log sees it, and where Kafka puts it.
//!
//! Owns the words that the whole crate shares; knows no client.

/// One record of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub partition: i32,
    pub offset: i64,
    pub timestamp_ms: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    /// A header's value as text; `None` where it is absent, null or no text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(found, _)| found == name)?;
        std::str::from_utf8(value.as_deref()?).ok()
    }
}

/// The partition that Kafka's own partitioner gives a key.
pub fn partition_of(key: &[u8], partitions: i32) -> i32 {
    ((krafka::producer::murmur2(key) & 0x7fff_ffff) % partitions.max(1).unsigned_abs()) as i32
}

/// A key as text, for people.
pub fn shown(key: Option<&[u8]>) -> String {
    key.map_or_else(|| "(no key)".to_owned(), |key| String::from_utf8_lossy(key).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values that `Utils.murmur2` of Kafka's Java client gives.
    #[test]
    fn partitions_are_those_of_the_java_client() {
        for (key, hash) in [("21", -973_932_308_i32), ("foobar", -790_332_482), ("abc", 479_470_107)] {
            assert_eq!(partition_of(key.as_bytes(), 7), (hash & 0x7fff_ffff) % 7, "{key}");
        }
    }
}
