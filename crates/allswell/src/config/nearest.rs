//! The known name that an unknown one most likely meant.

/// Longer names are not typing errors, and comparing them takes time that a hostile file should not have.
const NAME_CHARS_MAX: usize = 80;

/// The sentence that follows "is not a known …": a question where the names are close, a pointer where not.
/// The prefix, which all names have, is left out of the comparison: it would make any two names look alike.
pub fn nearest_sentence(prefix: &str, unknown: &str, known: impl Iterator<Item = String>) -> String {
    let bare = |name: &str| name.strip_prefix(prefix).unwrap_or(name).to_lowercase();
    let unknown = bare(unknown);
    if unknown.chars().count() > NAME_CHARS_MAX {
        return "`allswell config example` lists what is known".to_owned();
    }
    let Some((distance, name)) = known.map(|name| (distance(&unknown, &bare(&name)), name)).min() else {
        return String::new();
    };
    if distance <= 1 + unknown.chars().count() / 3 {
        format!("did you mean {name}?")
    } else {
        format!("the nearest known name is {name}, `allswell config example` lists all")
    }
}

/// Edits between the names. The right key in the wrong section is near, however unlike the sections are.
fn distance(unknown: &str, known: &str) -> usize {
    let (section, key) = unknown.rsplit_once('.').unwrap_or(("", unknown));
    let (section_known, key_known) = known.rsplit_once('.').unwrap_or(("", known));
    let elsewhere = if section == section_known { 0 } else { 2 };
    strsim::osa_distance(unknown, known).min(elsewhere + strsim::osa_distance(key, key_known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found() {
        let known = [
            "listen",
            "log.level",
            "metrics.listen",
            "limits.inbox",
            "limits.inbox_wait_ms",
        ];
        let table = [
            ("lisen", "did you mean listen?"),
            ("LISTEN", "did you mean listen?"),
            ("limits.inbxo", "did you mean limits.inbox?"),
            ("inbox", "did you mean limits.inbox?"),
            ("limit.inbox_wait", "did you mean limits.inbox_wait_ms?"),
            ("level", "did you mean log.level?"),
            ("server.listen", "did you mean listen?"),
            (
                "limits.x",
                "the nearest known name is limits.inbox, `allswell config example` lists all",
            ),
        ];
        for (unknown, sentence) in table {
            let found = nearest_sentence("", unknown, known.iter().map(|name| (*name).to_owned()));
            assert_eq!(found, sentence, "{unknown}");
        }
        let far = nearest_sentence("", "bananas", known.iter().map(|name| (*name).to_owned()));
        assert!(far.starts_with("the nearest known name is "), "{far}");
    }

    #[test]
    fn a_very_long_name_is_not_compared() {
        let found = nearest_sentence("", &"x".repeat(1 << 20), ["listen".to_owned()].into_iter());
        assert!(found.starts_with("`allswell config example`"), "{found}");
    }
}
