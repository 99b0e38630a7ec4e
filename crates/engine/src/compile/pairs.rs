//! Two instructions of a chain in one loop over a tile.
//!
//! Between two instructions a tile of values goes to L1 and back. Where arithmetic on two operands is read once, by
//! other such arithmetic, both are done while the value is in a register. Each still rounds by itself: no bit changes.

use std::marker::PhantomData;
use std::sync::LazyLock;

use geartrain_kernels::math::Real;
use geartrain_kernels::{Arg, Instr, Map, Params, TileFn};

use crate::ir::types::DType;
use crate::ops::arith::{Add, Div, Mul, Sub};

/// B(A(a, b), c), or B(c, A(a, b)) where the value of A is the second operand.
struct Pair<A, B, const SECOND: bool>(PhantomData<(A, B)>);

impl<A: Map<2>, B: Map<2>, const SECOND: bool> Map<3> for Pair<A, B, SECOND> {
    #[inline(always)]
    fn map<T: Real>(params: &Params, [a, b, c]: [T; 3]) -> T {
        let value = A::map(params, [a, b]);
        B::map(params, if SECOND { [c, value] } else { [value, c] })
    }
}

const NONE: Params = [0.0; 4];

/// A pair that there is a loop for.
struct Known {
    first: TileFn,
    then: TileFn,
    /// Which operand of `then` is the value of `first`.
    operand: usize,
    both: TileFn,
}

fn known<A: Map<2>, B: Map<2>>(dtype: DType) -> [Known; 2] {
    let [first, then] = [TileFn::map::<2, A>(dtype, NONE), TileFn::map::<2, B>(dtype, NONE)];
    let [left, right] =
        [TileFn::map::<3, Pair<A, B, false>>(dtype, NONE), TileFn::map::<3, Pair<A, B, true>>(dtype, NONE)];
    [Known { first, then, operand: 0, both: left }, Known { first, then, operand: 1, both: right }]
}

fn known_after<A: Map<2>>(dtype: DType) -> impl Iterator<Item = Known> {
    [known::<A, Add>(dtype), known::<A, Sub>(dtype), known::<A, Mul>(dtype), known::<A, Div>(dtype)]
        .into_iter()
        .flatten()
}

static KNOWN: LazyLock<Vec<Known>> = LazyLock::new(|| {
    let all = |dtype| {
        let (sums, products) = (known_after::<Add>(dtype), known_after::<Mul>(dtype));
        sums.chain(known_after::<Sub>(dtype)).chain(products).chain(known_after::<Div>(dtype))
    };
    all(DType::F32).chain(all(DType::F64)).collect()
});

/// Joins pairs of instructions; `results` are those whose values leave the chain.
pub fn pair_up(instrs: &mut Vec<Instr>, results: &mut [usize]) {
    let mut readers = vec![0usize; instrs.len()];
    for arg in instrs.iter().flat_map(|instr| &instr.args) {
        if let Arg::Value(i) = arg {
            readers[*i] += 1;
        }
    }
    results.iter().for_each(|i| readers[*i] += 2);
    let mut gone = vec![false; instrs.len()];
    for j in 0..instrs.len() {
        let pair = instrs[j].args.iter().enumerate().find_map(|(operand, arg)| match *arg {
            Arg::Value(i) if readers[i] == 1 => {
                let fits = |k: &&Known| k.operand == operand && k.first == instrs[i].tile && k.then == instrs[j].tile;
                KNOWN.iter().find(fits).map(|k| (i, operand, k.both))
            }
            _ => None,
        });
        if let Some((i, operand, tile)) = pair {
            let other = instrs[j].args[1 - operand];
            let args = [&instrs[i].args[..], &[other]].concat();
            instrs[j] = Instr { tile, args };
            gone[i] = true;
        }
    }
    // What is left, with its new numbers.
    let number: Vec<usize> = (0..instrs.len()).map(|i| gone[..i].iter().filter(|gone| !**gone).count()).collect();
    let mut left = gone.iter();
    instrs.retain(|_| left.next() == Some(&false));
    for arg in instrs.iter_mut().flat_map(|instr| &mut instr.args) {
        if let Arg::Value(i) = arg {
            *i = number[*i];
        }
    }
    results.iter_mut().for_each(|i| *i = number[*i]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instr<M: Map<2>>(a: Arg, b: Arg) -> Instr {
        Instr { tile: TileFn::map::<2, M>(DType::F32, NONE), args: vec![a, b] }
    }

    #[test]
    fn values_that_are_read_once_are_joined_with_their_reader() {
        use Arg::{Input, Value};
        // ((x + y) * z - x) / (x + y) with the quotient as the result: the sum is read twice.
        let mut instrs = vec![
            instr::<Add>(Input(0), Input(1)),
            instr::<Mul>(Value(0), Input(2)),
            instr::<Sub>(Value(1), Input(0)),
            instr::<Div>(Value(2), Value(0)),
        ];
        let mut results = [3];
        pair_up(&mut instrs, &mut results);
        let tile = TileFn::map::<3, Pair<Mul, Sub, false>>(DType::F32, NONE);
        let joined = Instr { tile, args: vec![Value(0), Input(2), Input(0)] };
        assert_eq!(instrs, [instr::<Add>(Input(0), Input(1)), joined, instr::<Div>(Value(1), Value(0))]);
        assert_eq!(results, [2]);
    }

    #[test]
    fn results_stay_and_operands_keep_their_sides() {
        use Arg::{Input, Value};
        let start = vec![instr::<Add>(Input(0), Input(1)), instr::<Sub>(Input(2), Value(0))];
        let (mut instrs, mut results) = (start.clone(), [0, 1]);
        pair_up(&mut instrs, &mut results);
        assert_eq!((instrs, results), (start.clone(), [0, 1]));
        let (mut instrs, mut results) = (start, [1]);
        pair_up(&mut instrs, &mut results);
        let tile = TileFn::map::<3, Pair<Add, Sub, true>>(DType::F32, NONE);
        assert_eq!(instrs, [Instr { tile, args: vec![Input(0), Input(1), Input(2)] }]);
        assert_eq!(results, [0]);
    }
}
