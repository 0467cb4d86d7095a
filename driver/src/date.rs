//! Seconds since 1970 as dates, for people.

/// Seconds in a day: Unix time has no leap seconds.
const DAY: i64 = 86_400;

/// Days from March 1 of the year 0, where a cycle begins, to January 1, 1970.
const FROM_CYCLE: i64 = 719_468;

/// Days in 400 years, after which the calendar repeats itself.
const CYCLE: i64 = 146_097;

/// Says in what unit these times are that a message has named, and what dates they are, in the
/// order in which it has named them.
pub fn since_1970(seconds: &[i64]) -> String {
    let dates: Vec<String> = seconds.iter().map(|&seconds| date(seconds)).collect();
    format!("(seconds since 1970: {} UTC)", dates.join(" and "))
}

/// `2003-08-04 12:26:40`.
fn date(seconds: i64) -> String {
    let (days, second) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let since = days + FROM_CYCLE;
    let (cycle, day) = (since.div_euclid(CYCLE), since.rem_euclid(CYCLE));
    // A year begins in March, so that a leap day is its last.
    let leap_days_before = day / 1_460 - day / 36_524 + day / (CYCLE - 1);
    let year = (day - leap_days_before) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // From March on the months have 31, 30, 31, 30 and 31 days, and so again: 153 for each five.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = match month {
        0..10 => (month + 3, 0),
        _ => (month - 9, 1),
    };
    let year = 400 * cycle + year + next;
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01 00:00:00"),
            (-1, "1969-12-31 23:59:59"),
            (951_782_399, "2000-02-28 23:59:59"),
            (951_782_400, "2000-02-29 00:00:00"),
            (951_868_800, "2000-03-01 00:00:00"),
            (1_060_000_000, "2003-08-04 12:26:40"),
            (1_735_689_599, "2024-12-31 23:59:59"),
            (4_107_542_399, "2100-02-28 23:59:59"),
            (4_107_542_400, "2100-03-01 00:00:00"),
            (4_294_967_295, "2106-02-07 06:28:15"),
            (i64::MIN, "-292277022657-01-27 08:29:52"),
            (i64::MAX, "292277026596-12-04 15:30:07"),
        ] {
            assert_eq!(date(seconds), expected);
        }
    }

    /// Each day follows the one before it, and no month is too long.
    #[test]
    fn a_day_follows_another_for_400_years() {
        let mut before = date(-DAY);
        for day in 0..CYCLE {
            let next = date(day * DAY);
            assert!(next > before, "{before}, then {next}");
            let days: i64 = next[8..10].parse().unwrap();
            let begins = days == 1;
            let last: i64 = before[8..10].parse().unwrap();
            assert!(
                begins && last >= 28 || days == last + 1,
                "{before}, then {next}"
            );
            before = next;
        }
    }

    #[test]
    fn a_message_says_the_dates_in_its_order() {
        let said = since_1970(&[2_000_000, 1_000_000]);
        assert_eq!(
            said,
            "(seconds since 1970: 1970-01-24 03:33:20 and 1970-01-12 13:46:40 UTC)"
        );
    }
}
