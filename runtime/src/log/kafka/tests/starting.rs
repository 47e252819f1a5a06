//! A cluster that is coming up, or that has lost sight of its broker for a moment: it answers, and names no broker. No
//! real one can be held in that state, so one is played here, by as much of Kafka's protocol as the question takes.

use std::io::{Read as _, Result, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicI32, Ordering};

use super::*;

const METADATA: i16 = 3;
const API_VERSIONS: i16 = 18;
/// The newest version of an answer to [`METADATA`] that is written here.
const METADATA_VERSION: i16 = 4;
const UNSUPPORTED_VERSION: i16 = 35;

const NODE: i32 = 1;

/// Answers on one connection until it is closed; the next `empty` of them name no broker.
fn answer(mut stream: TcpStream, port: i32, empty: &AtomicI32) -> Result<()> {
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut request = vec![0; i32::from_be_bytes(length).max(8) as usize];
        stream.read_exact(&mut request)?;
        let (key, version) = ([request[0], request[1]], [request[2], request[3]]);
        let mut answer = request[4..8].to_vec();
        match (i16::from_be_bytes(key), i16::from_be_bytes(version)) {
            (API_VERSIONS, version) => {
                let code = if version == 0 { 0 } else { UNSUPPORTED_VERSION };
                answer.extend(code.to_be_bytes());
                answer.extend(2_i32.to_be_bytes());
                for (key, newest) in [(METADATA, METADATA_VERSION), (API_VERSIONS, 0)] {
                    answer.extend([key, 0, newest].iter().flat_map(|number| number.to_be_bytes()));
                }
            }
            (METADATA, METADATA_VERSION) => {
                let is_up = empty.fetch_sub(1, Ordering::Relaxed) <= 0;
                answer.extend(0_i32.to_be_bytes()); // not throttled
                answer.extend(i32::from(is_up).to_be_bytes());
                if is_up {
                    let host = b"127.0.0.1";
                    answer.extend(NODE.to_be_bytes());
                    answer.extend((host.len() as i16).to_be_bytes());
                    answer.extend(host);
                    answer.extend(port.to_be_bytes());
                    answer.extend((-1_i16).to_be_bytes()); // no rack
                }
                answer.extend(b"\0\x06played"); // the cluster's id
                answer.extend(NODE.to_be_bytes()); // the controller
                answer.extend(0_i32.to_be_bytes()); // no topics
            }
            (key, version) => panic!("request {key} of version {version}"),
        }
        stream.write_all(&(answer.len() as i32).to_be_bytes())?;
        stream.write_all(&answer)?;
    }
}

#[test]
fn a_cluster_that_is_coming_up_is_asked_until_it_names_its_brokers() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let empty = Arc::new(AtomicI32::new(0));
    let left = Arc::clone(&empty);
    let play = move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let left = Arc::clone(&left);
            // Ends when its client goes away.
            let connection = move || answer(stream, i32::from(port), &left).unwrap_or_default();
            std::thread::Builder::new().spawn(connection).unwrap();
        }
    };
    std::thread::Builder::new().name("broker".to_owned()).spawn(play).unwrap();
    let cluster = Profile::plain(&format!("127.0.0.1:{port}")).resolve().unwrap();
    let admin = Admin::new(Arc::new(cluster)).unwrap();
    assert_eq!(admin.brokers("connect").unwrap(), 1);
    empty.store(3, Ordering::Relaxed);
    assert_eq!(admin.brokers("connect").unwrap(), 1);
    assert!(empty.load(Ordering::Relaxed) <= 0);
}
