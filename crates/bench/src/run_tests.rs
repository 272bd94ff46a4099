//! Runs against a system that lives in the test: a map, with a delay of its own.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::*;
use crate::config::VALUE_BYTES_MAX;
use crate::target::Call;
use crate::workload::Op;

/// A system that answers after `delay`, and refuses every tenth request if `faulty`.
struct Fake {
    delay: Duration,
    faulty: bool,
    rows: Mutex<BTreeMap<Bytes, Bytes>>,
    calls: AtomicU64,
}

impl Fake {
    fn new(delay: Duration, faulty: bool) -> Arc<Fake> {
        Arc::new(Fake { delay, faulty, rows: Mutex::default(), calls: AtomicU64::new(0) })
    }

    fn answer(&self, request: Request) -> Result<Answer, CallError> {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        if self.faulty && number.is_multiple_of(10) {
            return Err(CallError { undetermined: true, reason: "refused".into() });
        }
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let found = match request {
            Request::Get(key) => rows.contains_key(&key),
            Request::Scan { start, rows: limit } => {
                rows.range(start..).take(limit as usize).count() > 0
            }
            Request::Put { key, value, .. } | Request::Swap { key, value } => {
                rows.insert(key, value);
                true
            }
        };
        Ok(if found { Answer::Done } else { Answer::Absent })
    }
}

impl Target for Fake {
    fn call(&self, _lane: usize, request: Request) -> Call<'_, Answer> {
        Box::pin(async move {
            tokio::time::sleep(self.delay).await;
            self.answer(request)
        })
    }

    fn load(&self, _lane: usize, rows: Vec<(Bytes, Bytes)>) -> Call<'_, ()> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).extend(rows);
        Box::pin(async { Ok(()) })
    }
}

#[derive(Default)]
struct Watch(Vec<&'static str>);

impl Observer for Watch {
    fn window_opened(&mut self) {
        self.0.push("opened");
    }
    fn window_closed(&mut self) {
        self.0.push("closed");
    }
}

fn config(op: Op) -> RunConfig {
    RunConfig {
        op,
        clients: 8,
        rate: None,
        warmup: Duration::from_millis(50),
        window: Duration::from_millis(300),
        value_bytes: 32,
        keys: 1_000,
        distribution: op.distribution(),
        scan_rows: 10,
        seed: 1,
    }
}

async fn run_on(fake: &Arc<Fake>, config: &RunConfig) -> RunReport {
    let target: Arc<dyn Target> = fake.clone();
    let mut watch = Watch::default();
    let report = run(&target, config, &mut watch).await.expect("the settings are good");
    assert_eq!(watch.0, ["opened", "closed"]);
    report
}

#[tokio::test]
async fn loaded_keys_are_found_by_every_workload() {
    for op in Op::ALL {
        let fake = Fake::new(Duration::from_millis(1), false);
        let target: Arc<dyn Target> = fake.clone();
        load(&target, &config(op)).await.expect("a map takes all");
        let report = run_on(&fake, &config(op)).await;
        assert!(report.ops > 0, "{report:?}");
        assert_eq!(report.errors, 0, "{report:?}");
        // Under inserts a key may be chosen just before it is there; see Space::inserted.
        assert!(report.absent * 10 <= report.ops, "{report:?}");
        assert!(op.mix().insert > 0 || report.absent == 0, "{report:?}");
        assert!(
            report.latency.p50_us >= 1_000.0 && report.latency.p50_us <= report.latency.p99_us,
            "{report:?}"
        );
        assert!(report.latency.p999_us <= report.latency.max_us, "{report:?}");
    }
}

#[tokio::test]
async fn refused_operations_are_counted_and_shown() {
    let fake = Fake::new(Duration::from_millis(1), true);
    let report = run_on(&fake, &config(Op::Put)).await;
    assert!(report.errors > 0 && report.errors == report.undetermined, "{report:?}");
    assert_eq!(report.error_texts, ["refused"]);
    assert!(report.ops > 5 * report.errors, "{report:?}");
}

#[tokio::test]
async fn an_open_loop_keeps_its_rate_and_not_more() {
    let fake = Fake::new(Duration::from_millis(1), false);
    let paced = RunConfig { rate: Some(500.0), ..config(Op::Put) };
    let report = run_on(&fake, &paced).await;
    // 300 ms at 500 a second. A busy machine may end some of them after the window, and those of
    // the 50 ms before within it; more than were due by its end there cannot be.
    assert!((75..=176).contains(&report.ops), "{report:?}");
}

#[tokio::test]
async fn an_open_loop_shows_the_wait_of_operations_that_came_too_fast() {
    // One client at 10 ms an operation carries 100 a second; 1,000 are due.
    let fake = Fake::new(Duration::from_millis(10), false);
    let paced = RunConfig { rate: Some(1_000.0), clients: 1, ..config(Op::Put) };
    let report = run_on(&fake, &paced).await;
    assert!(report.unstarted > 100, "{report:?}");
    assert!(report.latency.p99_us > 200_000.0, "the wait counts: {report:?}");
}

#[test]
fn settings_that_cannot_be_run_are_refused() {
    let good = config(Op::Put);
    assert!(good.check().is_ok());
    let bad = [
        RunConfig { clients: 0, ..good.clone() },
        RunConfig { keys: 0, ..good.clone() },
        RunConfig { rate: Some(0.0), ..good.clone() },
        RunConfig { rate: Some(f64::NAN), ..good.clone() },
        RunConfig { window: Duration::ZERO, ..good.clone() },
        RunConfig { value_bytes: VALUE_BYTES_MAX + 1, ..good.clone() },
    ];
    for config in bad {
        assert!(matches!(config.check(), Err(BenchError::Usage(_))), "{config:?}");
    }
}
