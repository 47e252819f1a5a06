//! Puts deltas together from the chunks of a changelog partition, read in order.
//!
//! A delta without its last chunk does not exist: it is dropped when the next one begins. Whether one
//! is missing that should be there is for [`super::Chain`] to say.

use super::Error;
use super::chunk::{self, Chunk, Trailer};
use super::delta::{self, Delta, MAX_BODY_BYTES};
use crate::env::{Bug, bug};
use crate::model::Uid;

/// More than any delta's bytes: header, frames and a body that did not compress.
const MAX_BYTES: usize = MAX_BODY_BYTES + (MAX_BODY_BYTES >> 3);

#[derive(Debug, Default)]
pub struct Assembler {
    open: Option<Open>,
    torn: u64,
}

#[derive(Debug)]
struct Open {
    epoch: u64,
    session: Uid,
    chunks: u32,
    bytes: Vec<u8>,
}

impl Assembler {
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a changelog record begins a delta (or would, if the rest of it is in order): where reading
    /// has to start to see that delta again.
    pub fn starts(record: &[u8]) -> bool {
        chunk::decode(record).is_ok_and(|chunk| chunk.first)
    }

    /// Takes the value of the next changelog record; gives the delta that it completes.
    ///
    /// # Errors
    /// Where the record is not a chunk of this format, or a delta is not what its last chunk says. What
    /// was being put together is dropped; later deltas can still be read.
    pub fn push(&mut self, record: &[u8]) -> Result<Option<Delta>, Error> {
        let chunk = chunk::decode(record).inspect_err(|_| self.drop_open())?;
        let mut torn = None;
        if chunk.first {
            if let Some(open) = self.open.take_if(|_| bug(Bug::AcceptTornDelta)) {
                // Breaks: a delta without its last chunk does not exist.
                torn = delta::decode_torn(open.epoch, &open.bytes);
            }
            self.drop_open();
            self.open = Some(Open { epoch: chunk.epoch, session: chunk.session, chunks: 0, bytes: Vec::new() });
        }
        match &mut self.open {
            Some(open) if open.takes(&chunk) => open.push(chunk.payload),
            // The rest of a delta whose beginning is behind the truncation, or that was torn.
            _ => {
                self.torn += u64::from(chunk.last.is_some());
                self.drop_open();
                return Ok(None);
            }
        }
        match chunk.last {
            Some(trailer) => self.finish(trailer),
            None => Ok(torn),
        }
    }

    /// Deltas dropped because they were not whole.
    pub fn torn(&self) -> u64 {
        self.torn + u64::from(self.open.is_some())
    }

    fn finish(&mut self, trailer: Trailer) -> Result<Option<Delta>, Error> {
        let Some(open) = self.open.take() else { return Ok(None) };
        open.check(trailer)?;
        let mut delta = delta::decode(open.epoch, open.session, &open.bytes)?;
        if bug(Bug::ApplyDeltaInPart) && open.chunks > 1 {
            delta.forget_second_half(); // Breaks: a delta is applied whole.
        }
        Ok(Some(delta))
    }

    fn drop_open(&mut self) {
        self.torn += u64::from(self.open.take().is_some());
    }
}

impl Open {
    fn takes(&self, chunk: &Chunk<'_>) -> bool {
        (self.epoch, self.session, self.chunks) == (chunk.epoch, chunk.session, chunk.position)
            && self.bytes.len() + chunk.payload.len() <= MAX_BYTES
    }

    fn push(&mut self, payload: &[u8]) {
        self.bytes.extend_from_slice(payload);
        self.chunks += 1;
    }

    fn check(&self, trailer: Trailer) -> Result<(), Error> {
        let found = Trailer { chunks: self.chunks, bytes: self.bytes.len() as u64, crc: crc32fast::hash(&self.bytes) };
        if found == trailer {
            return Ok(());
        }
        let found = format!("its last chunk says {trailer:?}, found {found:?}");
        Err(Error::Damaged { epoch: self.epoch, found })
    }
}
