//! Numbers of a sequence that were taken beforehand.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Numbers that this process has taken from a sequence and not used yet. Each is used once at most; those that are left when
/// it ends are nobody's.
#[derive(Default)]
pub(crate) struct Numbers {
    free: Mutex<Vec<Range<i64>>>,
    forgotten: AtomicU64,
}

impl Numbers {
    pub(crate) fn add(&self, numbers: Range<i64>) {
        self.free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(numbers);
    }

    /// Takes as many as are still wanted, if there are so many.
    pub(crate) fn take(&self, wanted: usize, taken: &mut Vec<i64>) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(numbers) = free.first_mut() {
            taken.extend(numbers.by_ref().take(wanted - taken.len()));
            if taken.len() == wanted {
                return;
            }
            free.remove(0);
        }
    }

    /// Gives up those that are left: somebody else may have been given the same.
    pub(crate) fn forget(&self) {
        self.forgotten.fetch_add(1, Ordering::Relaxed);
        self.free.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// How often that was done.
    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }
}
