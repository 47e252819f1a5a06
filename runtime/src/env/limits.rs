//! What the system lets this process have.

/// More than this helps nobody, and some programs close all that they might have.
const DESCRIPTORS_MAX: u64 = 1 << 20;

/// Raises the limit of open files to what this process may have: stores and connections of many tasks are many files,
/// and the preset is meant for programs that wait in `select`. Returns the limit that is now in force; none where the
/// system does not say.
pub fn raise_descriptor_limit() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: fills one living struct.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return None;
    }
    let wanted = limit.rlim_max.min(DESCRIPTORS_MAX);
    if wanted > limit.rlim_cur {
        let raised = libc::rlimit { rlim_cur: wanted, ..limit };
        // SAFETY: reads one living struct. A refusal leaves the limit that there was.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0 {
            return Some(wanted);
        }
    }
    Some(limit.rlim_cur)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_files_may_be_open_as_the_system_allows() {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        let raised = raise_descriptor_limit().unwrap();
        // SAFETY: fills one living struct.
        assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
        assert_eq!(limit.rlim_cur, raised);
        assert!(raised >= limit.rlim_max.min(DESCRIPTORS_MAX));
    }
}
