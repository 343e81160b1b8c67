//! What a relay says, read strictly: a reply that two programs could read differently is none.

use allswell_core::exchange::{cut, escaped_line};
use allswell_core::limits;

/// A whole reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// 200 to 599.
    pub code: u16,
    /// The text of each line, without code and line end: any bytes.
    pub lines: Vec<Vec<u8>>,
}

impl Reply {
    /// Whether the relay did what it was asked for.
    pub const fn is_done(&self) -> bool {
        matches!(self.code, 200..=299)
    }

    /// Whether it would perhaps do it later.
    pub const fn is_for_now(&self) -> bool {
        matches!(self.code, 400..=499)
    }

    /// Code and text in one line for administrators, of at most so many characters of text; it does nothing to a terminal
    /// or a page.
    pub fn words(&self, chars_max: usize) -> String {
        let text = escaped_line(&self.lines.join(b" / ".as_slice()));
        let text = text.trim();
        format!("{} {}", self.code, cut(text, chars_max))
            .trim_end()
            .to_owned()
    }
}

/// Puts a reply together from its lines.
#[derive(Debug, Default)]
pub struct Gathering {
    code: Option<u16>,
    lines: Vec<Vec<u8>>,
}

impl Gathering {
    /// Takes a line, with its line end; gives the reply after its last one.
    ///
    /// # Errors
    /// What makes it no reply, for administrators.
    pub fn take(&mut self, line: &[u8]) -> Result<Option<Reply>, &'static str> {
        let line = line
            .strip_suffix(b"\r\n")
            .ok_or("a line that does not end with CR LF")?;
        if line.contains(&b'\r') {
            return Err("a line with a CR inside");
        }
        let (digits, rest) = line.split_at_checked(3).ok_or("a line without a code")?;
        let [hundreds @ b'2'..=b'5', tens @ b'0'..=b'9', ones @ b'0'..=b'9'] = digits else {
            return Err("a line without a code");
        };
        let digit = |byte: &u8| u16::from(byte - b'0');
        let code = digit(hundreds) * 100 + digit(tens) * 10 + digit(ones);
        if self.code.is_some_and(|first| first != code) {
            return Err("a reply with two codes");
        }
        self.code = Some(code);
        let (last, text) = match rest {
            [] => (true, rest),
            [b' ', text @ ..] => (true, text),
            [b'-', text @ ..] => (false, text),
            _ => return Err("a line with something else than a space or a hyphen after its code"),
        };
        self.lines.push(text.to_vec());
        if last {
            let lines = std::mem::take(&mut self.lines);
            return Ok(Some(Reply { code, lines }));
        }
        if self.lines.len() == limits::SMTP_REPLY_LINES_MAX {
            return Err("a reply with too many lines");
        }
        Ok(None)
    }
}

/// What a relay offers in its answer to EHLO.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offers {
    /// TLS by STARTTLS.
    pub starttls: bool,
    /// Bytes that a message may have, if it says so.
    pub size_bytes: Option<u64>,
    /// Mechanisms of sign-in, in upper case.
    pub mechanisms: Vec<String>,
}

impl Offers {
    /// Reads the answer to EHLO: its first line greets, each further one is a keyword with parameters. What is not known
    /// is passed over.
    pub fn of(ehlo: &Reply) -> Self {
        let mut offers = Offers::default();
        for line in ehlo.lines.iter().skip(1) {
            let line = String::from_utf8_lossy(line).to_ascii_uppercase();
            // `AUTH=LOGIN` is how some said it before the standard did.
            let line = line.replacen("AUTH=", "AUTH ", 1);
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("STARTTLS") => offers.starttls = true,
                // Zero says that there is no fixed bound (RFC 1870).
                Some("SIZE") => {
                    offers.size_bytes = words
                        .next()
                        .and_then(|size| size.parse().ok())
                        .filter(|size| *size > 0);
                }
                Some("AUTH") => words.for_each(|word| offers.mechanism(word)),
                _ => {}
            }
        }
        offers
    }

    fn mechanism(&mut self, word: &str) {
        let plain =
            |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
        let known = self.mechanisms.iter().any(|mechanism| mechanism == word);
        if word.len() <= limits::SMTP_MECHANISM_BYTES_MAX
            && word.bytes().all(plain)
            && self.mechanisms.len() < limits::SMTP_MECHANISMS_MAX
            && !known
        {
            self.mechanisms.push(word.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(lines: &[&[u8]]) -> Result<Option<Reply>, &'static str> {
        let mut gathering = Gathering::default();
        let mut reply = None;
        for line in lines {
            assert_eq!(reply, None, "a line after the last one");
            reply = gathering.take(line)?;
        }
        Ok(reply)
    }

    #[test]
    fn a_reply_ends_with_its_first_line_that_has_no_hyphen() {
        let reply = |code, lines: &[&[u8]]| {
            let lines = lines.iter().map(|line| line.to_vec()).collect();
            Ok(Some(Reply { code, lines }))
        };
        assert_eq!(gathered(&[b"220 a b\r\n"]), reply(220, &[b"a b"]));
        assert_eq!(gathered(&[b"220\r\n"]), reply(220, &[b""]));
        assert_eq!(
            gathered(&[b"250-\r\n", b"250-\xff\0\r\n", b"250\r\n"]),
            reply(250, &[b"", b"\xff\0", b""])
        );
        assert_eq!(gathered(&[b"250-a\r\n"]), Ok(None));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_no_reply() {
        let table: [&[&[u8]]; 12] = [
            &[b"220 a\n"],
            &[b"220 a\rb\r\n"],
            &[b"220 a\r\r\n"],
            &[b"\r\n"],
            &[b"22\r\n"],
            &[b"hello\r\n"],
            &[b"120 a\r\n"],
            &[b"650 a\r\n"],
            &[b" 220 a\r\n"],
            &[b"2200 a\r\n"],
            &[b"220\ta\r\n"],
            &[b"250-a\r\n", b"251 b\r\n"],
        ];
        for lines in table {
            assert!(gathered(lines).is_err(), "{lines:?}");
        }
    }

    #[test]
    fn a_reply_has_an_end() {
        let lines: Vec<&[u8]> = vec![b"250-a\r\n"; limits::SMTP_REPLY_LINES_MAX];
        assert!(gathered(&lines).is_err());
        let mut most = lines[1..].to_vec();
        most.push(b"250 a\r\n");
        assert_eq!(
            gathered(&most).unwrap().unwrap().lines.len(),
            limits::SMTP_REPLY_LINES_MAX
        );
    }

    #[test]
    fn words_are_bounded_and_do_nothing_to_a_terminal() {
        let lines = vec![b"5.7.8\tno\x1b[2J \xff".to_vec(), "\u{202e}x".into()];
        let reply = Reply { code: 535, lines };
        assert_eq!(
            reply.words(100),
            "535 5.7.8\\u{9}no\\u{1b}[2J \u{fffd} / \\u{202e}x"
        );
        assert_eq!(reply.words(5), "535 5.7.8...");
    }

    #[test]
    fn offers_are_what_follows_the_greeting() {
        let of = |lines: &[&str]| {
            let lines = lines.iter().map(|line| line.as_bytes().to_vec()).collect();
            Offers::of(&Reply { code: 250, lines })
        };
        // The first line is a name, whatever it says.
        assert_eq!(of(&["STARTTLS"]), Offers::default());
        let long = format!("AUTH {}", "A".repeat(limits::SMTP_MECHANISM_BYTES_MAX + 1));
        let offers = of(&[
            "relay.example",
            "starttls",
            "SIZE 1000",
            "AUTH plain LOGIN \u{1b}[2J",
            "AUTH=LOGIN",
            &long,
            "X-ELSE STARTTLS",
        ]);
        let expected = Offers {
            starttls: true,
            size_bytes: Some(1000),
            mechanisms: vec!["PLAIN".to_owned(), "LOGIN".to_owned()],
        };
        assert_eq!(offers, expected);
        assert_eq!(of(&["relay.example", "SIZE 0"]).size_bytes, None);
        let many: String = (0..50).map(|at| format!(" M{at}")).collect();
        assert_eq!(
            of(&["x", &format!("AUTH{many}")]).mechanisms.len(),
            limits::SMTP_MECHANISMS_MAX
        );
    }
}
