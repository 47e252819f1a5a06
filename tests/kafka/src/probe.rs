//! The two questions that tell whether a broker really answers, in Kafka's protocol by hand.
//!
//! An open port says little: it opens before the broker has joined. Owns the bytes of two old, fixed versions of
//! `Metadata` and `FindCoordinator`; never grows into a client.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

const METADATA: (i16, i16) = (3, 7);
const FIND_COORDINATOR: (i16, i16) = (10, 1);
const TIMEOUT: Duration = Duration::from_secs(2);
/// No answer of a test's cluster is bigger.
const MAX_BYTES: usize = 64 << 20;

/// What a broker says of its cluster.
#[derive(Debug, Default)]
pub struct Metadata {
    /// Alive, by node id.
    pub brokers: Vec<i32>,
    pub partitions: Vec<Partition>,
}

#[derive(Debug)]
pub struct Partition {
    pub topic: String,
    pub partition: i32,
    /// Below 0: none.
    pub leader: i32,
    pub replicas: Vec<i32>,
    pub in_sync: Vec<i32>,
}

impl Metadata {
    /// Every partition has its leader and all of its replicas in sync.
    pub fn is_in_sync(&self) -> bool {
        self.partitions
            .iter()
            .all(|partition| partition.leader >= 0 && partition.in_sync.len() == partition.replicas.len())
    }
}

/// Which of the two coordinators, as the protocol numbers them.
#[derive(Clone, Copy, Debug)]
pub enum Coordinator {
    Group = 0,
    Transaction = 1,
}

pub fn metadata(port: u16) -> io::Result<Metadata> {
    // All topics, and do not make any.
    let mut answer = ask(port, METADATA, &[&(-1_i32).to_be_bytes()[..], &[0]].concat())?;
    answer.int32()?; // throttled for
    let brokers = answer.array(|answer| {
        let id = answer.int32()?;
        answer.string()?; // host
        answer.int32()?; // port
        answer.string()?; // rack
        Ok(id)
    })?;
    answer.string()?; // cluster
    answer.int32()?; // controller
    let topics = answer.array(|answer| {
        answer.int16()?; // error
        let topic = answer.string()?;
        answer.take(1)?; // is internal
        answer.array(|answer| {
            answer.int16()?; // error
            let (partition, leader) = (answer.int32()?, answer.int32()?);
            answer.int32()?; // leader's epoch
            let (replicas, in_sync) = (answer.array(Answer::int32)?, answer.array(Answer::int32)?);
            answer.array(Answer::int32)?; // offline
            Ok(Partition { topic: topic.clone(), partition, leader, replicas, in_sync })
        })
    })?;
    Ok(Metadata { brokers, partitions: topics.into_iter().flatten().collect() })
}

/// Whether there is a coordinator. The first to ask makes the internal topic behind it.
pub fn has_coordinator(port: u16, which: Coordinator) -> io::Result<bool> {
    let key = b"forebay-probe";
    let body = [&(key.len() as i16).to_be_bytes()[..], key, &[which as u8]].concat();
    let mut answer = ask(port, FIND_COORDINATOR, &body)?;
    answer.int32()?; // throttled for
    Ok(answer.int16()? == 0)
}

fn ask(port: u16, (key, version): (i16, i16), body: &[u8]) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let correlation = 1_i32.to_be_bytes();
    let no_client_id = (-1_i16).to_be_bytes();
    let head = [&key.to_be_bytes()[..], &version.to_be_bytes(), &correlation, &no_client_id].concat();
    let length = ((head.len() + body.len()) as i32).to_be_bytes();
    stream.write_all(&[&length[..], &head, body].concat())?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(i32::from_be_bytes(length)).ok().filter(|length| *length <= MAX_BYTES);
    let mut bytes = vec![0; length.ok_or_else(malformed)?];
    stream.read_exact(&mut bytes)?;
    let mut answer = Answer { bytes, at: 0 };
    answer.take(correlation.len())?;
    Ok(answer)
}

struct Answer {
    bytes: Vec<u8>,
    at: usize,
}

impl Answer {
    fn take(&mut self, count: usize) -> io::Result<&[u8]> {
        let taken = self.bytes.get(self.at..self.at + count).ok_or_else(malformed)?;
        self.at += count;
        Ok(taken)
    }

    fn int16(&mut self) -> io::Result<i16> {
        let bytes = self.take(2)?;
        Ok(i16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn int32(&mut self) -> io::Result<i32> {
        let bytes = self.take(4)?;
        Ok(i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// Null reads as empty.
    fn string(&mut self) -> io::Result<String> {
        let length = self.int16()?.max(0) as usize;
        Ok(String::from_utf8_lossy(self.take(length)?).into_owned())
    }

    fn array<T>(&mut self, mut element: impl FnMut(&mut Answer) -> io::Result<T>) -> io::Result<Vec<T>> {
        let count = self.int32()?.max(0);
        (0..count).map(|_| element(self)).collect()
    }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the answer is none of Kafka's")
}
