//! Stories of the simulated world: the same seeds each time and one that nobody has chosen, every crash point of a fixed
//! story, our own absences, and the lane of a receiver that comes back.

use allswell_sim::{
    Lane, every_crash_point, fresh_seed, lanes_of_a_receiver_that_comes_back, restarting_for_a_day, tell,
    two_hours_away,
};

/// Happenings of each story.
const HAPPENINGS: u64 = 1_500;

/// Tells the stories of these seeds; the first that breaks a rule is told in full.
fn stories(seeds: std::ops::Range<u64>) {
    let (mut flips, mut promises, mut absences) = (0, 0, 0);
    for seed in seeds {
        match tell(seed, HAPPENINGS) {
            Ok(report) => {
                flips += report.flips;
                promises += report.promises;
                absences += report.absences;
            }
            Err(failure) => panic!("\n{failure}"),
        }
    }
    assert!(flips > 0 && promises > 0 && absences > 0, "something happened");
}

#[test]
fn stories_of_the_first_seeds_keep_every_rule() {
    stories(1..21);
}

#[test]
fn stories_of_the_next_seeds_keep_every_rule() {
    stories(21..41);
}

#[test]
fn a_story_that_nobody_has_chosen_keeps_every_rule() {
    let seed = fresh_seed();
    println!("seed {seed}");
    if let Err(failure) = tell(seed, 2 * HAPPENINGS) {
        panic!("\n{failure}");
    }
}

#[test]
fn the_same_seed_tells_the_same_story() {
    for seed in [3, 7, 12] {
        let story = || tell(seed, 800).unwrap_or_else(|failure| panic!("\n{failure}"));
        assert_eq!(story(), story());
    }
}

#[test]
fn a_crash_at_any_point_changes_nothing_in_the_end() {
    let crashes = every_crash_point(1).unwrap_or_else(|failure| panic!("\n{failure}"));
    assert!(crashes.points > 150 && crashes.flips > 10, "{crashes:?}");
}

#[test]
fn a_crash_of_one_of_two_nodes_changes_nothing_in_the_end() {
    let crashes = every_crash_point(2).unwrap_or_else(|failure| panic!("\n{failure}"));
    assert!(crashes.points > 150 && crashes.flips > 10, "{crashes:?}");
}

#[test]
fn ten_thousand_healthy_checks_outlive_two_hours_without_us() {
    two_hours_away(10_000).unwrap_or_else(|failure| panic!("\n{failure}"));
}

#[test]
fn restarting_every_half_minute_for_a_day_silences_nobody() {
    restarting_for_a_day(29, 1).unwrap_or_else(|failure| panic!("\n{failure}"));
}

#[test]
fn living_for_half_a_minute_at_a_time_silences_nobody_for_ever() {
    for (lives, away) in [(30, 70), (5, 120), (60, 600)] {
        restarting_for_a_day(lives, away).unwrap_or_else(|failure| panic!("lives {lives} s\n{failure}"));
    }
}

fn lane(nodes: usize, coalesce: bool) -> Lane {
    lanes_of_a_receiver_that_comes_back(nodes, coalesce)
        .unwrap_or_else(|failure| panic!("{nodes} nodes, coalesce {coalesce}\n{failure}"))
}

#[test]
fn a_receiver_that_comes_back_hears_of_what_it_missed_in_one_message() {
    for nodes in [1, 2] {
        let lane = lane(nodes, true);
        assert!(lane.missed > 0 && lane.messages + lane.missed == 7, "{lane:?}");
    }
}

#[test]
fn a_receiver_that_comes_back_hears_each_flip_by_itself_where_nothing_may_be_overtaken() {
    for nodes in [1, 2] {
        let whole = Lane {
            messages: 7,
            missed: 0,
        };
        assert_eq!(lane(nodes, false), whole);
    }
}
