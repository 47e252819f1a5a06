//! Order events and instruments as the examples read them (`examples/enrichment/README.md`).

use crate::decimal;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Created,
    Changed,
    Deleted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Bid,
    Ask,
}

/// One event of one order. Decimals are units of 10^-8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub symbol: String,
    pub id: u64,
    pub action: Action,
    pub side: Side,
    pub price: i64,
    pub volume: i64,
    pub previous_volume: i64,
    /// When it arrived, and when the exchange says it happened; milliseconds since 1970.
    pub timestamp: i64,
    pub exchange_timestamp: i64,
    pub sequence: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instrument {
    pub symbol: String,
    pub name: String,
    pub currency: &'static str,
    pub tick_size: i64,
    pub lot_size: i64,
    pub timestamp: i64,
}

impl Action {
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Deleted => "deleted",
        }
    }
}

impl Side {
    pub fn name(self) -> &'static str {
        match self {
            Self::Bid => "bid",
            Self::Ask => "ask",
        }
    }
}

impl Order {
    pub fn json(&self) -> String {
        format!(
            r#"{{"symbol":"{}","id":{},"action":"{}","direction":"{}","price":"{}","volume":"{}","previous_volume":"{}","timestamp":{},"exchange_timestamp":{},"sequence":{}}}"#,
            self.symbol,
            self.id,
            self.action.name(),
            self.side.name(),
            decimal::format(self.price),
            decimal::format(self.volume),
            decimal::format(self.previous_volume),
            self.timestamp,
            self.exchange_timestamp,
            self.sequence
        )
    }
}

impl Instrument {
    pub fn json(&self) -> String {
        format!(
            r#"{{"symbol":"{}","name":"{}","currency":"{}","tick_size":"{}","lot_size":"{}","timestamp":{}}}"#,
            self.symbol,
            self.name,
            self.currency,
            decimal::format(self.tick_size),
            decimal::format(self.lot_size),
            self.timestamp
        )
    }
}
