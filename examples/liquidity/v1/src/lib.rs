//! The liquidity summary, version 1, as a module.

forebay_sdk::export!(liquidity::LiquidityV1);
