//! Closed and open loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::options::Pace;

/// Does `work` for every one of `items`, with the moment that it was planned for. A closed loop has `concurrency` of
/// them under way; an open loop begins each at its moment, however many are under way. Ends what runs when dropped.
pub(crate) async fn spread<W, F>(pace: Pace, concurrency: usize, items: Vec<usize>, work: W)
where
    W: Fn(usize, Instant) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    match pace {
        Pace::Closed => {
            let next = Arc::new(AtomicUsize::new(0));
            let workers = concurrency.clamp(1, items.len().max(1));
            let items = Arc::new(items);
            for _ in 0..workers {
                let (next, items, work) = (next.clone(), items.clone(), work.clone());
                tasks.spawn(async move {
                    while let Some(&item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                        work(item, Instant::now()).await;
                    }
                });
            }
        }
        Pace::Open { per_second } => {
            let began = Instant::now();
            for (number, item) in items.into_iter().enumerate() {
                let planned = began + Duration::from_secs_f64(number as f64 / per_second);
                tokio::time::sleep_until(planned.into()).await;
                tasks.spawn(work(item, planned));
                // those that are done need not be kept
                while tasks.try_join_next().is_some() {}
            }
        }
    }
    while let Some(done) = tasks.join_next().await {
        if let Err(error) = done
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn a_closed_loop_does_each_once_and_no_more_than_wanted_at_once() {
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let done = Arc::new(Mutex::new(Vec::new()));
        let all = done.clone();
        let highest = most.clone();
        spread(Pace::Closed, 4, (0..50).collect(), move |item, _| {
            let (now, most, done) = (now.clone(), most.clone(), done.clone());
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                now.fetch_sub(1, Ordering::SeqCst);
                done.lock().unwrap().push(item);
            }
        })
        .await;
        let mut done = all.lock().unwrap().clone();
        done.sort_unstable();
        assert_eq!(done, (0..50).collect::<Vec<_>>());
        assert!(highest.load(Ordering::SeqCst) <= 4);
    }

    #[tokio::test]
    async fn an_open_loop_plans_at_its_rate_although_nothing_ends() {
        let planned = Arc::new(Mutex::new(Vec::new()));
        let seen = planned.clone();
        let gate = Arc::new(tokio::sync::Barrier::new(20));
        // nobody ends before all have begun: a closed loop of any width below would stand still
        spread(Pace::Open { per_second: 2000.0 }, 1, (0..20).collect(), move |_, at| {
            let (planned, gate) = (planned.clone(), gate.clone());
            async move {
                planned.lock().unwrap().push(at);
                gate.wait().await;
            }
        })
        .await;
        let mut moments = seen.lock().unwrap().clone();
        moments.sort_unstable();
        let span = moments[19].duration_since(moments[0]);
        assert!((span.as_secs_f64() - 19.0 / 2000.0).abs() < 1e-6, "{span:?}");
    }
}
