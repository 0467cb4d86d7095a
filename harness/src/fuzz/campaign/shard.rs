//! A part of a campaign. Cases are dealt out by their numbers, so that all parts together are the
//! campaign, into however many it is cut.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The most parts that a campaign is cut into.
pub const MOST_SHARDS: u32 = 1_000_000;

/// One of the parts that a campaign is cut into. In a file and on the command line it is `K/N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Shard {
    number: u32,
    of: u32,
}

/// Text that names no shard.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "found {found:?}, expected K/N with K from 1 to N and N at most {MOST_SHARDS}, such as 3/8"
)]
pub struct NoShard {
    found: String,
}

impl Shard {
    /// The campaign in one piece.
    pub const WHOLE: Shard = Shard { number: 1, of: 1 };

    /// The shard of this number, from 1, among `of`; none if there is no such shard.
    pub fn new(number: u32, of: u32) -> Option<Shard> {
        let is_one = (1..=of).contains(&number) && of <= MOST_SHARDS;
        is_one.then_some(Shard { number, of })
    }

    /// Its number, from 1.
    pub fn number(self) -> u32 {
        self.number
    }

    /// How many there are.
    pub fn of(self) -> u32 {
        self.of
    }

    /// The number, in the campaign, of the shard's case at `index`; both count from 0.
    pub fn case_at(self, index: u64) -> u64 {
        let before = index.wrapping_mul(u64::from(self.of));
        before.wrapping_add(u64::from(self.number) - 1)
    }

    /// How many of the first `cases` of a campaign are this shard's.
    pub fn share_of(self, cases: u64) -> u64 {
        let [number, of] = [self.number, self.of].map(u64::from);
        cases / of + u64::from(number <= cases % of)
    }
}

impl FromStr for Shard {
    type Err = NoShard;

    fn from_str(text: &str) -> Result<Shard, NoShard> {
        let parse = |number: &str| {
            let is_digits = number.bytes().all(|byte| byte.is_ascii_digit());
            is_digits.then(|| number.parse().ok()).flatten()
        };
        let parts = text.split_once('/');
        let shard = parts.and_then(|(number, of)| Shard::new(parse(number)?, parse(of)?));
        shard.ok_or_else(|| NoShard {
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

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn all_shards_together_have_each_case_once() {
        for of in 1..=7 {
            for cases in 0..=20 {
                let shards = (1..=of).map(|number| Shard::new(number, of).unwrap());
                let dealt: Vec<u64> = shards
                    .flat_map(|shard| (0..shard.share_of(cases)).map(move |at| shard.case_at(at)))
                    .collect();
                let once: BTreeSet<u64> = dealt.iter().copied().collect();
                assert_eq!(once, (0..cases).collect(), "{cases} among {of}");
                assert_eq!(dealt.len() as u64, cases, "{cases} among {of}");
            }
        }
    }

    #[test]
    fn a_shard_is_written_as_it_is_read() {
        for text in ["1/1", "3/8", "1000000/1000000"] {
            assert_eq!(text.parse::<Shard>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "3",
            "0/3",
            "4/3",
            "1/0",
            "/",
            "-1/3",
            "+1/3",
            "1/3/5",
            "1/1000001",
            "a/b",
            "1 /3",
        ] {
            let refused = text.parse::<Shard>().unwrap_err().to_string();
            assert!(
                refused.starts_with(&format!("found {text:?}, ")),
                "{refused}"
            );
        }
    }
}
