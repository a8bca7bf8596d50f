//! Times of single operations, by criterion: `cargo bench -p portcullis-benches`, with a part of a name to narrow it.
//!
//! Times swing with the machine. What is compared from change to change is the number of instructions of the same
//! operations: see `benches/instructions`.

use std::time::Duration;

use criterion::{Criterion, Throughput};
use portcullis::error_chain;
use portcullis_benches::operations::{ALL, Failure, Operation, Work};

fn main() {
    // A minute for all of them shows what a change of a tenth does on a quiet machine; both can be set by flags.
    let criterion =
        Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    let mut criterion = criterion.configure_from_args();
    for operation in ALL {
        measure(&mut criterion, operation);
    }
    criterion.final_summary();
}

fn measure(criterion: &mut Criterion, operation: &'static Operation) {
    let mut group = criterion.benchmark_group(operation.group);
    if operation.bytes > 0 {
        group.throughput(Throughput::Bytes(operation.bytes));
    }
    // Made when it is first run: most are left out when a name is given.
    let mut made: Option<Work> = None;
    group.bench_function(operation.name, |bencher| {
        let work = match &mut made {
            Some(work) => work,
            none => none.insert(sure(operation, operation.make())),
        };
        bencher.iter_custom(|times| sure(operation, work.run(times)));
    });
    group.finish();
}

#[expect(clippy::panic, reason = "criterion takes no errors, and the time of something that fails says nothing")]
fn sure<T>(operation: &Operation, outcome: Result<T, Failure>) -> T {
    outcome.unwrap_or_else(|failure| panic!("{}: {}", operation.name, error_chain(&failure)))
}
