//! What the liquidity job must have written (`examples/liquidity/README.md`), through a swap from v1 to v2.

use std::collections::HashMap;

use super::decode::{Event, Rules, event};
use super::enrichment::quoted;
use super::{Expected, over};
use crate::decimal;
use crate::input::partitioned::Partitioned;

/// Per partition the first offset that v2 handled; missing = v1 handled all of it.
pub type SwapAt = HashMap<usize, i64>;

#[derive(Clone, Default)]
struct Depth {
    count: u64,
    bid_volume: i64,
    ask_volume: i64,
    bid_orders: i64,
    ask_orders: i64,
    bid: Option<i64>,
    ask: Option<i64>,
    /// Since v2 first saw the key.
    peak_volume: Option<i64>,
}

/// One record's summary, and what a tick that follows it must say.
pub struct Summary {
    pub text: String,
    pub event_time_ms: i64,
    pub version: u8,
    /// Fields from `count` to `imbalance_bps`, without braces: those of a tick of either version.
    pub fields: String,
    /// `peak_volume` of a tick of v2 that comes before the key's next record.
    pub peak_volume: String,
}

pub fn expected(orders: &Partitioned, rules: &Rules, swap_at: &SwapAt) -> Expected<Summary> {
    let mut depths: HashMap<String, Depth> = HashMap::new();
    over(orders, rules, |partition, offset, decoded| {
        let order = event(&decoded.value)?;
        let before = depths.get(&decoded.key).cloned().unwrap_or_default();
        let swapped = swap_at.get(&partition).is_some_and(|first| offset >= *first);
        let depth = before.after(&order, swapped)?;
        let summary = depth.summary(&decoded.key, &order, decoded.event_time_ms);
        depths.insert(decoded.key.clone(), depth);
        Ok(summary)
    })
}

impl Depth {
    fn after(mut self, order: &Event<'_>, swapped: bool) -> Result<Self, &'static str> {
        if order.price <= 0 || order.volume < 0 || order.previous_volume.is_some_and(|volume| volume < 0) {
            return Err("bad-order");
        }
        let previous = if order.action == "created" { 0 } else { order.previous_volume.ok_or("no-previous-volume")? };
        let left = if order.action == "deleted" { 0 } else { order.volume };
        let depth_before = self.bid_volume + self.ask_volume;
        let (volume, orders, price) = if order.bid {
            (&mut self.bid_volume, &mut self.bid_orders, &mut self.bid)
        } else {
            (&mut self.ask_volume, &mut self.ask_orders, &mut self.ask)
        };
        *volume += left - previous;
        match order.action {
            "created" => *orders += 1,
            "deleted" => *orders -= 1,
            _ => {}
        }
        if order.action != "deleted" {
            *price = Some(order.price);
        }
        self.count += 1;
        if swapped {
            let peak = self.peak_volume.unwrap_or(depth_before);
            self.peak_volume = Some(peak.max(self.bid_volume + self.ask_volume));
        }
        Ok(self)
    }

    fn summary(&self, key: &str, order: &Event<'_>, event_time_ms: i64) -> Summary {
        let (version, fields) = (if self.peak_volume.is_some() { 2 } else { 1 }, self.fields());
        let peak_volume = decimal::format(self.peak_volume.unwrap_or(self.bid_volume + self.ask_volume));
        let peak = if version == 2 { format!(r#","peak_volume":"{peak_volume}""#) } else { String::new() };
        let sequence = order.sequence.map_or("null".to_owned(), |sequence| sequence.to_string());
        let text = format!(r#"{{"key":{},"version":{version},{fields}{peak},"sequence":{sequence}}}"#, quoted(key));
        Summary { text, event_time_ms, version, fields, peak_volume }
    }

    fn fields(&self) -> String {
        let price =
            |price: Option<i64>| price.map_or("null".to_owned(), |price| format!("\"{}\"", decimal::format(price)));
        let sum = self.bid_volume + self.ask_volume;
        let imbalance = i128::from(self.bid_volume - self.ask_volume) * 10_000;
        format!(
            r#""count":{},"bid_volume":"{}","ask_volume":"{}","bid_orders":{},"ask_orders":{},"bid":{},"ask":{},"spread":{},"imbalance_bps":{}"#,
            self.count,
            decimal::format(self.bid_volume),
            decimal::format(self.ask_volume),
            self.bid_orders,
            self.ask_orders,
            price(self.bid),
            price(self.ask),
            price(self.bid.zip(self.ask).map(|(bid, ask)| ask - bid)),
            if sum > 0 { (imbalance / i128::from(sum)).to_string() } else { "null".to_owned() }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::partitioned::Record;

    fn summaries(swap_at: i64, orders: &[(&str, &str, &str, &str)]) -> Vec<String> {
        let mut input = Partitioned::new("orders", 1);
        for (action, side, volume, previous) in orders {
            let value = format!(
                r#"{{"symbol":"S","id":1,"action":"{action}","direction":"{side}","price":"10","volume":"{volume}","previous_volume":"{previous}","timestamp":5,"exchange_timestamp":4}}"#
            );
            input.push(Record { key: Some(b"K".to_vec()), value: Some(value.into_bytes()), timestamp_ms: 5 });
        }
        let rules =
            Rules { time_field: "exchange_timestamp", max_value_bytes: 1_000, max_ahead_ms: 10, max_behind_ms: 10 };
        let expected = expected(&input, &rules, &SwapAt::from([(0, swap_at)]));
        expected.outputs["K"].iter().map(|summary| summary.text.clone()).collect()
    }

    #[test]
    fn depth_follows_the_orders() {
        let texts =
            summaries(9, &[("created", "bid", "3", "0"), ("created", "ask", "1", "0"), ("deleted", "bid", "3", "3")]);
        assert!(
            texts[1].contains(r#""bid_volume":"3","ask_volume":"1","bid_orders":1,"ask_orders":1"#),
            "{}",
            texts[1]
        );
        assert!(texts[1].contains(r#""spread":"0","imbalance_bps":5000"#), "{}", texts[1]);
        assert!(texts[2].contains(r#""bid_volume":"0","ask_volume":"1","bid_orders":0"#), "{}", texts[2]);
    }

    #[test]
    fn the_peak_starts_with_the_depth_that_was_there_at_the_swap() {
        let texts =
            summaries(1, &[("created", "bid", "3", "0"), ("deleted", "bid", "3", "3"), ("created", "ask", "4", "0")]);
        assert!(texts[0].contains(r#""version":1"#) && !texts[0].contains("peak"), "{}", texts[0]);
        assert!(
            texts[1].contains(r#""version":2,"count":2"#) && texts[1].contains(r#""peak_volume":"3""#),
            "{}",
            texts[1]
        );
        assert!(texts[2].contains(r#""peak_volume":"4""#), "{}", texts[2]);
    }
}
