//! What the terminal can show.

use crate::strip::Characters;

use super::output;

/// Columns where nobody says how many there are.
const USUAL_WIDTH: usize = 80;

/// Columns of standard output.
pub(super) fn width() -> usize {
    let size = match output::is_terminal() {
        true => terminal_size::terminal_size(),
        false => None,
    };
    size.map_or(USUAL_WIDTH, |(width, _)| usize::from(width.0))
}

/// ASCII unless the locale says UTF-8: the first of these variables that is set counts.
pub(super) fn characters() -> Characters {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .filter_map(|name| std::env::var(name).ok())
        .find(|value| !value.is_empty())
        .unwrap_or_default()
        .to_ascii_lowercase();
    match locale.contains("utf-8") || locale.contains("utf8") {
        true => Characters::Unicode,
        false => Characters::Ascii,
    }
}
