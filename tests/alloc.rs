//! A training step allocates nothing once a program has run for the first time.
//!
//! The counter is the process's allocator, so this file has one test: another one beside it would be counted too.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use geartrain::optim::{self, Sgd};
use geartrain::train::config::Config;
use geartrain::train::data::{self, Dataset, Part};
use geartrain::train::model;
use geartrain::train::trainer::Trainer;
use geartrain::{DType, Graph, Init, Options, Program, State, Tensor, lesson};

/// Allocations of all threads so far.
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator with a counter.
struct Counting;

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: as the caller promised.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: as the caller promised.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// How many allocations happen in 20 calls of `step`, after a first one.
fn allocations(mut step: impl FnMut(u64)) -> usize {
    step(0);
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    (1..=20).for_each(&mut step);
    ALLOCATIONS.load(Ordering::SeqCst) - before
}

/// XOR as the lesson has it: its examples are constants.
fn xor(dtype: DType, threads: usize) -> usize {
    let graph = lesson::network("xor").unwrap().graph(dtype).unwrap();
    let mut state = State::new(&graph, 0).unwrap();
    let mut program = Program::compile(&graph, &state, Options { threads, ..Options::default() }).unwrap();
    let batch = program.batch();
    let mut loss = f64::INFINITY;
    let count = allocations(|_| {
        program.run(&mut state, &batch).unwrap();
        loss = program.scalar("loss").unwrap();
    });
    assert!(loss < 0.3, "it trains: {loss}");
    count
}

/// XOR with its examples and learning rate in a batch that is filled again for every step.
fn xor_refilled(threads: usize) -> usize {
    let g = Graph::new();
    let x = g.input("X", DType::F32, [4, 2]);
    let y = g.input("y", DType::F32, [4, 1]);
    let hidden = x.matmul(g.parameter("W1", DType::F32, [2, 4], Init::Normal { std: 0.5 })).sigmoid();
    let out = hidden.matmul(g.parameter("W2", DType::F32, [4, 1], Init::Normal { std: 0.5 })).sigmoid();
    let loss = out.mean_squared_error(y);
    optim::minimize(&g, loss, &Sgd, g.scalar("lr"), 1.0).unwrap();
    g.output("loss", loss);
    let mut state = State::new(&g, 0).unwrap();
    let mut program = Program::compile(&g, &state, Options { threads, ..Options::default() }).unwrap();
    let mut batch = program.batch();
    let answers = Tensor::from_f64(DType::F32, [4, 1], &[0., 1., 1., 0.]).unwrap();
    allocations(|step| {
        batch.f32s("X").unwrap().copy_from_slice(&[0., 0., 0., 1., 1., 0., 1., 1.]);
        batch.set("y", &answers).unwrap();
        batch.set_scalar("lr", 0.5 / (step + 1) as f64).unwrap();
        program.run(&mut state, &batch).unwrap();
        assert!(program.scalar("loss").unwrap().is_finite());
    })
}

/// A GPT whose longer calls are split among the threads.
fn config(threads: usize, shards: usize) -> (Config, Box<dyn Dataset>) {
    let sets = [
        ("model.layers", "2"),
        ("model.width", "64"),
        ("model.heads", "4"),
        ("model.context", "32"),
        ("model.dropout", "0.1"),
        ("train.batch", "16"),
        ("train.threads", &threads.to_string()),
        ("train.grad_shards", &shards.to_string()),
        ("train.ema", if shards > 1 { "0.9" } else { "0" }),
    ]
    .map(|(key, value)| (key.to_string(), value.to_string()));
    let config = Config::build(None, &sets).unwrap();
    let data = data::load(&config).unwrap();
    (config, data)
}

/// Whole steps of the trainer: filling the batch, its scalars, the run and reading the results.
fn gpt_trainer(threads: usize, shards: usize) -> usize {
    let (config, data) = config(threads, shards);
    let mut trainer = Trainer::new(config, data).unwrap();
    allocations(|step| assert!(trainer.step(step).unwrap().loss.is_finite()))
}

/// The same model through `Program::evaluate`.
fn gpt_evaluation(threads: usize) -> usize {
    let (config, data) = config(threads, 1);
    let graph = model::evaluation_graph(&config, &data.encoder().task()).unwrap();
    let state = State::new(&graph, 1).unwrap();
    let mut program = model::compile(&graph, &state, &config).unwrap();
    let mut batch = program.batch();
    allocations(|step| {
        data.fill_part(Part::Training, model::evaluation_rows(&config), step as usize, &mut batch).unwrap();
        program.evaluate(&state, &batch).unwrap();
        assert!(program.f32s("losses").unwrap().iter().all(|loss| loss.is_finite()));
    })
}

/// Steps on a table of numbers and of many words; each epoch, of which there are several, has an order of its own.
fn table_trainer(threads: usize) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.csv");
    let rows: String = (0..200).map(|i| format!("{},w{},c{}\n", i % 13, i % 20, i % 3)).collect();
    std::fs::write(&path, format!("x,w,y\n{rows}")).unwrap();
    let sets = [
        ("data.path", path.to_str().unwrap()),
        ("data.target", "y"),
        ("train.class_weights", "balanced"),
        ("train.threads", &threads.to_string()),
    ]
    .map(|(key, value)| (key.to_string(), value.to_string()));
    let config = Config::build(None, &sets).unwrap();
    let data = data::load(&config).unwrap();
    let mut trainer = Trainer::new(config, data).unwrap();
    allocations(|step| assert!(trainer.step(step).unwrap().loss.is_finite()))
}

#[test]
fn a_step_allocates_nothing() {
    // The counter counts.
    assert!(allocations(|step| drop(std::hint::black_box(Box::new(step)))) >= 20);
    for threads in [1, 2] {
        assert_eq!(xor(DType::F32, threads), 0, "XOR in f32, {threads} threads");
        assert_eq!(xor(DType::F64, threads), 0, "XOR in f64, {threads} threads");
        assert_eq!(xor_refilled(threads), 0, "XOR with a refilled batch, {threads} threads");
        assert_eq!(gpt_trainer(threads, 1), 0, "GPT in training, {threads} threads");
        assert_eq!(gpt_trainer(threads, 4), 0, "GPT in 4 shards with averaged weights, {threads} threads");
        assert_eq!(table_trainer(threads), 0, "a table in training, {threads} threads");
        assert_eq!(gpt_evaluation(threads), 0, "GPT in evaluation, {threads} threads");
    }
}
