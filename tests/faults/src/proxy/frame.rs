//! Just enough of Kafka's framing: where a request or answer ends, which kind it is, and which answer belongs to it.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Requests and answers larger than this are none.
const MAX_BYTES: usize = 256 << 20;

/// A kind of request, by Kafka's number of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Api(pub i16);

impl Api {
    pub const PRODUCE: Api = Api(0);
    pub const FETCH: Api = Api(1);
    pub const LIST_OFFSETS: Api = Api(2);
    pub const METADATA: Api = Api(3);
    pub const FIND_COORDINATOR: Api = Api(10);
    pub const INIT_PRODUCER_ID: Api = Api(22);
    pub const ADD_PARTITIONS_TO_TXN: Api = Api(24);
    pub const END_TXN: Api = Api(26);
}

/// One request or answer, its length in front.
pub struct Frame(pub Vec<u8>);

impl Frame {
    /// The next one; none where the other side has ended between two.
    pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Frame>> {
        let mut length = [0; 4];
        match stream.read_exact(&mut length).await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        };
        let bytes = usize::try_from(i32::from_be_bytes(length)).ok().filter(|bytes| *bytes <= MAX_BYTES);
        let bytes = bytes.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no length of Kafka's"))?;
        let mut frame = vec![0; 4 + bytes];
        frame[..4].copy_from_slice(&length);
        stream.read_exact(&mut frame[4..]).await?;
        Ok(Some(Frame(frame)))
    }

    /// Of a request: its kind and the number that its answer will have.
    pub fn request(&self) -> Option<(Api, i32)> {
        let api = self.0.get(4..6)?.try_into().ok()?;
        let correlation = self.0.get(8..12)?.try_into().ok()?;
        Some((Api(i16::from_be_bytes(api)), i32::from_be_bytes(correlation)))
    }

    /// Of an answer: the number of its request.
    pub fn answer(&self) -> Option<i32> {
        Some(i32::from_be_bytes(self.0.get(4..8)?.try_into().ok()?))
    }

    /// Whether a name stands in it, whatever the version of its kind: a transactional id, a topic.
    pub fn names(&self, name: &[u8]) -> bool {
        name.is_empty() || self.0.windows(name.len()).any(|part| part == name)
    }
}
