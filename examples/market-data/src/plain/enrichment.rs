//! What the enrichment job must have written (`examples/enrichment/README.md`).

use std::collections::HashMap;

use serde_json::Value;

use super::decode::{Decoded, Event, Rules, decode, event};
use super::{Expected, over};
use crate::decimal::{self, UNIT};
use crate::input::partitioned::Partitioned;

/// Rates of the module's preset parameter, units of 10^-8.
const RATES: [(&str, i64); 5] =
    [("USD", UNIT), ("EUR", 108_000_000), ("GBP", 127_000_000), ("JPY", 650_000), ("CHF", 112_000_000)];

struct Reference {
    symbol: String,
    name: String,
    currency: String,
    tick_size: i64,
    lot_size: i64,
}

/// What one key keeps.
#[derive(Default)]
struct Quotes {
    bid: Option<i64>,
    ask: Option<i64>,
    count: u64,
}

/// One enriched record: its value and its event time in milliseconds.
pub type Enriched = (String, i64);

/// All instruments stand in the log before the first order, so the last record of a key is its reference.
pub fn expected(orders: &Partitioned, instruments: &Partitioned, rules: &Rules) -> Expected<Enriched> {
    let references = references(instruments);
    let mut quotes: HashMap<String, Quotes> = HashMap::new();
    over(orders, rules, |_, _, decoded| {
        let order = event(&decoded.value)?;
        let text =
            enrich(&order, decoded, references.get(&decoded.key), quotes.entry(decoded.key.clone()).or_default())?;
        Ok((text, decoded.event_time_ms))
    })
}

fn references(instruments: &Partitioned) -> HashMap<String, Reference> {
    let rules =
        Rules { time_field: "timestamp", max_value_bytes: usize::MAX, max_ahead_ms: i64::MAX, max_behind_ms: i64::MAX };
    let mut references = HashMap::new();
    for (partition, records) in instruments.partitions.iter().enumerate() {
        for record in records {
            let Ok(decoded) = decode(record, partition, instruments.partitions.len(), &rules) else { continue };
            if let Some(reference) = reference(&decoded.value) {
                references.insert(decoded.key, reference);
            }
        }
    }
    references
}

fn reference(value: &Value) -> Option<Reference> {
    let text = |field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
    let units =
        |field: &str| value.get(field).and_then(Value::as_str).and_then(decimal::parse).filter(|units| *units > 0);
    Some(Reference {
        symbol: text("symbol")?,
        name: text("name")?,
        currency: text("currency")?,
        tick_size: units("tick_size")?,
        lot_size: units("lot_size")?,
    })
}

fn enrich(
    order: &Event<'_>,
    decoded: &Decoded,
    reference: Option<&Reference>,
    quotes: &mut Quotes,
) -> Result<String, &'static str> {
    if order.price <= 0 || order.volume < 0 {
        return Err("bad-order");
    }
    let reference = reference.ok_or("no-reference")?;
    let rate = RATES.iter().find(|(currency, _)| *currency == reference.currency).ok_or("unknown-currency")?.1;
    let notional =
        i128::from(order.price) * i128::from(order.volume) / i128::from(UNIT) * i128::from(rate) / i128::from(UNIT);
    let notional = i64::try_from(notional).map_err(|_| "out-of-range")?;
    // Nothing is refused from here on.
    if order.action != "deleted" {
        *(if order.bid { &mut quotes.bid } else { &mut quotes.ask }) = Some(order.price);
    }
    quotes.count += 1;
    let mid = quotes.bid.zip(quotes.ask).map(|(bid, ask)| (bid + ask).div_euclid(2));
    Ok(format!(
        r#"{{"key":{},"symbol":{},"name":{},"currency":{},"id":{},"action":"{}","direction":"{}","price":"{}","volume":"{}","ticks":{},"lots":{},"notional":"{}","mid":{},"count":{},"sequence":{},"exchange_timestamp":{}}}"#,
        quoted(&decoded.key),
        quoted(&reference.symbol),
        quoted(&reference.name),
        quoted(&reference.currency),
        order.id,
        order.action,
        if order.bid { "bid" } else { "ask" },
        decimal::format(order.price),
        decimal::format(order.volume),
        order.price / reference.tick_size,
        order.volume / reference.lot_size,
        decimal::format(notional),
        mid.map_or("null".to_owned(), |mid| format!("\"{}\"", decimal::format(mid))),
        quotes.count,
        order.sequence.map_or("null".to_owned(), |sequence| sequence.to_string()),
        decoded.event_time_ms
    ))
}

pub(super) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::partitioned::Record;

    #[test]
    fn an_order_is_enriched_as_the_readme_says() {
        let record =
            |value: &str| Record { key: Some(b"K".to_vec()), value: Some(value.as_bytes().to_vec()), timestamp_ms: 5 };
        let mut instruments = Partitioned::new("instruments", 1);
        instruments.push(record(
            r#"{"symbol":"S","name":"N","currency":"EUR","tick_size":"0.5","lot_size":"0.01","timestamp":1}"#,
        ));
        let mut orders = Partitioned::new("orders", 1);
        let order = |side: &str, price: &str| {
            format!(
                r#"{{"symbol":"S","id":1,"action":"created","direction":"{side}","price":"{price}","volume":"2.5","timestamp":5,"exchange_timestamp":4}}"#
            )
        };
        orders.push(record(&order("bid", "10.2")));
        orders.push(record(&order("bid", "0")));
        orders.push(record(&order("ask", "10.3")));
        let rules =
            Rules { time_field: "exchange_timestamp", max_value_bytes: 1_000, max_ahead_ms: 10, max_behind_ms: 10 };
        let expected = expected(&orders, &instruments, &rules);
        assert_eq!(expected.refusals.into_iter().collect::<Vec<_>>(), [((0, 1), "bad-order")]);
        let texts: Vec<&str> = expected.outputs["K"].iter().map(|(text, _)| text.as_str()).collect();
        assert!(
            texts[0].contains(r#""ticks":20,"lots":250,"notional":"27.54","mid":null,"count":1,"sequence":null"#),
            "{}",
            texts[0]
        );
        assert!(texts[1].contains(r#""mid":"10.25","count":2"#), "{}", texts[1]);
    }
}
