//! The liquidity summary, version 2, as a module.

forebay_sdk::export!(liquidity::LiquidityV2);
