//! How many attempts one origin gets at a time: few while it is slow, so that a target which accepts and never answers
//! does not hold the permits that others need (`delivery.md` section 5).

use crate::time::Span;

/// Attempts at a time of an origin that answers in time.
pub const WIDTH_MAX: u32 = 16;
/// Attempts at a time of the slowest.
pub const WIDTH_MIN: u32 = 2;
/// Attempts after which the width is looked at.
const SEEN: usize = 8;
const SLOW: Span = Span::from_secs(5);

/// The width of one origin, and how long its last attempts took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pace {
    width: u32,
    seen: u8,
    slow: u8,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            width: WIDTH_MAX,
            seen: 0,
            slow: 0,
        }
    }
}

impl Pace {
    /// Attempts that may run at a time.
    pub const fn width(&self) -> u32 {
        self.width
    }

    /// Notes how long an attempt took. After eight the width halves if the median took more than 5 s, and doubles
    /// otherwise.
    pub fn note(&mut self, took: Span) {
        self.seen += 1;
        self.slow += u8::from(took > SLOW);
        if usize::from(self.seen) < SEEN.min(self.width as usize * 2) {
            return;
        }
        self.width = if self.slow * 2 > self.seen {
            (self.width / 2).max(WIDTH_MIN)
        } else {
            (self.width * 2).min(WIDTH_MAX)
        };
        (self.seen, self.slow) = (0, 0);
    }

    /// Whether nothing needs to be remembered of it.
    pub fn is_idle(&self) -> bool {
        self.width == WIDTH_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(pace: &mut Pace, secs: i64, times: usize) -> u32 {
        (0..times).for_each(|_| pace.note(Span::from_secs(secs)));
        pace.width()
    }

    #[test]
    fn a_slow_origin_shrinks_and_a_fast_one_grows_back() {
        let mut pace = Pace::default();
        assert_eq!(noted(&mut pace, 1, 100), 16);
        let mut pace = Pace::default();
        assert_eq!(noted(&mut pace, 30, 7), 16);
        let mut pace = Pace::default();
        let widths: Vec<u32> = (0..5).map(|_| noted(&mut pace, 30, 8)).collect();
        assert_eq!(widths, [8, 4, 2, 2, 2]);
        assert!(!pace.is_idle());
        assert_eq!(noted(&mut pace, 1, 4), 4);
        assert_eq!(noted(&mut pace, 1, 8), 8);
        assert_eq!(noted(&mut pace, 1, 8), 16);
        assert!(pace.is_idle());
    }

    #[test]
    fn the_median_decides() {
        for (slow, width) in [(4, 16), (5, 8)] {
            let mut pace = Pace::default();
            noted(&mut pace, 6, slow);
            assert_eq!(noted(&mut pace, 5, 8 - slow), width, "{slow} of 8");
        }
    }
}
