//! Slugs: the part of a ping address that people can read.

use unicode_normalization::UnicodeNormalization;

/// Whether the text may be a slug: lower-case letters, digits, hyphen and underscore. An empty one means "none".
pub fn is_slug(text: &str) -> bool {
    text.bytes()
        .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
}

/// A slug from a name, as API versions before 3 make it (`healthchecks.md` section 3.5): decomposed, ASCII only,
/// lower case, only word characters; runs of spaces and hyphens become one hyphen.
pub fn from_name(name: &str) -> String {
    let plain: String = name
        .nfkd()
        .filter(char::is_ascii)
        .map(|c| c.to_ascii_lowercase())
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-') || c.is_ascii_whitespace())
        .collect();
    let mut slug = String::with_capacity(plain.len());
    for c in plain.trim().chars() {
        let c = if c.is_ascii_whitespace() { '-' } else { c };
        if c != '-' || !slug.ends_with('-') {
            slug.push(c);
        }
    }
    slug.trim_matches(['-', '_']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_slugs() {
        for (name, slug) in [
            ("My Daily  Job, 42!", "my-daily-job-42"),
            ("Second Name", "second-name"),
            ("  Žalia -- ☃ ", "zalia"),
            ("a_b", "a_b"),
            ("日本語", ""),
            ("", ""),
        ] {
            assert_eq!(from_name(name), slug, "{name}");
            assert!(is_slug(slug));
        }
    }

    #[test]
    fn slugs_have_few_characters() {
        for bad in ["Upper", "with space", "dot.dot", "sl/ash", "ä", "a+b", "a\n"] {
            assert!(!is_slug(bad), "{bad}");
        }
    }
}
