//! Order events joined with reference data that arrives on a second input and is kept in keyed state.
//!
//! `README.md` describes every record and refusal. The computation itself is in `enrich`, free of streams.

mod enrich;

use feed::Order;
use forebay_sdk::prelude::*;

pub use feed::Decimal;

pub use enrich::{Enriched, Quotes, Rates, Reference, enrich};

pub struct Enrichment {
    rates: Rates,
    reference: Value<Reference>,
    quotes: Value<Quotes>,
    references: Input,
    enriched: Output,
}

impl Transform for Enrichment {
    const NAME: &'static str = "enrichment";
    const VERSION: &'static str = "1.0.0";
    const ABOUT: &'static str = "joins orders with reference data held in keyed state";

    fn define(module: &mut Module) -> Self {
        module.refusals(&["bad-order", "bad-reference", "no-reference", "unknown-currency", "out-of-range"]);
        module.parameter(
            Parameter::new("rates", "base currency units per unit of each currency")
                .preset("USD=1,EUR=1.08,GBP=1.27,JPY=0.0065,CHF=1.12"),
        );
        let _orders = module.input("orders");
        Self {
            rates: Rates::default(),
            reference: module.state("reference"),
            quotes: module.state("quotes"),
            references: module.input("reference"),
            enriched: module.output("enriched"),
        }
    }

    fn open(&mut self, parameters: &Parameters) -> Result<(), String> {
        self.rates = parameters.parse("rates")?;
        Ok(())
    }

    fn process(&mut self, record: &Record, ctx: &mut Ctx) -> Result<(), Refuse> {
        if record.input() == self.references {
            let reference: Reference = record.json()?;
            reference.check()?;
            self.reference.set(ctx, reference);
            return Ok(());
        }
        let order: Order = record.json()?;
        let Some(reference) = self.reference.get(ctx) else {
            return Err(Refuse::new("no-reference", format_args!("no reference for key `{}` yet", record.key_text())));
        };
        let quotes = self.quotes.modify(ctx);
        ctx.emit(self.enriched, &enrich(record.key_text(), &order, reference, quotes, &self.rates)?);
        Ok(())
    }
}

forebay_sdk::transform!(Enrichment { reference, quotes });

#[cfg(test)]
mod tests;
