//! Whether a ping by id may come in, where the ping key of the project is asked for.
//!
//! A project may ask for it, or the whole instance. Where the instance does, no answer may tell whether the id is
//! somebody's to one who holds no key of that project.

use crate::id::ProjectId;

/// The ping key that came with a ping.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// None.
    Nothing,
    /// One that opens no project.
    Wrong,
    /// That of this project.
    Opens(ProjectId),
}

/// What follows.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may come in.
    Granted,
    /// There is no such check, for whoever sent this.
    NotFound,
    /// A key is missing.
    KeyMissing,
    /// The key opens nothing.
    KeyWrong,
}

/// The check that an id means.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Whose it is.
    pub project: ProjectId,
    /// Its project asks for the key.
    pub needs_key: bool,
}

/// Decides about a ping by id. `check` is what the id means, if it means anything; `required` is the instance's rule.
pub fn admit(required: bool, check: Option<Asked>, sent: Sent) -> Admission {
    let needs_key = required || check.is_some_and(|check| check.needs_key);
    match (check, sent) {
        (None, _) if !needs_key => Admission::NotFound,
        (Some(_), _) if !needs_key => Admission::Granted,
        (_, Sent::Nothing) => Admission::KeyMissing,
        (_, Sent::Wrong) => Admission::KeyWrong,
        (Some(check), Sent::Opens(project)) if check.project == project => Admission::Granted,
        (_, Sent::Opens(_)) => Admission::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn project(number: u128) -> ProjectId {
        Uuid::from_u128(number).into()
    }

    fn asked(needs_key: bool) -> Option<Asked> {
        Some(Asked {
            project: project(1),
            needs_key,
        })
    }

    #[test]
    fn a_key_is_asked_for_where_the_project_or_the_instance_wants_it() {
        use Admission::{Granted, KeyMissing, KeyWrong, NotFound};
        let (own, other) = (Sent::Opens(project(1)), Sent::Opens(project(2)));
        // (instance, check) and what comes of no key, a wrong one, the project's and another's.
        for (required, check, answers) in [
            (false, asked(false), [Granted; 4]),
            (false, asked(true), [KeyMissing, KeyWrong, Granted, NotFound]),
            (true, asked(false), [KeyMissing, KeyWrong, Granted, NotFound]),
            (true, asked(true), [KeyMissing, KeyWrong, Granted, NotFound]),
            (false, None, [NotFound; 4]),
            (true, None, [KeyMissing, KeyWrong, NotFound, NotFound]),
        ] {
            let found = [Sent::Nothing, Sent::Wrong, own, other].map(|sent| admit(required, check, sent));
            assert_eq!(found, answers, "{required} {check:?}");
        }
    }

    #[test]
    fn where_the_instance_asks_nobody_learns_whether_an_id_is_anothers() {
        for sent in [Sent::Nothing, Sent::Wrong, Sent::Opens(project(2))] {
            assert_eq!(
                admit(true, asked(false), sent),
                admit(true, None, sent),
                "{sent:?}"
            );
        }
    }
}
