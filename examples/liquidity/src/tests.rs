use feed::Decimal;
use forebay_sdk::testing::{Host, assert_golden, check_every_cut};

use crate::{Book, BookV1, BookV2, LiquidityV1, LiquidityV2, Side};

const MS: i64 = 1_000_000;

fn event(action: &str, direction: &str, price: &str, volume: &str, previous: &str) -> String {
    format!(
        r#"{{"symbol":"X","id":1,"action":"{action}","direction":"{direction}","price":"{price}","volume":"{volume}","previous_volume":"{previous}","timestamp":0,"exchange_timestamp":0,"sequence":9}}"#
    )
}

#[test]
fn depth_and_spread_follow_the_orders() {
    check_every_cut::<LiquidityV1>(&[], |host| {
        host.push("orders", "X", event("created", "bid", "100.5", "3", "0"), 1);
        host.push("orders", "X", event("created", "ask", "101", "1", "0"), 2);
        host.push("orders", "X", event("changed", "bid", "100.5", "2.5", "3"), 3);
        host.push("orders", "X", event("deleted", "bid", "100.5", "2.5", "2.5"), 4);
        assert_eq!(
            host.texts("summaries"),
            [
                r#"{"key":"X","version":1,"count":1,"bid_volume":"3","ask_volume":"0","bid_orders":1,"ask_orders":0,"bid":"100.5","ask":null,"spread":null,"imbalance_bps":10000,"sequence":9}"#,
                r#"{"key":"X","version":1,"count":2,"bid_volume":"3","ask_volume":"1","bid_orders":1,"ask_orders":1,"bid":"100.5","ask":"101","spread":"0.5","imbalance_bps":5000,"sequence":9}"#,
                r#"{"key":"X","version":1,"count":3,"bid_volume":"2.5","ask_volume":"1","bid_orders":1,"ask_orders":1,"bid":"100.5","ask":"101","spread":"0.5","imbalance_bps":4285,"sequence":9}"#,
                r#"{"key":"X","version":1,"count":4,"bid_volume":"0","ask_volume":"1","bid_orders":0,"ask_orders":1,"bid":"100.5","ask":"101","spread":"0.5","imbalance_bps":-10000,"sequence":9}"#,
            ]
        );
    });
}

#[test]
fn every_active_second_has_one_tick() {
    check_every_cut::<LiquidityV2>(&[], |host| {
        host.push("orders", "X", event("created", "bid", "1", "1", "0"), 100 * MS);
        host.push("orders", "X", event("created", "bid", "1", "1", "0"), 999 * MS);
        host.push("orders", "X", event("created", "bid", "1", "1", "0"), 1_000 * MS);
        host.push("orders", "Y", event("created", "ask", "1", "1", "0"), 1_500 * MS);
        host.advance(1_999 * MS);
        assert_eq!(
            host.texts("ticks"),
            [
                r#"{"key":"X","version":2,"at":1000,"count":3,"bid_volume":"3","ask_volume":"0","bid_orders":3,"ask_orders":0,"bid":"1","ask":null,"spread":null,"imbalance_bps":10000,"peak_volume":"3"}"#,
            ]
        );
        host.advance(9_000 * MS);
        assert_eq!(host.texts("ticks").len(), 3);
        assert!(host.timers().is_empty());
    });
}

#[test]
fn a_refused_event_leaves_the_book_alone() {
    check_every_cut::<LiquidityV2>(&[], |host| {
        host.push("orders", "X", event("created", "bid", "1", "2", "0"), 1);
        host.push("orders", "X", event("created", "bid", "0", "2", "0"), 2);
        host.push("orders", "X", r#"{"action":"deleted","direction":"bid","price":"1","volume":"2"}"#, 3);
        host.push("orders", "X", event("created", "bid", "1", "92233720368", "0"), 4);
        host.push("orders", "X", event("deleted", "bid", "1", "2", "2"), 5);
        let codes: Vec<&str> = host.refused().iter().map(|refused| refused.code.as_str()).collect();
        assert_eq!(codes, ["bad-order", "no-previous-volume", "out-of-range"]);
        assert!(host.texts("summaries")[1].contains(r#""count":2,"bid_volume":"0""#));
        assert!(host.texts("summaries")[1].contains(r#""peak_volume":"2""#));
    });
}

#[test]
fn a_swap_to_v2_and_back_keeps_every_count() {
    let mut host = Host::<LiquidityV1>::new();
    host.push("orders", "X", event("created", "bid", "1", "5", "0"), 1);
    host.push("orders", "X", event("deleted", "bid", "1", "3", "3"), 2);
    let mut host = host.swap::<LiquidityV2>().unwrap();
    host.push("orders", "X", event("deleted", "bid", "1", "1", "1"), 3);
    host.advance(1_000 * MS);
    assert!(host.texts("summaries")[0].contains(r#""version":2,"count":3,"bid_volume":"1""#));
    assert!(host.texts("summaries")[0].contains(r#""peak_volume":"2""#));
    assert_eq!(host.texts("ticks").len(), 1, "the timer came along");
    let mut host = host.swap::<LiquidityV1>().unwrap();
    host.push("orders", "X", event("created", "ask", "2", "1", "0"), 4);
    assert!(host.texts("summaries")[0].contains(r#""version":1,"count":4,"bid_volume":"1","ask_volume":"1""#));
}

#[test]
fn states_keep_their_bytes() {
    let side = Side { volume: Decimal::ONE, orders: 2, price: Some(Decimal(3)) };
    let book = Book { count: 300, bids: side, asks: Side::default(), tick_at: Some(-1) };
    assert_golden(&BookV1 { book }, "ac028084af5f0401060000000101", "b56a040fca9a7bb3");
    assert_golden(&BookV2 { book, peak_volume: Decimal(7) }, "ac028084af5f04010600000001010e", "1f1b7bfa12468676");
}
