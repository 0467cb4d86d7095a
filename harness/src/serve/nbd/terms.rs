//! Which requests a device takes. That is decided from the request and from what is known of the
//! device alone, before anything is done.

use driver::units::{Bytes, SECTOR_SIZE, Sector, SectorRange};

use super::abilities::Abilities;
use super::message::{Command, Error, LONGEST_TRANSFER, Request, command_flags};

/// What a request is checked against.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// What the device can do.
    pub abilities: Abilities,
    /// The client has asked for meta contexts.
    pub has_contexts: bool,
    /// The size of the device now, in bytes.
    pub size: u64,
}

impl Terms {
    /// The sectors of a request that the device takes; those of a flush are none.
    ///
    /// # Errors
    /// What it is answered with instead.
    pub fn check(&self, command: Command, request: &Request) -> Result<SectorRange, Error> {
        self.check_command(command, request)?;
        if matches!(command, Command::Flush | Command::Disconnect) {
            return Ok(SectorRange::default());
        }
        let range = self.range(command, request)?;
        self.check_zeros(command, request)?;
        Ok(range)
    }

    /// Whether there is such a command here, with such flags.
    fn check_command(&self, command: Command, request: &Request) -> Result<(), Error> {
        let known = match command {
            Command::Write | Command::Trim => command_flags::FUA,
            Command::WriteZeroes => {
                command_flags::FUA | command_flags::NO_HOLE | command_flags::FAST_ZERO
            }
            Command::Read => command_flags::DF | command_flags::FUA,
            Command::BlockStatus => command_flags::REQ_ONE | command_flags::FUA,
            // Some clients set it everywhere.
            Command::Flush | Command::Cache | Command::Disconnect => command_flags::FUA,
        };
        if request.flags & !known != 0 {
            return Err(Error::Invalid);
        }
        let Abilities {
            writes,
            trims,
            zeroes,
            ..
        } = self.abilities;
        let (is_change, is_offered) = match command {
            Command::Write => (true, writes),
            Command::Trim => (true, trims),
            Command::WriteZeroes => (true, zeroes),
            Command::BlockStatus => (false, self.has_contexts && request.length > 0),
            Command::Read | Command::Flush | Command::Cache | Command::Disconnect => (false, true),
        };
        if is_change && !writes {
            return Err(Error::NotPermitted);
        }
        match is_offered {
            true => Ok(()),
            // As a command that is not known at all.
            false => Err(Error::Invalid),
        }
    }

    fn range(&self, command: Command, request: &Request) -> Result<SectorRange, Error> {
        let (start, length) = (request.offset, u64::from(request.length));
        if command == Command::Read && request.length > LONGEST_TRANSFER {
            return Err(Error::Overflow);
        }
        let fits = start
            .checked_add(length)
            .is_some_and(|end| end <= self.size);
        if !fits {
            return Err(match command {
                Command::Write | Command::WriteZeroes => Error::NoSpace,
                _ => Error::Invalid,
            });
        }
        if !start.is_multiple_of(SECTOR_SIZE) || !length.is_multiple_of(SECTOR_SIZE) {
            return Err(Error::Invalid);
        }
        let start = Sector(start / SECTOR_SIZE);
        Ok(SectorRange::new(start, Bytes(length).whole_sectors()))
    }

    /// Zeros that are to be fast have to be; those that keep their space are written as data.
    fn check_zeros(&self, command: Command, request: &Request) -> Result<(), Error> {
        if command != Command::WriteZeroes {
            return Ok(());
        }
        let keeps_space = request.flags & command_flags::NO_HOLE != 0;
        let is_fast = self.abilities.zeroes_fast && !keeps_space;
        match request.flags & command_flags::FAST_ZERO != 0 && !is_fast {
            true => Err(Error::NotSupported),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 1 << 33;

    fn checked(abilities: Abilities, command: Command, flags: u16, at: u64, len: u32) -> u32 {
        let terms = Terms {
            abilities,
            has_contexts: true,
            size: SIZE,
        };
        let request = Request {
            flags,
            command: command.number(),
            cookie: 1,
            offset: at,
            length: len,
        };
        terms
            .check(command, &request)
            .map_or_else(Error::number, |_| 0)
    }

    #[test]
    fn what_is_not_offered_is_no_command_and_what_is_slow_is_not_done_fast() {
        let (fast, no_hole) = (command_flags::FAST_ZERO, command_flags::NO_HOLE);
        let all = Abilities::ALL;
        let slow = Abilities {
            zeroes_fast: false,
            ..all
        };
        let neither = Abilities {
            trims: false,
            zeroes: false,
            ..slow
        };
        let read_only = Abilities {
            writes: false,
            ..neither
        };
        let (trim, zeroes) = (Command::Trim, Command::WriteZeroes);
        for (command, flags, expected) in [
            // With all abilities, without fast zeros, with neither, read-only.
            (trim, 0, [0, 0, 22, 1]),
            (zeroes, 0, [0, 0, 22, 1]),
            (zeroes, no_hole, [0, 0, 22, 1]),
            (zeroes, fast, [0, 95, 22, 1]),
            (zeroes, fast | no_hole, [95, 95, 22, 1]),
            (trim, fast, [22, 22, 22, 22]),
            (Command::Write, 0, [0, 0, 0, 1]),
            (Command::Write, no_hole, [22, 22, 22, 22]),
            (Command::Read, 0, [0, 0, 0, 0]),
        ] {
            let found = [all, slow, neither, read_only]
                .map(|abilities| checked(abilities, command, flags, 0, 4096));
            assert_eq!(found, expected, "{command:?} {flags:#x}");
        }
    }

    #[test]
    fn a_length_of_four_gib_is_good_where_no_data_comes_with_it() {
        let longest = u32::MAX - 511;
        for (command, flags, expected) in [
            (Command::Read, 0, 75),
            (Command::Trim, 0, 0),
            (Command::WriteZeroes, 0, 0),
            (Command::WriteZeroes, command_flags::FAST_ZERO, 0),
            (Command::WriteZeroes, command_flags::NO_HOLE, 0),
            (Command::BlockStatus, 0, 0),
            (Command::Cache, 0, 0),
        ] {
            let found = checked(Abilities::ALL, command, flags, 512, longest);
            assert_eq!(found, expected, "{command:?} {flags:#x}");
        }
    }

    #[test]
    fn what_lies_past_the_end_is_no_space_for_a_write_and_invalid_for_the_rest() {
        for at in [SIZE, SIZE - 512, u64::MAX - 511, u64::MAX] {
            for (command, expected) in [
                (Command::Read, 22),
                (Command::Write, 28),
                (Command::WriteZeroes, 28),
                (Command::Trim, 22),
                (Command::Cache, 22),
                (Command::BlockStatus, 22),
                (Command::Flush, 0),
            ] {
                let found = checked(Abilities::ALL, command, 0, at, 1024);
                assert_eq!(found, expected, "{command:?} {at}");
            }
        }
        assert_eq!(checked(Abilities::ALL, Command::Write, 0, 1, 512), 22);
        assert_eq!(checked(Abilities::ALL, Command::Write, 0, 0, 1), 22);
    }
}
