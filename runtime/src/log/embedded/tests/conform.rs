//! The conformance suite on the embedded log, gentle and harsh.

use tempfile::TempDir;

use super::*;
use crate::log::conformance::{Subject, log_conformance};

struct OnDisk {
    dir: TempDir,
    settings: Settings,
    log: Option<Arc<Embedded>>,
}

impl OnDisk {
    fn new(settings: Settings) -> Self {
        let dir = TempDir::new().unwrap();
        let log = Some(Embedded::open(dir.path(), settings.clone()).unwrap());
        Self { dir, settings, log }
    }
}

impl Subject for OnDisk {
    fn log(&self) -> &dyn Log {
        &**self.log.as_ref().unwrap()
    }

    fn restart(&mut self) {
        self.log = None;
        self.log = Some(Embedded::open(self.dir.path(), self.settings.clone()).unwrap());
    }

    fn compact(&self, topic: &str) -> usize {
        self.log.as_ref().unwrap().compact(topic).unwrap();
        0
    }
}

mod gentle {
    use super::*;

    log_conformance!(Some(OnDisk::new(Settings::default())));
}

/// Late, partition by partition, and still the same log. (Commits stay sure: the suite is about what is
/// certain; `harsh` is about what is not.)
mod harsh {
    use super::*;

    fn harsh() -> OnDisk {
        let harsh = Harsh { seed: 7, indefinite_per_mille: 0, show: Show::ByChance };
        OnDisk::new(Settings { harsh: Some(harsh), ..Settings::default() })
    }

    log_conformance!(Some(harsh()));
}
