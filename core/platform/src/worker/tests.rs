use std::sync::atomic::{AtomicU64, Ordering};

use hexa_model::SystemClock;

use super::*;

const SPEC: WorkerSpec = WorkerSpec { name: "test", purpose: "a worker of these tests", runs_on: RunsOn::EveryNode };

fn workers() -> (Workers, CancellationToken, Arc<Metrics>) {
    let (metrics, stop) = (Arc::new(Metrics::new()), CancellationToken::new());
    (Workers::new(Arc::new(SystemClock::new()), &metrics, TaskTracker::new(), stop.clone()), stop, metrics)
}

async fn until(workers: &Workers, what: impl Fn(&WorkerView) -> bool) -> WorkerView {
    loop {
        let view = workers.list().remove(0);
        if what(&view) {
            return view;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_panics_is_noted_and_the_next_one_comes() {
    let (workers, stop, metrics) = workers();
    let count = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&count);
    workers.periodic(SPEC, Duration::from_secs(5), move |term| {
        let n = counted.fetch_add(1, Ordering::SeqCst);
        assert_eq!(term.start, n + 1);
        run(async move {
            match n {
                0 => panic!("the first one"),
                1 => Err("the second one"),
                _ => Ok(()),
            }
        })
    });
    let view = until(&workers, |w| w.failures == 1).await;
    assert_eq!((view.runs, view.last_error.unwrap().1.as_str()), (1, "it panicked: the first one"));
    let view = until(&workers, |w| w.runs >= 3).await;
    assert_eq!((view.failures, view.state), (2, WorkerState::Idle));
    assert_eq!(view.last_error.unwrap().1, "the second one");
    assert!(metrics.render().unwrap().contains("hexa_worker_failures_total{worker=\"test\"} 2"));
    stop.cancel();
    until(&workers, |w| w.state == WorkerState::Stopped).await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_breaks_off_is_started_again_after_longer_and_longer_pauses() {
    let (workers, stop, _) = workers();
    let starts = Arc::new(Mutex::new(Vec::new()));
    let (noted, begun) = (Arc::clone(&starts), tokio::time::Instant::now());
    workers.ongoing(SPEC, move |_| {
        noted.lock().push(begun.elapsed().as_secs());
        run(async { if true { panic!("at once") } else { Ok::<_, String>(()) } })
    });
    let view = until(&workers, |w| w.failures >= 5).await;
    assert_eq!(view.state, WorkerState::BackingOff);
    assert_eq!(*starts.lock(), [0, 1, 3, 7, 15]);
    stop.cancel();
    let view = until(&workers, |w| w.state == WorkerState::Stopped).await;
    assert_eq!(view.runs, 5);
}

#[tokio::test]
async fn a_worker_that_ends_by_itself_while_the_server_goes_on_is_a_failure() {
    let (workers, _stop, _) = workers();
    workers.ongoing(SPEC, |_| run(async { Ok::<_, String>(()) }));
    let view = until(&workers, |w| w.failures >= 1).await;
    assert_eq!(view.last_error.unwrap().1, "it ended by itself");
}
