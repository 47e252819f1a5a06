//! What goes out: the summary of a record, or of a tick.

use std::borrow::Cow;

use feed::Decimal;
use serde::{Deserialize, Serialize};

use crate::{Book, Version};

/// Outputs `summaries` (with `sequence`, which may be null) and `ticks` (with `at`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary<'a> {
    pub key: Cow<'a, str>,
    pub version: u32,
    /// Milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<i64>,
    pub count: u64,
    pub bid_volume: Decimal,
    pub ask_volume: Decimal,
    pub bid_orders: i64,
    pub ask_orders: i64,
    pub bid: Option<Decimal>,
    pub ask: Option<Decimal>,
    pub spread: Option<Decimal>,
    pub imbalance_bps: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_volume: Option<Decimal>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<Option<u64>>,
}

impl<'a> Summary<'a> {
    pub fn of(key: &'a str, state: &impl Version) -> Self {
        let Book { count, bids, asks, .. } = *state.book();
        Self {
            key: key.into(),
            version: state_version(state),
            at: None,
            count,
            bid_volume: bids.volume,
            ask_volume: asks.volume,
            bid_orders: bids.orders,
            ask_orders: asks.orders,
            bid: bids.price,
            ask: asks.price,
            // Prices are above zero, so their difference fits.
            spread: bids.price.zip(asks.price).map(|(bid, ask)| Decimal(ask.0 - bid.0)),
            imbalance_bps: imbalance_bps(bids.volume, asks.volume),
            peak_volume: state.peak_volume(),
            sequence: None,
        }
    }
}

fn state_version<V: Version>(_: &V) -> u32 {
    V::NUMBER
}

/// How much more stands on the bid side, in hundredths of a percent of all.
fn imbalance_bps(bids: Decimal, asks: Decimal) -> Option<i64> {
    let (bids, asks) = (i128::from(bids.0), i128::from(asks.0));
    let depth = bids + asks;
    (depth > 0).then(|| i64::try_from((bids - asks) * 10_000 / depth).ok()).flatten()
}
