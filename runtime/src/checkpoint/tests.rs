use proptest::prelude::*;

use super::header::FORMAT as HEADER_FORMAT;
use super::*;
use crate::golden;
use crate::model::{Blobs, Digest, NextOffset, TaskId, TopicId, Uid};

fn task() -> TaskIdentity {
    TaskIdentity { job: Uid([1; 16]), incarnation: 2, task: TaskId::main(3), parallelism: 4 }
}

/// A header with every field in use.
fn full_header() -> Header {
    Header {
        kind: HeaderKind::Epoch,
        task: task(),
        owner: Owner { session: Uid([5; 16]), claim: 41, generation: 6 },
        epoch: 42,
        previous: [7; 32],
        inputs: vec![
            InputPosition {
                source: "orders".to_owned(),
                topic: TopicId([8; 16]),
                partition: 3,
                next_offset: NextOffset(4_711),
                leader_epoch: Some(9),
                gap: 3,
                watermark: 1_700_000_000_000_000_000,
                idle: false,
                upstream: vec![],
            },
            InputPosition {
                source: "by-symbol".to_owned(),
                topic: TopicId([10; 16]),
                partition: 7,
                next_offset: NextOffset(0),
                leader_epoch: None,
                gap: 0,
                watermark: i64::MIN,
                idle: true,
                upstream: vec![UpstreamTime { task: 1, watermark: -1, idle: true }],
            },
        ],
        watermark: -2,
        processing_time: 1_700_000_000_123_456_789,
        base: Some(BaseInForce {
            id: Uid([11; 16]),
            epoch: 40,
            changelog_offset: NextOffset(90),
            manifest: Digest([12; 32]),
        }),
        swap: Some(Uid([13; 16])),
        time_reset: 16,
        operators: vec![OperatorVersion {
            id: "enrich".to_owned(),
            module: Digest([14; 32]),
            migrator: Some(Digest([15; 32])),
            states: vec![StateVersion { name: "instrument".to_owned(), version: 2, begins_empty: true }],
        }],
    }
}

/// The header of an epoch with nothing optional in it, linked to what came before.
fn plain_header(epoch: u64, previous: HeaderHash) -> Header {
    Header {
        kind: if epoch == 0 { HeaderKind::Start } else { HeaderKind::Epoch },
        epoch,
        previous,
        inputs: vec![],
        base: None,
        swap: None,
        operators: vec![],
        ..full_header()
    }
}

fn changes() -> (Blobs, Blobs) {
    let keys = [Some(&b"a"[..]), Some(b"a\0"), Some(b"bb"), Some(b"c")].into_iter().collect();
    let values = [Some(&b"one"[..]), None, Some(b""), Some(&[b'x'; 300][..])].into_iter().collect();
    (keys, values)
}

fn read(chunks: &[Vec<u8>]) -> Vec<Delta> {
    let mut assembler = Assembler::default();
    chunks.iter().filter_map(|chunk| assembler.push(chunk).unwrap()).collect()
}

#[test]
fn header_bytes_are_those_of_its_format() {
    let bytes = full_header().encode().unwrap();
    golden::check(&format!("checkpoint/golden/header-v{HEADER_FORMAT}.bin"), &bytes);
    assert_eq!(Header::decode(&bytes), Ok(full_header()));
}

#[test]
fn chunk_bytes_are_those_of_their_format() {
    let chunks = chunk::cut(42, Uid([5; 16]), b"what a delta's bytes may be", 70).unwrap();
    assert!(chunks.len() == 2, "the golden file shows a first and a last chunk");
    golden::check(&format!("checkpoint/golden/chunks-v{}.bin", chunk::FORMAT), &chunks.concat());
}

/// Before compression: another release of the compressor may write other bytes for the same body.
#[test]
fn body_bytes_are_those_of_their_format() {
    let (keys, values) = changes();
    golden::check(&format!("checkpoint/golden/body-v{}.bin", delta::BODY_FORMAT), &delta::encode_body(&keys, &values));
}

/// A whole delta as the first release wrote it; the test stays when formats are raised.
#[test]
fn a_delta_of_the_first_release_reads_as_it_was_written() {
    let stored = golden::stored("checkpoint/golden/delta-v1.bin", || {
        let (keys, values) = changes();
        encode_delta(&full_header(), &keys, &values, 300).unwrap().concat()
    });
    let starts: Vec<usize> = (0..stored.len()).filter(|&at| stored[at..].starts_with(b"FBYD")).collect();
    let ends = starts.iter().skip(1).copied().chain([stored.len()]);
    let chunks: Vec<Vec<u8>> = starts.iter().zip(ends).map(|(&start, end)| stored[start..end].to_vec()).collect();
    assert!(chunks.len() > 2, "the golden file shows first, middle and last chunk");
    let (keys, values) = changes();
    let hash = full_header().hash().unwrap();
    assert_eq!(read(&chunks), [Delta { header: full_header(), hash, keys, values }]);
}

#[test]
fn a_delta_without_its_last_chunk_does_not_exist() {
    let (keys, values) = changes();
    let torn = encode_delta(&plain_header(1, [0; 32]), &keys, &values, 120).unwrap();
    let whole = encode_delta(&plain_header(2, [0; 32]), &keys, &values, 120).unwrap();
    let mut assembler = Assembler::default();
    for chunk in &torn[..torn.len() - 1] {
        assert_eq!(assembler.push(chunk), Ok(None));
    }
    let found: Vec<_> = whole.iter().filter_map(|chunk| assembler.push(chunk).unwrap()).collect();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].header.epoch, 2);
    assert_eq!(assembler.torn(), 1);
}

#[test]
fn reading_may_begin_in_the_middle_of_a_delta() {
    let (keys, values) = changes();
    let mut chunks = encode_delta(&plain_header(1, [0; 32]), &keys, &values, 120).unwrap();
    chunks.remove(0);
    chunks.extend(encode_delta(&plain_header(2, [0; 32]), &keys, &values, 120).unwrap());
    assert_eq!(read(&chunks).iter().map(|delta| delta.header.epoch).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_newer_format_is_named_as_such() {
    let mut header = full_header().encode().unwrap();
    header[4] = 9;
    assert_eq!(Header::decode(&header), Err(Error::Version { what: "header", found: 9, known: 1 }));
    let mut chunk = encode_delta(&full_header(), &Blobs::new(), &Blobs::new(), 10_000).unwrap().remove(0);
    chunk[4] = 9;
    let newer = Error::Version { what: "chunk of a delta", found: 9, known: 1 };
    assert_eq!(Assembler::default().push(&chunk), Err(newer));
}

#[test]
fn chunks_too_small_for_their_frame_are_refused() {
    let refused = encode_delta(&full_header(), &Blobs::new(), &Blobs::new(), 56);
    assert!(matches!(refused, Err(Error::TooLarge { epoch: 42, .. })));
}

#[test]
fn keys_that_do_not_ascend_are_refused() {
    let keys: Blobs = [Some(&b"b"[..]), Some(b"a")].into_iter().collect();
    let chunks = encode_delta(&full_header(), &keys, &keys, 10_000).unwrap();
    let found = Assembler::default().push(&chunks[0]).unwrap_err();
    assert_eq!(found.to_string(), "read the delta of epoch 42: its keys do not ascend");
}

#[test]
fn the_chain_takes_only_the_successor() {
    let mut chain = Chain::at_start(task());
    let start = plain_header(0, [0; 32]);
    let hash = start.hash().unwrap();
    assert_eq!(chain.follow(&plain_header(1, hash), [0; 32]), Err(Error::Gap { expected: 0, found: 1 }));
    chain.follow(&start, hash).unwrap();
    let gap = plain_header(2, hash);
    assert_eq!(chain.follow(&gap, [0; 32]), Err(Error::Gap { expected: 1, found: 2 }));
    assert_eq!(chain.follow(&plain_header(1, [9; 32]), [0; 32]), Err(Error::Unlinked { epoch: 1 }));
    let second_start = Header { kind: HeaderKind::Start, ..plain_header(1, hash) };
    let misplaced = Error::Misplaced { epoch: 1, found: HeaderKind::Start };
    assert_eq!(chain.follow(&second_start, [0; 32]), Err(misplaced));
    let foreign = Header { task: TaskIdentity { incarnation: 3, ..task() }, ..plain_header(1, hash) };
    assert!(matches!(chain.follow(&foreign, [0; 32]), Err(Error::Foreign { epoch: 1, .. })));
    let next = plain_header(1, chain.next_previous());
    chain.follow(&next, next.hash().unwrap()).unwrap();
    assert_eq!(chain.next_epoch(), 2);
}

fn column(nullable: bool) -> impl Strategy<Value = Option<Vec<u8>>> {
    let present = if nullable { 0.8 } else { 1.0 };
    prop::option::weighted(present, prop::collection::vec(any::<u8>(), 0..80))
}

prop_compose! {
    fn any_changes()(entries in prop::collection::btree_map(
        prop::collection::vec(any::<u8>(), 0..20), column(true), 0..40,
    )) -> (Blobs, Blobs) {
        let keys = entries.keys().map(|key| Some(&key[..])).collect();
        let values = entries.values().map(|value| value.as_deref()).collect();
        (keys, values)
    }
}

proptest! {
    #[test]
    fn a_delta_reads_back_whatever_its_chunks_size((keys, values) in any_changes(), max_chunk in 57_usize..2_000) {
        let chunks = encode_delta(&full_header(), &keys, &values, max_chunk).unwrap();
        prop_assert!(chunks.iter().all(|chunk| chunk.len() <= max_chunk));
        prop_assert!(Assembler::starts(&chunks[0]) && chunks[1..].iter().all(|chunk| !Assembler::starts(chunk)));
        let hash = full_header().hash().unwrap();
        prop_assert_eq!(read(&chunks), vec![Delta { header: full_header(), hash, keys, values }]);
    }

    #[test]
    fn hostile_bytes_are_an_error_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Assembler::default().push(&bytes);
        let _ = Header::decode(&bytes);
        let _ = Header::decode(&[b"FBYH\x01\0", &bytes[..]].concat());
        let _ = delta::decode(0, Uid([5; 16]), &bytes);
        let mut framed = plain_header(0, [0; 32]).encode().unwrap();
        framed.splice(0..0, (framed.len() as u32).to_le_bytes());
        framed.push(1);
        let _ = delta::decode(0, Uid([5; 16]), &[framed, bytes].concat());
    }

    #[test]
    fn a_delta_with_a_flipped_bit_is_never_taken(
        at in any::<prop::sample::Index>(), bit in 0..8_u8, max_chunk in prop::sample::select(vec![200_usize, 10_000]),
    ) {
        let (keys, values) = changes();
        let mut chunks = encode_delta(&full_header(), &keys, &values, max_chunk).unwrap();
        let total: usize = chunks.iter().map(Vec::len).sum();
        let mut at = at.index(total);
        let chunk = chunks.iter_mut().find(|chunk| chunk.len() > at || { at -= chunk.len(); false }).unwrap();
        chunk[at] ^= 1 << bit;
        let mut assembler = Assembler::default();
        for chunk in &chunks {
            prop_assert!(!matches!(assembler.push(chunk), Ok(Some(_))));
        }
    }

    #[test]
    fn cut_reordered_and_repeated_chunks_give_whole_deltas_or_none(
        order in prop::collection::vec(0..9_usize, 0..30),
        cuts in prop::collection::vec(prop::option::weighted(0.1, any::<prop::sample::Index>()), 30),
    ) {
        let (keys, values) = changes();
        let mut chunks = Vec::new();
        for epoch in 1..=3 {
            chunks.extend(encode_delta(&plain_header(epoch, [0; 32]), &keys, &values, 190).unwrap());
        }
        let mut assembler = Assembler::default();
        for (position, cut) in order.into_iter().zip(cuts) {
            let chunk = &chunks[position % chunks.len()];
            let len = cut.map_or(chunk.len(), |cut| cut.index(chunk.len()));
            if let Ok(Some(delta)) = assembler.push(&chunk[..len]) {
                prop_assert_eq!((&delta.keys, &delta.values), (&keys, &values));
                prop_assert_eq!(delta.header.clone(), plain_header(delta.header.epoch, [0; 32]));
            }
        }
    }
}
