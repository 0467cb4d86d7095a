//! The frame of a page, and the few pieces of HTML that all pages are made of.

use std::fmt::{self, Display, Write};

use driver::is_control;

const STYLE: &str = include_str!("style.css");

/// Text in HTML, also within an attribute. Control characters, and those that turn the direction
/// of text, become visible, so that neither a program nor a reader's eye obeys them.
pub(super) struct Escaped<T>(pub(super) T);

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for char in self.0.to_string().chars() {
            match char {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                char if is_control(char) => write!(f, "{}", char.escape_default())?,
                char => f.write_char(char)?,
            }
        }
        Ok(())
    }
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Good,
    Bad,
    /// It is not known.
    Open,
}

/// A page being written.
pub(super) struct Page {
    html: String,
}

impl Page {
    /// A page that begins with its verdict: a headline, and what it means in a sentence or two.
    pub(super) fn new(title: &str, verdict: Verdict, headline: &str, meaning: &str) -> Page {
        let (class, mark) = match verdict {
            Verdict::Good => ("good", "&#10003;"),
            Verdict::Bad => ("bad", "&#10007;"),
            Verdict::Open => ("open", "?"),
        };
        let html = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
             <header class=\"verdict {class}\" id=\"verdict\">\n\
             <h1><span class=\"mark\" aria-hidden=\"true\">{mark}</span> {headline}</h1>\n\
             <p>{meaning}</p>\n</header>\n",
            title = Escaped(title),
            headline = Escaped(headline),
            meaning = Escaped(meaning),
        );
        Page { html }
    }

    /// Begins a section. Its name is its address within the page.
    pub(super) fn section(&mut self, id: &str, title: &str) {
        self.raw(format_args!(
            "<section id=\"{id}\">\n<h2>{}</h2>\n",
            Escaped(title)
        ));
    }

    pub(super) fn end_section(&mut self) {
        self.raw("</section>\n");
    }

    /// A paragraph of plain text.
    pub(super) fn paragraph(&mut self, text: impl Display) {
        self.raw(format_args!("<p>{}</p>\n", Escaped(text)));
    }

    /// Figures with their names.
    pub(super) fn figures(&mut self, figures: &[(&str, String)]) {
        self.raw("<dl class=\"figures\">\n");
        for (name, value) in figures {
            self.raw(format_args!(
                "<div><dt>{}</dt><dd>{}</dd></div>\n",
                Escaped(name),
                Escaped(value)
            ));
        }
        self.raw("</dl>\n");
    }

    /// A table. The first row is the head, the first column of each the row's name.
    pub(super) fn table(&mut self, rows: &[Vec<String>]) {
        self.raw("<div class=\"scroll\"><table>\n");
        for (number, row) in rows.iter().enumerate() {
            self.raw("<tr>");
            for (column, cell) in row.iter().enumerate() {
                let tag = if number == 0 || column == 0 {
                    "th"
                } else {
                    "td"
                };
                self.raw(format_args!("<{tag}>{}</{tag}>", Escaped(cell)));
            }
            self.raw("</tr>\n");
        }
        self.raw("</table></div>\n");
    }

    /// HTML as it is.
    pub(super) fn raw(&mut self, html: impl Display) {
        // A String takes everything.
        let _ = write!(self.html, "{html}");
    }

    /// The whole page.
    pub(super) fn finish(mut self) -> String {
        self.raw(format_args!(
            "<footer>ubdlab {}</footer>\n</main>\n</body>\n</html>\n",
            env!("CARGO_PKG_VERSION")
        ));
        self.html
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_shown_becomes_part_of_the_page() {
        let text = Escaped("<b title='x'>\"&\u{1b}[31m</b>").to_string();
        assert_eq!(
            text,
            "&lt;b title=&#39;x&#39;&gt;&quot;&amp;\\u{1b}[31m&lt;/b&gt;"
        );
        let text = Escaped("a\u{202e}b\u{2028}c\u{61c}d\u{9b}e\nf").to_string();
        assert_eq!(text, "a\\u{202e}b\\u{2028}c\\u{61c}d\\u{9b}e\\nf");
    }
}
