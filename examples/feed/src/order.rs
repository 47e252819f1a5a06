//! What happens to the orders of a book.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::Decimal;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Created,
    Changed,
    Deleted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    Bid,
    Ask,
}

/// An order event, whole. Strings are borrowed from the payload where nothing in them is escaped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order<'a> {
    #[serde(borrow)]
    pub symbol: Cow<'a, str>,
    pub id: u64,
    pub action: Action,
    pub direction: Direction,
    pub price: Decimal,
    pub volume: Decimal,
    #[serde(default)]
    pub previous_volume: Option<Decimal>,
    pub timestamp: i64,
    pub exchange_timestamp: i64,
    #[serde(default)]
    pub sequence: Option<u64>,
}

/// The part of an order event that changes a book.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub action: Action,
    pub direction: Direction,
    pub price: Decimal,
    pub volume: Decimal,
    #[serde(default)]
    pub previous_volume: Option<Decimal>,
    #[serde(default)]
    pub sequence: Option<u64>,
}
