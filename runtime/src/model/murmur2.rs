//! Kafka's hash of keys, and the two numbers that are made from it.
//!
//! Owns nothing. The bits must be those of `org.apache.kafka.common.utils.Utils.murmur2`: a producer
//! in Java and this host have to agree on the partition of every key, for ever.

/// Key groups per job. Divisible by every parallelism that a job may have (1–10, 12, 14, 15, 16, …),
/// so that rescaling moves ranges of state and rewrites none.
pub const KEY_GROUPS: u32 = 20_160;

const SEED: u32 = 0x9747_b28c;
const M: u32 = 0x5bd1_e995;
const R: u32 = 24;

/// murmur2 of `key` as Java's client computes it, with the sign bit cleared (`Utils.toPositive`).
pub fn hash(key: &[u8]) -> u32 {
    let mut h = SEED ^ (key.len() as u32);
    let mut words = key.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k ^= k >> R;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let tail = words.remainder();
    if !tail.is_empty() {
        for (i, byte) in tail.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    (h ^ (h >> 15)) & 0x7fff_ffff
}

/// The partition that Kafka's default partitioner gives a record with this key.
pub fn partition(key: &[u8], partitions: u32) -> i32 {
    (hash(key) % partitions) as i32
}

/// The key group of a key: where its state lies.
pub fn key_group(key: &[u8]) -> u16 {
    (hash(key) % KEY_GROUPS) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values printed by `Utils.murmur2` of Apache Kafka's own test (`UtilsTest.testMurmur2`).
    #[test]
    fn agrees_with_kafkas_own_test_vectors() {
        for (key, expected) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(hash(key.as_bytes()), (expected as u32) & 0x7fff_ffff, "{key}");
        }
    }

    #[test]
    fn key_group_decides_the_task_for_every_parallelism_that_divides_it() {
        for parallelism in [1_u32, 2, 3, 4, 6, 8, 12] {
            for n in 0..500_u32 {
                let key = n.to_string();
                let by_partition = partition(key.as_bytes(), 24) as u32 % parallelism;
                let by_group = u32::from(key_group(key.as_bytes())) % parallelism;
                if 24 % parallelism == 0 {
                    assert_eq!(by_partition, by_group, "{key} at {parallelism}");
                }
            }
        }
    }
}
