use forebay_sdk::testing::{Host, assert_golden, check_every_cut};

use crate::{Decimal, Enrichment, Quotes, Reference};

const BTC: &str =
    r#"{"symbol":"BTCUSD","name":"Bitcoin","currency":"USD","tick_size":"0.5","lot_size":"0.001","timestamp":1}"#;

fn order(action: &str, direction: &str, price: &str, volume: &str) -> String {
    format!(
        r#"{{"symbol":"BTCUSD","id":7,"action":"{action}","direction":"{direction}","price":"{price}","volume":"{volume}","timestamp":3,"exchange_timestamp":2,"sequence":5}}"#
    )
}

#[test]
fn orders_are_joined_with_the_reference_of_their_key() {
    check_every_cut::<Enrichment>(&[("rates", "EUR=1.1,USD=1.5")], |host| {
        host.push("reference", "BTCUSD", BTC, 1);
        host.push("orders", "BTCUSD", order("created", "bid", "78318.75", "0.0125"), 2);
        host.push("orders", "BTCUSD", order("deleted", "ask", "78320", "1"), 3);
        host.push("orders", "BTCUSD", order("changed", "ask", "78319", "1"), 4);
        let out = host.texts("enriched");
        assert_eq!(
            out[0],
            r#"{"key":"BTCUSD","symbol":"BTCUSD","name":"Bitcoin","currency":"USD","id":7,"action":"created","direction":"bid","price":"78318.75","volume":"0.0125","ticks":156637,"lots":12,"notional":"1468.4765625","mid":null,"count":1,"sequence":5,"exchange_timestamp":2}"#
        );
        assert!(out[1].contains(r#""mid":null,"count":2"#), "{}", out[1]);
        assert!(out[2].contains(r#""mid":"78318.875","count":3"#), "{}", out[2]);
    });
}

#[test]
fn an_order_that_is_refused_counts_nowhere() {
    check_every_cut::<Enrichment>(&[], |host| {
        host.push("orders", "BTCUSD", order("created", "bid", "1", "1"), 1);
        host.push("reference", "BTCUSD", BTC, 1);
        host.push("orders", "BTCUSD", order("created", "bid", "0", "1"), 2);
        host.push("orders", "BTCUSD", order("created", "bid", "1", "-1"), 2);
        host.push("orders", "BTCUSD", order("created", "bid", "90000000000", "90000000000"), 2);
        host.push("orders", "BTCUSD", "{", 2);
        host.push("reference", "XYZ", BTC.replace("USD", "XXX"), 1);
        host.push("orders", "XYZ", order("created", "bid", "1", "1"), 2);
        host.push("reference", "XYZ", BTC.replace("0.001", "0"), 1);
        host.push("orders", "BTCUSD", order("created", "bid", "1", "1"), 3);
        let codes: Vec<&str> = host.refused().iter().map(|refused| refused.code.as_str()).collect();
        assert_eq!(
            codes,
            [
                "no-reference",
                "bad-order",
                "bad-order",
                "out-of-range",
                "bad-payload",
                "unknown-currency",
                "bad-reference"
            ]
        );
        let out = host.texts("enriched");
        assert_eq!(out.len(), 1);
        assert!(out[0].contains(r#""count":1"#), "{}", out[0]);
    });
}

#[test]
fn a_bad_parameter_is_refused_with_its_name() {
    let refused = |rates: &str| Host::<Enrichment>::open(&[("rates", rates)]).err().unwrap_or_default();
    assert_eq!(refused("USD"), "parameter `rates` = `USD`: `USD` is not CURRENCY=RATE");
    assert!(refused("USD=x").contains("the rate of `USD` is not a decimal"));
    assert!(refused("USD=0").contains("must be above zero"));
}

#[test]
fn states_keep_their_bytes() {
    let reference = Reference {
        symbol: "A".into(),
        name: "B".into(),
        currency: "C".into(),
        tick_size: Decimal::ONE,
        lot_size: Decimal(1),
    };
    assert_golden(&reference, "0141014201438084af5f02", "a24b6f41a355ca7c");
    assert_golden(&Quotes { bid: Some(Decimal(1)), ask: None, count: 300 }, "010200ac02", "24c9e5abc021797d");
}
