//! The workloads that the engine is measured with: small networks, language models, an optimizer and an activation.
//!
//! Each is defined to the last bit of its initial values (`tools/peers/RECIPE.md`), so that the losses of other
//! frameworks can be compared with ours before their times are.

mod networks;
pub mod recipe;

use crate::optim::{self, Optimizer};
use crate::{Batch, DType, Data, Graph, GraphError, Options, Program, Shape, State, Tensor, Var};
use geartrain_engine::RunError;
use geartrain_engine::compile::Pass;
pub use networks::WORKLOADS;
use recipe::Start;

/// Name in the recipe, name here, start; in the order of the seeds.
pub type Parameters = Vec<(String, String, Start)>;

/// What a workload computes in a step.
pub enum Kind {
    /// A whole training step of a network on one batch.
    Training(Training),
    /// A graph of its own: builds it and names the scalar that stands for its result.
    Other(fn(&Graph) -> Result<(), GraphError>),
}

/// A network, its data and the rule that trains it.
pub struct Training {
    /// Its parameters.
    pub parameters: fn() -> Parameters,
    /// The rule.
    pub optimizer: fn() -> Box<dyn Optimizer>,
    /// Learning rate, where losses are compared.
    pub lr: f64,
    /// Features or tokens.
    pub x: fn() -> (Shape, Data),
    /// Labels or targets.
    pub y: fn() -> (Shape, Data),
    /// The loss from features and targets.
    pub loss: for<'g> fn(&'g Graph, Var<'g>, Var<'g>, DType) -> Var<'g>,
}

/// A workload.
pub struct Workload {
    /// What the command line calls it.
    pub name: &'static str,
    /// What the recipe and the scripts of other frameworks call it.
    pub key: &'static str,
    /// One line for people.
    pub what: &'static str,
    /// What it computes.
    pub kind: Kind,
}

/// The workload of a name or a key.
pub fn find(name: &str) -> Option<&'static Workload> {
    WORKLOADS.iter().find(|w| w.name == name || w.key == name)
}

/// A workload that is ready to run.
pub struct Prepared {
    program: Program,
    state: State,
    batch: Batch,
    optimizer: Option<Box<dyn Optimizer>>,
    step: u64,
}

impl Workload {
    /// Compiles a step in f32 by `passes` with the initial values of the recipe. A learning rate of one's own keeps many steps on
    /// one batch away from a loss of 0.
    ///
    /// # Errors
    /// What the engine says; there is none for the workloads listed here.
    pub fn prepare(&self, options: Options, lr: Option<f64>, passes: &[Pass]) -> Result<Prepared, GraphError> {
        let g = Graph::new();
        let (state, optimizer) = match &self.kind {
            Kind::Training(training) => (training.build(&g, DType::F32, lr)?, Some((training.optimizer)())),
            Kind::Other(build) => {
                build(&g)?;
                (State::new(&g, 1)?, None)
            }
        };
        let program = Program::compile_with(&g, &state, options, passes)?;
        let mut batch = program.batch();
        match &self.kind {
            Kind::Training(training) => training.feed(&mut batch),
            Kind::Other(_) => fill(&mut batch),
        }
        Ok(Prepared { program, state, batch, optimizer, step: 0 })
    }
}

/// Gives the arrays of a batch uniform values and its scalars usual ones: for workloads without data.
fn fill(batch: &mut Batch) {
    let inputs: Vec<(String, geartrain_engine::Type)> = batch.inputs().map(|(n, ty)| (n.to_string(), ty)).collect();
    for (seed, (name, ty)) in (1..).zip(inputs) {
        if ty.dtype == DType::F32
            && let Ok(values) = batch.f32s(&name)
        {
            values.copy_from_slice(&recipe::uniform(seed, ty.shape.count(), 1.0));
        }
        let _ = match name.as_str() {
            "lr" => batch.set_scalar("lr", 1e-5),
            "c1" => batch.set_scalar("c1", 0.1),
            "c2" => batch.set_scalar("c2", 0.001),
            _ => Ok(()),
        };
    }
}

impl Training {
    /// The loss on the one batch of this workload, which [`Training::feed`] puts into the inputs `x` and `y`.
    pub fn loss<'g>(&self, g: &'g Graph, dtype: DType) -> Var<'g> {
        let input = |name: &str, (shape, data): (Shape, Data)| {
            let dtype = if matches!(data, Data::U32(_)) { DType::U32 } else { dtype };
            g.input(name, dtype, shape)
        };
        (self.loss)(g, input("x", (self.x)()), input("y", (self.y)()), dtype)
    }

    /// Puts the one batch into the inputs of a program.
    pub fn feed(&self, batch: &mut Batch) {
        let types: Vec<(String, geartrain_engine::Type)> = batch.inputs().map(|(n, ty)| (n.to_string(), ty)).collect();
        for (name, (shape, data)) in [("x", (self.x)()), ("y", (self.y)())] {
            let ty = types.iter().find(|(known, _)| known == name).map(|(_, ty)| *ty);
            if let (Some(tensor), Some(ty)) = (Tensor::new(shape, data), ty) {
                let _ = batch.set(name, &tensor.cast(ty.dtype));
            }
        }
    }

    /// A state of the graph with the initial values of the recipe, which are exact in f32.
    ///
    /// # Errors
    /// All errors of the graph.
    pub fn state(&self, g: &Graph) -> Result<State, GraphError> {
        let mut state = State::new(g, 0)?;
        for (seed, (_, name, start)) in (1..).zip((self.parameters)()) {
            let Some(ty) = state.entries().iter().find(|entry| entry.name == name).map(|entry| entry.ty) else {
                continue;
            };
            let values = Data::F32(start.values(seed, ty.shape.count()));
            if let Some(tensor) = Tensor::new(ty.shape, values) {
                let _ = state.set(&name, &tensor.cast(ty.dtype));
            }
        }
        Ok(state)
    }

    /// Adds the whole step to a graph: outputs `loss`.
    fn build(&self, g: &Graph, dtype: DType, lr: Option<f64>) -> Result<State, GraphError> {
        let loss = self.loss(g, dtype);
        g.decay_all();
        let lr = g.number(DType::F64, lr.unwrap_or(self.lr));
        optim::minimize(g, loss, (self.optimizer)().as_ref(), lr, 0.0)?;
        g.output("loss", loss);
        self.state(g)
    }

    /// The first losses of training on the one batch: before any update, after one, and so on.
    ///
    /// # Errors
    /// All errors of the graph.
    pub fn losses(&self, dtype: DType, steps: usize) -> Result<Vec<f64>, GraphError> {
        let g = Graph::new();
        let state = self.build(&g, dtype, None)?;
        let program = Program::compile(&g, &state, Options::default())?;
        let mut batch = program.batch();
        self.feed(&mut batch);
        let mut run = Prepared { program, state, batch, optimizer: Some((self.optimizer)()), step: 0 };
        let step = |_| run.step().ok().and_then(|()| run.loss()).unwrap_or(f64::NAN);
        Ok((0..steps).map(step).collect())
    }
}

impl Prepared {
    /// One step.
    ///
    /// # Errors
    /// A loss that is not finite.
    pub fn step(&mut self) -> Result<(), RunError> {
        self.advance();
        self.program.run(&mut self.state, &self.batch)
    }

    /// One step, with the nanoseconds that each call of the tape took.
    ///
    /// # Errors
    /// As [`Prepared::step`].
    pub fn profile(&mut self) -> Result<Vec<u64>, RunError> {
        self.advance();
        self.program.profile(&mut self.state, &self.batch)
    }

    fn advance(&mut self) {
        self.step += 1;
        if let Some((c1, c2)) = self.optimizer.as_ref().map(|o| o.corrections(self.step)).filter(|c| *c != (1.0, 1.0)) {
            // Both are inputs of the programs whose optimizer corrects a bias.
            let _ = self.batch.set_scalar("c1", c1);
            let _ = self.batch.set_scalar("c2", c2);
        }
    }

    /// The loss of the last step.
    pub fn loss(&self) -> Option<f64> {
        self.program.scalar("loss")
    }

    /// Bytes that the step holds: the program, its batch and the state.
    pub fn bytes(&self) -> usize {
        self.program.bytes() + self.batch.bytes() + self.state.bytes()
    }

    /// The program.
    pub fn program(&self) -> &Program {
        &self.program
    }
}
