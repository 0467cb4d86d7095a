//! `--driver`, `--defect` and `--io`, wherever they are taken.

use std::sync::LazyLock;

use clap::ValueEnum;
use clap::builder::{PossibleValue, PossibleValuesParser};
use driver::linux::{Defect, Defects, Kernel};

use crate::device::Io;
use crate::figures::in_lines;
use crate::fuzz::case::DriverName;
use crate::replay::{Pipe, ReplayDriver};

/// The name that stands for no defect at all.
pub(super) const NONE: &str = "none";

/// The names of the defects that the models of the kernels' drivers can have.
pub(super) fn names_of_drivers() -> impl Iterator<Item = &'static str> {
    Defect::ALL.iter().map(|defect| defect.name())
}

/// Names for the end of a long help, in lines under a heading.
pub(super) fn listed(heading: &str, names: impl Iterator<Item = &'static str>) -> String {
    let names: Vec<_> = names.collect();
    let lines = in_lines(&names, 96);
    format!("{heading}:\n  {}", lines.join("\n  "))
}

/// What takes one of these names, or [`NONE`].
pub(super) fn one_of(names: impl Iterator<Item = &'static str>) -> PossibleValuesParser {
    let names = names.chain([NONE]).map(PossibleValue::new);
    names.collect::<Vec<_>>().into()
}

/// A driver on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum DriverArg {
    /// The correct one, with every way to resize
    #[value(name = "ordered")]
    Ordered,
    /// The model of Linux 5.11 to 6.12
    #[value(name = "linux-6.12")]
    Linux612,
    /// The model of the 2.6 era
    #[value(name = "linux-2.6")]
    Linux26,
}

/// Any driver on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnyDriverArg {
    /// One that runs in this program.
    InHere(DriverArg),
    /// That of a running kernel.
    Kernel,
}

impl AnyDriverArg {
    pub(super) const ORDERED: AnyDriverArg = AnyDriverArg::InHere(DriverArg::Ordered);
}

impl ValueEnum for AnyDriverArg {
    fn value_variants<'a>() -> &'a [AnyDriverArg] {
        static ALL: LazyLock<Vec<AnyDriverArg>> = LazyLock::new(|| {
            let in_here = DriverArg::value_variants().iter().copied();
            let in_here = in_here.map(AnyDriverArg::InHere);
            in_here.chain([AnyDriverArg::Kernel]).collect()
        });
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            AnyDriverArg::InHere(driver) => driver.to_possible_value(),
            AnyDriverArg::Kernel => Some(
                PossibleValue::new("kernel")
                    .help("That of a real kernel, which is booted: User-Mode Linux's"),
            ),
        }
    }
}

/// What is said of `--kernel` without a driver that it is for.
pub(super) const NO_KERNEL: &str =
    "--kernel: found with a driver that needs none, expected --driver kernel";

/// Drivers of which one is chosen.
pub(super) trait ChosenDriver: ValueEnum + Send + Sync + 'static {
    /// The one that is taken where nothing is said.
    const USUAL: Self;

    /// The driver with what `--defect` and `--io` were given; `not_with_a_model` are arguments that
    /// only `ordered` can follow, and whether they were given.
    ///
    /// # Errors
    /// What cannot go together.
    fn chosen(
        self,
        defects: &[String],
        io: IoArg,
        not_with_a_model: &[(&str, bool)],
    ) -> Result<ReplayDriver, String>;
}

impl ChosenDriver for DriverArg {
    const USUAL: DriverArg = DriverArg::Ordered;

    fn chosen(
        self,
        defects: &[String],
        _: IoArg,
        not_with_a_model: &[(&str, bool)],
    ) -> Result<ReplayDriver, String> {
        self.with_defects(defects, not_with_a_model)
    }
}

impl ChosenDriver for AnyDriverArg {
    const USUAL: AnyDriverArg = AnyDriverArg::ORDERED;

    fn chosen(
        self,
        defects: &[String],
        io: IoArg,
        not_with_a_model: &[(&str, bool)],
    ) -> Result<ReplayDriver, String> {
        let AnyDriverArg::InHere(driver) = self else {
            let not_with_the_kernel = [
                ("--defect", !defects.is_empty()),
                ("--io", io != IoArg::Auto),
            ];
            let mut given = not_with_the_kernel.iter().chain(not_with_a_model);
            return match given.find(|(_, asked)| *asked) {
                Some((what, _)) => Err(format!("{what}: not with --driver kernel")),
                None => Ok(ReplayDriver::RealKernel),
            };
        };
        driver.chosen(defects, io, not_with_a_model)
    }
}

/// The driver of a device on real files, and who works for it.
#[derive(Debug, clap::Args)]
pub(super) struct DriverArgs<D: ChosenDriver> {
    /// The driver that serves the requests
    ///
    /// The models of the kernels' drivers have the defects of the real ones, and lose what those
    /// lose. They have one host operation under way at a time, no resize and no raw disk, and Linux
    /// 2.6 knows no discard.
    #[arg(long, value_enum, default_value_t = D::USUAL)]
    pub(super) driver: D,

    /// Of a kernel's driver, switch on only this defect; may be repeated
    ///
    /// Without it, all that the real one has; `none` switches all off. docs/defects.md says what
    /// each of them is. Most show only after a crash, with a failing host or on a damaged file;
    /// ubdlab fuzz has all of those. With requeue-loses-bitmap named here, the pipe to the I/O
    /// thread holds 4 requests, so that it fills: the real one holds 278, and one device has at
    /// most 64 in flight.
    #[arg(
        long,
        value_name = "NAME",
        value_parser = one_of(names_of_drivers()),
        hide_possible_values = true
    )]
    pub(super) defect: Vec<String>,

    /// Who carries out what the device asks of its files
    #[arg(long, value_enum, default_value_t = IoArg::Auto)]
    pub(super) io: IoArg,
}

impl<D: ChosenDriver> DriverArgs<D> {
    /// The driver with its defects; `not_with_a_model` are arguments that only `ordered` can
    /// follow, and whether they were given.
    ///
    /// # Errors
    /// What cannot go together.
    pub(super) fn chosen(&self, not_with_a_model: &[(&str, bool)]) -> Result<ReplayDriver, String> {
        let driver = self.driver.clone();
        driver.chosen(&self.defect, self.io, not_with_a_model)
    }
}

impl DriverArg {
    pub(super) fn driver(self) -> DriverName {
        match self {
            DriverArg::Ordered => DriverName::Ordered,
            DriverArg::Linux612 => DriverName::Linux612,
            DriverArg::Linux26 => DriverName::Linux26,
        }
    }

    /// Of a model, whose it is, and the defects that the real one has.
    pub(super) fn kernel(self) -> Option<(Kernel, Defects)> {
        match self {
            DriverArg::Ordered => None,
            DriverArg::Linux612 => Some((Kernel::Linux6_12, Defects::LINUX_6_12)),
            DriverArg::Linux26 => Some((Kernel::Linux2_6, Defects::LINUX_2_6)),
        }
    }

    /// The driver with what `--defect` was given; `not_with_a_model` are arguments that only
    /// `ordered` can follow, and whether they were given.
    ///
    /// # Errors
    /// What cannot go together.
    pub(super) fn with_defects(
        self,
        given: &[String],
        not_with_a_model: &[(&str, bool)],
    ) -> Result<ReplayDriver, String> {
        let name = self.driver().name();
        let Some((kernel, _)) = self.kernel() else {
            return match given.first() {
                Some(defect) => Err(format!(
                    "--defect {defect}: --driver {name} has none: --driver linux-6.12 or linux-2.6"
                )),
                None => Ok(ReplayDriver::Ordered),
            };
        };
        if let Some((what, _)) = not_with_a_model.iter().find(|(_, asked)| *asked) {
            return Err(format!(
                "{what}: only --driver ordered can do that, not {name}"
            ));
        }
        let parsed = |name: &str| {
            let parsed = name.parse::<Defect>();
            let defect = parsed.map_err(|error| format!("--defect: {error}"))?;
            self.check_own(defect)?;
            Ok(defect)
        };
        let defects = self.defects(given, parsed)?;
        let defects: Defects = defects.into_iter().collect();
        let pipe = match given.is_empty() {
            true => Pipe::Real,
            false => Pipe::for_named(defects),
        };
        Ok(ReplayDriver::Linux(kernel, defects, pipe))
    }

    /// Whether this kernel's driver can have the defect: one that only the other one has makes no
    /// sense in it. Those that neither has are of versions between them or before, or come at
    /// times.
    ///
    /// # Errors
    /// Which driver has it.
    pub(super) fn check_own(self, defect: Defect) -> Result<(), String> {
        let own = self.kernel().map_or(Defects::none(), |(_, own)| own);
        let others = [DriverArg::Linux612, DriverArg::Linux26].into_iter();
        let mut others = others.filter(|&other| other != self);
        let has = |other: &DriverArg| other.kernel().is_some_and(|(_, of)| of.contains(defect));
        match others.find(has) {
            Some(other) if !own.contains(defect) => {
                let [found, other] = [self, other].map(|driver| driver.driver().name());
                Err(format!(
                    "--defect {defect}: --driver {found} never had it; --driver {other} has"
                ))
            }
            _ => Ok(()),
        }
    }

    /// The defects that are switched on by what `--defect` was given: of none, all
    /// that the real driver has. `parse` reads a name that the driver can have.
    ///
    /// # Errors
    /// Those of `parse`; that [`NONE`] came with others.
    pub(super) fn defects<D>(
        self,
        given: &[String],
        parse: impl Fn(&str) -> Result<D, String>,
    ) -> Result<Vec<D>, String> {
        match given {
            [] => {
                let real = self.kernel().map_or(Defects::none(), |(_, real)| real);
                real.iter().map(|defect| parse(defect.name())).collect()
            }
            [only] if only == NONE => Ok(Vec::new()),
            several if several.iter().any(|name| name == NONE) => {
                Err(format!("--defect {NONE}: found with another defect"))
            }
            names => names.iter().map(|name| parse(name)).collect(),
        }
    }
}

/// Who carries host operations out, on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum IoArg {
    /// With one request in flight as inline; otherwise as uring, or as threads where io_uring is
    /// refused
    Auto,
    /// The device's own thread, one operation after the other
    Inline,
    /// A pool of threads, one for each request in flight
    Threads,
    /// io_uring, which many containers do not allow
    Uring,
}

impl From<IoArg> for Io {
    fn from(io: IoArg) -> Io {
        match io {
            IoArg::Auto => Io::Auto,
            IoArg::Inline => Io::Inline,
            IoArg::Threads => Io::Threads,
            IoArg::Uring => Io::Uring,
        }
    }
}
