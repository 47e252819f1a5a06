//! An epoch's changes as columns: the body of its delta.

use crate::model::Blobs;

/// Keys at rest in ascending order, each once, with the value at rest that it got; a null value
/// deletes the key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub keys: Blobs,
    pub values: Blobs,
}

impl Changes {
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        (0..self.len()).map(|i| (self.keys.bytes(i), self.values.get(i)))
    }

    pub(super) fn clear(&mut self) {
        self.keys.clear();
        self.values.clear();
    }

    pub(super) fn push(&mut self, key: &[u8], value: Option<&[u8]>) {
        self.keys.push(Some(key));
        self.values.push(value);
    }
}
