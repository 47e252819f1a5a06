//! What a caller should do about an error. Every module has its own `Error`; all of them answer `kind()`.

/// A new kind means a new behaviour in some caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The world outside (broker, disk, a full queue): trying again may help.
    Retry,
    /// Uploaded code is at fault.
    Guest,
    /// The request, spec or setting is at fault: nothing was changed.
    Invalid,
    /// The thing asked for does not exist.
    NotFound,
    /// What the caller believed is no longer so (another version, another owner of the name).
    Conflict,
    /// Stored bytes are not what was written: stop, with the operator's choices.
    Corrupt,
    /// Another owner has taken over: give up, never retry at once.
    Fenced,
    /// A mistake of ours.
    Bug,
}

impl Kind {
    /// As programs see it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Guest => "guest",
            Self::Invalid => "invalid",
            Self::NotFound => "not-found",
            Self::Conflict => "conflict",
            Self::Corrupt => "corrupt",
            Self::Fenced => "fenced",
            Self::Bug => "bug",
        }
    }
}
