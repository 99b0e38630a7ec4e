//! f32 matrix products of this project and of other crates, in turn, in GFLOP/s: `matmul THREADS [TURNS]`.
//!
//! Each turn measures every crate once; the last column is the median over the turns of our rate over the best of theirs
//! in the same turn. Operands are row-major; "a.T" and "b.T" are read transposed where they stand.

use std::hint::black_box;
use std::time::Instant;

use faer::{Accum, MatMut, MatRef, Par};
use geartrain_engine::{Batch, DType, Data, Graph, Options, Program, State, Tensor};

/// m, n, k, and which operand is read transposed.
type Shape = (usize, usize, usize, &'static str);

const SHAPES: [Shape; 22] = [
    (8, 8, 8, ""),
    (16, 16, 16, ""),
    (32, 32, 32, ""),
    (64, 64, 64, ""),
    (128, 128, 128, ""),
    (256, 256, 256, ""),
    (512, 512, 512, ""),
    (1024, 1024, 1024, ""),
    (2048, 2048, 2048, ""),
    (768, 512, 128, ""),
    (128, 512, 768, "a"),
    (768, 128, 512, "b"),
    (1024, 1536, 384, ""),
    (384, 1536, 1024, "a"),
    (1024, 384, 1536, "b"),
    (128, 512, 784, ""),
    (784, 512, 128, "a"),
    (128, 784, 512, "b"),
    (256, 256, 64, "b"),
    (256, 64, 256, "a"),
    (1, 1536, 384, ""),
    (1, 384, 1536, "b"),
];

const CRATES: [&str; 6] = ["ours", "faer", "private-gemm", "gemm", "matrixmultiply", "nano-gemm"];

/// Operands of one product, for the crates that take addresses.
struct Call {
    shape: Shape,
    threads: usize,
    a: Vec<f32>,
    b: Vec<f32>,
    c: Vec<f32>,
}

/// Strides of a and b, row then column.
fn strides((m, n, k, how): Shape) -> [isize; 4] {
    let [m, n, k] = [m, n, k].map(|x| x as isize);
    let (rsa, csa) = if how == "a" { (1, m) } else { (k, 1) };
    let (rsb, csb) = if how == "b" { (1, k) } else { (n, 1) };
    [rsa, csa, rsb, csb]
}

/// Numbers in [-0.5, 0.5).
fn numbers(count: usize, mut seed: u32) -> Vec<f32> {
    let mut next = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..count).map(|_| next()).collect()
}

/// Seconds of one call: the middle of five blocks of 4 ms or more.
fn time(mut call: impl FnMut()) -> f64 {
    call();
    let begin = Instant::now();
    call();
    let repeats = ((0.004 / begin.elapsed().as_secs_f64().max(2e-8)) as usize).clamp(1, 200_000);
    let mut blocks: Vec<f64> = (0..5)
        .map(|_| {
            let begin = Instant::now();
            (0..repeats).for_each(|_| call());
            begin.elapsed().as_secs_f64() / repeats as f64
        })
        .collect();
    middle(&mut blocks)
}

fn middle(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Our product as a program, ready to run.
fn program((m, n, k, how): Shape, threads: usize, a: &[f32], b: &[f32]) -> (Program, State, Batch) {
    let g = Graph::new();
    let (da, db) = (if how == "a" { [k, m] } else { [m, k] }, if how == "b" { [n, k] } else { [k, n] });
    let (x, y) = (g.input("a", DType::F32, da), g.input("b", DType::F32, db));
    let (x, y) = (if how == "a" { x.t() } else { x }, if how == "b" { y.t() } else { y });
    g.output("c", x.matmul(y));
    let state = State::new(&g, 0).expect("a correct graph");
    let program = Program::compile(&g, &state, Options { threads, ..Options::default() }).expect("a correct graph");
    let mut batch = program.batch();
    for (name, shape, values) in [("a", da, a), ("b", db, b)] {
        let tensor = Tensor::new(shape, Data::F32(values.to_vec())).expect("as many as the shape says");
        batch.set(name, &tensor).expect("an input");
    }
    (program, state, batch)
}

/// Seconds of another crate's product, or None where it does not take part.
fn other(name: &str, call: &mut Call) -> Option<f64> {
    let ((m, n, k, _), threads) = (call.shape, call.threads);
    let [rsa, csa, rsb, csb] = strides(call.shape);
    let (a, b, c, rsc) = (call.a.as_ptr(), call.b.as_ptr(), call.c.as_mut_ptr(), n as isize);
    // SAFETY (all): the addresses hold m x k, k x n and m x n elements at these strides.
    Some(match name {
        "faer" => {
            let par = if threads == 1 { Par::Seq } else { Par::rayon(threads) };
            time(|| unsafe {
                let (a, b) = (MatRef::from_raw_parts(a, m, k, rsa, csa), MatRef::from_raw_parts(b, k, n, rsb, csb));
                let c = MatMut::from_raw_parts_mut(c, m, n, rsc, 1);
                faer::linalg::matmul::matmul(c, Accum::Replace, a, b, 1.0f32, par);
            })
        }
        "private-gemm" => {
            use private_gemm_x86::{Accum, DType, DstKind, IType, InstrSet, gemm};
            let isa = if is_x86_feature_detected!("avx512f") { InstrSet::Avx512 } else { InstrSet::Avx256 };
            let (one, none) = (&raw const *black_box(&1f32), std::ptr::null());
            time(|| unsafe {
                let (kind, add) = (DstKind::Full, Accum::Replace);
                let (a, b, c) = (a.cast(), b.cast(), c.cast());
                gemm(
                    DType::F32,
                    IType::U64,
                    isa,
                    m,
                    n,
                    k,
                    c,
                    rsc,
                    1,
                    none,
                    none,
                    kind,
                    add,
                    a,
                    rsa,
                    csa,
                    false,
                    none,
                    0,
                    b,
                    rsb,
                    csb,
                    false,
                    one.cast(),
                    threads,
                );
            })
        }
        "gemm" => {
            let par = if threads == 1 { gemm::Parallelism::None } else { gemm::Parallelism::Rayon(threads) };
            time(|| unsafe {
                gemm::gemm(m, n, k, c, 1, rsc, false, a, csa, rsa, b, csb, rsb, 0.0, 1.0, false, false, false, par);
            })
        }
        "matrixmultiply" => {
            time(|| unsafe { matrixmultiply::sgemm(m, k, n, 1.0, a, rsa, csa, b, rsb, csb, 0.0, c, rsc, 1) })
        }
        // It is for small products on one thread, by columns: c.T = b.T a.T.
        "nano-gemm" if threads == 1 && m * n * k <= 64 * 64 * 64 => {
            let plan = nano_gemm::Plan::new_f32(n, m, k);
            time(|| unsafe {
                plan.execute_unchecked(n, m, k, c, 1, rsc, b, csb, rsb, a, csa, rsa, 0.0, 1.0, false, false)
            })
        }
        _ => return None,
    })
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|word| word.parse().expect("THREADS [TURNS], whole numbers"));
    let (threads, turns) = (arguments.next().unwrap_or(1), arguments.next().unwrap_or(5));
    // SAFETY: no other thread runs yet. matrixmultiply has a pool of its own and reads this once.
    unsafe { std::env::set_var("MATMUL_NUM_THREADS", threads.to_string()) };
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().expect("one pool");
    println!("{threads} threads, {turns} turns, {:?}; GFLOP/s, medians", Options::default().isa);
    print!("{:24}", "m n k");
    CRATES.iter().for_each(|name| print!("{name:>15}"));
    println!("{:>12}", "ours/best");
    for shape in SHAPES {
        let (m, n, k, how) = shape;
        let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
        let (mut program, state, batch) = program(shape, threads, &a, &b);
        let mut call = Call { shape, threads, a, b, c: vec![0.0; m * n] };
        let mut rates: Vec<Vec<f64>> = vec![Vec::new(); CRATES.len()];
        let mut ratios = Vec::new();
        for _ in 0..turns {
            let mut best = 0.0f64;
            for (name, rates) in CRATES.iter().zip(&mut rates) {
                let seconds = match *name {
                    "ours" => Some(time(|| program.evaluate(&state, &batch).expect("a run"))),
                    name => other(name, &mut call),
                };
                let Some(seconds) = seconds else { continue };
                let rate = 2.0 * (m * n * k) as f64 / seconds / 1e9;
                best = if *name == "ours" { best } else { best.max(rate) };
                rates.push(rate);
            }
            ratios.push(rates[0][rates[0].len() - 1] / best);
        }
        print!("{:24}", format!("{m} {n} {k} {}", if how.is_empty() { String::new() } else { format!("{how}.T") }));
        for rates in &mut rates {
            let text = if rates.is_empty() { "-".to_string() } else { format!("{:.1}", middle(rates)) };
            print!("{text:>15}");
        }
        println!("{:>12.2}", middle(&mut ratios));
    }
}
