//! What is learned: named entries outside any program, in contiguous regions.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use geartrain_kernels::{Memory, philox};

use crate::ir::error::GraphError;
use crate::ir::graph::Graph;
use crate::ir::types::{DType, Data, Tensor, Type};
use crate::limit;

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Learned by gradients.
    Parameter,
    /// The optimizer's memory of a parameter; the number tells its kinds apart (first moment 0, second moment 1).
    Moment(u8),
    /// A count.
    Counter,
    /// Anything else that a step keeps for the next.
    Buffer,
    /// What decoding keeps between tokens; never saved.
    Cache,
}

/// Initial values. Random ones are a pure function of (seed, the entry's name, element): adding a layer does not
/// change the others.
#[derive(Clone, Debug, PartialEq)]
pub enum Init {
    /// One number everywhere.
    Constant(f64),
    /// Normal with mean 0.
    Normal {
        /// Standard deviation.
        std: f64,
    },
    /// Uniform in [-bound, bound).
    Uniform {
        /// Half the width.
        bound: f64,
    },
    /// Given values.
    Values(Arc<Tensor>),
}

impl Init {
    /// Zeros.
    pub const ZEROS: Init = Init::Constant(0.0);
    /// Ones.
    pub const ONES: Init = Init::Constant(1.0);

    /// Writes the values of an entry to its place in memory that holds zeros; false if they have another type.
    fn write(&self, entry: &Entry, seed: u64, memory: &mut Memory, offset: usize) -> bool {
        let stream = philox::stream_of(&entry.name);
        let mut draw = |f: &dyn Fn(u64) -> f64| fill(memory, entry.ty, offset, f);
        match self {
            Init::Constant(value) if value.to_bits() == 0 => {}
            Init::Constant(value) => draw(&|_| *value),
            Init::Normal { std } => draw(&|i| philox::normal(seed, stream, i) * std),
            Init::Uniform { bound } => draw(&|i| (2.0 * philox::uniform(seed, stream, i) - 1.0) * bound),
            Init::Values(tensor) if tensor.ty() == entry.ty => copy(memory, offset, tensor),
            Init::Values(_) => return false,
        }
        true
    }
}

/// Writes `value` of each element, rounded once, without a copy of them all in f64.
fn fill(memory: &mut Memory, ty: Type, offset: usize, value: &dyn Fn(u64) -> f64) {
    let n = ty.shape.count();
    match ty.dtype {
        DType::F32 => (0..).zip(memory.slice_mut::<f32>(offset, n)).for_each(|(i, x)| *x = value(i) as f32),
        DType::F64 => (0..).zip(memory.slice_mut::<f64>(offset, n)).for_each(|(i, x)| *x = value(i)),
        DType::U32 => (0..).zip(memory.slice_mut::<u32>(offset, n)).for_each(|(i, x)| *x = value(i) as u32),
    }
}

fn copy(memory: &mut Memory, offset: usize, from: &Tensor) {
    let n = from.shape().count();
    match from.data() {
        Data::F32(v) => memory.slice_mut(offset, n).copy_from_slice(v),
        Data::F64(v) => memory.slice_mut(offset, n).copy_from_slice(v),
        Data::U32(v) => memory.slice_mut(offset, n).copy_from_slice(v),
    }
}

/// One named value of a state.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its name, with the layer path: `transformer.h.0.attn.c_attn.weight`.
    pub name: String,
    /// Its type.
    pub ty: Type,
    /// What it is for.
    pub role: Role,
    /// Whether gradients are wanted for it.
    pub trainable: bool,
    /// Whether checkpoints hold it.
    pub saved: bool,
    /// Whether weight decay applies to it.
    pub decay: bool,
    /// Its initial value.
    pub init: Init,
}

impl Entry {
    /// A trainable parameter; weight decay applies to it if it has two axes or more.
    pub fn parameter(name: &str, ty: Type, init: Init) -> Entry {
        let decay = ty.shape.rank() >= 2;
        Entry { name: name.to_string(), ty, role: Role::Parameter, trainable: true, saved: true, decay, init }
    }

    /// The optimizer's memory number `slot` of a parameter: `name.suffix`, zeros, beside others of its group.
    pub fn moment(of: &Entry, slot: u8, suffix: &str) -> Entry {
        let name = format!("{}.{suffix}", of.name);
        Entry { name, role: Role::Moment(slot), trainable: false, init: Init::ZEROS, ..of.clone() }
    }
}

/// Where an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) region: usize,
    /// In elements.
    pub(crate) offset: usize,
}

/// Elements between the starts of neighbouring entries are a multiple of this, so that vector loads are aligned.
const ALIGN: usize = 16;

/// Named entries with their values.
///
/// Entries of one (dtype, role, decay) group stand side by side in the order of their declaration, so that the moments
/// of a group have the layout of its parameters and an optimizer's update is one flat pass.
#[derive(Clone)]
pub struct State {
    entries: Vec<Entry>,
    places: Vec<Place>,
    index: HashMap<String, usize>,
    regions: Vec<Memory>,
    layout: u64,
}

/// Why a value could not be put into a state.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum StateError {
    /// No entry has this name.
    #[error("the state has no entry `{0}`")]
    Unknown(String),
    /// The entry has another type.
    #[error("`{name}` is {expected}, got {found}")]
    Type {
        /// The entry.
        name: String,
        /// Its type.
        expected: Type,
        /// What was given.
        found: String,
    },
}

impl State {
    /// The entries that a graph declares, with initial values drawn from `seed`.
    ///
    /// # Errors
    /// All errors of the graph; an initial value of another type than its entry; more bytes than this machine has.
    pub fn new(graph: &Graph, seed: u64) -> Result<State, GraphError> {
        graph.check()?;
        let entries = graph.with(|g| g.entries.clone());
        let bytes = entries.iter().map(|e| (e.ty.shape.count() * e.ty.dtype.size()) as u128).sum();
        if let Some(rule) = limit::refusal("the state", bytes) {
            graph.fail("state", rule, vec![]);
            graph.check()?;
        }
        let mut state = State::layout(entries);
        for (entry, place) in state.entries.iter().zip(&state.places) {
            if !entry.init.write(entry, seed, &mut state.regions[place.region], place.offset) {
                let Init::Values(given) = &entry.init else { continue };
                let what = format!("the initial value of `{}` is {}, the entry {}", entry.name, given.ty(), entry.ty);
                graph.fail("state", crate::Rule::new(what), vec![]);
            }
        }
        graph.check()?;
        Ok(state)
    }

    /// A state without entries, for programs that need none.
    pub fn empty() -> State {
        State::layout(Vec::new())
    }

    fn layout(entries: Vec<Entry>) -> State {
        let mut keys: Vec<(DType, Role, bool)> = Vec::new();
        let mut lengths: Vec<usize> = Vec::new();
        let mut places = Vec::with_capacity(entries.len());
        for entry in &entries {
            let key = (entry.ty.dtype, entry.role, entry.decay);
            let region = keys.iter().position(|k| *k == key).unwrap_or_else(|| {
                keys.push(key);
                lengths.push(0);
                keys.len() - 1
            });
            places.push(Place { region, offset: lengths[region] });
            lengths[region] += entry.ty.shape.count().next_multiple_of(ALIGN);
        }
        let regions = keys.iter().zip(&lengths).map(|(key, len)| Memory::zeroed(len * key.0.size())).collect();
        let index = entries.iter().enumerate().map(|(i, e)| (e.name.clone(), i)).collect();
        let mut hash = DefaultHasher::new();
        for (entry, place) in entries.iter().zip(&places) {
            (&entry.name, entry.ty, entry.role, place).hash(&mut hash);
        }
        State { entries, places, index, regions, layout: hash.finish() }
    }

    /// All entries, in the order of their declaration.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The value of an entry.
    pub fn get(&self, name: &str) -> Option<Tensor> {
        let i = *self.index.get(name)?;
        let (ty, Place { region, offset }) = (self.entries[i].ty, self.places[i]);
        let (memory, n) = (&self.regions[region], ty.shape.count());
        let data = match ty.dtype {
            DType::F32 => Data::F32(memory.slice(offset, n).to_vec()),
            DType::F64 => Data::F64(memory.slice(offset, n).to_vec()),
            DType::U32 => Data::U32(memory.slice(offset, n).to_vec()),
        };
        Tensor::new(ty.shape, data)
    }

    /// Replaces the value of an entry.
    pub fn set(&mut self, name: &str, value: &Tensor) -> Result<(), StateError> {
        let i = *self.index.get(name).ok_or_else(|| StateError::Unknown(name.to_string()))?;
        let (expected, found) = (self.entries[i].ty, value.ty());
        if expected != found {
            return Err(StateError::Type { name: name.to_string(), expected, found: found.to_string() });
        }
        let Place { region, offset } = self.places[i];
        copy(&mut self.regions[region], offset, value);
        Ok(())
    }

    /// Number of trainable numbers.
    pub fn parameters(&self) -> usize {
        self.entries.iter().filter(|e| e.role == Role::Parameter && e.trainable).map(|e| e.ty.shape.count()).sum()
    }

    /// Bytes of all regions.
    pub fn bytes(&self) -> usize {
        self.regions.iter().map(Memory::len).sum()
    }

    pub(crate) fn place(&self, name: &str) -> Option<(Place, &Entry)> {
        let i = *self.index.get(name)?;
        Some((self.places[i], &self.entries[i]))
    }

    pub(crate) fn regions(&self) -> &[Memory] {
        &self.regions
    }

    pub(crate) fn regions_mut(&mut self) -> &mut [Memory] {
        &mut self.regions
    }

    pub(crate) fn layout_id(&self) -> u64 {
        self.layout
    }
}
