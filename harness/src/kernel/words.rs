//! What the guest may say next. A guest that says something else has gone astray: the kernel has
//! spoilt its memory or its line, and nothing that it says after that can be judged.

use std::collections::BTreeSet;

use crate::fuzz::recorded::{Deed, GuestWord, content};

/// How far the guest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Booting,
    /// It is up, and has not said what came of opening the device.
    Opening,
    Open,
    /// It has closed the device, or cannot have it.
    Over,
}

/// The words of a boot, or of a life.
#[derive(Debug)]
pub(super) struct Words {
    phase: Phase,
    /// The requests that were not submitted yet.
    to_come: BTreeSet<u32>,
    in_flight: BTreeSet<u32>,
}

impl Words {
    /// Those of a guest that comes up.
    pub(super) fn of_boot() -> Words {
        Words {
            phase: Phase::Booting,
            to_come: BTreeSet::new(),
            in_flight: BTreeSet::new(),
        }
    }

    /// Those of a guest that is to do this.
    pub(super) fn of_life(deeds: &[Deed]) -> Words {
        let submitted = deeds.iter().filter_map(|deed| match deed {
            Deed::Submit(asked) => Some(asked.number),
            Deed::WaitForOldest | Deed::WaitForAll => None,
        });
        Words {
            phase: Phase::Opening,
            to_come: submitted.collect(),
            in_flight: BTreeSet::new(),
        }
    }

    /// The guest says this.
    ///
    /// # Errors
    /// Why it cannot be so.
    pub(super) fn hear(&mut self, word: &GuestWord) -> Result<(), String> {
        let may_come = match (word, self.phase) {
            (GuestWord::Broken { why }, _) => return Err(format!("it cannot go on: {why}")),
            (GuestWord::Ready, Phase::Booting) => {
                self.phase = Phase::Opening;
                true
            }
            (GuestWord::Opened { .. }, Phase::Opening) => {
                self.phase = Phase::Open;
                true
            }
            (GuestWord::NotOpened { .. }, Phase::Opening) => {
                self.phase = Phase::Over;
                true
            }
            (GuestWord::Submitted { number }, Phase::Open) => {
                self.to_come.remove(number) && self.in_flight.insert(*number)
            }
            (
                GuestWord::Ended {
                    number, brought, ..
                },
                Phase::Open,
            ) => {
                content(brought).map_err(|why| format!("request {number}: {why}"))?;
                self.in_flight.remove(number)
            }
            (GuestWord::Closed, Phase::Open) if self.in_flight.is_empty() => {
                self.phase = Phase::Over;
                true
            }
            _ => false,
        };
        match may_come {
            true => Ok(()),
            false => Err(format!(
                "found that {}, expected {}",
                told(word),
                self.expected()
            )),
        }
    }

    fn expected(&self) -> String {
        match self.phase {
            Phase::Booting => "that it is up".to_owned(),
            Phase::Opening => "what came of opening the device".to_owned(),
            Phase::Over => "nothing more".to_owned(),
            Phase::Open => format!(
                "one of {} requests to come, or of {} in flight",
                self.to_come.len(),
                self.in_flight.len()
            ),
        }
    }
}

/// What a word says.
fn told(word: &GuestWord) -> String {
    match word {
        GuestWord::Ready => "it is up".to_owned(),
        GuestWord::Opened { .. } => "the device is open".to_owned(),
        GuestWord::NotOpened { .. } => "the device does not open".to_owned(),
        GuestWord::Submitted { number } => format!("request {number} is submitted"),
        GuestWord::Ended { number, .. } => format!("request {number} has ended"),
        GuestWord::Closed => "the device is closed".to_owned(),
        GuestWord::Broken { why } => why.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::recorded::{GuestOperation, GuestRequest, Piece};

    #[test]
    fn a_word_comes_once_and_in_its_place() {
        let asked = |number| {
            Deed::Submit(GuestRequest {
                number,
                what: GuestOperation::Read,
                start: 0,
                count: 1,
            })
        };
        let deeds = [asked(1), Deed::WaitForAll, asked(2)];
        let opened = GuestWord::Opened { sectors: 8 };
        let submitted = |number| GuestWord::Submitted { number };
        let ended = |number, brought| GuestWord::Ended {
            number,
            errno: None,
            brought,
        };
        let good = |number| ended(number, vec![Piece::Zeros(1)]);
        let heard = |said: &[GuestWord]| {
            let mut words = Words::of_life(&deeds);
            said.iter().try_for_each(|word| words.hear(word))
        };
        let life = [
            opened.clone(),
            submitted(1),
            submitted(2),
            good(2),
            good(1),
            GuestWord::Closed,
        ];
        assert_eq!(heard(&life), Ok(()));
        assert_eq!(heard(&[GuestWord::NotOpened { errno: 6 }]), Ok(()));
        assert_eq!(Words::of_boot().hear(&GuestWord::Ready), Ok(()));
        let broken = GuestWord::Broken { why: "no".into() };
        let far_too_much = ended(1, vec![Piece::Zeros(u64::MAX)]);
        for (said, word) in [
            (&life[..0], submitted(1)),
            (&life[..0], GuestWord::Ready),
            (&life[..1], opened),
            (&life[..1], submitted(3)),
            (&life[..1], good(1)),
            (&life[..1], broken),
            (&life[..2], submitted(1)),
            (&life[..2], far_too_much),
            (&life[..2], GuestWord::Closed),
            (&life[..4], good(2)),
            (&life[..], GuestWord::Closed),
        ] {
            let said = [said, &[word]].concat();
            assert!(heard(&said).is_err(), "{said:?}");
            assert_eq!(heard(&said[..said.len() - 1]), Ok(()), "{said:?}");
        }
        let error = heard(&[life[0].clone(), submitted(3)]).unwrap_err();
        assert_eq!(
            error,
            "found that request 3 is submitted, expected one of 2 requests to come, or of 0 in flight"
        );
    }
}
