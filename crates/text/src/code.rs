//! Source code as text: identifiers and their parts.

/// The lower-case parts of every identifier in `text`: split at separators, at a change between letters and digits, before a capital
/// that follows a small letter, and before the last capital of an acronym that a small letter follows.
///
/// ```
/// use eas_text::code::split_identifiers;
///
/// assert_eq!(split_identifiers("parseHTTPResponse2xx_fast"), ["parse", "http", "response", "2", "xx", "fast"]);
/// assert_eq!(split_identifiers("BM25Index::top_k"), ["bm", "25", "index", "top", "k"]);
/// ```
pub fn split_identifiers(text: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut part = String::new();
    let mut previous = ' ';
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c.is_alphanumeric() {
            let digit_edge = previous.is_numeric() != c.is_numeric();
            let camel_edge = previous.is_lowercase() && c.is_uppercase();
            let acronym_edge =
                previous.is_uppercase() && c.is_uppercase() && chars.peek().is_some_and(|next| next.is_lowercase());
            if digit_edge || camel_edge || acronym_edge {
                flush(&mut part, &mut parts);
            }
            part.extend(c.to_lowercase());
        } else {
            flush(&mut part, &mut parts);
        }
        previous = c;
    }
    flush(&mut part, &mut parts);
    parts
}

fn flush(part: &mut String, parts: &mut Vec<String>) {
    if !part.is_empty() {
        parts.push(std::mem::take(part));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fall_into_their_words() {
        for (name, words) in [
            ("parseHTTPResponse2xx_fast", "parse http response 2 xx fast"),
            ("BM25Index::top_k", "bm 25 index top k"),
            ("bubble_sort", "bubble sort"),
            ("HTTPServer", "http server"),
            ("getURL", "get url"),
            ("XMLHttpRequest", "xml http request"),
            ("__init__", "init"),
            ("SCREAMING_CASE", "screaming case"),
            ("utf8_to_utf16le", "utf 8 to utf 16 le"),
            ("kebab-case-name", "kebab case name"),
            ("IoT", "io t"),
            ("ABTest", "ab test"),
            ("x", "x"),
            ("f32::total_cmp(&a, &b)", "f 32 total cmp a b"),
            ("größeÄndern", "größe ändern"),
            ("", ""),
            ("_ :: !", ""),
        ] {
            assert_eq!(split_identifiers(name).join(" "), words, "{name}");
        }
    }
}
