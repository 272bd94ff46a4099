//! What an operation costs: CPU of all processes, latency, and the fsyncs that make it durable.
//!
//! One client's put takes at least two fdatasync calls, one on each of two stores: fewer would mean
//! that something was acknowledged before it was durable on a quorum. With many clients one call
//! serves many puts.

use crate::bars::row::Row;
use crate::bars::stage::{Stage, run_config};
use crate::bars::{Bar, BarsConfig};
use crate::error::Result;
use crate::workload::Op;

/// Numbers of clients.
const CLIENTS: [usize; 3] = [1, 64, 256];

/// The cost of puts and gets must be at most this at the greatest number of clients, and should be
/// at most the second. Microseconds of CPU.
const PUT_CPU_US: (f64, f64) = (120.0, 50.0);
const GET_CPU_US: (f64, f64) = (30.0, 10.0);

/// fdatasync calls that a lone client's put cannot do without: a quorum of three.
const LONE_PUT_FSYNCS_MIN: f64 = 2.0;

/// Measures the bar.
///
/// # Errors
/// As [`Stage::measure`].
pub async fn measure(config: &BarsConfig) -> Result<Vec<Row>> {
    let mut stage = Stage::loaded(config).await?;
    let mut rows = Vec::new();
    let bar = Bar::Cost.name();
    for (op, (floor, goal)) in [(Op::Put, PUT_CPU_US), (Op::Get, GET_CPU_US)] {
        for clients in CLIENTS {
            let mut run = run_config(&config.shape, clients);
            run.op = op;
            let sample = stage.measure(&run).await?;
            let named = |figure: &str| format!("{} {clients}: {figure}", op.name());
            let report = &sample.report;
            let note = format!(
                "p50 {:.0}, p99 {:.0}, p99.9 {:.0} us; {} errors",
                report.latency.p50_us, report.latency.p99_us, report.latency.p999_us, report.errors
            );
            rows.push(Row::told(bar, &named("ops/s"), Some(report.ops_per_s)).note(note));
            let cpu = Row::told(bar, &named("CPU us/op"), sample.cpu_us_per_op);
            let client = report.client_cpu_us_per_op.unwrap_or_default();
            let cpu = cpu.note(format!("of it the generator {client:.1}"));
            let is_largest = clients == CLIENTS[CLIENTS.len() - 1];
            rows.push(if is_largest { cpu.at_most(floor, goal) } else { cpu });
            if op == Op::Put {
                let fsyncs = Row::told(bar, &named("fsyncs/op"), sample.fsyncs_per_op);
                rows.push(match clients {
                    1 => fsyncs.at_least(LONE_PUT_FSYNCS_MIN, LONE_PUT_FSYNCS_MIN),
                    _ => fsyncs,
                });
            }
        }
    }
    stage.stop().await;
    Ok(rows)
}
