//! The computation: an order, its key's reference and quotes in; the enriched order out. Integers only.

use std::borrow::Cow;
use std::str::FromStr;

use feed::{Action, Decimal, Direction, Order};
use forebay_sdk::{Refuse, State};
use serde::{Deserialize, Serialize};

/// Reference data of a key: input `reference`, and what is kept of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    pub symbol: String,
    pub name: String,
    pub currency: String,
    pub tick_size: Decimal,
    pub lot_size: Decimal,
}

impl State for Reference {}

impl Reference {
    /// # Errors
    /// Sizes that nothing can be divided by.
    pub fn check(&self) -> Result<(), Refuse> {
        if self.tick_size <= Decimal::ZERO || self.lot_size <= Decimal::ZERO {
            let (tick, lot) = (self.tick_size, self.lot_size);
            return Err(Refuse::new(
                "bad-reference",
                format_args!("tick size {tick} and lot size {lot} must be above zero"),
            ));
        }
        Ok(())
    }
}

/// What is known of a key from its orders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quotes {
    /// Prices of the latest created or changed order of each side.
    pub bid: Option<Decimal>,
    pub ask: Option<Decimal>,
    /// Orders enriched so far.
    pub count: u64,
}

impl State for Quotes {}

/// Base currency units per unit of each currency, from text such as `USD=1,EUR=1.08`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rates(Vec<(String, Decimal)>);

impl Rates {
    pub fn of(&self, currency: &str) -> Option<Decimal> {
        self.0.iter().find(|(name, _)| name == currency).map(|(_, rate)| *rate)
    }
}

impl FromStr for Rates {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rate = |part: &str| {
            let (currency, rate) = part.split_once('=').ok_or_else(|| format!("`{part}` is not CURRENCY=RATE"))?;
            match rate.trim().parse() {
                Ok(rate) if rate > Decimal::ZERO => Ok((currency.trim().to_owned(), rate)),
                Ok(_) => Err(format!("the rate of `{currency}` must be above zero")),
                Err(error) => Err(format!("the rate of `{currency}` is {error}")),
            }
        };
        text.split(',').map(rate).collect::<Result<_, _>>().map(Self)
    }
}

/// Output `enriched`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enriched<'a> {
    pub key: Cow<'a, str>,
    pub symbol: Cow<'a, str>,
    pub name: Cow<'a, str>,
    pub currency: Cow<'a, str>,
    pub id: u64,
    pub action: Action,
    pub direction: Direction,
    pub price: Decimal,
    pub volume: Decimal,
    pub ticks: i64,
    pub lots: i64,
    pub notional: Decimal,
    pub mid: Option<Decimal>,
    pub count: u64,
    pub sequence: Option<u64>,
    pub exchange_timestamp: i64,
}

/// One order; `quotes` move on with it.
///
/// # Errors
/// Why the order cannot be enriched.
pub fn enrich<'a>(
    key: &'a str,
    order: &Order<'a>,
    reference: &'a Reference,
    quotes: &mut Quotes,
    rates: &Rates,
) -> Result<Enriched<'a>, Refuse> {
    let Order { price, volume, .. } = *order;
    if price <= Decimal::ZERO || volume < Decimal::ZERO {
        return Err(Refuse::new(
            "bad-order",
            format_args!("price {price} must be above zero, volume {volume} not below"),
        ));
    }
    let rate = rates.of(&reference.currency).ok_or_else(|| {
        Refuse::new("unknown-currency", format_args!("parameter `rates` has no rate for `{}`", reference.currency))
    })?;
    let notional = price
        .times(volume)
        .and_then(|local| local.times(rate))
        .ok_or_else(|| Refuse::new("out-of-range", format_args!("{price} * {volume} * {rate} does not fit 64 bits")))?;
    quotes.count += 1;
    if order.action != Action::Deleted {
        match order.direction {
            Direction::Bid => quotes.bid = Some(price),
            Direction::Ask => quotes.ask = Some(price),
        }
    }
    Ok(Enriched {
        key: key.into(),
        symbol: reference.symbol.as_str().into(),
        name: reference.name.as_str().into(),
        currency: reference.currency.as_str().into(),
        id: order.id,
        action: order.action,
        direction: order.direction,
        price,
        volume,
        ticks: price.0 / reference.tick_size.0,
        lots: volume.0 / reference.lot_size.0,
        notional,
        mid: quotes.bid.zip(quotes.ask).map(|(bid, ask)| bid.mean(ask)),
        count: quotes.count,
        sequence: order.sequence,
        exchange_timestamp: order.exchange_timestamp,
    })
}
