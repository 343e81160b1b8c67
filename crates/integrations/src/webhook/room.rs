//! What is left of long values where a call has no room for them: an alert is never lost for its length.
//!
//! A part of a call that would pass its bound is made again with less room for each value, until it fits. What is cut
//! follows from the message and the template alone, so all tries send the same.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

/// What stands for a value where there is room for nothing.
const MARK: &str = "[cut]";
/// Members of a check or an event that users choose the text of. All others are short, or no use in part.
const FREE: [&str; 14] = [
    "name",
    "project_name",
    "channel_name",
    "tags",
    "desc",
    "text",
    "subject",
    "subject_fail",
    "start_kw",
    "success_kw",
    "failure_kw",
    "channels",
    "schedule",
    "reason",
];
/// Characters that a flip in a list takes of the room.
const CHARS_OF_A_FLIP: usize = 64;

/// How much of each value may stand in a call.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// All of it.
    Whole,
    /// So many characters.
    Chars(usize),
    /// Nothing but a mark.
    Mark,
}

impl Room {
    /// The next that is tried where this one is too much.
    pub(super) const fn less(self) -> Option<Room> {
        match self {
            Room::Whole => Some(Room::Chars(131_072)),
            Room::Chars(chars) if chars > 32 => Some(Room::Chars(chars / 2)),
            Room::Chars(_) => Some(Room::Mark),
            Room::Mark => None,
        }
    }

    /// A text, and how much of it is missing, said at its end.
    pub(super) fn text(self, text: &str) -> Cow<'_, str> {
        match (self, self.begin(text)) {
            (_, (_, 0)) => Cow::Borrowed(text),
            (Room::Mark, _) => Cow::Borrowed(MARK),
            (_, (begin, left_out)) => format!("{begin} [{left_out} more characters]").into(),
        }
    }

    /// The beginning of a text, and how many characters follow it.
    fn begin(self, text: &str) -> (&str, usize) {
        let most = match self {
            Room::Whole => return (text, 0),
            Room::Chars(chars) => chars,
            // What is as short as the mark stays as it is.
            Room::Mark if text.len() <= MARK.len() => return (text, 0),
            Room::Mark => 0,
        };
        match text.char_indices().nth(most) {
            Some((end, _)) => (&text[..end], text[end..].chars().count()),
            None => (text, 0),
        }
    }

    /// How many of a list of texts have room, from the first.
    pub(super) fn texts(self, texts: &[String]) -> usize {
        let most = match self {
            Room::Whole => return texts.len(),
            Room::Chars(chars) => chars,
            Room::Mark => 0,
        };
        let mut chars = 0;
        let fits = texts.iter().take_while(|text| {
            chars += text.chars().count();
            chars <= most
        });
        fits.count()
    }

    /// How many missed flips have room.
    pub(super) fn flips(self) -> usize {
        match self {
            Room::Whole => usize::MAX,
            Room::Chars(chars) => chars / CHARS_OF_A_FLIP,
            Room::Mark => 0,
        }
    }

    /// A check or an event, with `…_cut` beside each member that is not whole: how many characters are left out. Where
    /// there is no room at all, `cut` is all it says. What is no object is taken for one that has none.
    pub(super) fn object(self, value: Value) -> Value {
        let members = match (self, value) {
            (Room::Whole, value) => return value,
            (Room::Chars(_), Value::Object(members)) => members,
            _ => return json!({ "cut": true }),
        };
        let mut shown = Map::new();
        for (name, value) in members {
            match &value {
                Value::String(text) if FREE.contains(&name.as_str()) => {
                    let (begin, left_out) = self.begin(text);
                    if left_out > 0 {
                        shown.insert(cut(&name), json!(left_out));
                    }
                    shown.insert(name, json!(begin));
                }
                _ => drop(shown.insert(name, value)),
            }
        }
        Value::Object(shown)
    }
}

/// The member that says how much of another is left out.
pub(super) fn cut(name: &str) -> String {
    format!("{name}_cut")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_letters_and_says_so() {
        let table = [
            (Room::Whole, "aé☃", "aé☃"),
            (Room::Chars(3), "aé☃", "aé☃"),
            (Room::Chars(2), "aé☃😀", "aé [2 more characters]"),
            (Room::Mark, "short", "short"),
            (Room::Mark, "longer", "[cut]"),
            (Room::Mark, "", ""),
        ];
        for (room, text, shown) in table {
            assert_eq!(room.text(text), shown, "{room:?} {text}");
        }
    }

    #[test]
    fn an_object_says_what_is_left_out_of_which_member() {
        let whole = json!({ "desc": "a longer text", "name": "n", "uuid": "a name for machines", "n": 3 });
        assert_eq!(Room::Whole.object(whole.clone()), whole);
        assert_eq!(
            Room::Chars(4).object(whole.clone()),
            json!({ "desc": "a lo", "desc_cut": 9, "name": "n", "uuid": "a name for machines", "n": 3 })
        );
        assert_eq!(Room::Mark.object(whole), json!({ "cut": true }));
        assert_eq!(Room::Chars(4).object(json!("x")), json!({ "cut": true }));
    }

    #[test]
    fn room_ends() {
        let mut room = Room::Whole;
        let mut steps = 0;
        while let Some(less) = room.less() {
            assert!(less.flips() <= room.flips());
            (room, steps) = (less, steps + 1);
        }
        assert_eq!((room, steps), (Room::Mark, 14));
    }
}
