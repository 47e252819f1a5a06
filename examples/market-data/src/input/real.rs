//! Real order events: 30 minutes of Bitstamp BTC/USD, as `fetch.sh` puts them into the cache.
//!
//! Does what a feed handler does: keeps the orders, so that every event says what was left of its order before,
//! and turns a change of price into a deletion at the old level and a creation at the new one.
//! Events come in the order in which they arrived, so their exchange times are out of order as they really were.

use std::collections::HashMap;
use std::path::Path;

use super::order::{Action, Instrument, Order, Side};
use crate::decimal;

pub const SYMBOL: &str = "BTCUSD";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("read {path}: {source}")]
    Read { path: String, source: std::io::Error },
    #[error("read {path} line {line}: `{found}` is no order event; delete the file to fetch it again")]
    Line { path: String, line: usize, found: String },
}

/// # Errors
/// The file cannot be read or holds something else.
pub fn read(path: &Path) -> Result<Vec<Order>, Error> {
    let name = || path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: name(), source })?;
    let mut rows = Vec::with_capacity(text.len() / 70);
    for (at, line) in text.lines().enumerate().skip(1) {
        rows.push(row(line).ok_or_else(|| Error::Line { path: name(), line: at + 1, found: line.to_owned() })?);
    }
    rows.sort_by_key(|order| order.timestamp);
    Ok(normalise(rows))
}

pub fn instrument(timestamp: i64) -> Instrument {
    Instrument {
        symbol: SYMBOL.to_owned(),
        name: "Bitcoin / US Dollar".to_owned(),
        currency: "USD",
        tick_size: decimal::UNIT,
        lot_size: 1,
        timestamp,
    }
}

/// id, timestamp, exchange_timestamp, price, volume, action, direction.
fn row(line: &str) -> Option<Order> {
    let fields: Vec<&str> = line.split(',').collect();
    let [id, timestamp, exchange_timestamp, price, volume, action, side] = fields.try_into().ok()?;
    Some(Order {
        symbol: SYMBOL.to_owned(),
        id: id.parse().ok()?,
        timestamp: timestamp.parse().ok()?,
        exchange_timestamp: exchange_timestamp.parse().ok()?,
        price: units(price)?,
        volume: units(volume)?,
        previous_volume: 0,
        action: match action {
            "created" => Action::Created,
            "changed" => Action::Changed,
            "deleted" => Action::Deleted,
            _ => return None,
        },
        side: match side {
            "bid" => Side::Bid,
            "ask" => Side::Ask,
            _ => return None,
        },
        sequence: 0,
    })
}

/// The file writes small volumes with an exponent.
fn units(text: &str) -> Option<i64> {
    decimal::parse(text).or_else(|| {
        let units = text.parse::<f64>().ok()? * decimal::UNIT as f64;
        (units.abs() < 2f64.powi(53)).then_some(units.round() as i64)
    })
}

fn normalise(rows: Vec<Order>) -> Vec<Order> {
    let mut resting: HashMap<u64, (i64, i64)> = HashMap::new();
    let mut events: Vec<Order> = Vec::with_capacity(rows.len());
    for mut order in rows {
        let before = resting.get(&order.id).copied();
        let (price, volume) =
            before.unwrap_or((order.price, if order.action == Action::Created { 0 } else { order.volume }));
        order.previous_volume = volume;
        if order.action == Action::Deleted {
            resting.remove(&order.id);
            events.push(Order { price, ..order });
            continue;
        }
        resting.insert(order.id, (order.price, order.volume));
        if before.is_some() && price != order.price {
            events.push(Order { action: Action::Deleted, price, volume, ..order.clone() });
            order.action = Action::Created;
            order.previous_volume = 0;
        }
        events.push(order);
    }
    for (sequence, order) in events.iter_mut().enumerate() {
        order.sequence = sequence as u64;
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalised(lines: &[&str]) -> Vec<(Action, String, String)> {
        let rows = lines.iter().map(|line| row(line).unwrap()).collect();
        let told = |order: &Order| (order.action, decimal::format(order.price), decimal::format(order.previous_volume));
        normalise(rows).iter().map(told).collect()
    }

    #[test]
    fn every_event_says_what_was_left_before_it() {
        let events =
            normalised(&["7,2,1,100.0,5.0,created,bid", "7,3,2,100.0,4.0,changed,bid", "7,4,3,100.0,4.0,deleted,bid"]);
        let left: Vec<&str> = events.iter().map(|(_, _, left)| left.as_str()).collect();
        assert_eq!(left, ["0", "5", "4"]);
    }

    #[test]
    fn an_order_that_moves_leaves_its_old_level_first() {
        let events =
            normalised(&["7,2,1,100.0,5.0,created,bid", "7,3,2,101.0,5.0,changed,bid", "7,4,3,99.0,5.0,deleted,bid"]);
        let expected =
            [(Action::Created, "100"), (Action::Deleted, "100"), (Action::Created, "101"), (Action::Deleted, "101")];
        assert_eq!(events.iter().map(|(action, price, _)| (*action, price.as_str())).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_small_volume_with_an_exponent_is_read() {
        assert_eq!(units("7.18e-06").map(decimal::format).as_deref(), Some("0.00000718"));
    }
}
