//! Putting the results of shards together. The order in which they come makes no difference, nor
//! does which are put together first.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use driver::shown;
use serde::{Deserialize, Serialize};

use super::{MOST_SHARDS, Shard};

/// The shards that a result is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shards {
    /// Into how many the work is cut.
    pub of: u32,
    /// The numbers of those that are in it, from 1, in order.
    pub numbers: Vec<u32>,
}

impl From<Shard> for Shards {
    fn from(shard: Shard) -> Shards {
        Shards {
            of: shard.of(),
            numbers: vec![shard.number()],
        }
    }
}

impl Shards {
    /// Whether there can be such shards.
    ///
    /// # Errors
    /// What is found.
    pub fn check(&self) -> Result<(), WrongShards> {
        let Shards { of, numbers } = self;
        let are_shards = numbers.iter().all(|&number| (1..=*of).contains(&number));
        let are_in_order = numbers.is_sorted_by(|one, next| one < next);
        match !numbers.is_empty() && *of <= MOST_SHARDS && are_shards && are_in_order {
            true => Ok(()),
            false => Err(WrongShards(self.clone())),
        }
    }

    /// Whether the case of this number is one of theirs.
    pub fn have(&self, case: u64) -> bool {
        let shard = case.checked_rem(u64::from(self.of)).map(|index| index + 1);
        let number = shard.and_then(|shard| u32::try_from(shard).ok());
        number.is_some_and(|number| self.numbers.binary_search(&number).is_ok())
    }

    /// Its shards.
    pub fn each(&self) -> impl Iterator<Item = Shard> {
        let of = self.of;
        self.numbers
            .iter()
            .filter_map(move |&number| Shard::new(number, of))
    }

    /// The shard, if it is a single one, and not all of the work.
    pub fn single(&self) -> Option<Shard> {
        match (self.of, &self.numbers[..]) {
            (2.., &[number]) => Shard::new(number, self.of),
            _ => None,
        }
    }
}

/// Shards that there cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "shards: found {:?} of {}, expected numbers from 1 to that, each once and in order",
    .0.numbers, .0.of
)]
pub struct WrongShards(Shards);

/// What two results differ in that should be of the same work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: found {found}, expected {expected}")]
pub struct Difference {
    what: &'static str,
    found: String,
    expected: String,
}

impl Difference {
    /// # Errors
    /// If `found` is not what was expected.
    pub fn check<T: PartialEq + fmt::Display>(
        what: &'static str,
        found: &T,
        expected: &T,
    ) -> Result<(), Difference> {
        if found == expected {
            return Ok(());
        }
        Err(Difference {
            what,
            found: found.to_string(),
            expected: expected.to_string(),
        })
    }
}

/// What came of a shard.
pub trait OfShards: Sized {
    /// What is cut into shards: "replay".
    const WORK: &'static str;

    /// The shards that it is of.
    fn shards(&self) -> &Shards;

    /// Likewise, to be changed.
    fn shards_mut(&mut self) -> &mut Shards;

    /// Whether both are of the same work.
    ///
    /// # Errors
    /// What it differs in.
    fn is_of_same(&self, expected: &Self) -> Result<(), Difference>;

    /// Takes in what came of other shards of the same work.
    fn take_in(&mut self, other: Self);

    /// Leaves out what is a matter of the shards, now that it is the result of all work.
    fn complete(&mut self) {}
}

/// Adds to a number that a document has. It may say anything: the sum is at most the largest number
/// that there is.
pub fn add_up(sum: &mut u64, more: u64) {
    *sum = sum.saturating_add(more);
}

/// Why results cannot be put together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAdded {
    /// They are of different work.
    #[error(transparent)]
    Foreign(#[from] Difference),
    /// The work was cut in another way.
    #[error("found one in {found} shards, expected {expected}")]
    OtherCut {
        /// Into this number of shards.
        found: u32,
        /// And not into this one.
        expected: u32,
    },
    /// A shard is in both.
    #[error("shard {0} once more")]
    Doubled(Shard),
}

/// Adds what came of other shards.
///
/// # Errors
/// Why that cannot be; then nothing is changed.
pub fn add<R: OfShards>(sum: &mut R, other: R) -> Result<(), NotAdded> {
    other.is_of_same(sum)?;
    let (found, expected) = (other.shards().of, sum.shards().of);
    if found != expected {
        return Err(NotAdded::OtherCut { found, expected });
    }
    let is_there = |shard: &Shard| sum.shards().numbers.contains(&shard.number());
    if let Some(doubled) = other.shards().each().find(is_there) {
        return Err(NotAdded::Doubled(doubled));
    }
    let numbers = &mut sum.shards_mut().numbers;
    numbers.extend(&other.shards().numbers);
    numbers.sort_unstable();
    sum.take_in(other);
    Ok(())
}

/// Why files are not all results of one work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotWhole {
    /// There is none.
    #[error("found no result, expected those of all shards of a {0}")]
    Empty(&'static str),
    /// A file does not fit to the first one.
    #[error("{}: a result of another {work} than {}: {why}", shown(.file), shown(.first))]
    Other {
        /// What is cut into shards.
        work: &'static str,
        /// The file.
        file: PathBuf,
        /// The first one.
        first: PathBuf,
        /// Why it does not.
        why: Box<NotAdded>,
    },
    /// A shard is in two files.
    #[error("{}: found shard {shard}, which is in {} too", shown(.file), shown(.other))]
    Doubled {
        /// The second file.
        file: PathBuf,
        /// The first file.
        other: PathBuf,
        /// The shard.
        shard: Shard,
    },
    /// Shards are in no file.
    #[error("found {there} of {of} shards, expected all: {missing}")]
    Missing {
        /// How many are in one.
        there: usize,
        /// How many there should be.
        of: u32,
        /// The others.
        missing: Missing,
    },
}

/// The numbers of shards that are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing(Vec<u32>);

/// The most shards that are named where some are missing.
const MOST_NAMED: usize = 16;

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Missing(numbers) = self;
        let named = numbers.iter().take(MOST_NAMED).map(u32::to_string);
        let named = named.collect::<Vec<_>>().join(", ");
        match numbers.len() {
            1 => write!(f, "shard {named} is missing"),
            ..=MOST_NAMED => write!(f, "shards {named} are missing"),
            all => write!(
                f,
                "shards {named} and {} more are missing",
                all - MOST_NAMED
            ),
        }
    }
}

/// The sum of results that come one after the other.
#[derive(Debug)]
pub struct Merging<R> {
    /// With the file that the first one was in.
    sum: Option<(PathBuf, R)>,
    /// Which file each shard is in.
    files: BTreeMap<u32, PathBuf>,
}

impl<R> Default for Merging<R> {
    fn default() -> Merging<R> {
        Merging {
            sum: None,
            files: BTreeMap::new(),
        }
    }
}

impl<R: OfShards> Merging<R> {
    /// Adds a result, and the file that it is in.
    ///
    /// # Errors
    /// Why it does not fit.
    pub fn add(&mut self, file: PathBuf, result: R) -> Result<(), NotWhole> {
        let shards = result.shards().clone();
        let Some((first, sum)) = &mut self.sum else {
            note(&mut self.files, &file, &shards);
            self.sum = Some((file, result));
            return Ok(());
        };
        match add(sum, result) {
            Ok(()) => {
                note(&mut self.files, &file, &shards);
                Ok(())
            }
            Err(NotAdded::Doubled(shard)) => {
                let other = self.files.get(&shard.number()).unwrap_or(first).clone();
                Err(NotWhole::Doubled { file, other, shard })
            }
            Err(why) => Err(NotWhole::Other {
                work: R::WORK,
                file,
                first: first.clone(),
                why: Box::new(why),
            }),
        }
    }

    /// The result of the whole work.
    ///
    /// # Errors
    /// Which shards are missing.
    pub fn whole(self) -> Result<R, NotWhole> {
        let (_, mut sum) = self.sum.ok_or(NotWhole::Empty(R::WORK))?;
        let Shards { of, numbers } = sum.shards();
        let missing = (1..=*of).filter(|number| numbers.binary_search(number).is_err());
        let missing: Vec<u32> = missing.collect();
        if !missing.is_empty() {
            return Err(NotWhole::Missing {
                there: numbers.len(),
                of: *of,
                missing: Missing(missing),
            });
        }
        // It is the whole, however it was cut.
        *sum.shards_mut() = Shard::WHOLE.into();
        sum.complete();
        Ok(sum)
    }
}

/// The result of the whole work, from those of its shards and the files that they are in.
///
/// # Errors
/// Which of them does not fit, or is there twice, or which are missing.
pub fn merge<R: OfShards>(results: impl IntoIterator<Item = (PathBuf, R)>) -> Result<R, NotWhole> {
    let mut merging = Merging::default();
    for (file, result) in results {
        merging.add(file, result)?;
    }
    merging.whole()
}

fn note(files: &mut BTreeMap<u32, PathBuf>, file: &Path, shards: &Shards) {
    let numbers = shards.numbers.iter();
    files.extend(numbers.map(|&number| (number, file.to_owned())));
}
