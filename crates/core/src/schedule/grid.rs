//! The wall times a schedule names, before any zone: which days of a month, which times of a day.
//!
//! Everything is a set of bits, and the search goes month by month and day by day, never minute by minute, so
//! that an expression that matches once in forty years costs a few hundred months of a few operations each.

use jiff::civil::{Date, DateTime, Time, date};

/// A month of the calendar: all that is needed to say which of its days are meant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Month {
    pub year: i16,
    pub month: i8,
    /// Days in this month, 28 to 31.
    pub length: u32,
    /// Weekday of its first day, 0 is Monday.
    first_weekday: u32,
}

impl Month {
    fn of(day: Date) -> Month {
        let first = day.first_of_month();
        Month {
            year: day.year(),
            month: day.month(),
            length: day.days_in_month() as u32,
            first_weekday: first.weekday().to_monday_zero_offset() as u32,
        }
    }

    fn next(self) -> Month {
        let (year, month) = if self.month == 12 {
            (self.year + 1, 1)
        } else {
            (self.year, self.month + 1)
        };
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let length = match month {
            2 => 28 + leap as u32,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        Month {
            year,
            month,
            length,
            first_weekday: (self.first_weekday + self.length) % 7,
        }
    }

    /// All days; bit 1 is the first day.
    pub fn all(self) -> u32 {
        ((1u64 << (self.length + 1)) - 2) as u32
    }

    /// The `n`-th `weekday` (0 is Monday) of the month, if it has so many; `n` from 1.
    pub fn nth(self, weekday: u32, n: u32) -> u32 {
        let day = self.first(weekday) + 7 * (n - 1);
        if day <= self.length { 1 << day } else { 0 }
    }

    /// The last `weekday` (0 is Monday) of the month.
    pub fn last(self, weekday: u32) -> u32 {
        let first = self.first(weekday);
        1 << (first + (self.length - first) / 7 * 7)
    }

    /// The days that fall on one of `weekdays`; bit 0 is Monday.
    pub fn on(self, weekdays: u32) -> u32 {
        const WEEKLY: u64 = 1 | 1 << 7 | 1 << 14 | 1 << 21 | 1 << 28;
        let days = (0..7)
            .filter(|weekday| weekdays & 1 << weekday != 0)
            .fold(0u64, |days, weekday| days | WEEKLY << self.first(weekday));
        days as u32 & self.all()
    }

    /// The last day that is neither a Saturday nor a Sunday.
    pub fn last_workday(self) -> u32 {
        let workdays = self.on(0b001_1111);
        1 << (31 - workdays.leading_zeros())
    }

    /// The days counted from the end, where bit 1 is the last day.
    pub fn counted_back(self, days: u32) -> u32 {
        // Turned over, day n from the end lands on bit 31 - n; the last day belongs on bit `length`.
        (u64::from(days.reverse_bits()) << (self.length + 1) >> 31) as u32 & self.all()
    }

    /// Day of the month of the first `weekday`.
    fn first(self, weekday: u32) -> u32 {
        1 + (weekday + 7 - self.first_weekday) % 7
    }
}

/// The times of a day: every combination of these. None of the sets is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    pub hours: u32,
    pub minutes: u64,
    pub seconds: u64,
}

impl Times {
    fn first(&self) -> Time {
        time(
            lowest(self.hours.into()),
            lowest(self.minutes),
            lowest(self.seconds),
        )
    }

    /// The first time that is not before `from`.
    fn first_from(&self, from: Time) -> Option<Time> {
        let (hour, minute, second) = (from.hour() as u32, from.minute() as u32, from.second() as u32);
        let hours = u64::from(self.hours);
        if hours & 1 << hour != 0 {
            if self.minutes & 1 << minute != 0
                && let Some(second) = lowest_from(self.seconds, second)
            {
                return Some(time(hour, minute, second));
            }
            if let Some(minute) = lowest_from(self.minutes, minute + 1) {
                return Some(time(hour, minute, lowest(self.seconds)));
            }
        }
        let hour = lowest_from(hours, hour + 1)?;
        Some(time(hour, lowest(self.minutes), lowest(self.seconds)))
    }
}

fn time(hour: u32, minute: u32, second: u32) -> Time {
    jiff::civil::time(hour as i8, minute as i8, second as i8, 0)
}

fn lowest(bits: u64) -> u32 {
    bits.trailing_zeros()
}

/// The lowest set bit that is not below `from` (0 to 63).
fn lowest_from(bits: u64, from: u32) -> Option<u32> {
    let rest = bits & u64::MAX << from;
    (rest != 0).then(|| lowest(rest))
}

/// What has wall times: the two kinds of expression.
pub(super) trait Grid {
    /// The days of `month` that match; bit 1 is the first day.
    fn days(&self, month: Month) -> u32;

    fn times(&self) -> &Times;

    /// The first wall time that is not before `from` and not after `last_year`.
    fn first_from(&self, from: DateTime, last_year: i16) -> Option<DateTime> {
        let mut month = Month::of(from.date());
        if month.year > last_year {
            return None;
        }
        let today = from.day() as u32;
        let mut days = self.days(month) & u32::MAX << today;
        if days & 1 << today != 0 {
            if let Some(time) = self.times().first_from(from.time()) {
                return Some(from.date().to_datetime(time));
            }
            days &= !(1 << today);
        }
        while days == 0 {
            month = month.next();
            if month.year > last_year {
                return None;
            }
            days = self.days(month);
        }
        let day = date(month.year, month.month, days.trailing_zeros() as i8);
        Some(day.to_datetime(self.times().first()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The set `days` as numbers.
    fn numbers(days: u32) -> Vec<u32> {
        (0..32).filter(|day| days & 1 << day != 0).collect()
    }

    fn month(year: i16, month: i8) -> Month {
        Month::of(date(year, month, 1))
    }

    #[test]
    fn walking_by_months_agrees_with_the_calendar() {
        let mut walked = month(1999, 11);
        for _ in 0..12 * 450 {
            walked = walked.next();
            let looked_up = month(walked.year, walked.month);
            assert_eq!(walked.length, looked_up.length, "{walked:?}");
            assert_eq!(walked.first_weekday, looked_up.first_weekday, "{walked:?}");
        }
    }

    #[test]
    fn days_of_a_month_agree_with_the_calendar_day_by_day() {
        for (year, number) in [(2024, 2), (2023, 2), (2026, 8), (2015, 2), (2024, 12), (2025, 6)] {
            let month = month(year, number);
            for day in 1..=month.length {
                let actual = date(year, number, day as i8);
                let weekday = actual.weekday().to_monday_zero_offset() as u32;
                let bit = 1 << day;
                assert_ne!(month.all() & bit, 0);
                assert_ne!(month.on(1 << weekday) & bit, 0, "{actual}");
                assert_eq!(month.on(0b111_1111 & !(1 << weekday)) & bit, 0, "{actual}");
                assert_eq!(month.nth(weekday, day.div_ceil(7)), bit, "{actual}");
                assert_eq!(month.last(weekday) == bit, day + 7 > month.length, "{actual}");
                assert_eq!(month.counted_back(1 << (month.length + 1 - day)), bit, "{actual}");
            }
            assert_eq!(month.all().count_ones(), month.length);
            assert_eq!(month.counted_back(u32::MAX), month.all());
        }
    }

    #[test]
    fn the_last_workday_steps_back_over_a_weekend() {
        assert_eq!(numbers(month(2024, 3).last_workday()), [29]); // the 31st is a Sunday
        assert_eq!(numbers(month(2024, 8).last_workday()), [30]); // a Saturday
        assert_eq!(numbers(month(2024, 7).last_workday()), [31]); // a Wednesday
        assert_eq!(numbers(month(2015, 2).last_workday()), [27]); // 28 days, a Saturday
    }

    #[test]
    fn the_fifth_weekday_is_missing_in_a_short_month() {
        assert!(numbers(month(2023, 2).nth(2, 5)).is_empty());
        assert_eq!(numbers(month(2024, 2).nth(3, 5)), [29]);
    }

    #[test]
    fn times_of_a_day_agree_with_a_walk_over_all_seconds() {
        let times = Times {
            hours: 1 << 3 | 1 << 4 | 1 << 23,
            minutes: 1 << 5 | 1 << 59,
            seconds: 1 | 1 << 30 | 1 << 59,
        };
        let mut next = None;
        for second in (0..86_400u32).rev() {
            let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
            let here = time(hour, minute, second);
            if times.hours & 1 << hour != 0
                && times.minutes & 1 << minute != 0
                && times.seconds & 1 << second != 0
            {
                next = Some(here);
            }
            assert_eq!(times.first_from(here), next, "{here}");
        }
        assert_eq!(next, Some(times.first()));
    }
}
