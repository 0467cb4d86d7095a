//! Foreign text on its way to a person. A path may come out of a header that anybody wrote, and
//! a trace's description out of a download: no character of them reaches a terminal raw that the
//! terminal would obey, that would change how its neighbours look, or that would end the line.
//! Escapes are those of Rust's literals: `\u{1b}`, `\n`, and `\xff` for a byte that is no text.

use std::fmt::{self, Display, Write};
use std::path::Path;

/// The path as text on one line, with everything escaped that [`is_control`] names. Bytes that
/// are no UTF-8 are shown as bytes, so that two different names never look alike.
pub fn shown(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        // A String takes everything.
        let _ = write!(text, "{}", OneLine(chunk.valid()));
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// The path as one word of a POSIX shell's command line. What a terminal would obey, and bytes that
/// are no text, come from `printf`: no quotes of POSIX say them in other characters. What `$(...)`
/// would cut off, line feeds at the end, takes a shell that knows `$'...'`.
pub fn shell_word(path: &Path) -> String {
    let bytes = path.as_os_str().as_encoded_bytes();
    if !bytes.is_empty() && bytes[0] != b'-' && bytes.iter().all(is_plain) {
        return shown(path);
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(is_control) => {
            format!("'{}'", text.replace('\'', r"'\''"))
        }
        _ if bytes.ends_with(b"\n") => format!("$'{}'", in_octal(bytes)),
        _ => format!("\"$(printf '{}')\"", in_octal(bytes)),
    }
}

/// The path of a file as one word of a shell's command line that no command takes for an option.
pub fn shell_path(path: &Path) -> String {
    match path.as_os_str().as_encoded_bytes().first() {
        Some(b'-') => shell_word(&Path::new(".").join(path)),
        _ => shell_word(path),
    }
}

/// Whether a byte means itself in every shell.
fn is_plain(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/._-+,:@%=".contains(byte)
}

/// The bytes as `printf` and `$'...'` read them, between single quotes. Three octal digits are read
/// by all shells alike, whatever follows them.
fn in_octal(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (place, byte) in bytes.iter().enumerate() {
        let is_option = place == 0 && *byte == b'-';
        match is_plain(byte) && *byte != b'%' && !is_option || *byte == b' ' {
            true => text.push(char::from(*byte)),
            // A String takes everything.
            false => drop(write!(text, "\\{byte:03o}")),
        }
    }
    text
}

/// Whether a terminal could take the character for a command, show what is around it as something
/// else, or begin a new line at it.
pub fn is_control(character: char) -> bool {
    // Marks, embeddings, overrides and isolates of text direction make a name look like another.
    let turns = matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    let ends_line = matches!(character, '\u{2028}' | '\u{2029}');
    character.is_control() || turns || ends_line
}

/// A value's text on one line, with everything escaped that [`is_control`] names: whatever the
/// value says, it cannot look like a second line of output.
#[derive(Clone, Copy, Debug)]
pub struct OneLine<T>(pub T);

impl<T: Display> Display for OneLine<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Escaping {
            out: f,
            keeps_line_feeds: false,
        };
        write!(out, "{}", self.0)
    }
}

/// A value's text of several lines, with everything escaped that [`is_control`] names but the
/// line feeds. They have to be the value's own: what it shows of foreign text is [`OneLine`].
#[derive(Clone, Copy, Debug)]
pub struct ManyLines<T>(pub T);

impl<T: Display> Display for ManyLines<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Escaping {
            out: f,
            keeps_line_feeds: true,
        };
        write!(out, "{}", self.0)
    }
}

/// Passes text on, escaped.
struct Escaping<'a, 'b> {
    out: &'a mut fmt::Formatter<'b>,
    keeps_line_feeds: bool,
}

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let escaped = |c: char| is_control(c) && !(self.keeps_line_feeds && c == '\n');
        let mut rest = text;
        while let Some((at, character)) = rest.char_indices().find(|(_, c)| escaped(*c)) {
            self.out.write_str(&rest[..at])?;
            write!(self.out, "{}", character.escape_default())?;
            rest = &rest[at + character.len_utf8()..];
        }
        self.out.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(shown(Path::new("/a b/ü.cow")), "/a b/ü.cow");
        assert_eq!(shown(Path::new("a\u{1b}[2Jb\n")), "a\\u{1b}[2Jb\\n");
        assert_eq!(shown(Path::new("x\u{202e}y")), "x\\u{202e}y");
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_as_bytes() {
        let path = |bytes| shown(Path::new(OsStr::from_bytes(bytes)));
        assert_eq!(path(b"a\xffb\xc3"), "a\\xffb\\xc3");
        // A surrogate half, as UTF-8 would have it if it could.
        assert_eq!(path(b"\xed\xa0\x80"), "\\xed\\xa0\\x80");
        // C1 controls, as UTF-8 and as the byte that some terminals obey.
        assert_eq!(path("\u{9b}2J".as_bytes()), "\\u{9b}2J");
        assert_eq!(path(b"\x9b2J"), "\\x9b2J");
    }

    #[test]
    fn every_character_that_is_obeyed_turns_or_ends_a_line_is_escaped() {
        let obeyed = (0..=0x1f).chain(0x7f..=0x9f);
        let turning = [0x61c, 0x200e, 0x200f].into_iter();
        let turning = turning.chain(0x202a..=0x202e).chain(0x2066..=0x2069);
        for code in obeyed.chain(turning).chain([0x2028, 0x2029]) {
            let character = char::from_u32(code).unwrap();
            let text = OneLine(format!("a{character}b")).to_string();
            assert!(text.chars().all(|c| !is_control(c)), "{code:#x}: {text:?}");
            assert!(text.starts_with("a\\") && text.ends_with('b'), "{text:?}");
        }
        let plain = "aä漢🦀\u{200d}\u{301} \\";
        assert_eq!(OneLine(plain).to_string(), plain);
    }

    #[test]
    fn only_text_of_many_lines_keeps_its_line_feeds() {
        let text = "one\ntwo\r\u{1b}";
        assert_eq!(OneLine(text).to_string(), "one\\ntwo\\r\\u{1b}");
        assert_eq!(ManyLines(text).to_string(), "one\ntwo\\r\\u{1b}");
    }

    #[test]
    fn a_path_is_one_word_of_a_command_line() {
        for (path, word) in [
            (&b"/images/root.img"[..], "/images/root.img"),
            (b"a b", "'a b'"),
            (b"it's", r"'it'\''s'"),
            (b"-rf", "'-rf'"),
            (b"~", "'~'"),
            (b"a\nb", r#""$(printf 'a\012b')""#),
            (b"\xff'\\ 7", r#""$(printf '\377\047\134 7')""#),
            (b"-\x1b%-", r#""$(printf '\055\033\045-')""#),
            (b"a\n", r"$'a\012'"),
        ] {
            assert_eq!(shell_word(Path::new(OsStr::from_bytes(path))), word);
        }
    }

    #[test]
    fn a_path_is_no_option() {
        let path = |path: &str| shell_path(Path::new(path));
        assert_eq!(path("-out/a b"), "'./-out/a b'");
        assert_eq!(path("-x"), "./-x");
        assert_eq!(path("a-x"), "a-x");
        assert_eq!(path(""), "''");
    }
}
