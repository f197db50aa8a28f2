//! Aligned columns, as Docker's lists have them: each as wide as its widest cell and three spaces, and never narrower
//! than a minimum.

use unicode_width::UnicodeWidthStr;

use super::text::visible_line;

/// Renders `rows` below `header`. Control characters in cells are escaped.
pub(crate) fn render(header: &[&str], rows: &[Vec<String>], minimum: usize) -> String {
    let rows: Vec<Vec<String>> =
        std::iter::once(header.iter().map(|cell| (*cell).to_owned()).collect())
            .chain(
                rows.iter()
                    .map(|row| row.iter().map(|cell| visible_line(cell)).collect()),
            )
            .collect();
    let widths: Vec<usize> = (0..header.len())
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            let widest = cells.map(|cell| cell.width()).max().unwrap_or(0);
            (widest + 3).max(minimum)
        })
        .collect();
    let mut text = String::new();
    for row in &rows {
        let start = text.len();
        for (cell, width) in row.iter().zip(&widths) {
            text.push_str(cell);
            text.push_str(&" ".repeat(width.saturating_sub(cell.width())));
        }
        text.truncate(start + text[start..].trim_end().len());
        text.push('\n');
    }
    text
}

/// Shortens `text` to `width` columns, the last of them `…` where anything is left out.
pub(crate) fn shorten(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut shown = String::new();
    let mut used = 0;
    for character in text.chars() {
        let wide = unicode_width::UnicodeWidthChar::width(character).unwrap_or(0);
        if used + wide + 1 > width {
            break;
        }
        shown.push(character);
        used += wide;
    }
    if width > 0 {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            vec!["web-1".to_owned(), "日本".to_owned(), "end".to_owned()],
            vec![
                "a-long-name-1".to_owned(),
                "x\x1by".to_owned(),
                String::new(),
            ],
        ];
        assert_eq!(
            render(&["NAME", "B", "C"], &rows, 6),
            "NAME            B          C\n\
             web-1           日本       end\n\
             a-long-name-1   x\\u{1b}y\n"
        );
    }

    #[test]
    fn long_text_ends_with_an_ellipsis() {
        let rows = [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("日本語", 5, "日本…"),
            ("日本語", 4, "日…"),
            ("abc", 0, ""),
        ];
        for (text, width, expected) in rows {
            assert_eq!(shorten(text, width), expected);
        }
    }
}
