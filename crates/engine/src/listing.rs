//! The network as a textbook writes it by hand: every line of the forward pass, of the derived backward pass and of
//! the update, from the graph before any pass.
//!
//! Named values get a line; unnamed ones used once are printed inside the line that uses them; broadcasts and products
//! with 1 are left out. Gradients of parameters come as soon as they can be computed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::compile::simplify::{needed, uniform};
use crate::ir::graph::{Graph, Inner, NodeId, Source};
use crate::ir::op::{Expr, Kind};
use crate::ir::origin::Role;
use crate::ir::types::Shape;

/// One line: `name = text`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The value's name.
    pub name: String,
    /// The expression, in NumPy's form.
    pub text: String,
    /// The value's shape.
    pub shape: Shape,
    /// For gradients: the chain rule, `dL/dz2 = dL/da2 · da2/dz2`.
    pub chain: String,
    /// Where the line comes from: `sigmoid' = a · (1 − a)`.
    pub note: String,
    /// The node whose value it is, if it is one of the graph's.
    pub node: Option<NodeId>,
}

/// The three parts of a training step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// From the inputs to the loss.
    pub forward: Vec<Line>,
    /// From the loss to the gradients.
    pub backward: Vec<Line>,
    /// The new values of the parameters; `text` is the whole statement.
    pub update: Vec<Line>,
}

impl Listing {
    /// The listing of what the outputs and updates of a graph need.
    pub fn new(graph: &Graph) -> Listing {
        graph.with(|g| Writer::new(g).write())
    }

    /// As text, in aligned columns. `optimizer` stands beside the heading of the update.
    pub fn to_text(&self, optimizer: &str) -> String {
        let statement = |line: &Line| format!("  {} = {}", line.name, line.text);
        let all = || self.forward.iter().chain(&self.backward);
        let width = |f: &dyn Fn(&Line) -> usize| all().map(f).max().unwrap_or(0);
        let (a, b) = (width(&|l| statement(l).chars().count()).min(72), width(&|l| l.shape.to_string().len()).max(5));
        let c = width(&|l| l.chain.chars().count()).max(10);
        let row = |left: &str, shape: &str, chain: &str, note: &str| {
            format!("{left:a$}  {shape:b$}  {chain:c$}  {note}").trim_end().to_string() + "\n"
        };
        let mut text = row("forward", "shape", "", "");
        for line in &self.forward {
            text += &row(&statement(line), &line.shape.to_string(), "", &line.note);
        }
        text += &row("backward", "shape", "chain rule", "");
        for line in &self.backward {
            text += &row(&statement(line), &line.shape.to_string(), &line.chain, &line.note);
        }
        text += &row("update", optimizer, "", "");
        for line in &self.update {
            text += &format!("  {}\n", line.text);
        }
        text
    }
}

/// A number as people write it: `2`, `0.5`, `1e-5`.
fn number(value: f64) -> String {
    match value != 0.0 && (value.abs() < 1e-4 || value.abs() >= 1e9) {
        true => format!("{value:e}"),
        false => format!("{value}"),
    }
}

/// A value that a line names and that has no node.
struct Let {
    text: String,
    shape: Shape,
    /// The line that needs it first.
    first: usize,
}

struct Writer<'a> {
    g: &'a Inner,
    /// How often each needed node is read.
    uses: Vec<usize>,
    needed: Vec<bool>,
    names: HashMap<usize, String>,
    /// Values without a node, by name.
    lets: BTreeMap<String, Let>,
    taken: BTreeSet<String>,
    exprs: HashMap<usize, Expr>,
}

impl<'a> Writer<'a> {
    fn new(g: &'a Inner) -> Writer<'a> {
        let roots: Vec<NodeId> = g.outputs.iter().chain(&g.guards).map(|(_, id)| *id).collect();
        let updates = g.updates.iter().map(|(_, id)| *id);
        // Guarded norms are the engine's business, not the reader's.
        let shown: Vec<NodeId> = roots.into_iter().filter(|id| forward(g, *id)).chain(updates).collect();
        let needed = needed(g, &shown);
        let mut uses = vec![0; g.nodes.len()];
        for (i, node) in g.nodes.iter().enumerate().filter(|(i, _)| needed[*i]) {
            let through = elided(g, i).is_none();
            node.inputs().iter().for_each(|x| uses[x.index()] += usize::from(through));
        }
        // A broadcast is not a use of its own: its readers read what it repeats.
        for i in (0..g.nodes.len()).rev().filter(|i| needed[*i]) {
            if let Some(x) = elided(g, i) {
                uses[x] += uses[i];
            }
        }
        let taken = g.nodes.iter().filter_map(|n| n.name.clone()).collect();
        Writer { g, uses, needed, names: HashMap::new(), lets: BTreeMap::new(), taken, exprs: HashMap::new() }
    }

    fn write(mut self) -> Listing {
        let mut lines: Vec<(usize, Line)> = Vec::new();
        let updates: HashMap<usize, usize> = self.g.updates.iter().map(|(entry, id)| (id.index(), *entry)).collect();
        let mut listing = Listing::default();
        let shown: Vec<usize> = (0..self.g.nodes.len()).filter(|i| self.needed[*i]).collect();
        for i in shown {
            let expr = self.expr(i);
            let node = &self.g.nodes[i];
            if let Some(entry) = updates.get(&i) {
                let name = self.g.entries[*entry].name.clone();
                let text = match expr.text.strip_prefix(&format!("{name} - ")) {
                    Some(step) => format!("{name} -= {step}"),
                    None => format!("{name} = {}", expr.text),
                };
                let shape = node.ty.shape;
                let node = Some(NodeId(i as u32));
                listing.update.push(Line { name, text, shape, chain: String::new(), note: String::new(), node });
                continue;
            }
            if !self.has_line(i) {
                self.exprs.insert(i, expr);
                continue;
            }
            let name = self.name(i);
            for (let_name, _) in &expr.lets {
                self.lets.entry(let_name.clone()).and_modify(|l| l.first = l.first.min(i));
            }
            let (chain, note) = self.chain(i);
            let shape = node.ty.shape;
            lines.push((i, Line { name, text: expr.text, shape, chain, note, node: Some(NodeId(i as u32)) }));
        }
        listing.forward = self.forward_lines(&lines);
        listing.backward = self.backward_lines(lines);
        listing.update.sort_by_key(|line| self.g.entries.iter().position(|e| e.name == line.name));
        listing
    }

    /// Forward lines in graph order, each with the values it names in front.
    fn forward_lines(&self, lines: &[(usize, Line)]) -> Vec<Line> {
        let mut out = Vec::new();
        for (i, line) in lines.iter().filter(|(i, _)| is_forward(self.g, *i)) {
            out.extend(self.let_lines(*i));
            out.push(line.clone());
        }
        out
    }

    /// The values that line `i` is the first to name, unless a node of that name has a line already.
    fn let_lines(&self, i: usize) -> Vec<Line> {
        let named = |name: &String| (0..i).any(|k| self.needed[k] && self.g.nodes[k].name.as_ref() == Some(name));
        let new = self.lets.iter().filter(|(name, l)| l.first == i && !named(name));
        let line = |(name, l): (&String, &Let)| Line {
            name: name.clone(),
            text: l.text.clone(),
            shape: l.shape,
            chain: String::new(),
            note: String::new(),
            node: None,
        };
        new.map(line).collect()
    }

    /// Backward lines: whatever can be computed next, gradients of parameters first.
    fn backward_lines(&self, lines: Vec<(usize, Line)>) -> Vec<Line> {
        let mut waiting: Vec<(usize, Line)> = lines.into_iter().filter(|(i, _)| !is_forward(self.g, *i)).collect();
        let own: BTreeSet<usize> = waiting.iter().map(|(i, _)| *i).collect();
        let needs: HashMap<usize, BTreeSet<usize>> = own.iter().map(|i| (*i, self.lines_below(*i, &own))).collect();
        let mut out = Vec::new();
        let mut done = BTreeSet::new();
        while !waiting.is_empty() {
            let ready = |(i, _): &&(usize, Line)| needs[i].is_subset(&done);
            let entry = |i: usize| self.entry_of_gradient(i).unwrap_or(usize::MAX);
            let next = waiting.iter().filter(ready).map(|(i, _)| *i).min_by_key(|i| (entry(*i), *i));
            let Some(next) = next.and_then(|n| waiting.iter().position(|(i, _)| *i == n)) else { break };
            let (i, line) = waiting.remove(next);
            done.insert(i);
            out.extend(self.let_lines(i));
            out.push(line);
        }
        out
    }

    /// The lines that line `i` names.
    fn lines_below(&self, i: usize, own: &BTreeSet<usize>) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let mut stack: Vec<usize> = self.g.nodes[i].inputs().iter().map(|x| x.index()).collect();
        while let Some(x) = stack.pop() {
            if own.contains(&x) {
                found.insert(x);
            } else if !is_forward(self.g, x) {
                stack.extend(self.g.nodes[x].inputs().iter().map(|x| x.index()));
            }
        }
        found
    }

    /// The entry whose gradient node `i` is.
    fn entry_of_gradient(&self, i: usize) -> Option<usize> {
        let of = self.g.nodes[i].name.as_ref()?.strip_prefix("d_")?;
        self.g.entries.iter().position(|e| e.name == of)
    }

    fn has_line(&self, i: usize) -> bool {
        let node = &self.g.nodes[i];
        let computed = matches!(node.source, Source::Apply(..));
        computed
            && elided(self.g, i).is_none()
            && (node.name.is_some() || self.uses[i] > 1 && self.neutral_operand(i).is_none())
            && uniform(self.g, NodeId(i as u32)).is_none()
    }

    /// The other operand, if one operand of node `i` changes nothing.
    fn neutral_operand(&self, i: usize) -> Option<usize> {
        let Source::Apply(op, x) = &self.g.nodes[i].source else { return None };
        let neutral = |(at, value): &&(usize, f64)| x.get(*at).and_then(|x| uniform(self.g, *x)) == Some(*value);
        op.neutral().iter().find(neutral).and_then(|(at, _)| x.get(1 - at)).map(|x| x.index())
    }

    fn name(&mut self, i: usize) -> String {
        if let Some(name) = &self.g.nodes[i].name {
            return name.clone();
        }
        if let Some(name) = self.names.get(&i) {
            return name.clone();
        }
        let fresh = (1..).map(|k| format!("t{k}")).find(|n| !self.taken.contains(n)).unwrap_or_default();
        self.taken.insert(fresh.clone());
        self.names.insert(i, fresh.clone());
        fresh
    }

    /// How node `i` is written where it is read.
    fn reference(&mut self, i: usize) -> Expr {
        if let Some(x) = elided(self.g, i) {
            return self.reference(x);
        }
        let id = NodeId(i as u32);
        match &self.g.nodes[i].source {
            Source::Constant(_) if self.g.nodes[i].name.is_none() => match uniform(self.g, id) {
                Some(value) => Expr::atom(number(value)),
                None => Expr::atom(self.name(i)),
            },
            Source::Apply(..) if !self.has_line(i) => match self.exprs.get(&i) {
                Some(expr) => expr.clone(),
                None => self.expr(i),
            },
            _ => Expr::atom(self.name(i)),
        }
    }

    /// The expression that computes node `i`.
    fn expr(&mut self, i: usize) -> Expr {
        let Source::Apply(op, x) = &self.g.nodes[i].source else { return self.reference(i) };
        if let Some(other) = self.neutral_operand(i) {
            return if self.has_line(other) { self.reference(other) } else { self.expr(other) };
        }
        let args: Vec<Expr> = x.iter().map(|x| self.reference(x.index())).collect();
        let types: Vec<_> = x.iter().map(|x| self.g.nodes[x.index()].ty).collect();
        let mut expr = op.print(&args, &types);
        for (name, text) in &expr.lets {
            let shape = types.first().map_or(Shape::SCALAR, |t| t.shape);
            self.lets.entry(name.clone()).or_insert(Let { text: text.clone(), shape, first: usize::MAX });
        }
        for arg in args {
            expr.lets.extend(arg.lets);
        }
        expr
    }

    /// The chain rule and the source of gradient line `i`.
    fn chain(&self, i: usize) -> (String, String) {
        let node = &self.g.nodes[i];
        let Some(of) = node.name.as_ref().and_then(|n| n.strip_prefix("d_")) else {
            return (String::new(), String::new());
        };
        let Role::VjpOf { node: from, operand } = node.origin.role else { return (format!("dL/d{of}"), String::new()) };
        let source = &self.g.nodes[from.index()];
        let Source::Apply(op, x) = &source.source else { return (format!("dL/d{of}"), String::new()) };
        let unary = op.kind() == Kind::Elementwise && x.len() == 1;
        match (unary, &source.name) {
            (true, Some(y)) => {
                let slope = op.explain().derivative.rsplit_once("d_y · ").map_or("", |(_, slope)| slope);
                let letter = |name: &str| name.trim_end_matches(|c: char| c.is_ascii_digit()).to_string();
                let swap = |c: char| match c {
                    'y' => letter(y),
                    'x' => letter(of),
                    c => c.to_string(),
                };
                let slope: String = slope.chars().map(swap).collect();
                (format!("dL/d{of} = dL/d{y} · d{y}/d{of}"), format!("{}' = {slope}", op.name()))
            }
            _ if op.kind() == Kind::Contract && operand == 1 => {
                (format!("dL/d{of}"), self.statement_with(from.index()))
            }
            _ if op.kind() == Kind::Opaque => (format!("dL/d{of}"), op.name().replace('_', " ")),
            _ => (format!("dL/d{of}"), String::new()),
        }
    }

    /// The forward line that node `i` is part of: `z2 = a1 @ W2 + b2`.
    fn statement_with(&self, i: usize) -> String {
        let mut at = i;
        while !self.has_line(at) {
            let reader = (at + 1..self.g.nodes.len())
                .find(|k| is_forward(self.g, *k) && self.g.nodes[*k].inputs().iter().any(|x| x.index() == at));
            match reader {
                Some(reader) => at = reader,
                None => return String::new(),
            }
        }
        let mut fresh = Writer::new(self.g);
        format!("{} = {}", fresh.name(at), fresh.expr(at).text)
    }
}

fn is_forward(g: &Inner, i: usize) -> bool {
    g.nodes[i].origin.role == Role::Forward
}

fn forward(g: &Inner, id: NodeId) -> bool {
    is_forward(g, id.index())
}

/// What a node repeats or only gives another shape to, if nothing is lost by not writing it.
fn elided(g: &Inner, i: usize) -> Option<usize> {
    let Source::Apply(op, x) = &g.nodes[i].source else { return None };
    let from = &g.nodes[x[0].index()];
    let scalar = op.kind() == Kind::Move && from.ty.shape.count() == 1 && g.nodes[i].ty.shape.count() == 1;
    let silent = op.name() == "broadcast" || op.name() == "copy" || op.name() == "cast" || scalar;
    (silent && g.nodes[i].name.is_none()).then_some(x[0].index())
}
