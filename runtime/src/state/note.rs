//! A task's note of the last epoch that was committed here, in a file beside its store.
//!
//! The store goes to disk seldom: after a kill it stands behind, and cannot tell that the changelog has lost its end.
//! The note can. It is written after every commit that surely happened and before anything else, so it may be older than
//! the truth and is never newer.
//!
//! Owns the file: two slots that are written in place by turns, each with a checksum, so that a write which was cut off
//! leaves the other one. Never waits for the disk: what a killed process has written is kept by the system, and a machine
//! that lost its power finds an older note at worst. Outlives the store: a store that is removed to be rebuilt leaves its
//! note. A note that cannot be written is an old note, and no reason to stop.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

#[cfg(test)]
use super::disk::simulated::{self, Machine};
use super::marker::{MARKER_LEN, Marker, decode_marker, encode_marker};
use crate::env::machine_start;

/// Raised with every change of the bytes. A note of another format is none.
pub(super) const FORMAT: u16 = 1;
const MAGIC: &[u8; 4] = b"FBYN";
/// A slot is written by one call, and lies in one page of the disk.
const SLOT: usize = 128;
const CHECKED: usize = 8 + MARKER_LEN + 16;

/// What a note says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noted {
    pub marker: Marker,
    /// Of the machine, when it was written. See [`machine_start`].
    pub machine_start: [u8; 16],
}

pub(super) struct Note {
    path: PathBuf,
    /// Opened when it is first written.
    file: Option<File>,
    /// Slots that hold what an earlier owner of the file wrote.
    stale_slots: usize,
    is_failing: bool,
}

impl Note {
    pub(super) fn beside(store: &Path) -> Self {
        Self { path: path(store), file: None, stale_slots: 2, is_failing: false }
    }

    /// What was noted last.
    pub(super) fn read(&self) -> Option<Noted> {
        #[cfg(test)]
        if let Some(machine) = simulated::machine() {
            return machine.file(&self.path).and_then(|bytes| decode(&bytes));
        }
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
            Err(e) => {
                tracing::warn!("read the note of the last commit {}: {e}; it goes on without", self.path.display());
                return None;
            }
        };
        bytes.chunks(SLOT).filter_map(decode).max_by_key(|noted| noted.marker.epoch)
    }

    pub(super) fn write(&mut self, marker: Marker) {
        let noted = Noted { marker, machine_start: machine_start() };
        #[cfg(test)]
        if let Some(machine) = simulated::machine() {
            return machine.put_file(&self.path, encode(noted).into());
        }
        match self.try_write(noted) {
            Ok(()) => self.is_failing = false,
            Err(e) => {
                if !self.is_failing {
                    tracing::warn!("note the last commit in {}: {e}; the task goes on", self.path.display());
                }
                (self.file, self.is_failing) = (None, true);
            }
        }
    }

    fn try_write(&mut self, noted: Noted) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(OpenOptions::new().create(true).truncate(false).write(true).open(&self.path)?),
        };
        let slot = noted.marker.epoch % 2;
        file.write_all_at(&encode(noted), slot * SLOT as u64)?;
        // The first of a session replaces whatever another owner has left in the other slot, too.
        if self.stale_slots > 0 {
            file.write_all_at(&encode(noted), (1 - slot) * SLOT as u64)?;
            self.stale_slots = 0;
        }
        Ok(())
    }
}

/// What is noted on a simulated machine of the commits of a store.
#[cfg(test)]
pub fn noted_on(machine: &Machine, store: &Path) -> Option<Noted> {
    machine.file(&path(store)).and_then(|bytes| decode(&bytes))
}

/// The note is gone, as whoever wants to go on without it removes it.
#[cfg(test)]
pub fn lose_note_on(machine: &Machine, store: &Path) {
    machine.remove_file(&path(store));
}

/// Where the note of a store lies.
pub(super) fn path(store: &Path) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push(".committed");
    name.into()
}

pub(super) fn encode(Noted { marker, machine_start }: Noted) -> [u8; SLOT] {
    let mut bytes = [0; SLOT];
    bytes[..4].copy_from_slice(MAGIC);
    bytes[4..6].copy_from_slice(&FORMAT.to_le_bytes());
    bytes[8..8 + MARKER_LEN].copy_from_slice(&encode_marker(marker));
    bytes[8 + MARKER_LEN..CHECKED].copy_from_slice(&machine_start);
    let checksum = crc32fast::hash(&bytes[..CHECKED]);
    bytes[CHECKED..CHECKED + 4].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// None where the slot was never written, was written in part, or is of another format.
fn decode(bytes: &[u8]) -> Option<Noted> {
    let (checked, rest) = bytes.split_at_checked(CHECKED)?;
    let checksum = u32::from_le_bytes(*rest.first_chunk()?);
    let is_ours = checked.starts_with(MAGIC) && checked[4..6] == FORMAT.to_le_bytes();
    if !is_ours || crc32fast::hash(checked) != checksum {
        return None;
    }
    let (marker, machine_start) = checked[8..].split_at(MARKER_LEN);
    Some(Noted { marker: decode_marker(marker)?, machine_start: machine_start.try_into().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marker(epoch: u64) -> Marker {
        Marker { epoch, header_offset: epoch as i64 * 10, header_hash: [epoch as u8; 32], task: [3; 32] }
    }

    fn noted(store: &Path) -> Option<u64> {
        Note::beside(store).read().map(|noted| noted.marker.epoch)
    }

    #[test]
    fn the_last_epoch_noted_is_read_back_and_outlives_the_store() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("main.0");
        std::fs::create_dir(&store).unwrap();
        assert_eq!(noted(&store), None);
        let mut note = Note::beside(&store);
        for epoch in 1..=5 {
            note.write(marker(epoch));
            assert_eq!(noted(&store), Some(epoch));
        }
        std::fs::remove_dir_all(&store).unwrap();
        let found = note.read().unwrap();
        assert_eq!(found, Noted { marker: marker(5), machine_start: machine_start() });
    }

    #[test]
    fn a_write_that_was_cut_off_anywhere_leaves_the_epoch_before() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("main.0");
        let mut note = Note::beside(&store);
        (1..=4).for_each(|epoch| note.write(marker(epoch)));
        let whole = std::fs::read(path(&store)).unwrap();
        note.write(marker(5));
        let next = std::fs::read(path(&store)).unwrap();
        for cut in 0..=SLOT {
            let mut torn = whole.clone();
            torn[SLOT..SLOT + cut].copy_from_slice(&next[SLOT..SLOT + cut]);
            std::fs::write(path(&store), torn).unwrap();
            assert_eq!(noted(&store), Some(if cut > CHECKED + 3 { 5 } else { 4 }), "cut at {cut}");
        }
        for bytes in [&b""[..], b"FBYN", &[0; 2 * SLOT], &[255; 3 * SLOT]] {
            std::fs::write(path(&store), bytes).unwrap();
            assert_eq!(noted(&store), None);
        }
    }

    #[test]
    fn the_first_note_of_a_session_replaces_all_that_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("main.0");
        let mut other = Note::beside(&store);
        (98..=99).for_each(|epoch| other.write(marker(epoch)));
        Note::beside(&store).write(marker(7));
        assert_eq!(noted(&store), Some(7));
    }

    #[test]
    fn a_note_that_cannot_be_written_stops_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("nowhere").join("main.0");
        let mut note = Note::beside(&store);
        note.write(marker(1));
        assert_eq!(note.read(), None);
        std::fs::create_dir(dir.path().join("nowhere")).unwrap();
        note.write(marker(2));
        assert_eq!(note.read().map(|noted| noted.marker.epoch), Some(2));
    }

    #[test]
    fn note_bytes_are_those_of_their_format() {
        let bytes = encode(Noted { marker: marker(7), machine_start: [5; 16] });
        crate::golden::check(&format!("state/golden/note-v{FORMAT}.bin"), &bytes);
        assert_eq!(decode(&bytes), Some(Noted { marker: marker(7), machine_start: [5; 16] }));
    }
}
