//! Monitors of real containers: starts, ends, and each row of the table of who dies and what survives.
//!
//! This program is also the double of the monitor's door: as `kernel_monitor monitor ID --root R --run N` it is the monitor,
//! with a [`fixture::Door`] where the engine would be. Needs root. Speaks libtest's and nextest's command line.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests and their helpers; the harness is their own"
)]
#![expect(clippy::print_stdout, reason = "the harness reports")]
#![expect(
    clippy::disallowed_methods,
    reason = "callers and sidecars are processes"
)]

mod fixture;
mod lives;
mod who_dies;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A test: its name and what it does.
type Case = (&'static str, fn());

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let argument = |number: usize| arguments.get(number).map(String::as_str);
    match argument(0) {
        Some("monitor") => return fixture::be_the_monitor(),
        Some("caller") => return fixture::be_the_caller(&arguments),
        _ => {}
    }
    let cases: Vec<Case> = lives::CASES
        .iter()
        .chain(who_dies::CASES)
        .copied()
        .collect();
    let flag = |name: &str| arguments.iter().any(|argument| argument == name);
    if flag("--list") {
        if !flag("--ignored") {
            for (name, _) in cases {
                println!("{name}: test");
            }
        }
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<_> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    let exact = flag("--exact");
    let chosen: Vec<Case> = cases
        .into_iter()
        .filter(|(name, _)| {
            wanted.is_empty()
                || wanted.iter().any(|w| {
                    if exact {
                        w == name
                    } else {
                        name.contains(w.as_str())
                    }
                })
        })
        .collect();
    run(&chosen)
}

/// Runs the cases on a few threads.
fn run(cases: &[Case]) -> ExitCode {
    // What a case mounts goes with this process and its monitors.
    use nix::mount::{MsFlags, mount};
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(Vec::new());
    let work = || {
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            if !passes(case) {
                failed.lock().unwrap().push(case.0);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(work);
        }
    });
    let failed = failed.into_inner().unwrap();
    println!(
        "\n{} passed, {} failed: {failed:?}",
        cases.len() - failed.len(),
        failed.len()
    );
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs one case, reports it, and tells whether it passed.
fn passes((name, case): &Case) -> bool {
    let begun = std::time::Instant::now();
    let passed = std::panic::catch_unwind(case).is_ok();
    if passed {
        println!("test {name} ... ok ({:.1?})", begun.elapsed());
    } else {
        println!("test {name} ... FAILED");
    }
    passed
}
