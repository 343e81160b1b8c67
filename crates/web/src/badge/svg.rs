//! A badge drawn: a grey field with the label, a coloured one with the word.
//!
//! Nothing is measured on the reader's side, so the widths come from a table; `textLength` holds the text to them in
//! whatever font there is. The label may be anything that anybody called a check: it is escaped, and what XML cannot
//! hold is replaced.

use super::Word;

const HEIGHT: u32 = 20;
/// Pixels left and right of each text.
const PADDING: f64 = 6.0;
/// Tenths of a pixel that the printable ASCII characters take, from the space on, in DejaVu Sans (and so nearly in
/// Verdana) of 11 pixels.
const TENTHS: [u16; 95] = [
    35, 44, 51, 92, 70, 105, 86, 30, 43, 43, 55, 92, 35, 40, 35, 37, 70, 70, 70, 70, 70, 70, 70, 70, 70, 70,
    37, 37, 92, 92, 92, 58, 110, 75, 75, 77, 85, 70, 63, 85, 83, 32, 32, 72, 61, 95, 82, 87, 66, 87, 76, 70,
    67, 81, 75, 109, 75, 67, 75, 43, 37, 43, 92, 55, 55, 67, 70, 60, 70, 68, 39, 70, 70, 31, 31, 64, 31, 107,
    70, 67, 70, 70, 45, 57, 43, 70, 65, 90, 65, 65, 58, 70, 37, 70, 92,
];
/// Letters of other alphabets, on the average of those that DejaVu Sans has.
const TENTHS_OF_A_LETTER: u16 = 72;
/// Ideographs, kana, hangul and pictures fill their square.
const TENTHS_OF_A_SQUARE: u16 = 110;

fn tenths(c: char) -> u16 {
    let code = u32::from(c);
    match code {
        0x20..=0x7e => TENTHS[(code - 0x20) as usize],
        // Marks that stand on the letter before them, joiners and direction signs.
        0x300..=0x36f | 0x200b..=0x200f | 0x202a..=0x202e | 0x2060..=0x2069 | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xff00..=0xff60
        | 0x1f000..=0x3ffff => TENTHS_OF_A_SQUARE,
        _ => TENTHS_OF_A_LETTER,
    }
}

/// Pixels that a text takes.
fn width(text: &str) -> f64 {
    text.chars().map(|c| f64::from(tenths(c))).sum::<f64>() / 10.0
}

/// Text as it may stand in an element or an attribute.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' | '\r' => out.push(' '),
            // Characters that XML 1.0 does not allow in any form.
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            _ => out.push(c),
        }
    }
    out
}

/// Draws a badge.
pub(super) fn draw(label: &str, word: Word) -> String {
    let (label_width, word_width) = (width(label), width(word.text()));
    let left = (label_width + 2.0 * PADDING).ceil();
    let right = (word_width + 2.0 * PADDING).ceil();
    let all = left + right;
    let (label_middle, word_middle) = (left / 2.0, left + right / 2.0);
    let (label, text, colour) = (escaped(label), word.text(), word.colour());
    // The left field is rounded on both sides; a square patch hides its right corners.
    let patch = left - 4.0;
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{all}" height="{HEIGHT}" viewBox="0 0 {all} {HEIGHT}" role="img" aria-label="{label}: {text}"><title>{label}: {text}</title><rect width="{all}" height="{HEIGHT}" rx="3" fill="{colour}"/><rect width="{left}" height="{HEIGHT}" rx="3" fill="#555"/><rect x="{patch}" width="4" height="{HEIGHT}" fill="#555"/><g fill="#fff" font-family="DejaVu Sans,Verdana,Geneva,sans-serif" font-size="11" text-anchor="middle"><text x="{label_middle}" y="14" textLength="{label_width:.1}">{label}</text><text x="{word_middle}" y="14" textLength="{word_width:.1}">{text}</text></g></svg>
"##
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_badge_is_as_wide_as_its_texts() {
        // "prod" is 7.0 + 4.5 + 6.7 + 7.0, "up" 7.0 + 7.0.
        assert_eq!((width("prod"), width("up")), (25.2, 14.0));
        let svg = draw("prod", Word::Up);
        assert!(svg.contains(r#"width="64" height="20""#), "{svg}");
        assert!(svg.contains(r#"textLength="25.2">prod<"#) && svg.contains(r#"textLength="14.0">up<"#));
        assert_eq!(width("日本"), 22.0);
        assert_eq!(width("e\u{301}"), width("e"));
    }

    #[test]
    fn every_word_has_its_colour_and_is_told_to_those_who_do_not_see() {
        for (word, text, colour) in [
            (Word::Up, "up", "#4c1"),
            (Word::Late, "late", "#fe7d37"),
            (Word::Down, "down", "#e05d44"),
        ] {
            let svg = draw("db", word);
            assert!(svg.contains(&format!(">{text}<")) && svg.contains(colour));
            assert!(svg.contains(&format!("<title>db: {text}</title>")));
            assert!(svg.contains(&format!(r#"role="img" aria-label="db: {text}""#)));
        }
    }

    #[test]
    fn a_hostile_name_stays_text() {
        let svg = draw("\"/><script>alert('1')</script>&\0\u{1}\u{ffff}\n", Word::Down);
        assert!(!svg.contains("<script") && !svg.contains("'1'") && !svg.contains('\0'));
        assert!(svg.contains(
            "&quot;/&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;\u{fffd}\u{fffd}\u{fffd} "
        ));
        assert_eq!(
            svg.matches('<').count(),
            draw("x", Word::Down).matches('<').count()
        );
    }
}
