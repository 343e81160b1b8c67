//! Places where a test ends the process, as a crash would: `ALLSWELL_FAILPOINT=NAME:N` aborts when place NAME is reached
//! for the N-th time. Only in debug builds; in a release build each is nothing.

/// The places, in the order in which a delivery meets them.
pub const NAMES: [&str; 9] = [
    "during_startup_recovery",
    "after_state_commit",
    "after_claim",
    "before_connect",
    "after_request_written",
    "after_response",
    "before_result_commit",
    "mid_result_batch",
    "during_lease_renewal",
];

#[cfg(debug_assertions)]
static ARMED: std::sync::Mutex<Option<(String, u64)>> = std::sync::Mutex::new(None);

/// Arms a place: `NAME:N`.
///
/// # Errors
/// A sentence, if it is no such place or the build has none.
pub fn arm(wanted: &str) -> Result<(), String> {
    let (name, count) = wanted.split_once(':').unwrap_or((wanted, "1"));
    let count: u64 = count.parse().map_err(|_| format!("{count:?} is no number"))?;
    if !NAMES.contains(&name) {
        return Err(format!(
            "no failpoint is called {name:?}; there are {}",
            NAMES.join(", ")
        ));
    }
    #[cfg(debug_assertions)]
    {
        *ARMED.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some((name.to_owned(), count));
        Ok(())
    }
    #[cfg(not(debug_assertions))]
    {
        let _ = count;
        Err("failpoints are in debug builds only".to_owned())
    }
}

/// Reaches a place.
#[cfg(debug_assertions)]
pub fn failpoint(name: &str) {
    let mut armed = ARMED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Some((wanted, left)) = armed.as_mut() else {
        return;
    };
    if wanted != name {
        return;
    }
    *left = left.saturating_sub(1);
    if *left == 0 {
        std::process::abort();
    }
}

/// Reaches a place: nothing, in a release build.
#[cfg(not(debug_assertions))]
pub fn failpoint(_: &str) {}
