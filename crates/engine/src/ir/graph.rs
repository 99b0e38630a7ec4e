//! The graph: append-only typed nodes, and `Var`, a handle on one of them.

use std::cell::RefCell;
use std::panic::Location;
use std::sync::Arc;

use crate::ir::error::{GraphError, OpError, Rule};
use crate::ir::op::Op;
use crate::ir::origin::{Origin, Role};
use crate::ir::types::{DType, Shape, Tensor, Type};
use crate::state::{Entry, Init};

/// Index of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

impl NodeId {
    /// The value of an operation that could not be added. Operations on it stay silent.
    pub const POISON: NodeId = NodeId(u32::MAX);

    /// As an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What gives a node its value.
#[derive(Clone, Debug)]
pub enum Source {
    /// An array or scalar of the batch, by its position in [`Inner::inputs`].
    Input(usize),
    /// An entry of the state, by its position in [`Inner::entries`].
    State(usize),
    /// A value known now.
    Constant(Arc<Tensor>),
    /// An operation on earlier nodes.
    Apply(Arc<dyn Op>, Vec<NodeId>),
}

/// One value of the graph.
#[derive(Clone, Debug)]
pub struct Node {
    /// What gives it its value.
    pub source: Source,
    /// Its type.
    pub ty: Type,
    /// A name that people know it by.
    pub name: Option<String>,
    /// Where it comes from.
    pub origin: Origin,
}

impl Node {
    /// The nodes it reads.
    pub fn inputs(&self) -> &[NodeId] {
        match &self.source {
            Source::Apply(_, inputs) => inputs,
            _ => &[],
        }
    }
}

/// The rule that a type broke which no machine can hold.
fn too_large(name: &str, ty: &Type) -> Rule {
    Rule::new(format!("`{name}` has too many elements: {ty}")).hint("no value may have more than 2^40 of them")
}

/// An input of the batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: Type,
}

/// The contents of a graph, as passes see them.
#[derive(Clone, Debug, Default)]
pub struct Inner {
    /// All nodes; a node reads only earlier ones.
    pub nodes: Vec<Node>,
    /// What the batch must hold.
    pub inputs: Vec<Input>,
    /// What the state must hold.
    pub entries: Vec<Entry>,
    /// Named results.
    pub outputs: Vec<(String, NodeId)>,
    /// New values of state entries, written at the end of a run.
    pub updates: Vec<(usize, NodeId)>,
    /// Scalars that must be finite, or the updates are not written.
    pub guards: Vec<(String, NodeId)>,
    /// Layer paths, by [`Origin::scope`].
    pub scopes: Vec<String>,
    scope: Vec<u32>,
    role: Option<Role>,
    errors: Vec<OpError>,
}

/// What is computed: append-only typed nodes. Library code never panics on a wrong shape: an ill-typed operation
/// records its error and gives back a poisoned [`Var`]; [`Graph::grad`] and compilation return all errors at once.
#[derive(Debug, Default)]
pub struct Graph {
    inner: RefCell<Inner>,
}

/// A handle on a value of a graph: `Copy`, with operators (`x.matmul(w) + b`).
#[derive(Clone, Copy)]
pub struct Var<'g> {
    graph: &'g Graph,
    id: NodeId,
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Graph {
        let graph = Graph::default();
        graph.inner.borrow_mut().scopes.push(String::new());
        graph.inner.borrow_mut().scope.push(0);
        graph
    }

    /// Read access to the contents.
    pub fn with<R>(&self, read: impl FnOnce(&Inner) -> R) -> R {
        read(&self.inner.borrow())
    }

    /// An array of the batch. Asking twice for one name gives the same value.
    #[track_caller]
    pub fn input(&self, name: &str, dtype: DType, shape: impl Into<Shape>) -> Var<'_> {
        let ty = Type::new(dtype, shape);
        let known = self.with(|g| g.inputs.iter().position(|i| i.name == name));
        if let Some(i) = known {
            let found = self.with(|g| g.inputs[i].ty);
            if found != ty {
                let what = format!("`{name}` was declared as {found} before, now as {ty}");
                return self.fail("input", Rule::new(what), vec![]);
            }
            let id = self.with(|g| g.nodes.iter().position(|n| matches!(n.source, Source::Input(k) if k == i)));
            return self.var(NodeId(id.unwrap_or(0) as u32));
        }
        if Shape::checked(ty.shape.dims()).is_none() {
            return self.fail("input", too_large(name, &ty), vec![]);
        }
        let i = self.with(|g| g.inputs.len());
        self.inner.borrow_mut().inputs.push(Input { name: name.to_string(), ty });
        self.push(Source::Input(i), ty).named(name)
    }

    /// A scalar of the batch, computed on the host in f64: step, learning rate, bias corrections.
    #[track_caller]
    pub fn scalar(&self, name: &str) -> Var<'_> {
        self.input(name, DType::F64, Shape::SCALAR)
    }

    /// A trainable parameter. Its name is put behind the current layer path.
    #[track_caller]
    pub fn parameter(&self, name: &str, dtype: DType, shape: impl Into<Shape>, init: Init) -> Var<'_> {
        self.entry(Entry::parameter(&self.path_of(name), Type::new(dtype, shape), init))
    }

    /// An entry of the state. Asking twice for one name gives the same value.
    #[track_caller]
    pub fn entry(&self, entry: Entry) -> Var<'_> {
        let known = self.with(|g| g.entries.iter().position(|e| e.name == entry.name));
        if let Some(i) = known {
            let old = self.with(|g| g.entries[i].clone());
            if old.ty != entry.ty || old.role != entry.role {
                let (name, old, new) = (&entry.name, (old.role, old.ty), (entry.role, entry.ty));
                let what =
                    format!("`{name}` was declared as {:?} {} before, now as {:?} {}", old.0, old.1, new.0, new.1);
                return self.fail("state", Rule::new(what), vec![]);
            }
            let id = self.with(|g| g.nodes.iter().position(|n| matches!(n.source, Source::State(k) if k == i)));
            return self.var(NodeId(id.unwrap_or(0) as u32));
        }
        if Shape::checked(entry.ty.shape.dims()).is_none() {
            return self.fail("state", too_large(&entry.name, &entry.ty), vec![]);
        }
        let (i, ty, name) = (self.with(|g| g.entries.len()), entry.ty, entry.name.clone());
        self.inner.borrow_mut().entries.push(entry);
        self.push(Source::State(i), ty).named(&name)
    }

    /// All trainable parameters with their entries, in the order of their declaration.
    pub fn parameters(&self) -> Vec<(Var<'_>, Entry)> {
        let wanted = |e: &Entry| e.role == crate::state::Role::Parameter && e.trainable;
        let found = self.with(|g| {
            let states = g.nodes.iter().enumerate().filter_map(|(i, n)| match n.source {
                Source::State(k) if wanted(&g.entries[k]) => Some((NodeId(i as u32), g.entries[k].clone())),
                _ => None,
            });
            states.collect::<Vec<_>>()
        });
        found.into_iter().map(|(id, entry)| (self.var(id), entry)).collect()
    }

    /// Makes weight decay apply to all parameters, not to matrices alone.
    pub fn decay_all(&self) {
        let all = |e: &mut Entry| e.decay |= e.role == crate::state::Role::Parameter;
        self.inner.borrow_mut().entries.iter_mut().for_each(all);
    }

    /// A value known now.
    #[track_caller]
    pub fn constant(&self, tensor: Tensor) -> Var<'_> {
        let ty = tensor.ty();
        self.push(Source::Constant(Arc::new(tensor)), ty)
    }

    /// A number known now.
    #[track_caller]
    pub fn number(&self, dtype: DType, value: f64) -> Var<'_> {
        self.constant(Tensor::scalar(dtype, value))
    }

    /// Adds an operation: a built-in one or a user's own.
    #[track_caller]
    pub fn apply<'g>(&'g self, op: impl Op, x: &[Var<'g>]) -> Var<'g> {
        self.apply_shared(Arc::new(op), x)
    }

    /// As [`Graph::apply`], for an operation that is shared already.
    #[track_caller]
    pub fn apply_shared<'g>(&'g self, op: Arc<dyn Op>, x: &[Var<'g>]) -> Var<'g> {
        if x.iter().any(|v| v.id == NodeId::POISON) {
            return self.var(NodeId::POISON);
        }
        let types: Vec<Type> = x.iter().map(Var::ty).collect();
        if x.iter().any(|v| !std::ptr::eq(v.graph, self)) {
            return self.fail(op.name(), Rule::new("an input belongs to another graph"), types);
        }
        match op.infer(&types) {
            Ok(ty) => self.push(Source::Apply(op, x.iter().map(|v| v.id).collect()), ty),
            Err(rule) => self.fail(op.name(), rule, types),
        }
    }

    /// Runs `build` inside a layer: parameters and nodes made there carry its path.
    pub fn layer<R>(&self, name: &str, build: impl FnOnce() -> R) -> R {
        let path = self.path_of(name);
        {
            let mut g = self.inner.borrow_mut();
            let i = g.scopes.iter().position(|s| *s == path).unwrap_or_else(|| {
                g.scopes.push(path);
                g.scopes.len() - 1
            });
            g.scope.push(i as u32);
        }
        let result = build();
        self.inner.borrow_mut().scope.pop();
        result
    }

    fn path_of(&self, name: &str) -> String {
        self.with(|g| match g.scope.last().map(|i| g.scopes[*i as usize].as_str()) {
            Some(path) if !path.is_empty() => format!("{path}.{name}"),
            _ => name.to_string(),
        })
    }

    /// Runs `build` with every new node marked as part of the update.
    pub fn update<R>(&self, build: impl FnOnce() -> R) -> R {
        self.with_role(Role::Update, build)
    }

    /// Names a result, to be read after a run.
    pub fn output(&self, name: &str, value: Var<'_>) {
        let mut g = self.inner.borrow_mut();
        g.outputs.retain(|(n, _)| n != name);
        g.outputs.push((name.to_string(), value.id));
    }

    /// Writes `value` to a state entry at the end of each run, if the guards hold.
    #[track_caller]
    pub fn assign(&self, entry: Var<'_>, value: Var<'_>) {
        if entry.id == NodeId::POISON || value.id == NodeId::POISON {
            return;
        }
        let Source::State(i) = self.node(entry.id).source else {
            self.fail("assign", Rule::new("only an entry of the state can be assigned to"), vec![entry.ty()]);
            return;
        };
        if entry.ty() != value.ty() {
            self.fail(
                "assign",
                Rule::new("the new value has another type than the entry"),
                vec![entry.ty(), value.ty()],
            );
            return;
        }
        let twice = self.with(|g| g.updates.iter().any(|(e, _)| *e == i));
        if twice {
            self.fail(
                "assign",
                Rule::new("the entry has a new value already; a step writes it once"),
                vec![entry.ty()],
            );
            return;
        }
        self.inner.borrow_mut().updates.push((i, value.id));
    }

    /// A float scalar that must be finite, or no update of the run is written.
    #[track_caller]
    pub fn guard(&self, name: &str, value: Var<'_>) {
        if value.id == NodeId::POISON {
            return;
        }
        if value.shape().count() != 1 || !value.dtype().is_float() {
            self.fail(
                "guard",
                Rule::new("a guarded value must be a float scalar").hint("take its sum or norm first"),
                vec![value.ty()],
            );
            return;
        }
        self.inner.borrow_mut().guards.push((name.to_string(), value.id));
    }

    /// All errors so far.
    pub fn check(&self) -> Result<(), GraphError> {
        GraphError::check(self.with(|g| g.errors.clone()))
    }

    /// A copy of a node.
    pub fn node(&self, id: NodeId) -> Node {
        self.with(|g| g.nodes[id.index()].clone())
    }

    /// The handle on a node.
    pub fn var(&self, id: NodeId) -> Var<'_> {
        Var { graph: self, id }
    }

    /// Records an error and gives back a poisoned value.
    #[track_caller]
    pub fn fail(&self, op: &str, rule: Rule, inputs: Vec<Type>) -> Var<'_> {
        let error = OpError { op: op.to_string(), rule, inputs, path: self.path_of(""), location: Location::caller() };
        let path = error.path.trim_end_matches('.').to_string();
        self.inner.borrow_mut().errors.push(OpError { path, ..error });
        self.var(NodeId::POISON)
    }

    /// Runs `build` with every new node marked with `role`.
    pub(crate) fn with_role<R>(&self, role: Role, build: impl FnOnce() -> R) -> R {
        let old = self.inner.borrow_mut().role.replace(role);
        let result = build();
        self.inner.borrow_mut().role = old;
        result
    }

    /// Runs `build` as part of the cotangent of operand `operand` of the node that is being differentiated.
    pub(crate) fn for_operand<R>(&self, operand: usize, build: impl FnOnce() -> R) -> R {
        match self.with(|g| g.role) {
            Some(Role::VjpOf { node, .. }) => self.with_role(Role::VjpOf { node, operand }, build),
            _ => build(),
        }
    }

    /// Runs `build` in the layer of node `id`.
    pub(crate) fn in_layer_of<R>(&self, id: NodeId, build: impl FnOnce() -> R) -> R {
        let scope = self.with(|g| g.nodes[id.index()].origin.scope);
        self.inner.borrow_mut().scope.push(scope);
        let result = build();
        self.inner.borrow_mut().scope.pop();
        result
    }

    #[track_caller]
    fn push(&self, source: Source, ty: Type) -> Var<'_> {
        let mut g = self.inner.borrow_mut();
        let scope = g.scope.last().copied().unwrap_or(0);
        let origin = Origin { role: g.role.unwrap_or(Role::Forward), scope, location: Location::caller() };
        g.nodes.push(Node { source, ty, name: None, origin });
        let id = NodeId(g.nodes.len() as u32 - 1);
        drop(g);
        self.var(id)
    }

    pub(crate) fn set_name(&self, id: NodeId, name: String) {
        self.inner.borrow_mut().nodes[id.index()].name = Some(name);
    }
}

impl<'g> Var<'g> {
    /// The graph it belongs to.
    pub fn graph(&self) -> &'g Graph {
        self.graph
    }

    /// Its node.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Whether it stands for an operation that failed.
    pub fn is_poison(&self) -> bool {
        self.id == NodeId::POISON
    }

    /// Its type. A poisoned value has the type of a scalar.
    pub fn ty(&self) -> Type {
        match self.is_poison() {
            true => Type::new(DType::F32, Shape::SCALAR),
            false => self.graph.with(|g| g.nodes[self.id.index()].ty),
        }
    }

    /// Its shape.
    pub fn shape(&self) -> Shape {
        self.ty().shape
    }

    /// The type of its elements.
    pub fn dtype(&self) -> DType {
        self.ty().dtype
    }

    /// Gives it a name that listings use; its gradient will be called `d_name`.
    pub fn named(self, name: &str) -> Var<'g> {
        if !self.is_poison() {
            self.graph.set_name(self.id, name.to_string());
        }
        self
    }
}

impl std::fmt::Debug for Var<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.is_poison() {
            true => f.write_str("poison"),
            false => write!(f, "%{}: {}", self.id.0, self.ty()),
        }
    }
}
