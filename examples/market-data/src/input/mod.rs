//! What goes in: real order events where they can be had, generated ones always.

pub mod calibration;
pub mod generator;
pub mod order;
pub mod partitioned;
pub mod real;

use order::Order;
use partitioned::{Partitioned, Record};

/// A topic of order events under another key than the symbol.
pub fn keyed_by(topic: &str, partitions: usize, orders: &[Order], key: impl Fn(&Order) -> String) -> Partitioned {
    let mut input = Partitioned::new(topic, partitions);
    for order in orders {
        let value = Some(order.json().into_bytes());
        input.push(Record { key: Some(key(order).into_bytes()), value, timestamp_ms: order.timestamp });
    }
    input
}
