//! A graph as a program, fed and read as the interpreter is.

use crate::check::interpret::Feed;
use crate::check::{Check, Failure};
use crate::compile::{self, Pass};
use crate::ir::graph::Graph;
use crate::ir::types::{DType, Tensor};
use crate::run::batch::Batch;
use crate::run::program::{Options, Program};
use crate::state::State;

/// A program with a state and a batch of its own.
pub struct Compiled {
    program: Program,
    state: State,
    batch: Batch,
    check: Check,
    on: String,
}

impl Compiled {
    /// Compiles a graph. Failures are reported as of `check` on `on`.
    pub fn new(graph: &Graph, options: Options, check: Check, on: &str) -> Result<Compiled, Failure> {
        Compiled::with_passes(graph, options, compile::PASSES, check, on)
    }

    /// As [`Compiled::new`], with other passes.
    pub fn with_passes(
        graph: &Graph,
        options: Options,
        passes: &[Pass],
        check: Check,
        on: &str,
    ) -> Result<Compiled, Failure> {
        let failure = |what: String| Failure::new(check, on, what);
        let state = State::new(graph, 0).map_err(|e| failure(e.to_string()))?;
        let program = Program::compile_with(graph, &state, options, passes).map_err(|e| failure(e.to_string()))?;
        let batch = program.batch();
        Ok(Compiled { program, state, batch, check, on: on.to_string() })
    }

    /// Runs it on the values of `feed` (rounded to the dtypes of the graph); names it does not know are skipped.
    pub fn run(&mut self, feed: &Feed) -> Result<(), Failure> {
        let entries: Vec<(String, DType)> = self.state.entries().iter().map(|e| (e.name.clone(), e.ty.dtype)).collect();
        for (name, dtype) in entries {
            let value = self.tensor_of(feed, &name, dtype)?;
            self.state.set(&name, &value).map_err(|e| self.failure(e))?;
        }
        self.step(feed)
    }

    /// As [`Compiled::run`], on the state as the last run left it.
    pub fn step(&mut self, feed: &Feed) -> Result<(), Failure> {
        let inputs: Vec<(String, DType)> = self.batch.inputs().map(|(n, ty)| (n.to_string(), ty.dtype)).collect();
        for (name, dtype) in inputs {
            let value = self.tensor_of(feed, &name, dtype)?;
            self.batch.set(&name, &value).map_err(|e| self.failure(e))?;
        }
        self.program.run(&mut self.state, &self.batch).map_err(|e| self.failure(e))
    }

    /// An output of the last run.
    pub fn output(&self, name: &str) -> Result<Tensor, Failure> {
        self.program.tensor(name).ok_or_else(|| self.failure(format!("the program has no output `{name}`")))
    }

    /// The state after the last run.
    pub fn state(&self) -> &State {
        &self.state
    }

    fn tensor_of(&self, feed: &Feed, name: &str, dtype: DType) -> Result<Tensor, Failure> {
        let array = feed.get(name).ok_or_else(|| self.failure(format!("no value was given for `{name}`")))?;
        Tensor::from_f64(dtype, array.shape, &array.values)
            .ok_or_else(|| self.failure(format!("the value of `{name}` does not fill its shape")))
    }

    fn failure(&self, what: impl ToString) -> Failure {
        Failure::new(self.check, &self.on, what.to_string())
    }
}
