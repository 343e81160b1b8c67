//! What a relay says once it was told a password: relays repeat what they did not understand, and the password with it.
//!
//! Of the replies to a sign-in nothing is kept but their codes. In what is said later the password is covered, as it is
//! and in the forms it was sent in, and each part of them that is long enough to be one.

use allswell_core::secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::reply::Reply;

/// Bytes of the shortest part that is known again.
const PART_BYTES: usize = 8;
const COVER: &[u8] = b"[hidden]";

/// What must not be repeated.
pub struct Hush {
    /// All parts of [`PART_BYTES`] as numbers, sorted; in lower case, since some relays shout.
    parts: Secret<Vec<u64>>,
    /// The password is shorter than a part: it cannot be told from other words, and no words are kept.
    short: bool,
}

impl Hush {
    /// For a password, as it is, by itself in base64 wherever it begins there, and together with the user.
    pub fn of(user: &str, password: &Secret<String>) -> Self {
        let password = password.reveal();
        // The first letters are those of what stands before, too, and say nothing of the password.
        let alone = |before: &str, skip: usize| {
            let padded = Secret::new(format!("{before}{password}"));
            Secret::new(STANDARD.encode(padded.reveal()).split_off(skip))
        };
        let both = Secret::new(format!("\0{user}\0{password}"));
        let forms = [
            Secret::new(password.clone()),
            alone("", 0),
            alone("\0", 2),
            alone("\0\0", 3),
            Secret::new(STANDARD.encode(both.reveal())),
        ];
        let windows = forms
            .iter()
            .flat_map(|form| form.reveal().as_bytes().windows(PART_BYTES));
        let mut parts: Vec<u64> = windows.map(part).collect();
        parts.sort_unstable();
        Hush {
            parts: Secret::new(parts),
            short: password.len() < PART_BYTES,
        }
    }

    /// The reply to a line of the sign-in: its code, and the code of RFC 3463 if it has one.
    pub fn bare(reply: &Reply) -> Reply {
        let first = reply.lines.first().map_or(&[][..], Vec::as_slice);
        Reply {
            code: reply.code,
            lines: vec![enhanced(first).to_vec()],
        }
    }

    /// A later reply.
    pub fn covered(&self, reply: &Reply) -> Reply {
        if self.short {
            return Hush::bare(reply);
        }
        // As one text: a long line that is repeated may be broken anywhere. Once more without the codes that stand before
        // each line of some replies, and so in the midst of what was broken.
        let text = Secret::new(reply.lines.concat());
        let mut hidden = vec![false; text.reveal().len()];
        let all: Vec<usize> = (0..hidden.len()).collect();
        for places in [all, without_codes(reply)] {
            let said = Secret::new(places.iter().map(|at| text.reveal()[*at]).collect::<Vec<u8>>());
            for (window, places) in said.reveal().windows(PART_BYTES).zip(places.windows(PART_BYTES)) {
                if self.parts.reveal().binary_search(&part(window)).is_ok() {
                    places.iter().for_each(|at| hidden[*at] = true);
                }
            }
        }
        let mut bytes = text.reveal().iter().copied().zip(hidden);
        let line = |line: &Vec<u8>| {
            let mut shown = Vec::with_capacity(line.len());
            let mut was_hidden = false;
            for (byte, hidden) in bytes.by_ref().take(line.len()) {
                match (was_hidden, hidden) {
                    (_, false) => shown.push(byte),
                    (false, true) => shown.extend_from_slice(COVER),
                    (true, true) => {}
                }
                was_hidden = hidden;
            }
            shown
        };
        Reply {
            code: reply.code,
            lines: reply.lines.iter().map(line).collect(),
        }
    }
}

fn part(window: &[u8]) -> u64 {
    let number = |number, byte: &u8| number << 8 | u64::from(byte.to_ascii_lowercase());
    window.iter().fold(0, number)
}

/// The code of RFC 3463 that a line begins with; empty if there is none.
fn enhanced(line: &[u8]) -> &[u8] {
    let word = line.split(|byte| *byte == b' ').next().unwrap_or_default();
    if is_enhanced(word) { word } else { &[] }
}

/// Which bytes of all lines, one after the other, are no code at the beginning of a line, nor the space after one.
fn without_codes(reply: &Reply) -> Vec<usize> {
    let mut places = Vec::new();
    let mut begin = 0;
    for line in &reply.lines {
        let code = enhanced(line).len();
        let skip = if code == 0 { 0 } else { code + 1 };
        places.extend(begin + skip..begin + line.len());
        begin += line.len();
    }
    places
}

/// Class, subject and detail (RFC 3463 section 2). Short enough to hold no password of use.
fn is_enhanced(word: &[u8]) -> bool {
    let number = |digits: &[u8]| (1..=3).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    let numbers: Vec<_> = word.split(|byte| *byte == b'.').collect();
    matches!(numbers[..], [b"2" | b"4" | b"5", subject, detail] if number(subject) && number(detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWORD: &str = "open sesame";

    fn reply(lines: &[&str]) -> Reply {
        Reply {
            code: 550,
            lines: lines.iter().map(|line| line.as_bytes().to_vec()).collect(),
        }
    }

    #[test]
    fn of_a_reply_to_a_sign_in_only_the_codes_are_kept() {
        for (lines, left) in [
            (&["5.7.8 open sesame"][..], "550 5.7.8"),
            (&["5.7.8"], "550 5.7.8"),
            (&["wrong", "5.7.8 wrong"], "550"),
            (&["3.7.8 x"], "550"),
            (&["5.7.8.1 x"], "550"),
            (&["5.7.1234 x"], "550"),
            (&["5..8 x"], "550"),
            (&["open"], "550"),
            (&[""], "550"),
        ] {
            assert_eq!(Hush::bare(&reply(lines)).words(100), left, "{lines:?}");
        }
    }

    #[test]
    fn the_password_is_covered_in_each_of_its_forms() {
        let covered = |lines: &[&str]| {
            let hush = Hush::of("alice", &Secret::new(PASSWORD.to_owned()));
            hush.covered(&reply(lines)).words(1_000)
        };
        // printf '\0alice\0open sesame' | base64, and the password after none to two other letters.
        for form in [
            PASSWORD,
            "OPEN SESAME",
            "AGFsaWNlAG9wZW4gc2VzYW1l",
            "b3BlbiBzZXNhbWU=",
            "9wZW4gc2VzYW1l",
            "vcGVuIHNlc2FtZ",
            "open ses",
            "en sesame",
            "AGFsaWNlAG",
        ] {
            assert_eq!(covered(&[&format!("no <{form}>")]), "550 no <[hidden]>", "{form}");
        }
        assert_eq!(
            covered(&["no open se", "same, no"]),
            "550 no [hidden] / [hidden], no"
        );
        for (lines, shown) in [
            (
                &["5.7.1 no open se", "5.7.1 same, no"][..],
                "550 5.7.1 no [hidden] / 5.7.1 [hidden], no",
            ),
            (
                &["no open", "5.7.1  se", "5.7.1", "5.7.1 same"],
                "550 no [hidden] / 5.7.1 [hidden] / 5.7.1 / 5.7.1 [hidden]",
            ),
        ] {
            assert_eq!(covered(lines), shown);
        }
        let plain = "5.7.1 relay access denied, open to users";
        assert_eq!(covered(&[plain, "", "x"]), format!("550 {plain} /  / x"));
    }

    #[test]
    fn a_password_that_begins_as_a_code_does_is_covered() {
        let hush = Hush::of("alice", &Secret::new("5.7.1 mine".to_owned()));
        let shown = hush.covered(&reply(&["5.7.1 mine", "x"])).words(100);
        assert_eq!(shown, "550 [hidden] / x");
    }

    #[test]
    fn a_password_that_could_be_any_word_leaves_no_words() {
        let hush = Hush::of("alice", &Secret::new("relay".to_owned()));
        assert_eq!(hush.covered(&reply(&["5.7.1 relay no"])).words(100), "550 5.7.1");
    }
}
