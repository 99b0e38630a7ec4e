//! What every graph must satisfy, checked after each pass; and a plain listing of a graph.

use crate::ir::graph::{Inner, NodeId, Source};

/// Order (a node reads only earlier ones), types (each operation's rule gives its node's type) and references.
pub fn verify(g: &Inner) -> Result<(), String> {
    for (i, node) in g.nodes.iter().enumerate() {
        if let Some(x) = node.inputs().iter().find(|x| x.index() >= i) {
            return Err(format!("%{i} reads %{}, which is not earlier", x.0));
        }
        let ty = match &node.source {
            Source::Input(k) => g.inputs.get(*k).map(|input| input.ty).ok_or("unknown input")?,
            Source::State(k) => g.entries.get(*k).map(|entry| entry.ty).ok_or("unknown entry")?,
            Source::Constant(tensor) => tensor.ty(),
            Source::Apply(op, x) => {
                let types: Vec<_> = x.iter().map(|x| g.nodes[x.index()].ty).collect();
                op.infer(&types).map_err(|rule| format!("%{i} {}: {}", op.name(), rule.what))?
            }
        };
        if ty != node.ty {
            return Err(format!("%{i} is {ty}, recorded as {}", node.ty));
        }
    }
    let roots = g.roots();
    match roots.iter().find(|r| r.index() >= g.nodes.len()) {
        Some(root) => Err(format!("%{} is used but does not exist", root.0)),
        None => Ok(()),
    }
}

impl Inner {
    /// The nodes that must be computed: outputs, guarded values and updates.
    pub fn roots(&self) -> Vec<NodeId> {
        let outputs = self.outputs.iter().map(|(_, id)| *id);
        let guards = self.guards.iter().map(|(_, id)| *id);
        outputs.chain(guards).chain(self.updates.iter().map(|(_, id)| *id)).collect()
    }

    /// One line a node: `%2: f32 (4, 4) = matmul %0 %1  z1`.
    pub fn dump(&self) -> String {
        let mut text = String::new();
        for (i, node) in self.nodes.iter().enumerate() {
            let what = match &node.source {
                Source::Input(k) => format!("input `{}`", self.inputs[*k].name),
                Source::State(k) => format!("state `{}`", self.entries[*k].name),
                Source::Constant(tensor) => match tensor.uniform() {
                    Some(value) => format!("constant {value}"),
                    None => "constant".to_string(),
                },
                Source::Apply(op, x) => {
                    let attrs: Vec<String> = op.attrs().iter().map(|(k, v)| format!("{k}={v:?}")).collect();
                    let attrs = if attrs.is_empty() { String::new() } else { format!("[{}]", attrs.join(" ")) };
                    let x: Vec<String> = x.iter().map(|x| format!(" %{}", x.0)).collect();
                    format!("{}{attrs}{}", op.name(), x.concat())
                }
            };
            let name = node.name.as_deref().unwrap_or("");
            text += format!("%{i}: {} = {what}  {name}", node.ty).trim_end();
            text.push('\n');
        }
        text
    }
}
