//! One connection through the proxy: four small loops, reading and writing either way, with a queue between reading
//! and writing, so that a delay makes things late and not slow.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::frame::{Api, Frame};
use super::rules::Deed;
use super::{Flow, Shared};

/// How long a request that outlived its client may take the broker.
const LAST_ANSWER: Duration = Duration::from_secs(2);

/// What waits to be written.
struct Passing {
    frame: Frame,
    due: Instant,
    /// Held until this is true, or its trap is gone.
    held: Option<watch::Receiver<bool>>,
}

/// What both ways know of a connection.
struct Link<'a> {
    shared: &'a Shared,
    /// By the number of the answer to come: the kind of the request, and its bytes where a rule may ask for them.
    asked: Mutex<HashMap<i32, (Api, Arc<Frame>)>>,
    /// Something of it was swallowed by silence, so nothing that follows could be understood.
    is_dead: Mutex<bool>,
}

enum Fate {
    Pass(Option<watch::Receiver<bool>>, Duration),
    Swallow,
    Cut,
}

pub async fn serve(mut client: TcpStream, mut broker: TcpStream, shared: &Shared, mut cut: watch::Receiver<u64>) {
    let _ = (client.set_nodelay(true), broker.set_nodelay(true));
    let link = Link { shared, asked: Mutex::default(), is_dead: Mutex::new(false) };
    let (requests, to_broker) = mpsc::unbounded_channel();
    let (answers, to_client) = mpsc::unbounded_channel();
    {
        let (client_reader, client_writer) = client.split();
        let (broker_reader, broker_writer) = broker.split();
        let asking = async {
            let read = link.read(client_reader, requests, Link::fate_of_request);
            if pump(read, write(broker_writer, to_broker)).await {
                // The client has gone; what it last asked for is done all the same.
                // sleep: nobody is left to whom the answer could be shown
                tokio::time::sleep(LAST_ANSWER).await;
            }
        };
        let answering = async {
            let read = link.read(broker_reader, answers, Link::fate_of_answer);
            pump(read, write(client_writer, to_client)).await;
        };
        tokio::select! {
            () = asking => {}
            () = answering => {}
            _ = cut.changed() => {}
        }
    }
    // As a network does it: without a farewell.
    let _ = (client.set_zero_linger(), broker.set_zero_linger());
}

impl Link<'_> {
    /// Until the other side ends (true), or the connection is cut (false).
    async fn read(
        &self,
        mut from: impl AsyncRead + Unpin,
        to: mpsc::UnboundedSender<Passing>,
        fate: impl Fn(&Self, &Frame) -> Fate,
    ) -> bool {
        while let Ok(Some(frame)) = Frame::read(&mut from).await {
            let arrived = Instant::now();
            match fate(self, &frame) {
                Fate::Pass(held, delay) => drop(to.send(Passing { frame, due: arrived + delay, held })),
                Fate::Swallow => {}
                Fate::Cut => return false,
            }
        }
        true
    }

    fn fate_of_request(&self, frame: &Frame) -> Fate {
        let Some((api, correlation)) = frame.request() else { return Fate::Cut };
        let rules = &self.shared.rules;
        let caught = rules.request(api, frame);
        let kept = if rules.watches_answers(api) { frame.0.clone() } else { Vec::new() };
        self.asked().insert(correlation, (api, Arc::new(Frame(kept))));
        self.fate(caught)
    }

    fn fate_of_answer(&self, frame: &Frame) -> Fate {
        let asked = frame.answer().and_then(|correlation| self.asked().remove(&correlation));
        let Some((api, request)) = asked else { return Fate::Cut };
        self.fate(self.shared.rules.answer(api, &request))
    }

    fn fate(&self, caught: Option<super::rules::Catch>) -> Fate {
        let mut is_dead = self.is_dead.lock().unwrap_or_else(PoisonError::into_inner);
        let flow = self.shared.flow();
        *is_dead |= flow == Flow::HalfOpen;
        if *is_dead {
            return Fate::Swallow;
        }
        let delay = if let Flow::Delayed(delay) = flow { delay } else { Duration::ZERO };
        match caught.map(|caught| (caught.deed, caught.released)) {
            None => Fate::Pass(None, delay),
            Some((Deed::Hold, released)) => Fate::Pass(Some(released), delay),
            Some((Deed::Delay(longer), _)) => Fate::Pass(None, delay + longer),
            Some((Deed::Swallow, _)) => Fate::Swallow,
            Some((Deed::SwallowAndCut, _)) => Fate::Cut,
        }
    }

    fn asked(&self) -> std::sync::MutexGuard<'_, HashMap<i32, (Api, Arc<Frame>)>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One way of a connection; whether it came to its own end and was not cut.
async fn pump(read: impl Future<Output = bool>, write: impl Future<Output = ()>) -> bool {
    tokio::pin!(write);
    let is_whole = tokio::select! {
        is_whole = read => is_whole,
        () = &mut write => true,
    };
    if is_whole {
        // Reading was the only one who could add to the queue.
        write.await;
    }
    is_whole
}

/// Until nothing more will come. What cannot be written is lost, as it is when its reader has gone.
async fn write(mut to: impl AsyncWrite + Unpin, mut from: mpsc::UnboundedReceiver<Passing>) {
    while let Some(Passing { frame, due, held }) = from.recv().await {
        sleep_until(due).await;
        if let Some(mut held) = held {
            let _ = held.wait_for(|released| *released).await;
        }
        let _: io::Result<()> = to.write_all(&frame.0).await;
    }
}
