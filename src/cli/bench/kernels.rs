//! `bench kernels`: each kernel alone, beside what the machine can do.

use geartrain::engine::peak;
use geartrain::train::Error;
use geartrain::{DType, Graph, GraphError, Program, State, Var};
use serde_json::json;

use super::super::output::line;
use super::super::{Failure, Outcome};
use super::measure::{duration, measure};
use super::{BenchArgs, options};

/// What bounds a kernel.
#[derive(Clone, Copy, PartialEq)]
enum Bound {
    Arithmetic,
    Memory,
}

/// A kernel at one size.
struct Kernel {
    name: String,
    bound: Bound,
    /// Operations or bytes of one run.
    work: f64,
    build: Box<dyn Fn(&Graph)>,
}

/// f32 input.
fn array<'g>(g: &'g Graph, name: &str, shape: &[usize]) -> Var<'g> {
    match geartrain::Shape::checked(shape) {
        Some(shape) => g.input(name, DType::F32, shape),
        None => g.fail("bench", geartrain::engine::Rule::new("too large a shape"), vec![]),
    }
}

/// a @ b for m, n, k; the letters that are named are read transposed.
fn matmul(m: usize, n: usize, k: usize, transposed: &'static str) -> Kernel {
    let build = move |g: &Graph| {
        let a = if transposed.contains('a') { array(g, "a", &[k, m]).t() } else { array(g, "a", &[m, k]) };
        let b = if transposed.contains('b') { array(g, "b", &[n, k]).t() } else { array(g, "b", &[k, n]) };
        g.output("c", a.matmul(b));
    };
    let how = match transposed {
        "a" => " a.T",
        "b" => " b.T",
        _ => "",
    };
    let name = format!("matmul {m}x{k}x{n}{how}");
    Kernel { name, bound: Bound::Arithmetic, work: (2 * m * n * k) as f64, build: Box::new(build) }
}

/// A kernel over an (n, c) input that reads and writes it once.
fn rows(name: &str, n: usize, c: usize, f: impl for<'g> Fn(Var<'g>) -> Var<'g> + 'static) -> Kernel {
    let build = move |g: &Graph| g.output("y", f(array(g, "x", &[n, c])));
    Kernel { name: format!("{name} {n}x{c}"), bound: Bound::Memory, work: (8 * n * c) as f64, build: Box::new(build) }
}

fn list() -> Vec<Kernel> {
    let mut all: Vec<Kernel> = [16, 64, 128, 512, 1024].into_iter().map(|n| matmul(n, n, n, "")).collect();
    // Shapes of transformers: forward, gradient of the weights, gradient of the input; and of decoding.
    all.extend([matmul(768, 512, 128, ""), matmul(128, 512, 768, "a"), matmul(768, 128, 512, "b")]);
    all.extend([matmul(1024, 1536, 384, ""), matmul(384, 1536, 1024, "a"), matmul(1024, 384, 1536, "b")]);
    all.extend([matmul(1, 1536, 384, ""), matmul(1, 384, 1536, "b"), matmul(32, 256, 256, "")]);
    all.extend([
        rows("add", 1024, 1024, |x| x + 1.0),
        rows("exp", 1024, 1024, |x| x.exp()),
        rows("tanh", 1024, 1024, |x| x.tanh()),
        rows("gelu", 1024, 1024, |x| x.gelu()),
        rows("gelu by tanh", 1024, 1024, |x| x.gelu_tanh()),
        rows("softmax", 1024, 64, |x| x.softmax()),
        rows("softmax", 1024, 1024, |x| x.softmax()),
        rows("layer norm", 1024, 384, |x| x.normalize(1e-5)),
        rows("sum of rows", 1024, 1024, |x| x.sum(1)),
        rows("sum of columns", 1024, 1024, |x| x.sum(0)),
    ]);
    all
}

/// Prints each kernel's rate and its share of the measured peak.
pub fn kernels(args: &BenchArgs) -> Outcome {
    let options = options(args);
    let workers = options.threads as f64;
    let peak_flops = peak::multiply_add(options.isa, 9) * workers;
    let peak_cache = peak::triad(options.isa, 6 << 20, 5) * workers;
    let peak_memory = peak::triad(options.isa, 96 << 20, 3);
    if !args.json {
        line(&format!(
            "{} threads, products in {}; peaks: {peak_flops:.0} GFLOP/s of f32, {peak_cache:.0} GB/s over 6 MiB, \
             {peak_memory:.0} GB/s of one thread over 96 MiB",
            options.threads,
            args.precision.name()
        ))?;
        if options.threads > 1 {
            line(&format!("a barrier of all threads takes {}", duration(peak::barrier(options.threads, 101))))?;
        }
        line("\nkernel                            time        rate       of peak")?;
    }
    for kernel in list() {
        let failed = |e: &dyn std::fmt::Display| -> Failure { Error::failed(format!("{}: {e}", kernel.name)).into() };
        let g = Graph::new();
        (kernel.build)(&g);
        let compiled: Result<(State, Program), GraphError> = (|| {
            let state = State::new(&g, 0)?;
            let program = Program::compile_with(&g, &state, options, &args.precision.passes())?;
            Ok((state, program))
        })();
        let (state, mut program) = compiled.map_err(|e| failed(&e))?;
        let batch = program.batch();
        let times = measure(args.seconds / 10.0, || program.evaluate(&state, &batch)).map_err(|e| failed(&e))?;
        let (unit, peak) = match kernel.bound {
            Bound::Arithmetic => ("GFLOP/s", peak_flops),
            Bound::Memory => ("GB/s", peak_cache),
        };
        let rate = kernel.work / times.median / 1e9;
        if args.json {
            let row = json!({ "kernel": kernel.name, "threads": options.threads, "precision": args.precision.name(), "median_us": times.median * 1e6,
                "rate": rate, "unit": unit, "peak": peak });
            line(&row.to_string())?;
        } else {
            let share = rate / peak * 100.0;
            line(&format!("{:26} {:>11} {rate:>9.1} {unit:7} {share:>5.0}%", kernel.name, duration(times.median)))?;
        }
    }
    Ok(())
}
