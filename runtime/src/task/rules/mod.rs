//! The rules of the protocol and, for tests, sets of them with one broken. Read [`protocol`] alone.

#[cfg(any(test, feature = "seeded-bugs"))]
mod broken;
mod protocol;
#[cfg(any(test, feature = "seeded-bugs"))]
mod wrong;

pub(super) use protocol::{Act, InDoubt, Open, Step};
#[cfg(any(test, feature = "seeded-bugs"))]
pub(super) use {
    broken::rules,
    wrong::{WrongAct, WrongDoubt, WrongStep},
};

/// The rules that are in force.
#[cfg(not(any(test, feature = "seeded-bugs")))]
pub(super) const fn rules() -> protocol::Rules {
    protocol::PROTOCOL
}
