//! How late a worker's loop comes: the time that everything which is ready waits before it is looked at. It is where a
//! server queues that is short of CPU and of nothing else.
//!
//! It is measured while requests come and not otherwise: a worker without work sleeps.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::Overload;

/// How often it is measured.
const EVERY: Duration = Duration::from_millis(50);
/// A loop that comes so late, and …
const LATE: Duration = Duration::from_millis(500);
/// … had so many requests since it was looked at before, is overloaded: few requests are not what makes it late.
const CROWD: u32 = 64;

thread_local! {
    static PROBED: Cell<bool> = const { Cell::new(false) };
    static SEEN: Cell<u32> = const { Cell::new(0) };
    static IS_LATE: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread's loop comes too late to take on more.
pub(super) fn late() -> bool {
    IS_LATE.get()
}

/// A request has come to this thread.
pub(super) fn seen(overload: &Arc<Overload>) {
    SEEN.set(SEEN.get().wrapping_add(1));
    if !PROBED.replace(true) {
        let overload = Arc::clone(overload);
        drop(actix_web::rt::spawn(async move {
            let mut before = SEEN.get().wrapping_sub(1);
            // as long as requests come
            while SEEN.get() != before {
                before = SEEN.get();
                let begun = Instant::now();
                tokio::time::sleep(EVERY).await;
                let lag = begun.elapsed().saturating_sub(EVERY);
                overload.lag.fetch_max(u64::try_from(lag.as_micros()).unwrap_or(u64::MAX), Relaxed);
                IS_LATE.set(lag > LATE && SEEN.get().wrapping_sub(before) >= CROWD);
            }
            IS_LATE.set(false);
            PROBED.set(false);
        }));
    }
}
