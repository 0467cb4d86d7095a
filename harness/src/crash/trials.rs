//! Checks of what a crash could have left, one after the other.

use super::checking::{Bench, Checker};
use super::command::Ran;
use crate::sim::tree::Tree;

/// Checks by the calling thread, as long as they can be had.
pub(super) struct Trials<'a> {
    checker: &'a Checker<'a>,
    bench: Option<Bench<'a>>,
    /// Why there can be none.
    cannot: Option<String>,
}

impl<'a> Trials<'a> {
    /// In a view that is made when the first one comes.
    pub(super) fn new(checker: &'a Checker<'a>) -> Trials<'a> {
        Trials {
            checker,
            bench: None,
            cannot: None,
        }
    }

    /// None, because of this.
    pub(super) fn none(checker: &'a Checker<'a>, why: String) -> Trials<'a> {
        Trials {
            cannot: Some(why),
            ..Trials::new(checker)
        }
    }

    /// Why there can be none.
    pub(super) fn cannot(self) -> Option<String> {
        self.cannot
    }

    /// Checks what a crash could have left. `None` if that could not be done.
    pub(super) fn check(&mut self, image: Tree) -> Option<Ran> {
        if self.cannot.is_some() {
            return None;
        }
        if self.bench.is_none() {
            match Bench::new(self.checker) {
                Ok(bench) => self.bench = Some(bench),
                Err(why) => self.cannot = Some(why),
            }
        }
        let checked = self.bench.as_mut()?.check(image);
        if checked.is_err() {
            // A check may have taken the mount away, which the next one needs.
            self.bench = None;
        }
        checked.ok()
    }
}
