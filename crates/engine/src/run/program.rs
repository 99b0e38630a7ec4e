//! A compiled step: one tape on one arena, bound to a state's layout.

use geartrain_kernels::{Region, StateRef, Tape, View, isa::Isa};

use crate::compile::{self, Pass, fuse, layout, lower, plan, simplify};
use crate::ir::error::{GraphError, OpError, Rule};
use crate::ir::graph::{Graph, Inner, Node, NodeId, Source};
use crate::ir::op::Kind;
use crate::ir::types::{DType, Data, Shape, Tensor};
use crate::limit;
use crate::ops::layout::each_index;
use crate::run::batch::Batch;
use crate::state::State;

/// How to compile. Neither choice changes a bit of any result.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Workers.
    pub threads: usize,
    /// Vector instructions.
    pub isa: Isa,
}

impl Default for Options {
    /// All cores and the fastest instructions of this CPU.
    fn default() -> Options {
        Options { threads: std::thread::available_parallelism().map_or(1, |n| n.get()), isa: Isa::best() }
    }
}

/// Why a run failed. The state is untouched.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RunError {
    /// A guarded value was not finite.
    #[error("{name} is {value}")]
    NonFinite {
        /// The guard's name.
        name: String,
        /// NaN or an infinity.
        value: f64,
    },
    /// An index was out of range.
    #[error("{op}: index {value} at element {row} is out of range, there are {limit} rows")]
    Index {
        /// The operation, with its layer path.
        op: String,
        /// Position of the index.
        row: usize,
        /// The index.
        value: u32,
        /// How many rows exist.
        limit: usize,
    },
    /// The state or the batch is not the one the program was compiled for.
    #[error("{0}")]
    Layout(String),
}

/// What a program costs, known before its first run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Calls on the tape.
    pub calls: usize,
    /// Floating-point operations of one run: 2·m·n·k for matrix products, one an element for other work.
    pub flops: u64,
    /// Bytes of the arena: the exact peak of all intermediate values.
    pub arena_bytes: usize,
    /// The most bytes that intermediate values take at one call: a lower bound of the arena for this order of calls.
    pub live_bytes: usize,
    /// Bytes of the state.
    pub state_bytes: usize,
}

/// One call of a program's tape.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The operations it computes, in order; `guard` for the guard.
    pub what: String,
    /// Shape of the last of them.
    pub shape: Shape,
    /// Floating-point operations, as in [`Cost::flops`].
    pub flops: u64,
    /// Bytes it must read and write, each element once.
    pub bytes: u64,
}

/// How a graph is computed: compiled once for one state layout, then run for every step without allocating.
pub struct Program {
    tape: Tape,
    graph: Inner,
    outputs: Vec<(String, View)>,
    tags: Vec<lower::Tag>,
    layout: u64,
    cost: Cost,
}

impl Program {
    /// Compiles what the outputs, guards and updates of a graph need.
    ///
    /// # Errors
    /// All errors of the graph; an entry that `state` does not have; more bytes than this machine has.
    pub fn compile(graph: &Graph, state: &State, options: Options) -> Result<Program, GraphError> {
        Program::compile_with(graph, state, options, compile::PASSES)
    }

    /// As [`Program::compile`] with a list of passes of one's own.
    pub fn compile_with(
        graph: &Graph,
        state: &State,
        options: Options,
        passes: &[Pass],
    ) -> Result<Program, GraphError> {
        Program::build(&compile::simplified(graph, passes)?, state, options)
    }

    /// Plans and lowers a graph as it stands.
    pub(crate) fn build(graph: &Inner, state: &State, options: Options) -> Result<Program, GraphError> {
        let refuse = |op: &str, rule: Rule| {
            let location = std::panic::Location::caller();
            let error = OpError { op: op.to_string(), rule, inputs: vec![], path: String::new(), location };
            GraphError::check(vec![error])
        };
        let wrong = |op: &str, what: String| refuse(op, Rule::new(what));
        for entry in &graph.entries {
            match state.place(&entry.name) {
                None => wrong("state", format!("the state has no entry `{}`", entry.name))?,
                Some((_, found)) if found.ty != entry.ty => {
                    wrong("state", format!("entry `{}` is {}, the graph wants {}", entry.name, found.ty, entry.ty))?;
                }
                Some(_) => {}
            }
        }
        // The plan counts on it: a concatenation that nobody wants would bring memory for its parts.
        let g = layout::with_copies(&simplify::dead_code(graph));
        let values = layout::values(&g);
        let first: Vec<NodeId> = g.outputs.iter().chain(&g.guards).map(|(_, id)| *id).collect();
        let early = simplify::needed(&g, &first);
        let all = simplify::needed(&g, &g.roots());
        let rest: Vec<bool> = all.iter().zip(&early).map(|(all, early)| *all && !*early).collect();
        let before = fuse::schedule(&g, &values, &early);
        let after = fuse::schedule(&g, &values, &rest);
        let plan = plan::plan(&g, &values, before, after, state);
        if let Some(rule) = limit::refusal("the step with its state", plan.arena as u128 + state.bytes() as u128) {
            refuse("compile", rule)?;
        }
        let lowered = lower::lower(&g, &values, &plan, state, options);
        let (tape, tags) = match lowered {
            Ok(lowered) => lowered,
            Err(error) => {
                wrong("compile", error.to_string())?;
                return Err(GraphError::default());
            }
        };
        let outputs = g.outputs.iter().map(|(n, id)| (n.clone(), lower::locate(&values, &plan, id.index()))).collect();
        let flops = g.nodes.iter().zip(&all).filter(|(_, all)| **all).map(|(node, _)| flops(&g, node)).sum();
        let (arena_bytes, live_bytes) = (plan.arena, plan.live);
        let cost = Cost { calls: tape.len(), flops, arena_bytes, live_bytes, state_bytes: state.bytes() };
        Ok(Program { tape, outputs, tags, layout: state.layout_id(), cost, graph: g })
    }

    /// A batch of zeros with the inputs of this program.
    pub fn batch(&self) -> Batch {
        Batch::new(&self.graph.inputs)
    }

    /// Runs one step: forward, backward and the updates of the state.
    ///
    /// # Errors
    /// See [`RunError`]; the state is untouched then.
    pub fn run(&mut self, state: &mut State, batch: &Batch) -> Result<(), RunError> {
        self.check_layout(state.layout_id())?;
        let done = self.tape.run(&batch.memory, StateRef::Mut(state.regions_mut()));
        done.map_err(|error| self.explain(error))
    }

    /// Runs a program that updates nothing; the state is shared.
    ///
    /// # Errors
    /// See [`RunError`]; a program with updates is refused.
    pub fn evaluate(&mut self, state: &State, batch: &Batch) -> Result<(), RunError> {
        self.check_layout(state.layout_id())?;
        let done = self.tape.run(&batch.memory, StateRef::Shared(state.regions()));
        done.map_err(|error| self.explain(error))
    }

    /// An output of the last run that has one element.
    pub fn scalar(&self, output: &str) -> Option<f64> {
        let view = self.find(output).filter(|view| view.shape.count() == 1)?;
        let memory = self.memory(view.region);
        Some(match view.dtype {
            DType::F32 => f64::from(memory.slice::<f32>(view.offset, 1)[0]),
            DType::F64 => memory.slice::<f64>(view.offset, 1)[0],
            DType::U32 => f64::from(memory.slice::<u32>(view.offset, 1)[0]),
        })
    }

    /// An output of the last run.
    pub fn tensor(&self, output: &str) -> Option<Tensor> {
        let view = self.find(output)?;
        let memory = self.memory(view.region);
        let mut at = Vec::with_capacity(view.shape.count());
        each_index(view.shape, |index| {
            at.push(view.offset + index.iter().zip(view.strides).map(|(i, s)| i * s).sum::<usize>());
        });
        let data = match view.dtype {
            DType::F32 => Data::F32(at.iter().map(|i| memory.slice(*i, 1)[0]).collect()),
            DType::F64 => Data::F64(at.iter().map(|i| memory.slice(*i, 1)[0]).collect()),
            DType::U32 => Data::U32(at.iter().map(|i| memory.slice(*i, 1)[0]).collect()),
        };
        Tensor::new(view.shape, data)
    }

    /// A row-major f32 output of the last run, where it stands.
    pub fn f32s(&self, output: &str) -> Option<&[f32]> {
        let view = self.find(output).filter(|view| view.dtype == DType::F32 && view.is_contiguous())?;
        Some(self.memory(view.region).slice(view.offset, view.shape.count()))
    }

    /// What it costs.
    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// Runs one step as [`Program::run`], and gives the nanoseconds of each of [`Program::calls`].
    ///
    /// # Errors
    /// As [`Program::run`].
    pub fn profile(&mut self, state: &mut State, batch: &Batch) -> Result<Vec<u64>, RunError> {
        self.check_layout(state.layout_id())?;
        let done = self.tape.profile(&batch.memory, StateRef::Mut(state.regions_mut()));
        done.map_err(|error| self.explain(error))
    }

    /// The calls of the tape in their order.
    pub fn calls(&self) -> Vec<Call> {
        let name = |i: &usize| match &self.graph.nodes[*i].source {
            Source::Apply(op, _) => op.name(),
            _ => "value",
        };
        let call = |tag: &lower::Tag| match tag.nodes.last() {
            None => Call { what: "guard".to_string(), shape: Shape::SCALAR, flops: 0, bytes: 0 },
            Some(last) => Call {
                what: tag.nodes.iter().map(name).collect::<Vec<_>>().join(" "),
                shape: self.graph.nodes[*last].ty.shape,
                flops: tag.nodes.iter().map(|i| flops(&self.graph, &self.graph.nodes[*i])).sum(),
                bytes: tag.bytes,
            },
        };
        self.tags.iter().map(call).collect()
    }

    /// Bytes that the program holds: arena, constants and the scratch memory of all workers.
    pub fn bytes(&self) -> usize {
        self.tape.bytes()
    }

    fn find(&self, output: &str) -> Option<View> {
        self.outputs.iter().find(|(name, _)| name == output).map(|(_, view)| *view)
    }

    fn memory(&self, region: Region) -> &geartrain_kernels::Memory {
        if region == Region::CONSTANTS { self.tape.constants() } else { self.tape.arena() }
    }

    fn check_layout(&self, found: u64) -> Result<(), RunError> {
        match found == self.layout {
            true => Ok(()),
            false => Err(RunError::Layout("the program was compiled for a state with other entries".to_string())),
        }
    }

    #[cold]
    fn explain(&self, error: geartrain_kernels::RunError) -> RunError {
        use geartrain_kernels::RunError as Raw;
        match error {
            Raw::NonFinite { guard, value } => RunError::NonFinite { name: self.graph.guards[guard].0.clone(), value },
            Raw::Index { call, fault } => {
                let node = &self.graph.nodes[self.tags[call].nodes[0]];
                let op = if let Source::Apply(op, _) = &node.source { op.name() } else { "value" };
                let path = &self.graph.scopes[node.origin.scope as usize];
                let op = if path.is_empty() { op.to_string() } else { format!("{op} in {path}") };
                RunError::Index { op, row: fault.row, value: fault.value, limit: fault.limit }
            }
            Raw::Region { region: 1, .. } => RunError::Layout("the batch was made for another program".to_string()),
            Raw::Region { .. } => RunError::Layout("the state has other entries than the program".to_string()),
            Raw::ReadOnlyState => {
                RunError::Layout("the program updates the state, which was lent to be read only".to_string())
            }
        }
    }
}

fn flops(g: &Inner, node: &Node) -> u64 {
    let Source::Apply(op, x) = &node.source else { return 0 };
    let count = node.ty.shape.count() as u64;
    let types: Vec<_> = x.iter().map(|x| g.nodes[x.index()].ty).collect();
    if let Some(flops) = op.flops(&types) {
        return flops;
    }
    match op.kind() {
        Kind::Contract => {
            let a = g.nodes[x[0].index()].ty.shape;
            2 * count * a.dims().last().copied().unwrap_or(1) as u64
        }
        Kind::Move | Kind::Gather => 0,
        Kind::Elementwise => count,
        Kind::Reduce | Kind::Opaque => x.iter().map(|x| g.nodes[x.index()].ty.shape.count() as u64).sum(),
    }
}
