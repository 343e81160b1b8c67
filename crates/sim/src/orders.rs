//! The orders in which several commits may have come between two looks, tried one after the other.

/// Of several commits between two looks the rows do not always tell which came first: a ping that ends no run, and the
/// flip for its deadline, may have come either way. Each order is tried in turn, until one bears out what is stored.
#[derive(Default)]
pub(crate) struct Orders {
    /// What was chosen, and of how many.
    chosen: Vec<(u32, u32)>,
    next: usize,
    tried: u32,
}

impl Orders {
    /// Those that are tried at most.
    const MAX: u32 = 500;

    /// Which of so many comes first in the order that is tried now.
    pub(crate) fn choose(&mut self, of: u32) -> u32 {
        if self.next == self.chosen.len() {
            self.chosen.push((0, of));
        }
        let (chosen, _) = self.chosen[self.next];
        self.next += 1;
        chosen
    }

    /// Goes on to the next order, if there is one.
    pub(crate) fn another(&mut self) -> bool {
        (self.next, self.tried) = (0, self.tried + 1);
        while let Some((chosen, of)) = self.chosen.pop() {
            if chosen + 1 < of {
                self.chosen.push((chosen + 1, of));
                return self.tried < Self::MAX;
            }
        }
        false
    }
}
