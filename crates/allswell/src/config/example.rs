//! `allswell.example.toml`, written from the table of settings. A test compares the file in the repository
//! with this; `allswell config example > allswell.example.toml` brings it up to date.

use std::fmt::Write as _;

use super::settings::{SECTIONS, SETTINGS};

const HEAD: &str = "\
# The configuration of Allswell: every key with its default.
#
# Copy it to allswell.toml in the working directory (or name it with --config or ALLSWELL_CONFIG), keep the
# lines you change and delete the others. `allswell config check` finds mistakes, `allswell config show`
# prints what is in effect and where it came from.
#
# Each key can be set in the environment instead, which wins over this file: ALLSWELL_, the section, the key,
# in capitals, joined by _ (ALLSWELL_LISTEN, ALLSWELL_LOG_LEVEL). A secret may lie in a file of its own, named
# by the key ending in _file or the variable ending in _FILE. Unknown keys and variables are refused.
#
# Sizes are in bytes, times in the unit that the key ends with.
";

/// The text of the example file.
pub fn config_example() -> String {
    let mut text = HEAD.to_owned();
    let mut section_now = "";
    for setting in SETTINGS {
        let (section, key) = setting.section_and_key();
        if section != section_now {
            let about = SECTIONS
                .iter()
                .find(|(name, _)| *name == section)
                .map_or("", |(_, about)| about);
            let _ = write!(text, "\n\n# {about}\n[{section}]\n");
            section_now = section;
        }
        text.push('\n');
        for line in setting.doc {
            let _ = writeln!(text, "# {line}");
        }
        let _ = writeln!(text, "{key} = {}", setting.default);
        if setting.file_name().is_some() {
            let _ = writeln!(text, "# The path of a file that holds it.\n{key}_file = \"\"");
        }
    }
    text
}
