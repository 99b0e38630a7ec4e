//! Numbers in the words of messages.

/// `1 token`, `2 tokens`, `1,234 tokens`: a count and its noun, for messages.
pub fn count(n: usize, noun: &str) -> String {
    format!("{} {noun}{}", thousands(n), if n == 1 { "" } else { "s" })
}

/// `1,234,567`: a whole number with its thousands set apart.
pub fn thousands(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Which of some names a word resembles most, if any of them by at least `least` (1 is the same word).
pub fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>, least: f64) -> Option<&'a str> {
    let likeness = |name: &str| strsim::normalized_damerau_levenshtein(name, word);
    let near = names.into_iter().map(|name| (likeness(name), name)).filter(|(likeness, _)| *likeness >= least);
    near.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_read_as_people_write_them() {
        assert_eq!(count(0, "token"), "0 tokens");
        assert_eq!(count(1, "token"), "1 token");
        assert_eq!(count(1_234_567, "token"), "1,234,567 tokens");
        assert_eq!(thousands(100), "100");
        assert_eq!(thousands(1_000), "1,000");
    }

    #[test]
    fn the_nearest_name_is_near_enough() {
        let names = ["species", "sepals", "width"];
        assert_eq!(nearest("specie", names, 0.6), Some("species"));
        assert_eq!(nearest("widht", names, 0.6), Some("width"));
        assert_eq!(nearest("colour", names, 0.6), None);
        assert_eq!(nearest("x", [], 0.0), None);
    }
}
