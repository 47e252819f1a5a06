//! The book of one key: what stands on each side.

use feed::{Action, Decimal, Direction, Event};
use forebay_sdk::Refuse;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Book {
    /// Events applied so far.
    pub count: u64,
    pub bids: Side,
    pub asks: Side,
    /// Time of the tick that was set last.
    pub tick_at: Option<i64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    pub volume: Decimal,
    pub orders: i64,
    /// Of the latest order created or changed.
    pub price: Option<Decimal>,
}

impl Book {
    /// # Errors
    /// Why the event cannot be applied. The book is then half changed: drop it.
    pub fn apply(&mut self, event: &Event) -> Result<(), Refuse> {
        let Event { price, volume, .. } = *event;
        let previous = event.previous_volume.unwrap_or_default();
        if price <= Decimal::ZERO || volume < Decimal::ZERO || previous < Decimal::ZERO {
            let message = format_args!("price {price} must be above zero, volumes {volume} and {previous} not below");
            return Err(Refuse::new("bad-order", message));
        }
        if event.action != Action::Created && event.previous_volume.is_none() {
            return Err(Refuse::new("no-previous-volume", "what the order held before is not known"));
        }
        self.count += 1;
        let side = match event.direction {
            Direction::Bid => &mut self.bids,
            Direction::Ask => &mut self.asks,
        };
        let (out, into) = match event.action {
            Action::Created => (Decimal::ZERO, volume),
            Action::Changed => (previous, volume),
            Action::Deleted => (previous, Decimal::ZERO),
        };
        match event.action {
            Action::Created => side.orders += 1,
            Action::Changed => {}
            Action::Deleted => side.orders -= 1,
        }
        if event.action != Action::Deleted {
            side.price = Some(price);
        }
        // Both are at least zero, so their difference fits.
        let change = Decimal(into.0 - out.0);
        side.volume = side.volume.checked_add(change).ok_or_else(out_of_range)?;
        self.depth().map(|_| ())
    }

    /// Both sides together.
    ///
    /// # Errors
    /// The sum does not fit.
    pub fn depth(&self) -> Result<Decimal, Refuse> {
        let depth = self.bids.volume.checked_add(self.asks.volume).ok_or_else(out_of_range)?;
        // The difference is needed as well.
        self.bids.volume.checked_sub(self.asks.volume).ok_or_else(out_of_range)?;
        Ok(depth)
    }
}

fn out_of_range() -> Refuse {
    Refuse::new("out-of-range", "the depth does not fit 64 bits")
}
