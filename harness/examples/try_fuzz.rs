//! try
use harness::fuzz::campaign::*;
use harness::fuzz::case::DriverName;
use harness::fuzz::generate::Subject;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let cases: u64 = args[1].parse().unwrap();
    let faults = args.get(2).is_some_and(|a| a == "faults");
    let c = Campaign {
        subject: Subject {
            driver: DriverName::Ordered,
            defects: vec![],
            spillner: false,
            assumptions: Default::default(),
            faults,
            lying_syncs: false,
        },
        seed: 1,
        stop: Stop::Cases(cases),
        jobs: 2,
        findings: 10,
    };
    let o = run(&c, &|_| {});
    println!(
        "{} cases {} ops {} images {:.0} images/s/core",
        o.cases,
        o.host_operations,
        o.crash_images,
        o.crash_images as f64 / (o.elapsed_ns as f64 / 1e9) / 2.0
    );
    println!("{}", serde_json::to_string(&o.coverage).unwrap());
    for f in &o.findings {
        println!(
            "seed {} {}\n   {}",
            f.seed,
            f.violation,
            serde_json::to_string(&f.case).unwrap()
        );
    }
    println!("{} cases with findings", o.cases_with_findings);
}
