//! Random numbers that are a pure function of where they are used: no generator to carry, save or split.
//!
//! Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3, SC'11) turns a counter and a
//! key into four words. [`uniform`], [`normal`] and [`below`] lay it out like this, low halves first:
//!
//! - key = seed XOR [`DRAWS`], which keeps them apart from calls of [`philox4x32_10`] that take the seed itself;
//! - counter = (stream, index), for `normal` (stream, index / 2);
//! - words (w0, w1) and (w2, w3) form two 64-bit numbers, low word first.
//!
//! The three read the same words: one (seed, stream) should serve one kind of draw. [`stream_of`] gives a stream to a name.

/// What sets the key of this module's draws apart from the seed ("geartrai" in ASCII).
pub const DRAWS: u64 = u64::from_be_bytes(*b"geartrai");

const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
/// Added to the key in each round: the golden ratio and sqrt(3) - 1.
const WEYL: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];
const ROUNDS: usize = 10;

/// Low and high half.
pub(crate) fn halves(x: u64) -> [u32; 2] {
    [x as u32, (x >> 32) as u32]
}

/// One round.
#[inline(always)]
fn round(c: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let [a, b] = [u64::from(MULTIPLIERS[0]) * u64::from(c[0]), u64::from(MULTIPLIERS[1]) * u64::from(c[2])];
    [(b >> 32) as u32 ^ c[1] ^ key[0], b as u32, (a >> 32) as u32 ^ c[3] ^ key[1], a as u32]
}

#[inline(always)]
fn next_key(key: [u32; 2]) -> [u32; 2] {
    [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])]
}

/// Philox4x32-10: four words from a 128-bit counter and a 64-bit key.
#[inline]
pub fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let (mut c, mut key) = (counter, key);
    for _ in 0..ROUNDS {
        c = round(c, key);
        key = next_key(key);
    }
    c
}

/// The words of the `N` counters (c0, c1, c2, first + l): word `w` of counter `l` is `[w][l]`. The loops over `l`
/// vectorise where this is inlined.
#[inline(always)]
pub(crate) fn lanes<const N: usize>([c0, c1, c2]: [u32; 3], first: u32, key: [u32; 2]) -> [[u32; N]; 4] {
    let mut c = [[c0; N], [c1; N], [c2; N], std::array::from_fn(|l| first.wrapping_add(l as u32))];
    let mut key = key;
    for _ in 0..ROUNDS {
        let [c0, c1, c2, c3] = &mut c;
        for (((c0, c1), c2), c3) in c0.iter_mut().zip(c1).zip(c2).zip(c3) {
            [*c0, *c1, *c2, *c3] = round([*c0, *c1, *c2, *c3], key);
        }
        key = next_key(key);
    }
    c
}

/// The two 64-bit numbers of a draw.
fn draw(seed: u64, stream: u64, index: u64) -> [u64; 2] {
    let ([s0, s1], [i0, i1]) = (halves(stream), halves(index));
    let w = philox4x32_10([s0, s1, i0, i1], halves(seed ^ DRAWS)).map(u64::from);
    [w[0] | w[1] << 32, w[2] | w[3] << 32]
}

/// The upper 53 bits as a fraction in [0, 1).
fn fraction(bits: u64) -> f64 {
    (bits >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// Uniform in [0, 1): the upper 53 bits of the first number.
pub fn uniform(seed: u64, stream: u64, index: u64) -> f64 {
    fraction(draw(seed, stream, index)[0])
}

/// Uniform in [0, 1) with 24 bits, for f32: the upper 24 bits of the first number.
pub fn uniform_f32(seed: u64, stream: u64, index: u64) -> f32 {
    (draw(seed, stream, index)[0] >> 40) as f32 * (1.0 / (1u32 << 24) as f32)
}

/// Standard normal, by Box and Muller: with u in (0, 1] from the first number (its fraction + 2^-53) and v in [0, 1)
/// from the second, indices 2k and 2k + 1 are sqrt(-2 ln u) times cos and sin of 2 pi v. At most 8.58 in size.
pub fn normal(seed: u64, stream: u64, index: u64) -> f64 {
    let [a, b] = draw(seed, stream, index / 2);
    let u = fraction(a) + 1.0 / (1u64 << 53) as f64;
    let angle = std::f64::consts::TAU * fraction(b);
    let radius = (-2.0 * libm::log(u)).sqrt();
    radius * if index.is_multiple_of(2) { libm::cos(angle) } else { libm::sin(angle) }
}

/// A whole number in `0..limit` (0 if that is empty): the upper half of the 128-bit product of the first number with
/// `limit`. No value is more likely than another by more than one part in 2^64 / limit.
pub fn below(seed: u64, stream: u64, index: u64, limit: u64) -> u64 {
    ((u128::from(draw(seed, stream, index)[0]) * u128::from(limit)) >> 64) as u64
}

/// The stream of a name: FNV-1a over its UTF-8 bytes, 64 bits.
pub fn stream_of(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers that Random123 publishes (kat_vectors).
    const KNOWN: [([u32; 4], [u32; 2], [u32; 4]); 3] = [
        ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
        ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
        (
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
            [0xa409_3822, 0x299f_31d0],
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
        ),
    ];

    #[test]
    fn known_answers() {
        for (counter, key, want) in KNOWN {
            assert_eq!(philox4x32_10(counter, key), want);
            let words = lanes::<16>([counter[0], counter[1], counter[2]], counter[3].wrapping_sub(5), key);
            assert_eq!(words.map(|word| word[5]), want);
        }
    }

    #[test]
    fn names_have_the_published_hashes() {
        assert_eq!(stream_of(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(stream_of("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(stream_of("foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn draws_follow_their_layout() {
        let (seed, stream, index) = (0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210, (7 << 32) + 9);
        let key = seed ^ 0x6765_6172_7472_6169;
        let w = philox4x32_10([0x7654_3210, 0xfedc_ba98, 9, 7], [key as u32, (key >> 32) as u32]);
        let first = u64::from(w[1]) << 32 | u64::from(w[0]);
        assert_eq!(uniform(seed, stream, index), (first >> 11) as f64 / 2f64.powi(53));
        assert_eq!(uniform_f32(seed, stream, index), (w[1] >> 8) as f32 / 2f32.powi(24));
        assert_eq!(below(seed, stream, index, 1 << 32), u64::from(w[1]));
        assert_eq!(below(seed, stream, index, 0), 0);
        assert_eq!(below(seed, stream, index, 1), 0);
        let second = u64::from(w[3]) << 32 | u64::from(w[2]);
        let (u, v) = ((first >> 11) as f64 + 1.0, (second >> 11) as f64 / 2f64.powi(53));
        let radius = (-2.0 * libm::log(u / 2f64.powi(53))).sqrt();
        assert_eq!(normal(seed, stream, 2 * index), radius * libm::cos(std::f64::consts::TAU * v));
        assert_eq!(normal(seed, stream, 2 * index + 1), radius * libm::sin(std::f64::consts::TAU * v));
    }

    #[test]
    fn draws_have_their_distribution() {
        const N: u64 = 40_000;
        let mean = |f: &dyn Fn(u64) -> f64| (0..N).map(f).sum::<f64>() / N as f64;
        let stream = stream_of("weights");
        // Bounds of about four standard errors.
        assert!((mean(&|i| uniform(1, stream, i)) - 0.5).abs() < 0.006);
        assert!((mean(&|i| uniform(1, stream, i).powi(2)) - 1.0 / 3.0).abs() < 0.006);
        let z = |i| normal(1, stream, i);
        assert!(mean(&z).abs() < 0.02);
        assert!((mean(&|i| z(i) * z(i)) - 1.0).abs() < 0.03);
        assert!((mean(&|i| z(i).powi(4)) - 3.0).abs() < 0.2);
        assert!(mean(&|i| z(2 * i) * z(2 * i + 1)).abs() < 0.02);
        let mut counts = [0i64; 7];
        (0..N).for_each(|i| counts[below(1, stream, i, 7) as usize] += 1);
        assert!(counts.iter().all(|n| (n - N as i64 / 7).abs() < 300), "{counts:?}");
    }

    #[test]
    fn seed_stream_and_index_all_matter() {
        let base = uniform(1, 2, 3);
        for other in [(1 << 40, 2, 3), (0, 2, 3), (1, 2 | 1 << 40, 3), (1, 0, 3), (1, 2, 3 | 1 << 40), (1, 2, 4)] {
            assert_ne!(base, uniform(other.0, other.1, other.2));
        }
    }
}
