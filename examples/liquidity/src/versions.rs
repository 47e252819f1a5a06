//! The state in its two versions, and the ways between them.

use feed::{Decimal, Event};
use forebay_sdk::{Migrations, Refuse, State};
use serde::{Deserialize, Serialize};

use crate::Book;

/// What a version of the module keeps per key.
pub trait Version: State + Default {
    const NUMBER: u32;
    const MODULE_VERSION: &'static str;

    fn book(&self) -> &Book;
    fn book_mut(&mut self) -> &mut Book;

    /// # Errors
    /// Why the event cannot be applied.
    fn apply(&mut self, event: &Event) -> Result<(), Refuse>;

    fn peak_volume(&self) -> Option<Decimal> {
        None
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BookV1 {
    pub book: Book,
}

impl State for BookV1 {}

impl Version for BookV1 {
    const NUMBER: u32 = 1;
    const MODULE_VERSION: &'static str = "1.0.0";

    fn book(&self) -> &Book {
        &self.book
    }

    fn book_mut(&mut self) -> &mut Book {
        &mut self.book
    }

    fn apply(&mut self, event: &Event) -> Result<(), Refuse> {
        self.book.apply(event)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BookV2 {
    pub book: Book,
    /// Greatest depth after any event that this version has applied.
    pub peak_volume: Decimal,
}

impl State for BookV2 {
    const VERSION: u32 = 2;

    fn migrations(migrations: &mut Migrations<Self>) {
        migrations.from(|BookV1 { book }| {
            let peak_volume = book.depth().map_err(|refuse| refuse.message)?;
            Ok(Self { book, peak_volume })
        });
        migrations.to(|new: Self| Ok(BookV1 { book: new.book }));
    }
}

impl Version for BookV2 {
    const NUMBER: u32 = 2;
    const MODULE_VERSION: &'static str = "2.0.0";

    fn book(&self) -> &Book {
        &self.book
    }

    fn book_mut(&mut self) -> &mut Book {
        &mut self.book
    }

    fn apply(&mut self, event: &Event) -> Result<(), Refuse> {
        self.book.apply(event)?;
        self.peak_volume = self.peak_volume.max(self.book.depth()?);
        Ok(())
    }

    fn peak_volume(&self) -> Option<Decimal> {
        Some(self.peak_volume)
    }
}
