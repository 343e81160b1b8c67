//! Placeholders in what a user wrote: `$NAME` and the rest as Healthchecks knows them (`healthchecks.md` section 7.1),
//! and two of our own.
//!
//! A template is read once from left to right. At each `$` the placeholders are tried in the order of [`NAMES`], then
//! `$TAG1`, `$TAG2` and on; the first that the text begins with is replaced. That is why `$TAG1` eats the beginning of
//! `$TAG10`, `$$STATUS` is `$down`, and what a value holds is never looked at again: nobody can name a check so that it
//! becomes a placeholder. What is no placeholder in its place stays as it is.
//!
//! Ours are `${json:NAME}`, a value as JSON, and `${secret:NAME}`, a secret of the project. Healthchecks leaves both as
//! they are, so no template of its users changes its meaning.

use std::borrow::Cow;
use std::fmt;

/// Where a template stands. The place decides how values are written and which there are.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Path, query or fragment of a URL: free values are percent-encoded, a slash stays.
    Url,
    /// The value of a header: Latin-1 on one line.
    Header,
    /// The body.
    Body,
}

/// The placeholders without a number, in the order in which they are tried: a name that begins with another's stands
/// before it.
pub const NAMES: [&str; 11] = [
    "CODE",
    "STATUS",
    "NOW",
    "NAME_JSON",
    "NAME",
    "SLUG",
    "TAGS",
    "JSON",
    "BODY_JSON",
    "BODY",
    "EXITSTATUS",
];
const SECRET: &str = "${secret:";
const JSON: &str = "${json:";
/// Characters of the name of a secret.
pub const SECRET_NAME_CHARS_MAX: usize = 64;

/// What is put in the places of the placeholders.
pub trait Values {
    /// The value of one of [`NAMES`], as it is.
    fn named(&self, name: &str) -> Cow<'_, str>;
    /// The tags one by one.
    fn tags(&self) -> &[String];
    /// A value as JSON, for `${json:NAME}`; `None` for a name there is not.
    fn json(&self, name: &str) -> Option<Cow<'_, str>>;
    /// A secret of the project; `None` for one there is not.
    fn secret(&self, name: &str) -> Option<&str>;
}

/// Why a template cannot be used, or not be filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplateError {
    /// `${json:…}` of a name that is no value.
    Unknown(String),
    /// `${secret:…}` of a name that no secret can have.
    SecretName(String),
    /// `${json:` or `${secret:` without an end.
    Open,
    /// A secret there is not.
    NoSecret(String),
    /// Filled it would have more bytes than these.
    TooLong(usize),
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TemplateError::Unknown(name) => write!(f, "${{json:{name}}} is no placeholder"),
            TemplateError::SecretName(name) => write!(
                f,
                "${{secret:{name}}} is no placeholder: the name of a secret is 1 to {SECRET_NAME_CHARS_MAX} letters, \
                 digits, hyphens and underscores"
            ),
            TemplateError::Open => f.write_str("a placeholder that begins with ${ has no }"),
            TemplateError::NoSecret(name) => write!(f, "the project has no secret called {name}"),
            TemplateError::TooLong(max) => {
                write!(f, "with its values filled in it has more than {max} bytes")
            }
        }
    }
}

impl std::error::Error for TemplateError {}

/// Whether a secret may be called so.
pub fn is_secret_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=SECRET_NAME_CHARS_MAX).contains(&name.len()) && name.bytes().all(plain)
}

/// What stands at a `$`.
enum Found<'t> {
    Named(&'static str),
    Tag(usize),
    Json(&'t str),
    Secret(&'t str),
    Open,
    Text,
}

/// What the text, which begins with `$`, begins with, and how many bytes that takes.
fn find(text: &str, place: Place, tags: usize) -> (Found<'_>, usize) {
    for (mark, found) in [(JSON, Found::Json as fn(_) -> _), (SECRET, Found::Secret)] {
        if let Some(rest) = text.strip_prefix(mark) {
            return match rest.find('}') {
                Some(end) => (found(&rest[..end]), mark.len() + end + 1),
                None => (Found::Open, 1),
            };
        }
    }
    let rest = &text[1..];
    let here = |name: &&str| place == Place::Body || !name.starts_with("BODY");
    if let Some(name) = NAMES.into_iter().filter(here).find(|name| rest.starts_with(name)) {
        return (Found::Named(name), 1 + name.len());
    }
    // The first digit decides: whatever follows it, `$TAG1` is tried before `$TAG10`.
    if let Some(digits) = rest.strip_prefix("TAG")
        && let Some(n) = digits.chars().next().and_then(|first| first.to_digit(10))
        && (1..=tags).contains(&(n as usize))
    {
        return (Found::Tag(n as usize - 1), 1 + "TAG".len() + 1);
    }
    (Found::Text, 1)
}

/// The template with its placeholders replaced, written for its place. It is given up as soon as it passes `bytes_max`:
/// a short template can name a long value thousands of times.
///
/// # Errors
/// [`TemplateError`] for a placeholder of ours that names nothing there is, and for what gets too long. Those of
/// Healthchecks always can be filled.
pub fn fill(
    template: &str,
    place: Place,
    values: &impl Values,
    bytes_max: usize,
) -> Result<String, TemplateError> {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let (found, length) = find(rest, place, values.tags().len());
        match found {
            Found::Named(name) => {
                let value = values.named(name);
                // These hold nothing that a URL would have to hide.
                if matches!(name, "CODE" | "STATUS" | "SLUG" | "EXITSTATUS") {
                    out.push_str(&value);
                } else {
                    push(&mut out, place, &value);
                }
            }
            Found::Tag(index) => push(&mut out, place, &values.tags()[index]),
            Found::Json(name) => {
                let value = values
                    .json(name)
                    .ok_or_else(|| TemplateError::Unknown(name.to_owned()))?;
                push(&mut out, place, &value);
            }
            Found::Secret(name) => {
                let value = values
                    .secret(name)
                    .ok_or_else(|| TemplateError::NoSecret(name.to_owned()))?;
                push(&mut out, place, value);
            }
            Found::Open => return Err(TemplateError::Open),
            Found::Text => out.push('$'),
        }
        rest = &rest[length..];
        if out.len() > bytes_max {
            return Err(TemplateError::TooLong(bytes_max));
        }
    }
    out.push_str(rest);
    if out.len() > bytes_max {
        return Err(TemplateError::TooLong(bytes_max));
    }
    Ok(match place {
        Place::Header => latin1(&out),
        Place::Url | Place::Body => out,
    })
}

fn push(out: &mut String, place: Place, value: &str) {
    match place {
        Place::Url => percent_encode(out, value),
        Place::Header | Place::Body => out.push_str(value),
    }
}

/// The names of the secrets that a template uses.
///
/// # Errors
/// [`TemplateError`] for a placeholder of ours that can name nothing: `is_json` knows the names of values.
pub fn secrets_of(template: &str, is_json: impl Fn(&str) -> bool) -> Result<Vec<&str>, TemplateError> {
    let mut names = Vec::new();
    for (at, _) in template.match_indices('$') {
        match find(&template[at..], Place::Body, 0).0 {
            Found::Open => return Err(TemplateError::Open),
            Found::Json(name) if !is_json(name) => return Err(TemplateError::Unknown(name.to_owned())),
            Found::Secret(name) if !is_secret_name(name) => {
                return Err(TemplateError::SecretName(name.to_owned()));
            }
            Found::Secret(name) => names.push(name),
            _ => {}
        }
    }
    Ok(names)
}

/// Percent-encoding that keeps letters, digits, `_.-~` and the slash.
fn percent_encode(out: &mut String, value: &str) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'~' | b'/') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(DIGITS[usize::from(byte >> 4)]));
            out.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
}

/// Characters beyond Latin-1 as `&#NNNN;`, control characters as spaces: a header cannot hold either, and a name that
/// holds a line end must not become a header of its own.
fn latin1(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c.is_control() => out.push(' '),
            c if u32::from(c) > 0xFF => out.push_str(&format!("&#{};", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// Text as a JSON string with quotes, in ASCII: what is beyond it, and DEL, is escaped.
pub fn json_string(text: &str) -> String {
    json_ascii(&serde_json::Value::from(text).to_string())
}

/// JSON as Healthchecks writes it: in ASCII, with a space after each comma and colon. `json` must be compact JSON.
pub fn json_ascii(json: &str) -> String {
    let mut out = String::with_capacity(json.len() + json.len() / 8);
    let (mut in_string, mut escaped) = (false, false);
    for c in json.chars() {
        if c.is_ascii() && c != '\u{7f}' {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
        if !in_string && matches!(c, ',' | ':') {
            out.push(' ');
        }
        if c == '"' && !escaped {
            in_string = !in_string;
        }
        escaped = in_string && c == '\\' && !escaped;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Some9 {
        name: &'static str,
        tags: Vec<String>,
    }

    impl Values for Some9 {
        fn named(&self, name: &str) -> Cow<'_, str> {
            match name {
                "CODE" => "5e3f9a1c-0b7d-4c52-9d3a-6f1e2b8c4a70".into(),
                "STATUS" => "down".into(),
                "NOW" => "2026-01-31T12:00:00+00:00".into(),
                "NAME_JSON" => json_string(self.name).into(),
                "NAME" => self.name.into(),
                "SLUG" => "db-backup".into(),
                "TAGS" => self.tags.join(" ").into(),
                "JSON" => r#"{"a": 1}"#.into(),
                "BODY_JSON" => r#""b \"$STATUS\"""#.into(),
                "BODY" => "b $STATUS\u{e9}".into(),
                "EXITSTATUS" => "-1".into(),
                other => unreachable!("{other}"),
            }
        }

        fn tags(&self) -> &[String] {
            &self.tags
        }

        fn json(&self, name: &str) -> Option<Cow<'_, str>> {
            (name == "NAME").then(|| json_string(self.name).into())
        }

        fn secret(&self, name: &str) -> Option<&str> {
            (name == "token").then_some("a/b?c $NAME")
        }
    }

    fn values() -> Some9 {
        Some9 {
            name: "Foo & Ω/é",
            tags: vec!["one two".into(), "drei".into()],
        }
    }

    fn filled(template: &str, place: Place) -> String {
        fill(template, place, &values(), 1_000).expect("filled")
    }

    #[test]
    fn each_placeholder_is_written_for_its_place() {
        let quoted_name = "Foo%20%26%20%CE%A9/%C3%A9";
        let table = [
            (
                "$CODE",
                "5e3f9a1c-0b7d-4c52-9d3a-6f1e2b8c4a70",
                "5e3f9a1c-0b7d-4c52-9d3a-6f1e2b8c4a70",
            ),
            ("$STATUS", "down", "down"),
            (
                "$NOW",
                "2026-01-31T12%3A00%3A00%2B00%3A00",
                "2026-01-31T12:00:00+00:00",
            ),
            ("$NAME", quoted_name, "Foo & Ω/é"),
            (
                "$NAME_JSON",
                "%22Foo%20%26%20%5Cu03a9/%5Cu00e9%22",
                r#""Foo & \u03a9/\u00e9""#,
            ),
            ("$SLUG", "db-backup", "db-backup"),
            ("$TAGS", "one%20two%20drei", "one two drei"),
            ("$TAG1", "one%20two", "one two"),
            ("$TAG2", "drei", "drei"),
            ("$TAG10", "one%20two0", "one two0"),
            ("$TAG3", "$TAG3", "$TAG3"),
            ("$JSON", "%7B%22a%22%3A%201%7D", r#"{"a": 1}"#),
            ("$EXITSTATUS", "-1", "-1"),
            ("$BODY", "$BODY", "b $STATUSé"),
            ("$BODY_JSON", "$BODY_JSON", r#""b \"$STATUS\"""#),
            ("$NOPE $$STATUS$", "$NOPE $down$", "$NOPE $down$"),
            ("$$NAMETAG1", &format!("${quoted_name}TAG1"), "$Foo & Ω/éTAG1"),
            (
                "${json:NAME}",
                "%22Foo%20%26%20%5Cu03a9/%5Cu00e9%22",
                r#""Foo & \u03a9/\u00e9""#,
            ),
            ("${secret:token}", "a/b%3Fc%20%24NAME", "a/b?c $NAME"),
            ("${other:x} ${", "${other:x} ${", "${other:x} ${"),
            ("", "", ""),
        ];
        for (template, url, body) in table {
            assert_eq!(filled(template, Place::Url), url, "{template} in a URL");
            assert_eq!(filled(template, Place::Body), body, "{template} in a body");
        }
    }

    #[test]
    fn a_header_is_latin_1_on_one_line() {
        assert_eq!(
            filled("$NAME é Ω 😀", Place::Header),
            "Foo & &#937;/é é &#937; &#128512;"
        );
        assert_eq!(filled("$BODY", Place::Header), "$BODY");
        let hostile = Some9 {
            name: "a\r\nX-Evil: 1\u{85}\0\u{7f}b",
            tags: Vec::new(),
        };
        assert_eq!(
            fill("$NAME", Place::Header, &hostile, 1_000).unwrap(),
            "a  X-Evil: 1   b"
        );
    }

    #[test]
    fn a_value_is_never_looked_at_again() {
        let hostile = Some9 {
            name: "$STATUS ${secret:token} $TAG1",
            tags: vec!["$NAME".into()],
        };
        let filled = fill("$NAME|$TAG1|$TAGS", Place::Body, &hostile, 1_000).unwrap();
        assert_eq!(filled, "$STATUS ${secret:token} $TAG1|$NAME|$NAME");
    }

    #[test]
    fn what_gets_too_long_is_given_up() {
        let filled = |template: &str, max| fill(template, Place::Body, &values(), max);
        for (template, bytes) in [("$STATUS", 4), ("$STATUS!", 5), ("plain", 5), ("é", 2)] {
            assert!(filled(template, bytes).is_ok(), "{template}");
            assert_eq!(
                filled(template, bytes - 1),
                Err(TemplateError::TooLong(bytes - 1))
            );
        }
        // What follows is not looked at any more.
        assert_eq!(
            filled("$STATUS$STATUS${json:NOPE}", 7),
            Err(TemplateError::TooLong(7))
        );
    }

    #[test]
    fn our_placeholders_must_name_something() {
        let table = [
            ("${json:NOPE}", TemplateError::Unknown("NOPE".into())),
            ("a ${json:", TemplateError::Open),
            ("${secret:token", TemplateError::Open),
        ];
        for (template, error) in table {
            assert_eq!(
                fill(template, Place::Body, &values(), 1_000),
                Err(error.clone()),
                "{template}"
            );
            assert_eq!(
                secrets_of(template, |name| name == "NAME"),
                Err(error),
                "{template}"
            );
        }
        assert_eq!(
            fill("${secret:other}", Place::Url, &values(), 1_000),
            Err(TemplateError::NoSecret("other".into()))
        );
        for name in ["", "a b", "a$NAME", "ä", &"x".repeat(65)] {
            assert_eq!(
                secrets_of(&format!("${{secret:{name}}}"), |_| true),
                Err(TemplateError::SecretName(name.to_owned()))
            );
        }
        assert_eq!(
            secrets_of("$NAME${secret:a_B-1}/$${secret:two}$", |_| true),
            Ok(vec!["a_B-1", "two"])
        );
    }

    #[test]
    fn json_is_written_as_healthchecks_writes_it() {
        assert_eq!(
            json_string("a\"\\\n\u{1}\u{7f}\u{80}é😀/"),
            r#""a\"\\\n\u0001\u007f\u0080\u00e9\ud83d\ude00/""#
        );
        assert_eq!(
            json_ascii(r#"{"a,:\"é":[1,2,"x:\\"],"b":{}}"#),
            r#"{"a,:\"\u00e9": [1, 2, "x:\\"], "b": {}}"#
        );
    }
}
