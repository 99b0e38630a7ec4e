//! The embedded default data: the English first names of the crate `fake`, one a line.

use fake::locales::{Data, EN};

/// Keys the order of the names; part of what the default data is.
const ORDER_KEY: u64 = 3007;

/// The 3,007 names, each followed by a newline.
///
/// The crate lists them from A to Z, so the last tenth, the validation part, would hold only names from Stella to Zula. They
/// are put in one fixed random order instead: a Fisher-Yates shuffle from the last place to the first, drawing from
/// SplitMix64 started at 3007, the place being the high 64 bits of draw * (places left). It never depends on `train.seed`.
pub fn names() -> String {
    let mut names: Vec<&str> = EN::NAME_FIRST_NAME.to_vec();
    let mut state = ORDER_KEY;
    for last in (1..names.len()).rev() {
        let draw = split_mix(&mut state);
        names.swap(last, ((u128::from(draw) * (last as u128 + 1)) >> 64) as usize);
    }
    names.iter().flat_map(|name| [*name, "\n"]).collect()
}

/// SplitMix64: the next number of the stream.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Text;

    #[test]
    fn there_are_3007_names_and_each_occurs_once() {
        let text = names();
        let mut lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3007);
        assert!(text.ends_with('\n'));
        assert!(lines.iter().all(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphabetic())));
        lines.sort_unstable();
        assert_eq!(lines, EN::NAME_FIRST_NAME, "the crate's names, none lost");
    }

    #[test]
    fn split_mix_gives_the_published_numbers() {
        // The first outputs of the reference implementation for the seed 1234567.
        let mut state = 1_234_567;
        let first: Vec<u64> = (0..3).map(|_| split_mix(&mut state)).collect();
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn the_order_is_fixed_and_spreads_the_alphabet() {
        let text = Text::open(None).unwrap();
        let hash = text.read(&mut |_| Ok(())).unwrap().hash;
        let text = text.whole().unwrap();
        assert_eq!(
            hash, "c2ba6218fca00705164fe288ee2e27819ca4d1dfe65fa24e985b04748c906417",
            "the default data changed"
        );
        let last: Vec<&str> = text.lines().skip(2706).collect();
        let late = |names: &[&str]| names.iter().filter(|name| **name >= "M").count() as f64 / names.len() as f64;
        // Of the whole list 0.39 come after L; of 301 drawn at random, 0.39 with a standard deviation of 0.03.
        let (here, whole) = (late(&last), late(EN::NAME_FIRST_NAME));
        assert!((here - whole).abs() < 0.1, "{here} of the last tenth, {whole} of all names come after L");
    }
}
