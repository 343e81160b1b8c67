//! Which pings go into the next batch, where the database takes several batches at once.
//!
//! What is sent to one address stays in its order: nothing of it begins while some of it is under way. And a second batch
//! beside the first begins only when it is worth its journey, since a small one costs nearly as much as a large one. What was
//! too little goes as soon as the other batch is back, or is found to be stuck.

use std::collections::{HashSet, VecDeque};

/// A batch begins beside others once it has at least this share of what the largest of them has, in hundredths.
const SHARE: usize = 75;

/// A number that is the same for all that is sent to one address. Two addresses may have the same: one then waits for the
/// other, and nothing else comes of it.
pub(super) type Key = u64;

/// What waits, and what is under way.
pub(super) struct Queue<T> {
    /// In the order of its arrival.
    ready: VecDeque<(Key, T)>,
    /// The same, behind something under way to the same address.
    behind: VecDeque<(Key, T)>,
    under_way: Vec<Option<UnderWay>>,
}

struct UnderWay {
    keys: HashSet<Key>,
    size: usize,
    /// It takes long, and nobody waits for it but its own kind.
    is_stuck: bool,
}

/// Which of the batches that may be under way.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Lane(pub(super) usize);

impl<T> Queue<T> {
    /// A queue of which so many batches go at a time.
    pub(super) fn new(lanes: usize) -> Self {
        Queue {
            ready: VecDeque::new(),
            behind: VecDeque::new(),
            under_way: (0..lanes).map(|_| None).collect(),
        }
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.ready.len() + self.behind.len()
    }

    /// Whether a batch is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.under_way.iter().any(Option::is_some)
    }

    pub(super) fn add(&mut self, key: Key, one: T) {
        if self.is_under_way(key) {
            self.behind.push_back((key, one));
        } else {
            self.ready.push_back((key, one));
        }
    }

    /// Whether something could begin and waits to become more.
    pub(super) fn is_held_back(&self) -> bool {
        !self.ready.is_empty() && self.under_way.iter().any(Option::is_none)
    }

    /// What is under way takes long: it is not to be waited for.
    pub(super) fn lose_patience(&mut self) {
        self.under_way
            .iter_mut()
            .flatten()
            .for_each(|batch| batch.is_stuck = true);
    }

    fn is_under_way(&self, key: Key) -> bool {
        self.under_way
            .iter()
            .flatten()
            .any(|batch| batch.keys.contains(&key))
    }

    /// The next batch, if one is to begin now, of this many at most.
    pub(super) fn begin(&mut self, max: usize) -> Option<(Lane, Vec<T>)> {
        let others = self.under_way.iter().flatten().filter(|batch| !batch.is_stuck);
        let largest = others.map(|batch| batch.size).max();
        if self.ready.is_empty() || self.ready.len() * 100 < largest.unwrap_or(0) * SHARE {
            return None;
        }
        let lane = self.under_way.iter().position(Option::is_none)?;
        let taken: Vec<(Key, T)> = self.ready.drain(..self.ready.len().min(max)).collect();
        self.under_way[lane] = Some(UnderWay {
            keys: taken.iter().map(|(key, _)| *key).collect(),
            size: taken.len(),
            is_stuck: false,
        });
        // What found no room in it waits behind its own kind.
        for (key, one) in std::mem::take(&mut self.ready) {
            self.add(key, one);
        }
        Some((Lane(lane), taken.into_iter().map(|(_, one)| one).collect()))
    }

    /// A batch is back.
    pub(super) fn end(&mut self, lane: Lane) {
        self.under_way[lane.0] = None;
        let later = std::mem::take(&mut self.ready);
        for (key, one) in std::mem::take(&mut self.behind) {
            self.add(key, one);
        }
        self.ready.extend(later);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds pings that are named by their address and a number.
    fn add(queue: &mut Queue<&'static str>, pings: &[&'static str]) {
        for ping in pings {
            queue.add(Key::from(ping.as_bytes()[0]), ping);
        }
    }

    #[test]
    fn what_goes_to_one_address_goes_one_after_the_other_and_in_order() {
        let mut queue = Queue::new(2);
        add(&mut queue, &["a1", "b1", "a2"]);
        let (first, batch) = queue.begin(10).expect("a batch");
        assert_eq!(batch, ["a1", "b1", "a2"]);
        add(&mut queue, &["a3", "c1", "b2", "d1", "a4", "e1"]);
        let (second, batch) = queue.begin(10).expect("another beside it");
        assert_eq!(batch, ["c1", "d1", "e1"]);
        add(&mut queue, &["f1", "c2"]);
        assert_eq!(queue.begin(10), None, "no lane is left");
        queue.end(first);
        add(&mut queue, &["a5"]);
        let (third, batch) = queue.begin(10).expect("what had waited");
        assert_eq!(batch, ["a3", "b2", "a4", "f1", "a5"]);
        queue.end(third);
        assert_eq!(queue.begin(10), None, "c is still under way");
        queue.end(second);
        let (last, batch) = queue.begin(10).expect("the rest");
        assert_eq!(batch, ["c2"]);
        queue.end(last);
        assert_eq!((queue.waiting(), queue.is_busy()), (0, false));
    }

    #[test]
    fn what_finds_no_room_in_a_batch_waits_behind_its_own_kind() {
        let mut queue = Queue::new(2);
        add(&mut queue, &["a1", "b1", "a2", "c1", "b2", "d1"]);
        let (first, batch) = queue.begin(2).expect("a batch");
        assert_eq!(batch, ["a1", "b1"]);
        let (_, batch) = queue.begin(2).expect("another beside it");
        assert_eq!(batch, ["c1", "d1"]);
        queue.end(first);
        let (_, batch) = queue.begin(2).expect("the rest");
        assert_eq!(batch, ["a2", "b2"]);
    }

    #[test]
    fn a_small_batch_waits_for_the_large_one_before_it_and_no_longer() {
        for (under_way, waiting, begins) in [
            (0, 1, true),
            (1, 1, true),
            (2, 1, false),
            (4, 2, false),
            (4, 3, true),
            (100, 74, false),
            (100, 75, true),
        ] {
            let mut queue = Queue::new(2);
            (0..under_way).for_each(|key| queue.add(key, ()));
            let lane = queue.begin(1_000).map(|(lane, _)| lane);
            (0..waiting).for_each(|key| queue.add(1_000 + key, ()));
            assert_eq!(
                queue.begin(1_000).is_some(),
                begins,
                "{waiting} beside {under_way}"
            );
            if let Some(lane) = lane.filter(|_| !begins) {
                queue.end(lane);
                let (_, batch) = queue.begin(1_000).expect("nothing is under way");
                assert_eq!(batch.len() as u64, waiting);
            }
        }
    }

    #[test]
    fn a_batch_that_is_stuck_keeps_nobody_waiting_but_its_own_kind() {
        let mut queue = Queue::new(2);
        add(&mut queue, &["a1", "b1", "c1", "d1"]);
        queue.begin(10).expect("a batch");
        add(&mut queue, &["a2", "e1"]);
        assert_eq!(queue.begin(10), None);
        assert!(queue.is_held_back());
        queue.lose_patience();
        let (second, batch) = queue.begin(10).expect("it waits no longer");
        assert_eq!(batch, ["e1"]);
        assert!(!queue.is_held_back(), "no lane is left");
        queue.end(second);
        add(&mut queue, &["f1"]);
        let (_, batch) = queue.begin(10).expect("nor does the next");
        assert_eq!(batch, ["f1"]);
    }
}
