//! The proxy before a broker of one sentence: it answers every request with its own bytes.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::frame::Frame;
use super::{Api, Deed, Flow, Proxy, Rule, Way};

const SOON: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(10);

struct Bed {
    proxy: Proxy,
    port: u16,
    /// What the broker has been asked, by number.
    asked: mpsc::UnboundedReceiver<i32>,
}

impl Bed {
    async fn new() -> Bed {
        let broker = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let behind = broker.local_addr().unwrap().port();
        let (tell, asked) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = broker.accept().await.unwrap();
                let tell = tell.clone();
                tokio::spawn(async move {
                    while let Ok(Some(frame)) = Frame::read(&mut stream).await {
                        let (_, correlation) = frame.request().unwrap();
                        tell.send(correlation).unwrap();
                        let answer = [&8_i32.to_be_bytes()[..], &correlation.to_be_bytes(), b"done"].concat();
                        let _ = stream.write_all(&answer).await;
                    }
                });
            }
        });
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = taken.local_addr().unwrap().port();
        drop(taken);
        Bed { proxy: Proxy::start(port, behind).await.unwrap(), port, asked }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await.unwrap()
    }
}

async fn ask(stream: &mut TcpStream, api: Api, correlation: i32, name: &str) {
    let head = [&api.0.to_be_bytes()[..], &3_i16.to_be_bytes(), &correlation.to_be_bytes()].concat();
    let length = (head.len() + name.len()) as i32;
    stream.write_all(&[&length.to_be_bytes()[..], &head, name.as_bytes()].concat()).await.unwrap();
}

/// The number of the next answer; none where the connection ended.
async fn answer(stream: &mut TcpStream) -> Option<i32> {
    let frame = timeout(PATIENCE, Frame::read(stream)).await.expect("an answer or an end in time");
    frame.ok().flatten().and_then(|frame| frame.answer())
}

async fn is_silent(stream: &mut TcpStream) -> bool {
    timeout(SOON, stream.read_u8()).await.is_err()
}

#[tokio::test]
async fn what_no_rule_is_for_passes_and_is_counted() {
    let bed = Bed::new().await;
    let mut client = bed.connect().await;
    for correlation in 0..3 {
        ask(&mut client, Api::PRODUCE, correlation, "").await;
        assert_eq!(answer(&mut client).await, Some(correlation));
    }
    assert_eq!((bed.proxy.seen(Api::PRODUCE), bed.proxy.seen(Api::FETCH)), (3, 0));
}

#[tokio::test]
async fn a_held_request_arrives_after_its_retry_even_when_its_client_has_gone() {
    let mut bed = Bed::new().await;
    let trap = bed.proxy.trap(Rule::once(Api::END_TXN, Way::Request, Deed::Hold).naming("job-1"));
    let mut client = bed.connect().await;
    ask(&mut client, Api::END_TXN, 1, "job-0").await;
    assert_eq!(answer(&mut client).await, Some(1), "it names another");
    ask(&mut client, Api::END_TXN, 2, "job-1").await;
    assert!(trap.wait(1, PATIENCE).await);
    assert!(is_silent(&mut client).await);
    drop(client);
    let mut again = bed.connect().await;
    ask(&mut again, Api::END_TXN, 3, "job-1").await;
    assert_eq!(answer(&mut again).await, Some(3));
    trap.release();
    let arrived = [bed.asked.recv().await, bed.asked.recv().await, bed.asked.recv().await];
    assert_eq!(arrived, [Some(1), Some(3), Some(2)]);
}

#[tokio::test]
async fn an_answer_is_lost_with_its_connection_though_the_broker_has_done_it() {
    let mut bed = Bed::new().await;
    let trap = bed.proxy.trap(Rule::once(Api::END_TXN, Way::Answer, Deed::SwallowAndCut));
    let mut client = bed.connect().await;
    ask(&mut client, Api::FETCH, 1, "").await;
    assert_eq!(answer(&mut client).await, Some(1));
    ask(&mut client, Api::END_TXN, 2, "").await;
    assert_eq!(answer(&mut client).await, None);
    assert_eq!((bed.asked.recv().await, bed.asked.recv().await, trap.caught()), (Some(1), Some(2), 1));
    let mut again = bed.connect().await;
    ask(&mut again, Api::END_TXN, 3, "").await;
    assert_eq!(answer(&mut again).await, Some(3), "only the first was to be lost");
}

#[tokio::test]
async fn a_swallowed_request_never_was() {
    let mut bed = Bed::new().await;
    let trap = bed.proxy.trap(Rule::always(Api::PRODUCE, Way::Request, Deed::Swallow));
    let mut client = bed.connect().await;
    ask(&mut client, Api::PRODUCE, 1, "").await;
    ask(&mut client, Api::FETCH, 2, "").await;
    assert_eq!(answer(&mut client).await, Some(2));
    drop(trap);
    ask(&mut client, Api::PRODUCE, 3, "").await;
    assert_eq!(answer(&mut client).await, Some(3));
    assert_eq!((bed.asked.recv().await, bed.asked.recv().await), (Some(2), Some(3)));
}

#[tokio::test]
async fn a_delay_makes_late_and_not_slow() {
    let bed = Bed::new().await;
    bed.proxy.set(Flow::Delayed(Duration::from_millis(100)));
    let mut client = bed.connect().await;
    let begun = Instant::now();
    for correlation in 0..20 {
        ask(&mut client, Api::PRODUCE, correlation, "").await;
    }
    for correlation in 0..20 {
        assert_eq!(answer(&mut client).await, Some(correlation));
    }
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(200) && took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn a_cut_ends_what_there_is_and_nothing_else() {
    let bed = Bed::new().await;
    let mut clients = [bed.connect().await, bed.connect().await];
    for client in &mut clients {
        ask(client, Api::PRODUCE, 1, "").await;
        assert_eq!(answer(client).await, Some(1));
    }
    bed.proxy.cut();
    for client in &mut clients {
        assert_eq!(answer(client).await, None);
    }
    let mut again = bed.connect().await;
    ask(&mut again, Api::PRODUCE, 2, "").await;
    assert_eq!(answer(&mut again).await, Some(2));
}

#[tokio::test]
async fn a_half_open_connection_takes_everything_and_stays_silent_for_ever() {
    let mut bed = Bed::new().await;
    let mut client = bed.connect().await;
    bed.proxy.set(Flow::HalfOpen);
    ask(&mut client, Api::PRODUCE, 1, "").await;
    assert!(is_silent(&mut client).await);
    bed.proxy.set(Flow::Open);
    ask(&mut client, Api::PRODUCE, 2, "").await;
    assert!(is_silent(&mut client).await);
    assert!(bed.asked.try_recv().is_err());
    let mut again = bed.connect().await;
    ask(&mut again, Api::PRODUCE, 3, "").await;
    assert_eq!(answer(&mut again).await, Some(3));
    bed.proxy.set(Flow::Refusing);
    let mut refused = bed.connect().await;
    assert_eq!(answer(&mut refused).await, None);
}
