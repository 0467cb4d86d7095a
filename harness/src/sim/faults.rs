//! What goes wrong without a crash: errors, short transfers, and syncs that fail or
//! lie, at planned places, by rate, or both. What was done is recorded, so that a case
//! found by rate can be repeated by place.

use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use driver::host::{HostError, OperationKind};
use driver::units::FileRange;
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::streams::below;

use super::call::Call;
use super::names::is_same;
use super::rule_met::RuleMet;

/// What an operation suffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// It fails with [`HostError::Io`](driver::host::HostError::Io) and has no effect.
    /// On a sync: it did nothing, and a later one can still succeed.
    Io,
    /// It fails with [`HostError::NoSpace`](driver::host::HostError::NoSpace) and has no
    /// effect.
    NoSpace,
    /// It fails with [`HostError::Unsupported`](driver::host::HostError::Unsupported).
    Unsupported,
    /// A read returns at most this many bytes, and at least one if there is one: 0 would
    /// mean the end of the file.
    ShortRead(u64),
    /// A write carries out and returns at most this many bytes, which may be 0.
    ShortWrite(u64),
    /// A hole is punched, or a range zeroed, only up to this many bytes from its start; then the
    /// operation fails with [`HostError::Io`](driver::host::HostError::Io).
    InPart(u64),
    /// A write or a rename takes effect and reports [`HostError::Io`](driver::host::HostError::Io):
    /// over a network, the answer was lost and the request is not repeated.
    IoAfter,
    /// A sync reports [`HostError::Io`](driver::host::HostError::Io), and no later sync
    /// makes durable what it should have: Linux marks the pages clean. Of a directory: its
    /// changes just stay unsynced.
    FailedSync,
    /// As [`Fault::FailedSync`], but it reports
    /// [`HostError::NoSpace`](driver::host::HostError::NoSpace): a file system that gives out
    /// space late learns only then that there is none.
    FailedSyncForSpace,
    /// A sync reports success and has done nothing.
    LyingSync,
}

impl Fault {
    /// One of each kind, in the order of the enumeration.
    pub const EACH: [Fault; 10] = [
        Fault::Io,
        Fault::NoSpace,
        Fault::Unsupported,
        Fault::ShortRead(1),
        Fault::ShortWrite(0),
        Fault::InPart(0),
        Fault::IoAfter,
        Fault::FailedSync,
        Fault::FailedSyncForSpace,
        Fault::LyingSync,
    ];

    /// Its name in a rule.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Io => "io",
            Fault::NoSpace => "no_space",
            Fault::Unsupported => "unsupported",
            Fault::ShortRead(_) => "short_read",
            Fault::ShortWrite(_) => "short_write",
            Fault::InPart(_) => "in_part",
            Fault::IoAfter => "io_after",
            Fault::FailedSync => "failed_sync",
            Fault::FailedSyncForSpace => "failed_sync_for_space",
            Fault::LyingSync => "lying_sync",
        }
    }

    /// The error that whoever suffers it is told; none if no call fails.
    pub fn error(self) -> Option<HostError> {
        match self {
            Fault::Io | Fault::IoAfter | Fault::InPart(_) | Fault::FailedSync => {
                Some(HostError::Io)
            }
            Fault::NoSpace | Fault::FailedSyncForSpace => Some(HostError::NoSpace),
            Fault::Unsupported => Some(HostError::Unsupported),
            Fault::ShortWrite(0) => Some(HostError::WroteNothing),
            Fault::ShortWrite(_) | Fault::ShortRead(_) | Fault::LyingSync => None,
        }
    }

    /// Whether a transfer came to less than was asked for, and to something: whoever asks for the
    /// rest has lost nothing.
    pub fn is_short_transfer(self) -> bool {
        self.error().is_none() && self != Fault::LyingSync
    }

    /// Whether a rule says a number of bytes with it.
    pub fn has_number(self) -> bool {
        self.number().is_some()
    }

    fn number(self) -> Option<u64> {
        match self {
            Fault::ShortRead(bytes) | Fault::ShortWrite(bytes) | Fault::InPart(bytes) => {
                Some(bytes)
            }
            _ => None,
        }
    }

    /// Whether the operation can suffer this. What does not fit is not injected.
    pub fn fits(self, kind: OperationKind) -> bool {
        use OperationKind::*;
        match self {
            Fault::Io => kind != Lock,
            Fault::NoSpace => {
                matches!(kind, Write | SetLen | PunchHole | ZeroRange | CloneRange)
                    || matches!(kind, Allocate | CopyRange | CreateNew)
                    || matches!(kind, Rename | MakeDirectory | Link)
            }
            Fault::Unsupported => matches!(
                kind,
                PunchHole | ZeroRange | CloneRange | NextData | Allocate | CopyRange
            ),
            Fault::ShortRead(_) => kind == Read,
            Fault::ShortWrite(_) => matches!(kind, Write | CopyRange),
            Fault::InPart(_) => matches!(kind, PunchHole | ZeroRange),
            Fault::IoAfter => {
                matches!(kind, Write | SetLen | PunchHole | ZeroRange | Allocate)
                    || matches!(kind, CopyRange | SyncData | SyncDirectory)
                    || matches!(kind, Rename | Remove | MakeDirectory | Link)
            }
            Fault::FailedSync | Fault::LyingSync => matches!(kind, SyncData | SyncDirectory),
            Fault::FailedSyncForSpace => kind == SyncData,
        }
    }
}

/// In the words of a rule: `no_space`, `short_write 512`.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        self.number().map_or(Ok(()), |bytes| write!(f, " {bytes}"))
    }
}

/// Which files a rule is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileMatch {
    /// All.
    Any,
    /// Those opened by this path.
    Path(PathBuf),
    /// Those opened by a path whose text ends so.
    Suffix(String),
}

impl FileMatch {
    fn matches(&self, path: &Path) -> bool {
        match self {
            FileMatch::Any => true,
            FileMatch::Path(wanted) => is_same(wanted, path),
            FileMatch::Suffix(suffix) => path.to_string_lossy().ends_with(suffix.as_str()),
        }
    }
}

/// Which of the operations that match a rule suffer its fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Occurrence {
    /// The one with this number, counted from 0.
    Nth(u64),
    /// The one with this number and all after it.
    From(u64),
}

impl Occurrence {
    /// The number of the first one.
    pub fn first(self) -> u64 {
        let (Occurrence::Nth(n) | Occurrence::From(n)) = self;
        n
    }

    fn is(self, number: u64) -> bool {
        match self {
            Occurrence::Nth(n) => number == n,
            Occurrence::From(n) => number >= n,
        }
    }
}

/// A fault at a planned place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultRule {
    /// The files.
    pub file: FileMatch,
    /// The kind of operation; any if `None`.
    #[serde(default, with = "kind_by_name")]
    pub kind: Option<OperationKind>,
    /// Bytes of the file, from and up to, that the operation must touch; any if `None`.
    pub bytes: Option<(u64, u64)>,
    /// Which of the operations that match all the above.
    pub occurrence: Occurrence,
    /// What happens to it.
    pub fault: Fault,
}

/// A kind of operation in a file: by its name.
mod kind_by_name {
    use driver::host::OperationKind;
    use serde::de::{Error, Unexpected};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        kind: &Option<OperationKind>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        kind.map(OperationKind::name).serialize(serializer)
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(
        deserializer: D,
    ) -> Result<Option<OperationKind>, D::Error> {
        let Some(name) = Option::<String>::deserialize(deserializer)? else {
            return Ok(None);
        };
        match OperationKind::from_name(&name) {
            Some(kind) => Ok(Some(kind)),
            None => {
                let names = OperationKind::ALL.map(OperationKind::name).join(", ");
                let expected = format!("one of {names}");
                Err(D::Error::invalid_value(
                    Unexpected::Str(&name),
                    &expected.as_str(),
                ))
            }
        }
    }
}

impl FaultRule {
    /// The fault at the operation with this number of the host: how a fault that was
    /// [`Injected`] is repeated.
    pub fn at_operation(index: u64, fault: Fault) -> Self {
        Self {
            file: FileMatch::Any,
            kind: None,
            bytes: None,
            occurrence: Occurrence::Nth(index),
            fault,
        }
    }

    /// The fault at the n-th operation of a kind, counted from 0, on the file opened by
    /// this path.
    pub fn nth(path: impl Into<PathBuf>, kind: OperationKind, n: u64, fault: Fault) -> Self {
        Self {
            file: FileMatch::Path(path.into()),
            kind: Some(kind),
            bytes: None,
            occurrence: Occurrence::Nth(n),
            fault,
        }
    }

    /// By which of the file's names the rule is about a call.
    fn matches<'a>(&self, call: &Call, names: &'a [Rc<Path>]) -> Option<&'a Rc<Path>> {
        let touches = |range: FileRange, (from, to): (u64, u64)| {
            range.start.0 < to && from < range.end().0.max(range.start.0 + 1)
        };
        let is_of_kind = self.kind.is_none_or(|kind| kind == call.kind)
            && self.bytes.is_none_or(|bytes| touches(call.range, bytes));
        let mut names = names.iter().filter(|_| is_of_kind);
        names.find(|name| self.file.matches(name))
    }
}

/// Decides at each operation whether it suffers a fault. It is called while the host is
/// at work and must not use it.
pub type FaultDecider = Box<dyn FnMut(&Call) -> Option<Fault>>;

/// The faults that a host has in store.
#[derive(Default)]
pub struct FaultPlan {
    rules: Vec<RuleMet>,
    decider: Option<FaultDecider>,
}

impl FaultPlan {
    /// Faults at these places. Where several rules apply, the first does.
    pub fn at(rules: impl IntoIterator<Item = FaultRule>) -> Self {
        Self {
            rules: rules.into_iter().map(RuleMet::new).collect(),
            decider: None,
        }
    }

    /// Also asks `decider` at each operation for which no rule has a fault.
    pub fn and(self, decider: impl FnMut(&Call) -> Option<Fault> + 'static) -> Self {
        Self {
            decider: Some(Box::new(decider)),
            ..self
        }
    }

    /// Also injects faults by rate, drawn from `rng`.
    pub fn and_by_rate(self, rates: FaultRates, mut rng: impl Rng + 'static) -> Self {
        self.and(move |call| rates.draw(call, &mut rng))
    }

    pub(crate) fn add(&mut self, rules: &[FaultRule]) {
        self.rules.extend(rules.iter().cloned().map(RuleMet::new));
    }

    /// What has come of the rules.
    pub(crate) fn rules_met(&self) -> &[RuleMet] {
        &self.rules
    }

    pub(crate) fn decide(&mut self, call: &Call) -> Option<Fault> {
        let decided = self.decide_by_any(call, std::slice::from_ref(&call.path));
        decided.map(|(fault, _)| fault)
    }

    /// As [`FaultPlan::decide`], of a call on a file that has all of these names: a rule is about
    /// it by any of them. The fault, and the name by which it is.
    pub(crate) fn decide_by_any(
        &mut self,
        call: &Call,
        names: &[Rc<Path>],
    ) -> Option<(Fault, Rc<Path>)> {
        let mut planned = None;
        for met in &mut self.rules {
            let Some(name) = met.rule.matches(call, names) else {
                continue;
            };
            let applies = met.rule.occurrence.is(met.matched);
            met.matched += 1;
            if applies && !met.rule.fault.fits(call.kind) {
                met.unfit += 1;
            } else if applies && planned.is_none() {
                met.failed += 1;
                planned = Some((met.rule.fault, Rc::clone(name)));
            }
        }
        let decider = self.decider.as_mut().filter(|_| planned.is_none());
        let drawn = decider.and_then(|decide| decide(call));
        let drawn = drawn.filter(|fault| fault.fits(call.kind));
        planned.or(drawn.map(|fault| (fault, Rc::clone(&call.path))))
    }
}

impl fmt::Debug for FaultPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultPlan")
            .field("rules", &self.rules)
            .field("decider", &self.decider.is_some())
            .finish()
    }
}

/// How many of a million operations that can suffer a fault do. Lying syncs void every
/// promise; they have a rate only to show that the checks notice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "named as the faults are")]
pub struct FaultRates {
    pub io: u32,
    pub no_space: u32,
    pub unsupported: u32,
    pub short_read: u32,
    pub short_write: u32,
    pub failed_sync: u32,
    pub lying_sync: u32,
}

impl FaultRates {
    /// Draws what an operation suffers. Where several faults can hit it, the first
    /// in the order of the fields does.
    pub fn draw<R: Rng + ?Sized>(&self, call: &Call, rng: &mut R) -> Option<Fault> {
        const MILLION: u64 = 1_000_000;
        let rates = [
            (self.io, Fault::Io),
            (self.no_space, Fault::NoSpace),
            (self.unsupported, Fault::Unsupported),
            (self.short_read, Fault::ShortRead(0)),
            (self.short_write, Fault::ShortWrite(0)),
            (self.failed_sync, Fault::FailedSync),
            (self.lying_sync, Fault::LyingSync),
        ];
        let (_, fault) = (rates.into_iter())
            .filter(|(rate, fault)| *rate > 0 && fault.fits(call.kind))
            .find(|(rate, _)| below(rng, MILLION) < u64::from(*rate))?;
        // Lengths from 0 to all but one byte.
        let mut shorter = || below(rng, call.range.len.0.max(1));
        Some(match fault {
            Fault::ShortRead(_) => Fault::ShortRead(shorter()),
            Fault::ShortWrite(_) => Fault::ShortWrite(shorter()),
            other => other,
        })
    }
}

/// A fault that took place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injected {
    /// The call that it was planned or drawn for.
    pub call: Call,
    /// What that suffered.
    pub fault: Fault,
}

impl Injected {
    /// For somebody who knows nothing of other calls: `write disk.cow 4096+512: no_space`.
    pub fn told(&self) -> String {
        format!("{}: {}", self.call.told(), self.fault)
    }
}

/// `#17 write disk.cow 4096+512: Io`
impl fmt::Display for Injected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.call, self.fault)
    }
}

#[cfg(test)]
mod tests {
    use driver::units::{Bytes, FileOffset};

    use super::super::rule_met::Idle;
    use super::*;

    fn call(kind: OperationKind, path: &str, start: u64, len: u64) -> Call {
        Call::new(kind, &Path::new(path).into()).on(FileOffset(start), Bytes(len))
    }

    #[test]
    fn a_rule_counts_only_what_matches_it() {
        let mut plan = FaultPlan::at([FaultRule {
            file: FileMatch::Suffix(".cow".into()),
            kind: Some(OperationKind::Write),
            bytes: Some((4096, 8192)),
            occurrence: Occurrence::Nth(1),
            fault: Fault::Io,
        }]);
        let mut hit = |kind, path, start, len| plan.decide(&call(kind, path, start, len));
        let write = OperationKind::Write;
        assert_eq!(hit(write, "a.cow", 4096, 512), None, "the 0th");
        assert_eq!(hit(write, "a.img", 4096, 512), None);
        assert_eq!(hit(OperationKind::Read, "a.cow", 4096, 512), None);
        assert_eq!(hit(write, "a.cow", 3584, 512), None);
        assert_eq!(hit(write, "a.cow", 8192, 512), None);
        assert_eq!(hit(write, "b.cow", 8191, 512), Some(Fault::Io), "the 1st");
        assert_eq!(hit(write, "b.cow", 8191, 512), None);
    }

    #[test]
    fn a_fault_that_does_not_fit_the_operation_does_not_happen() {
        let mut plan = FaultPlan::at([FaultRule::at_operation(0, Fault::FailedSync)]);
        assert_eq!(plan.decide(&call(OperationKind::Write, "a", 0, 1)), None);
        let mut plan = FaultPlan::default().and(|_| Some(Fault::ShortRead(1)));
        assert_eq!(plan.decide(&call(OperationKind::Write, "a", 0, 1)), None);
        let read = call(OperationKind::Read, "a", 0, 1);
        assert_eq!(plan.decide(&read), Some(Fault::ShortRead(1)));
    }

    #[test]
    fn each_fault_has_the_name_that_rules_have_for_it() {
        let refused = serde_json::from_str::<Fault>("\"none\"").unwrap_err();
        let names = Fault::EACH.map(|fault| format!("`{}`", fault.name()));
        let all = format!("expected one of {}", names.join(", "));
        assert!(refused.to_string().contains(&all), "{refused}, {all}");
    }

    #[test]
    fn a_rule_that_has_failed_nothing_says_why() {
        let rule = |kind, n, fault| FaultRule::nth("a", kind, n, fault);
        let of_any_kind = FaultRule {
            kind: None,
            ..rule(OperationKind::Write, 0, Fault::LyingSync)
        };
        let mut plan = FaultPlan::at([
            rule(OperationKind::Read, 0, Fault::Io),
            rule(OperationKind::Write, 2, Fault::Io),
            rule(OperationKind::Write, 0, Fault::NoSpace),
            rule(OperationKind::Write, 0, Fault::Io),
            of_any_kind,
        ]);
        let write = call(OperationKind::Write, "a", 0, 1);
        assert_eq!(plan.decide(&write), Some(Fault::NoSpace));
        assert_eq!(plan.decide(&write), None);
        let idle: Vec<_> = plan.rules_met().iter().map(RuleMet::idle).collect();
        let expected = [
            Some(Idle::NothingMatched),
            Some(Idle::NotReached),
            None,
            Some(Idle::AnotherFirst),
            Some(Idle::Unfit),
        ];
        assert_eq!(idle, expected);
    }

    #[test]
    fn a_rate_of_a_million_hits_always_and_of_none_never() {
        use rand::SeedableRng;
        let mut rng = rand::rngs::Xoshiro256PlusPlus::seed_from_u64(3);
        let rates = FaultRates {
            short_write: 1_000_000,
            ..FaultRates::default()
        };
        for _ in 0..100 {
            let write = call(OperationKind::Write, "a", 0, 512);
            let drawn = rates.draw(&write, &mut rng);
            assert!(matches!(drawn, Some(Fault::ShortWrite(count)) if count < 512));
            let read = call(OperationKind::Read, "a", 0, 512);
            assert_eq!(rates.draw(&read, &mut rng), None);
        }
    }
}
