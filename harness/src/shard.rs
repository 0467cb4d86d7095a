//! Work that is cut into shards, for any number of machines. What there is to do has numbers and is
//! dealt out by them, so that all shards together are the whole, into however many it is cut.

pub mod merge;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The most shards that work is cut into.
pub const MOST_SHARDS: u32 = 1_000_000;

/// Shard `number` of `of`. On the command line and in files it is `K/N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Shard {
    number: u32,
    of: u32,
}

/// What is no shard.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "found {found:?}, expected K/N with K from 1 to N and N at most {MOST_SHARDS}, such as 3/8"
)]
pub struct NoShard {
    found: String,
}

impl Shard {
    /// All work in one piece.
    pub const WHOLE: Shard = Shard { number: 1, of: 1 };

    /// Shard `number`, from 1, of `of`; `None` if there is none.
    pub fn new(number: u32, of: u32) -> Option<Shard> {
        (1 <= number && number <= of && of <= MOST_SHARDS).then_some(Shard { number, of })
    }

    /// Its number, from 1.
    pub fn number(self) -> u32 {
        self.number
    }

    /// Into how many shards the work is cut.
    pub fn of(self) -> u32 {
        self.of
    }

    /// The number of the case that is this shard's at `index`, both from 0.
    pub fn case_at(self, index: u64) -> u64 {
        let first = u64::from(self.number - 1);
        first.wrapping_add(u64::from(self.of).wrapping_mul(index))
    }

    /// Whether the case of this number, from 0, is this shard's.
    pub fn has(self, case: u64) -> bool {
        case % u64::from(self.of) == u64::from(self.number - 1)
    }

    /// The index of its case of this number.
    pub fn index_of(self, case: u64) -> u64 {
        case / u64::from(self.of)
    }

    /// How many of `cases` cases are this shard's.
    pub fn share_of(self, cases: u64) -> u64 {
        let first = u64::from(self.number - 1);
        cases.saturating_sub(first).div_ceil(u64::from(self.of))
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shard { number, of } = self;
        write!(f, "{number}/{of}")
    }
}

impl FromStr for Shard {
    type Err = NoShard;

    fn from_str(text: &str) -> Result<Shard, NoShard> {
        // A sign is none of a shard's.
        let number = |digits: &str| match digits.starts_with('+') {
            true => None,
            false => digits.parse().ok(),
        };
        let shard = || {
            let (k, n) = text.split_once('/')?;
            Shard::new(number(k)?, number(n)?)
        };
        shard().ok_or_else(|| NoShard {
            found: text.to_owned(),
        })
    }
}

impl TryFrom<String> for Shard {
    type Error = NoShard;

    fn try_from(text: String) -> Result<Shard, NoShard> {
        text.parse()
    }
}

impl From<Shard> for String {
    fn from(shard: Shard) -> String {
        shard.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_number_of_shards_each_case_is_in_one() {
        for (cases, of) in [
            (0, 1),
            (1, 3),
            (2, 3),
            (3, 3),
            (7, 3),
            (20, 1),
            (20, 7),
            (5, 9),
        ] {
            let mut dealt = Vec::new();
            for number in 1..=of {
                let shard = Shard::new(number, of).unwrap();
                let own: Vec<u64> = (0..shard.share_of(cases))
                    .map(|index| shard.case_at(index))
                    .collect();
                assert!((0..cases).all(|case| shard.has(case) == own.contains(&case)));
                for (index, &case) in (0..).zip(&own) {
                    assert_eq!(shard.index_of(case), index);
                }
                dealt.extend(own);
            }
            dealt.sort_unstable();
            let all: Vec<u64> = (0..cases).collect();
            assert_eq!(dealt, all, "{cases} in {of}");
        }
    }

    #[test]
    fn text_that_is_no_shard_is_quoted() {
        let whole: Shard = "1/1".parse().unwrap();
        assert_eq!(whole, Shard::WHOLE);
        assert_eq!("7/12".parse::<Shard>().unwrap().to_string(), "7/12");
        for wrong in [
            "",
            "1",
            "0/1",
            "2/1",
            "1/0",
            "+1/2",
            "1/+2",
            "1/2/2",
            "1/1000001",
            "x/y",
        ] {
            let error = wrong.parse::<Shard>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("found {wrong:?}, expected K/N")));
        }
    }
}
