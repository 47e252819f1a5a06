//! Records that cannot be processed: what becomes of them (`policy`), and the dead letter that is made of one (`format`).

pub mod format;
mod policy;

pub use format::{BadRecord, LETTER_BYTES_MIN};
pub use policy::{BadRecordPolicies, BadRecordPolicy, BadRecords, CODES_OF_OPERATORS};
