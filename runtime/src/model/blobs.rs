//! A column of byte strings, end to end: how keys, values and states are held and cross every seam.
//!
//! Owns its bytes in three flat buffers that a batch reuses; never allocates per entry. A null entry
//! is not an empty one (a Kafka tombstone is a null value).

use std::ops::Range;

/// Entry `i` is `data[ends[i-1]..ends[i]]`; `ends` ascends. `present` is empty while no entry is null.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blobs {
    data: Vec<u8>,
    ends: Vec<u32>,
    present: Vec<u8>,
}

impl Blobs {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the three buffers as they came from elsewhere.
    ///
    /// # Errors
    /// The position of the first entry that does not fit: ends that descend or pass the data, a
    /// `present` that is neither empty nor one byte per entry, data behind the last entry, a null
    /// entry with bytes.
    pub fn from_parts(data: Vec<u8>, ends: Vec<u32>, present: Vec<u8>) -> Result<Self, Malformed> {
        let blobs = Self { data, ends, present };
        blobs.check()?;
        Ok(blobs)
    }

    /// Replaces the entries by a copy of three buffers as they lie in a stored or sent form (`ends`
    /// as little-endian u32), and keeps this column's memory. Empty after an error.
    ///
    /// # Errors
    /// As [`Blobs::from_parts`].
    pub fn assign_parts(&mut self, data: &[u8], ends: &[u8], present: &[u8]) -> Result<(), Malformed> {
        self.clear();
        self.data.extend_from_slice(data);
        let (words, _) = ends.as_chunks::<4>();
        self.ends.extend(words.iter().map(|word| u32::from_le_bytes(*word)));
        self.present.extend_from_slice(present);
        self.check().inspect_err(|_| self.clear())
    }

    fn check(&self) -> Result<(), Malformed> {
        let Self { data, ends, present } = self;
        if !present.is_empty() && present.len() != ends.len() {
            return Err(Malformed {
                entry: present.len().min(ends.len()),
                what: "`present` is not one byte per entry",
            });
        }
        let mut start = 0;
        for (entry, &end) in ends.iter().enumerate() {
            if end < start {
                return Err(Malformed { entry, what: "its end lies before its start" });
            }
            if end as usize > data.len() {
                return Err(Malformed { entry, what: "its end lies behind the data" });
            }
            if present.get(entry) == Some(&0) && end != start {
                return Err(Malformed { entry, what: "it is null and has bytes" });
            }
            start = end;
        }
        if start as usize != data.len() {
            return Err(Malformed { entry: ends.len(), what: "there is data behind the last entry" });
        }
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of all entries together.
    pub fn byte_len(&self) -> usize {
        self.data.len()
    }

    pub fn clear(&mut self) {
        self.data.clear();
        self.ends.clear();
        self.present.clear();
    }

    /// Appends an entry. Panics where the column would pass its 4 GiB, in place of giving entries other
    /// bytes: for callers whose own limits are far below. Where data decides how much there is, ask
    /// [`Blobs::try_push`].
    pub fn push(&mut self, entry: Option<&[u8]>) {
        self.try_push(entry).expect("the caller bounds its columns far below 4 GiB");
    }

    /// Appends an entry.
    ///
    /// # Errors
    /// [`Full`], and nothing was appended.
    pub fn try_push(&mut self, entry: Option<&[u8]>) -> Result<(), Full> {
        let end = end_after(self.data.len(), entry.map_or(0, <[u8]>::len))?;
        match entry {
            Some(bytes) => {
                self.data.extend_from_slice(bytes);
                if !self.present.is_empty() {
                    self.present.push(1);
                }
            }
            None => {
                if self.present.is_empty() {
                    self.present.resize(self.ends.len(), 1);
                }
                self.present.push(0);
            }
        }
        self.ends.push(end);
        Ok(())
    }

    /// Appends the entries `range` of another column in bulk. Panics where they are out of range, as
    /// a slice does, and where the column would pass its 4 GiB.
    pub fn append_range(&mut self, other: &Self, range: Range<usize>) {
        let (from, to) = (other.offset(range.start), other.offset(range.end));
        end_after(self.data.len(), to - from).expect("the caller bounds its columns far below 4 GiB");
        // Entries may move down as well as up; their ends do not pass the one that was just looked at.
        let shift = (self.data.len() as u32).wrapping_sub(from as u32);
        self.data.extend_from_slice(&other.data[from..to]);
        if !other.present.is_empty() || !self.present.is_empty() {
            self.present.resize(self.ends.len(), 1);
            match other.present.get(range.clone()) {
                Some(present) => self.present.extend_from_slice(present),
                None => self.present.resize(self.ends.len() + range.len(), 1),
            }
        }
        self.ends.extend(other.ends[range].iter().map(|end| end.wrapping_add(shift)));
    }

    /// Where the data of entry `i` starts; for `i` = `len()` where the last one ends.
    pub fn offset(&self, i: usize) -> usize {
        if i == 0 { 0 } else { self.ends[i - 1] as usize }
    }

    /// Entry `i`; `None` where it is null. Panics where `i` is out of range, as a slice does.
    pub fn get(&self, i: usize) -> Option<&[u8]> {
        let start = self.offset(i);
        let end = self.ends[i] as usize;
        if self.present.get(i) == Some(&0) { None } else { Some(&self.data[start..end]) }
    }

    /// Entry `i`, a null one as no bytes.
    pub fn bytes(&self, i: usize) -> &[u8] {
        self.get(i).unwrap_or_default()
    }

    pub fn is_null(&self, i: usize) -> bool {
        self.present.get(i) == Some(&0)
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<&[u8]>> {
        (0..self.len()).map(|i| self.get(i))
    }

    pub fn data(&self) -> &[u8] {
        &self.data
    }

    pub fn ends(&self) -> &[u32] {
        &self.ends
    }

    pub fn present(&self) -> &[u8] {
        &self.present
    }
}

impl<'a> FromIterator<Option<&'a [u8]>> for Blobs {
    fn from_iter<I: IntoIterator<Item = Option<&'a [u8]>>>(entries: I) -> Self {
        let mut blobs = Self::new();
        entries.into_iter().for_each(|entry| blobs.push(entry));
        blobs
    }
}

/// Where an entry of `more` bytes ends behind `len` bytes: ends are 32 bits wide, and one that wrapped would
/// give every later entry the bytes of another.
fn end_after(len: usize, more: usize) -> Result<u32, Full> {
    let bytes = len.saturating_add(more);
    u32::try_from(bytes).map_err(|_| Full { bytes })
}

/// The column would grow past 4 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a column of {bytes} bytes was asked for, one holds at most 4 GiB")]
pub struct Full {
    pub bytes: usize,
}

/// Why three buffers do not form a column.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {entry}: {what}")]
pub struct Malformed {
    pub entry: usize,
    pub what: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_empty_are_kept_apart() {
        let blobs: Blobs = [Some(&b"a"[..]), None, Some(b""), Some(b"bc")].into_iter().collect();
        assert_eq!(blobs.iter().collect::<Vec<_>>(), [Some(&b"a"[..]), None, Some(b""), Some(b"bc")]);
        assert_eq!(blobs.present(), [1, 0, 1, 1]);
    }

    #[test]
    fn a_column_ends_at_four_gibibytes_and_never_wraps() {
        const MAX: usize = u32::MAX as usize;
        assert_eq!(end_after(MAX - 3, 3), Ok(u32::MAX));
        assert_eq!(end_after(MAX - 3, 4), Err(Full { bytes: MAX + 1 }));
        assert_eq!(end_after(MAX, usize::MAX), Err(Full { bytes: usize::MAX }));
    }

    /// The largest column that there is, of zeroes that the system gives without touching memory.
    #[test]
    fn an_entry_that_does_not_fit_leaves_a_full_column_as_it_was() {
        let mut full = Blobs { data: vec![0; u32::MAX as usize - 1], ends: vec![u32::MAX - 1], present: Vec::new() };
        assert_eq!(full.try_push(Some(b"ab")), Err(Full { bytes: u32::MAX as usize + 1 }));
        assert_eq!((full.len(), full.byte_len()), (1, u32::MAX as usize - 1));
        let appended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            full.append_range(&[Some(&b"ab"[..])].into_iter().collect(), 0..1);
        }));
        assert!(appended.is_err());
    }

    #[test]
    fn parts_that_are_no_column_are_refused() {
        for (data, ends, present, entry) in [
            (b"abc".to_vec(), vec![2, 1, 3], vec![], 1),
            (b"abc".to_vec(), vec![4], vec![], 0),
            (b"abc".to_vec(), vec![1], vec![], 1),
            (b"abc".to_vec(), vec![3], vec![1, 1], 1),
            (b"abc".to_vec(), vec![3], vec![0], 0),
        ] {
            let stored: Vec<u8> = ends.iter().flat_map(|end: &u32| end.to_le_bytes()).collect();
            let mut assigned = Blobs::new();
            assert_eq!(assigned.assign_parts(&data, &stored, &present).unwrap_err().entry, entry);
            assert_eq!(assigned, Blobs::new());
            assert_eq!(Blobs::from_parts(data, ends, present).unwrap_err().entry, entry);
        }
    }

    #[test]
    fn a_range_of_another_column_arrives_as_if_pushed_one_by_one() {
        let with_null: Blobs = [Some(&b"a"[..]), None, Some(b""), Some(b"bc")].into_iter().collect();
        let without: Blobs = [Some(&b"x"[..]), Some(b"yz")].into_iter().collect();
        for (first, second) in [(&with_null, &without), (&without, &with_null), (&without, &without)] {
            for start in 0..=second.len() {
                for end in start..=second.len() {
                    let mut appended = first.clone();
                    appended.append_range(second, start..end);
                    let pushed = first.iter().chain((start..end).map(|i| second.get(i)));
                    assert_eq!(appended.iter().collect::<Vec<_>>(), pushed.collect::<Vec<_>>());
                }
            }
        }
    }
}
