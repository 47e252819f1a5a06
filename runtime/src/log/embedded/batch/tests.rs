//! Tests of the stored form of a record batch: property tests, hostile bytes, the golden file.

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use super::*;
use crate::golden;

const KEY: &[u8] = b"a key";

type Record = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(Vec<u8>, Option<Vec<u8>>)>);

/// Records in offset order; the first number of each is the gap before it.
fn records() -> impl Strategy<Value = Vec<Record>> {
    let bytes = || vec(any::<u8>(), 0..12);
    let record = (0..3_i64, any::<i64>(), of(bytes()), of(bytes()), vec((bytes(), of(bytes())), 0..3));
    vec(record, 1..40)
}

fn batch_of(records: &[Record]) -> PartitionBatch {
    let mut batch = PartitionBatch::new("t", 3);
    let mut offset = 1_000;
    for (gap, timestamp, key, value, headers) in records {
        offset += gap + 1;
        let headers = headers.iter().map(|(name, value)| (&name[..], value.as_deref()));
        batch.push_with_headers(offset, *timestamp, key.as_deref(), value.as_deref(), headers);
    }
    batch
}

fn decoded(last: i64, bytes: &[u8]) -> Result<(PartitionBatch, i64), Malformed> {
    let mut into = PartitionBatch::new("t", 3);
    into.push(1, 1, None, Some(b"from before"));
    let result = decode(KEY, last, bytes, &mut into);
    assert!(result.is_ok() || into.is_empty(), "something was left behind an error");
    result.map(|until_ms| (into, until_ms))
}

proptest! {
    #[test]
    fn kept_batches_read_what_they_write(records in records(), until_ms in any::<i64>()) {
        let batch = batch_of(&records);
        let sealed = Sealed::of_kept(&batch, until_ms);
        prop_assert_eq!(sealed.max_timestamp_ms, *batch.timestamps_ms.iter().max().unwrap());
        let last = *batch.offsets.last().unwrap();
        prop_assert_eq!(i64::from(sealed.span), last - batch.offsets[0]);
        prop_assert_eq!(decoded(last, &sealed.under(KEY)).unwrap(), (batch, until_ms));
    }

    #[test]
    fn new_batches_get_the_offsets_of_the_key_that_they_are_stored_under(records in records(), first in 0..i64::MAX / 2) {
        let mut batch = batch_of(&records);
        let sealed = Sealed::of_new(&batch);
        let last = first + i64::from(sealed.span);
        batch.offsets = (first..=last).collect();
        prop_assert_eq!(decoded(last, &sealed.under(KEY)).unwrap().0, batch);
    }

    #[test]
    fn a_flipped_bit_is_found(records in records(), bit in any::<prop::sample::Index>()) {
        let batch = batch_of(&records);
        let mut bytes = Sealed::of_kept(&batch, 0).under(KEY);
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(decoded(*batch.offsets.last().unwrap(), &bytes).is_err());
    }

    /// The checksum is made to hold, so that everything behind it meets hostile bytes.
    #[test]
    fn hostile_bytes_never_panic(
        records in records(),
        last in any::<i64>(),
        patches in vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = Sealed::of_kept(&batch_of(&records), 0).under(KEY);
        for (place, byte) in patches {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if cut.index(3) == 0 {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        if bytes.len() >= HEAD {
            bytes[0] = VERSION;
            let mut crc = covered(&bytes);
            crc.update(KEY);
            bytes[4..8].copy_from_slice(&crc.finalize().to_le_bytes());
        }
        let mut into = PartitionBatch::default();
        match decode(KEY, last, &bytes, &mut into) {
            // Whatever was accepted is a batch that can be read to its last byte.
            Ok(_) => {
                prop_assert!(!into.is_empty() && into.offsets.is_sorted());
                let read: usize = (0..into.len()).map(|i| payload(&into, i)).sum();
                prop_assert_eq!(read, byte_len(&into));
            }
            Err(_) => prop_assert!(into.is_empty()),
        }
    }

    #[test]
    fn what_fits_is_the_most_that_keeps_to_the_budget(records in records(), from in 0..50_usize, n in 0..50, b in 0..400) {
        let batch = batch_of(&records);
        let from = from.min(batch.len());
        let budget = Budget { max_records: n as usize, max_bytes: b as usize };
        let to = fit(&batch, from, budget);
        let bytes = |to: usize| (from..to).map(|i| payload(&batch, i)).sum::<usize>();
        prop_assert!(to - from <= budget.max_records && bytes(to) <= budget.max_bytes);
        let stopped_for_a_reason =
            to == batch.len() || to - from == budget.max_records || bytes(to + 1) > budget.max_bytes;
        prop_assert!(stopped_for_a_reason);
    }
}

#[test]
fn a_batch_under_the_key_of_another_is_damage() {
    let bytes = Sealed::of_new(&batch_of(&[(0, 0, None, None, vec![])])).under(b"another key");
    assert!(matches!(decoded(0, &bytes), Err(Malformed::Checksum { .. })));
}

#[test]
fn the_format_of_a_stored_batch_stays_as_it_is() {
    let mut plain = PartitionBatch::new("t", 0);
    plain.push(0, 1_700_000_000_000, Some(b"key"), Some(b"value"));
    plain.push(0, 1_700_000_000_001, Some(b""), Some(b"x"));
    let mut full = PartitionBatch::new("t", 0);
    full.push(7, -1, None, Some(b"value"));
    let headers = [(&b"name"[..], Some(&b"v"[..])), (b"null", None)];
    full.push_with_headers(9, 1_700_000_000_000, Some(b"key"), None, headers.into_iter());
    full.push(10, 0, Some(b"k"), Some(b""));
    let stored = [Sealed::of_new(&plain).under(KEY), Sealed::of_kept(&full, 1_800_000_000_000).under(KEY)];
    golden::check(&format!("log/embedded/golden/batches-v{VERSION}.bin"), &stored.concat());
}

/// Bytes of key, value and headers.
fn payload(batch: &PartitionBatch, i: usize) -> usize {
    let headers = batch.headers.of(i).map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len));
    batch.keys.bytes(i).len() + batch.values.bytes(i).len() + headers.sum::<usize>()
}
