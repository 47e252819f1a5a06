//! A proxy between the system under test and one broker, which does what networks do: delay, cut, fall silent, and
//! lose exactly the answer that matters.
//!
//! Owns the connections through it. Never changes a byte: what it forwards it forwards whole, in order.
//! Read [`Proxy`] for what concerns all connections, then [`Rule`] for single requests and answers.

mod frame;
mod link;
mod rules;

use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use frame::Api;
use rules::Rules;
pub use rules::{Deed, Rule, Trap, Way};

/// How all connections fare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    Open,
    /// Each way takes so much longer.
    Delayed(Duration),
    /// Everything is taken and nothing comes through, for old connections and new ones; those that have lost
    /// something stay so.
    HalfOpen,
    /// New connections end at once; old ones go on.
    Refusing,
}

pub struct Proxy {
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    broker: u16,
    flow: Mutex<Flow>,
    /// Raised to end every connection there is.
    cuts: watch::Sender<u64>,
    rules: Rules,
}

impl Proxy {
    /// Listens on `port` of loopback and leads to `broker`, a port there too.
    ///
    /// # Errors
    /// The port is taken.
    pub async fn start(port: u16, broker: u16) -> io::Result<Proxy> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let shared = Arc::new(Shared {
            broker,
            flow: Mutex::new(Flow::Open),
            cuts: watch::Sender::new(0),
            rules: Rules::default(),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Proxy { shared, accepting })
    }

    pub fn set(&self, flow: Flow) {
        *self.shared.flow.lock().unwrap_or_else(PoisonError::into_inner) = flow;
    }

    /// Ends every connection at once, both ways; new ones are welcome.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Watches for requests or answers and does something to them, until what is returned is dropped.
    pub fn trap(&self, rule: Rule) -> Trap {
        self.shared.rules.add(rule)
    }

    /// How many requests of a kind have come so far.
    pub fn seen(&self, api: Api) -> u64 {
        self.shared.rules.seen(api)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

impl Shared {
    fn flow(&self) -> Flow {
        *self.flow.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        match shared.flow() {
            Flow::Refusing => drop(client),
            _ => drop(tokio::spawn(connect(client, Arc::clone(&shared)))),
        }
    }
}

async fn connect(client: TcpStream, shared: Arc<Shared>) {
    let cut = shared.cuts.subscribe();
    // A broker that is down refuses, and so does its proxy.
    if let Ok(broker) = TcpStream::connect((Ipv4Addr::LOCALHOST, shared.broker)).await {
        link::serve(client, broker, &shared, cut).await;
    }
}

#[cfg(test)]
mod tests;
