//! The end of what a job printed, in bounded memory.

use std::collections::VecDeque;

/// The last bytes of a stream.
#[derive(Debug)]
pub(crate) struct Tail {
    bytes: VecDeque<u8>,
    max: usize,
    /// More was pushed than is kept.
    cut: bool,
}

impl Tail {
    /// Keeps at most `max` bytes. Memory is taken as it is needed.
    pub(crate) fn new(max: usize) -> Self {
        Tail {
            bytes: VecDeque::new(),
            max,
            cut: false,
        }
    }

    pub(crate) fn push(&mut self, more: &[u8]) {
        let kept = &more[more.len().saturating_sub(self.max)..];
        let too_many = (self.bytes.len() + kept.len()).saturating_sub(self.max);
        self.cut |= too_many > 0 || kept.len() < more.len();
        self.bytes.drain(..too_many);
        self.bytes.extend(kept);
    }

    /// The last `bytes_max` bytes. Where something is missing before them and what is left begins inside a character of
    /// UTF-8, the rest of that character is left out too.
    pub(crate) fn last(&self, bytes_max: usize) -> Vec<u8> {
        let from = self.bytes.len().saturating_sub(bytes_max);
        let mut last: Vec<u8> = self.bytes.range(from..).copied().collect();
        if self.cut || from > 0 {
            let inside = last
                .iter()
                .take(3)
                .take_while(|byte| **byte & 0xc0 == 0x80)
                .count();
            last.drain(..inside);
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_kept_however_it_arrives() {
        let text: Vec<u8> = (0..100_000_u32).map(|n| b'a' + (n % 23) as u8).collect();
        for chunk in [1, 7, 999, 1_000, 1_001, 65_536, 100_000] {
            for max in [0, 1, 1_000, 99_999, 100_000, 200_000] {
                let mut tail = Tail::new(max);
                text.chunks(chunk).for_each(|part| tail.push(part));
                let kept = max.min(text.len());
                assert_eq!(tail.last(usize::MAX), &text[text.len() - kept..], "{chunk} {max}");
                assert!(tail.bytes.len() <= max);
            }
        }
    }

    #[test]
    fn a_cut_never_leaves_the_rest_of_a_character() {
        let mut tail = Tail::new(100);
        tail.push("aé€𝄞".as_bytes());
        for (bytes, kept) in [
            (10, "aé€𝄞"),
            (9, "é€𝄞"),
            (8, "€𝄞"),
            (7, "€𝄞"),
            (6, "𝄞"),
            (4, "𝄞"),
            (3, ""),
            (0, ""),
        ] {
            assert_eq!(String::from_utf8(tail.last(bytes)).unwrap(), kept, "{bytes}");
        }
        // What is no text is not changed where nothing was cut.
        let mut tail = Tail::new(4);
        tail.push(b"\x80\x81\xff");
        assert_eq!(tail.last(9), b"\x80\x81\xff");
    }
}
