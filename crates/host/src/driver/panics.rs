//! A panic ends the process.
//!
//! A runtime catches the panics of its tasks, and the other threads of a process outlive one that
//! panics. Without its transport, its disk thread or its listener a process would go on with the
//! rest: lead regions whose entries it cannot send, hold a directory that it does not write. Every
//! process here may be killed at any time, so one that is not whole ends itself.
//!
//! Panics that the storage code turns into errors go on: the caller reports the error, which names
//! the file, and ends in its own way.
//!
//! Not here: failures that are values; a core answers them as fatal.

use std::panic::PanicHookInfo;
use std::process::exit;
use std::thread;

use tracing::error;

/// From now on, a panic on any thread is logged in one line and ends the process with `status`. The
/// hook that was there before runs first.
pub fn end_process_on_panic(status: i32) {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        if !flotilla_engine::catches_panics() {
            log_end(panic);
            exit(status);
        }
    }));
}

fn log_end(panic: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let reason = panic.to_string().replace('\n', " ");
    error!(thread = thread.name().unwrap_or("unnamed"), %reason, "the process ends");
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Set in the process that is to end.
    const PANICS_ON: &str = "FLOTILLA_TEST_PANICS_ON";

    /// What a panicking process prints, and its status: of this test, run anew in a process of its
    /// own, with a panic on a thread or in a task.
    fn ended(on: &str) -> (String, Option<i32>) {
        let test = "driver::panics::tests::a_panic_on_a_thread_or_in_a_task_ends_the_process";
        let mut process = Command::new(std::env::current_exe().expect("this test's binary"));
        let output = process
            .args(["--exact", test, "--nocapture", "--test-threads", "1"])
            .env(PANICS_ON, on)
            .output()
            .expect("starts");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        (text, output.status.code())
    }

    fn panic_on(on: &str) {
        end_process_on_panic(3);
        if on == "thread" {
            // A panic that did not end the process would come back as an error, and status 0.
            let _ = thread::spawn(|| panic!("half a process")).join();
        } else {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            let _ = runtime.block_on(runtime.spawn(async { panic!("half a process") }));
        }
    }

    #[test]
    fn a_panic_on_a_thread_or_in_a_task_ends_the_process() {
        if let Ok(on) = std::env::var(PANICS_ON) {
            return panic_on(&on);
        }
        for on in ["thread", "task"] {
            let (text, status) = ended(on);
            assert_eq!(status, Some(3), "{on}: {text}");
            assert!(text.contains("half a process"), "{on}: {text}");
        }
    }
}
