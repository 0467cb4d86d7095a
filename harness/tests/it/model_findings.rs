//! What a replay on the model of a kernel's driver makes of a driver that does something wrong in
//! another way than by what is read back: a finding, with all that was counted before it. Of the
//! right driver it is an error, as ever.

use driver::linux::{Defects, Kernel};
use driver::memory::MemoryHost;
use driver::ordered::Ordered;
use driver::units::Bytes;
use harness::fuzz::doubles::{self, Doubled, Seam};
use harness::replay::{Options, OrderedBut, Pipe, ReplayDriver, Report, Session, SessionError};
use harness::trace::{Generator, TraceSource, Workload};

const SIZE: Bytes = Bytes(64 << 10);

/// Replays on a device with this double, which is taken for the driver of these options.
fn replayed(double: &str, driver: ReplayDriver) -> Result<Report, SessionError> {
    let Seam::Driver { in_memory, .. } = doubles::named(double).unwrap().seam else {
        panic!("{double} is no double of the driver");
    };
    let workload = Workload {
        seed: 1,
        requests: 500,
        device: SIZE,
        ..Workload::default()
    };
    let open_trace =
        || Ok(Box::new(Generator::new(workload.clone()).unwrap()) as Box<dyn TraceSource>);
    let session = Session {
        trace: &open_trace,
        options: Options {
            driver,
            ..Options::as_fast(8)
        },
        progress: &|_| {},
    };
    let brings = OrderedBut(|device: Ordered<_>| Doubled::new(Box::new(device), in_memory()));
    session.on_host(MemoryHost::new(), Some(SIZE), &brings)
}

#[test]
fn what_a_model_does_not_complete_or_completes_wrongly_is_a_finding() {
    for (double, what) in [
        ("completion-twice", "which is not in flight"),
        ("device-hangs", "never completed"),
        ("error-without-a-fault", "request "),
    ] {
        let model = ReplayDriver::Linux(Kernel::Linux6_12, Defects::none(), Pipe::Real);
        let report = replayed(double, model).unwrap();
        assert!(!report.is_good(), "{double}");
        assert_eq!((report.mismatches, report.other_faults), (0, 1), "{double}");
        assert!(report.requests > 0);
        let [example] = &report.mismatch_examples[..] else {
            panic!("{double}: {:?}", report.mismatch_examples);
        };
        assert!(example.starts_with("at the end: "), "{example}");
        assert!(example.contains(what), "{example}");
        let error = replayed(double, ReplayDriver::Ordered).unwrap_err();
        assert!(matches!(error, SessionError::Replay { .. }), "{error}");
        assert!(error.to_string().contains(what), "{error}");
    }
}
