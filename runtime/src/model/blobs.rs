//! A column of byte strings, end to end: how keys, values and states are held and cross every seam.
//!
//! Owns its bytes in three flat buffers that a batch reuses; never allocates per entry. A null entry
//! is not an empty one (a Kafka tombstone is a null value).

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
        Ok(Self { data, ends, present })
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

    /// Appends an entry. A column holds at most 4 GiB: the callers' limits are far below.
    pub fn push(&mut self, entry: Option<&[u8]>) {
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
        self.ends.push(self.data.len() as u32);
    }

    /// Entry `i`; `None` where it is null. Panics where `i` is out of range, as a slice does.
    pub fn get(&self, i: usize) -> Option<&[u8]> {
        let start = if i == 0 { 0 } else { self.ends[i - 1] as usize };
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

/// Why three buffers are no column.
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
    fn parts_that_are_no_column_are_refused() {
        for (data, ends, present, entry) in [
            (b"abc".to_vec(), vec![2, 1, 3], vec![], 1),
            (b"abc".to_vec(), vec![4], vec![], 0),
            (b"abc".to_vec(), vec![1], vec![], 1),
            (b"abc".to_vec(), vec![3], vec![1, 1], 1),
            (b"abc".to_vec(), vec![3], vec![0], 0),
        ] {
            assert_eq!(Blobs::from_parts(data, ends, present).unwrap_err().entry, entry);
        }
    }
}
