//! Paths on their way to a person. A path may come out of a header that anybody wrote, so
//! control characters in it never reach a terminal raw.

use std::path::Path;

/// The path as text, with everything that a terminal could take for a command escaped.
pub fn shown(path: &Path) -> String {
    let mut text = String::new();
    for character in path.to_string_lossy().chars() {
        if is_control(character) {
            text.extend(character.escape_default());
        } else {
            text.push(character);
        }
    }
    text
}

/// Whether a terminal could take the character for a command, or show what is around it as
/// something else.
pub fn is_control(character: char) -> bool {
    // Bidirectional overrides make a name look like another one.
    let overrides = matches!(character, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    character.is_control() || overrides
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(shown(Path::new("/a b/ü.cow")), "/a b/ü.cow");
        assert_eq!(shown(Path::new("a\u{1b}[2Jb\n")), "a\\u{1b}[2Jb\\n");
        assert_eq!(shown(Path::new("x\u{202e}y")), "x\\u{202e}y");
    }
}
