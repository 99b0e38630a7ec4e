//! Lifetimes to offsets: where every value stands.

use std::collections::BTreeMap;

use geartrain_kernels::{Region, View};

use crate::compile::fuse::Unit;
use crate::compile::layout::Value;
use crate::ir::graph::{Inner, Source};
use crate::run::batch;
use crate::state::State;

/// Bytes between the starts of buffers are a multiple of this.
const ALIGN: usize = 64;

/// The order of the calls and the place of every value.
pub struct Plan {
    /// Calls before the guard, then those after it.
    pub units: Vec<Unit>,
    /// How many come before the guard.
    pub before_guard: usize,
    /// The start of each node's memory: region and offset in elements. Nodes inside a fused chain have none.
    pub homes: Vec<Option<(Region, usize)>>,
    /// New values that stand in the arena and are copied to their entries at the very end: (node, entry).
    pub late: Vec<(usize, usize)>,
    /// Offsets in bytes of the constants in their region, and its length.
    pub constants: (Vec<(usize, usize)>, usize),
    /// Bytes of the arena: the exact peak of all intermediate values.
    pub arena: usize,
}

/// Plans the calls `before` and `after` the guard.
pub fn plan(g: &Inner, values: &[Value], before: Vec<Unit>, mut after: Vec<Unit>, state: &State) -> Plan {
    let mut homes = fixed_homes(g, state);
    let constants = constants(g);
    for (node, offset) in &constants.0 {
        homes[*node] = Some((Region::CONSTANTS, offset / g.nodes[*node].ty.dtype.size()));
    }
    let late = place_updates(g, values, &before, &mut after, &mut homes);
    let before_guard = before.len();
    let mut units = before;
    units.append(&mut after);
    let mut arena = Arena::default();
    place_gradients(g, values, &units[before_guard..], &mut homes, &mut arena);
    let reserved = arena.end;
    let last = last_reads(g, values, &units, before_guard, &late);
    let mut taken = Vec::new();
    for (u, unit) in units.iter().enumerate() {
        let reads = reads(g, values, unit);
        for node in stored(unit, &last) {
            if homes[node].is_some() {
                continue;
            }
            let size = g.nodes[node].ty.dtype.size();
            let bytes = g.nodes[node].ty.bytes().next_multiple_of(ALIGN);
            let dying = |base: &usize| last[*base] == Some(u) && owned(&homes, *base, reserved, g);
            let in_place = matches!(unit, Unit::Tiles(_)).then(|| {
                let fits = |(base, x): &(usize, usize)| {
                    dying(base) && !taken.contains(base) && same_place(values, *x, node, &reads, *base)
                };
                reads.iter().copied().find(fits)
            });
            let offset = match in_place.flatten() {
                Some((base, _)) => {
                    taken.push(base);
                    homes[base].map_or(0, |(_, offset)| offset * size)
                }
                None => arena.take(bytes),
            };
            homes[node] = Some((Region::ARENA, offset / size));
        }
        // Memory of values that nobody reads after this call is free for the next one.
        let mut done: Vec<usize> = reads.iter().map(|(base, _)| *base).filter(|b| last[*b] == Some(u)).collect();
        done.extend(unit.nodes().iter().filter(|n| last[**n].is_none()));
        done.sort_unstable();
        done.dedup();
        for node in done.into_iter().filter(|n| !taken.contains(n)) {
            if let (true, Some((_, offset))) = (owned(&homes, node, reserved, g), homes[node]) {
                let ty = g.nodes[node].ty;
                arena.give(offset * ty.dtype.size(), ty.bytes().next_multiple_of(ALIGN));
            }
        }
        taken.clear();
    }
    Plan { units, before_guard, homes, late, constants, arena: arena.end }
}

/// Whether a node's memory is its own piece of the arena that may be used again (not the gradients' block).
fn owned(homes: &[Option<(Region, usize)>], node: usize, reserved: usize, g: &Inner) -> bool {
    let size = g.nodes[node].ty.dtype.size();
    homes[node].is_some_and(|(region, offset)| region == Region::ARENA && offset * size >= reserved)
        && g.nodes[node].ty.bytes() > 0
}

/// Whether `node` may be written exactly over what `x` reads, with every other read of that memory being the same view.
fn same_place(values: &[Value], x: usize, node: usize, reads: &[(usize, usize)], base: usize) -> bool {
    let whole = |view: &View| view.offset == 0 && *view == values[node].view;
    let of_base = reads.iter().filter(|(b, _)| *b == base);
    values[x].base == base
        && values[base].view.dtype == values[node].view.dtype
        && values[base].view.shape.count() == values[node].view.shape.count()
        && of_base.into_iter().all(|(_, x)| whole(&values[*x].view))
}

/// What a call reads from outside itself: (the node that owns the memory, the node whose view is read).
pub fn reads(g: &Inner, values: &[Value], unit: &Unit) -> Vec<(usize, usize)> {
    let inside = unit.nodes();
    let inputs = inside.iter().flat_map(|node| g.nodes[*node].inputs());
    let mut reads: Vec<(usize, usize)> = inputs
        .map(|x| (values[x.index()].base, x.index()))
        .filter(|(base, x)| base != x || !inside.contains(x))
        .collect();
    reads.sort_unstable();
    reads.dedup();
    reads
}

/// The nodes of a call whose values somebody reads later.
pub fn stored(unit: &Unit, last: &[Option<usize>]) -> Vec<usize> {
    let all = !matches!(unit, Unit::Tiles(_));
    unit.nodes().iter().copied().filter(|node| all || last[*node].is_some()).collect()
}

/// The last call that reads each node's memory; outputs are read after all calls.
pub fn last_reads(
    g: &Inner,
    values: &[Value],
    units: &[Unit],
    before_guard: usize,
    late: &[(usize, usize)],
) -> Vec<Option<usize>> {
    let mut last = vec![None; g.nodes.len()];
    for (u, unit) in units.iter().enumerate() {
        for (base, _) in reads(g, values, unit) {
            last[base] = Some(u);
        }
    }
    let mut keep = |node: usize, until: usize| {
        let base = values[node].base;
        last[base] = last[base].max(Some(until));
    };
    g.guards.iter().for_each(|(_, id)| keep(id.index(), before_guard));
    g.outputs.iter().for_each(|(_, id)| keep(id.index(), usize::MAX));
    g.updates.iter().for_each(|(_, id)| keep(id.index(), units.len()));
    late.iter().for_each(|(node, _)| keep(*node, usize::MAX));
    last
}

/// Inputs stand in the batch, entries in the state.
fn fixed_homes(g: &Inner, state: &State) -> Vec<Option<(Region, usize)>> {
    let (offsets, _) = batch::layout(&g.inputs);
    let home = |source: &Source| match source {
        Source::Input(i) => Some((Region::BATCH, offsets[*i] / g.inputs[*i].ty.dtype.size())),
        Source::State(i) => state.place(&g.entries[*i].name).map(|(p, _)| (Region::state(p.region), p.offset)),
        _ => None,
    };
    g.nodes.iter().map(|node| home(&node.source)).collect()
}

fn constants(g: &Inner) -> (Vec<(usize, usize)>, usize) {
    let mut at = 0;
    let mut places = Vec::new();
    for (i, node) in g.nodes.iter().enumerate().filter(|(_, n)| matches!(n.source, Source::Constant(_))) {
        places.push((i, at));
        at += node.ty.bytes().next_multiple_of(ALIGN);
    }
    (places, at)
}

/// New values go straight to their entries where nobody reads the old value afterwards. Gives back the others.
///
/// Calls that only write entries are put in the order of the state, so that neighbours can be joined into one pass.
fn place_updates(
    g: &Inner,
    values: &[Value],
    before: &[Unit],
    after: &mut [Unit],
    homes: &mut [Option<(Region, usize)>],
) -> Vec<(usize, usize)> {
    let mut entry_nodes = vec![None; g.entries.len()];
    for (i, node) in g.nodes.iter().enumerate() {
        if let Source::State(entry) = node.source {
            entry_nodes[entry] = Some(i);
        }
    }
    let entry_node = |entry: usize| entry_nodes[entry];
    let mut unit_of: BTreeMap<usize, usize> = BTreeMap::new();
    let mut last_read: BTreeMap<usize, usize> = BTreeMap::new();
    for (u, unit) in after.iter().enumerate() {
        unit.nodes().iter().for_each(|n| {
            unit_of.insert(*n, u);
        });
        reads(g, values, unit).iter().for_each(|(base, _)| {
            last_read.insert(*base, u);
        });
    }
    let early: std::collections::BTreeSet<usize> = before.iter().flat_map(|u| u.nodes()).copied().collect();
    let mut late = Vec::new();
    for (entry, value) in &g.updates {
        let node = value.index();
        let unit = unit_of.get(&node).copied().filter(|u| matches!(after[*u], Unit::Tiles(_)));
        let old = entry_node(*entry);
        let read_later = |u: usize| old.is_some_and(|old| last_read.get(&old).is_some_and(|last| *last > u));
        let home = old.and_then(|old| homes[old]);
        match (unit, home) {
            (Some(u), Some(home)) if homes[node].is_none() && !early.contains(&node) && !read_later(u) => {
                // The chain reads the old value only at the place it writes, never through another view.
                let strange = reads(g, values, &after[u]).iter().any(|(base, x)| Some(*base) == old && base != x);
                match strange {
                    false => homes[node] = Some(home),
                    true => late.push((node, *entry)),
                }
            }
            _ => late.push((node, *entry)),
        }
    }
    let computed: std::collections::BTreeSet<usize> = after.iter().flat_map(|u| u.nodes()).copied().collect();
    // Reordering must neither move a reader before its value nor a writer of an entry before its other readers.
    let writer: BTreeMap<usize, usize> = g
        .updates
        .iter()
        .filter_map(|(entry, value)| Some((entry_node(*entry)?, *unit_of.get(&value.index())?)))
        .collect();
    let independent = after.iter().enumerate().all(|(u, unit)| {
        let fine = |base: &usize| !computed.contains(base) && writer.get(base).is_none_or(|w| *w == u);
        matches!(unit, Unit::Tiles(_)) && reads(g, values, unit).iter().all(|(base, _)| fine(base))
    });
    if independent {
        let key = |unit: &Unit| unit.nodes().iter().rev().find_map(|n| homes[*n]).map(|(r, offset)| (r.0, offset));
        after.sort_by_key(key);
    }
    late
}

/// Gradients that an update reads stand side by side in the order of the state, so that clipping and updating are flat
/// passes over whole groups of parameters.
fn place_gradients(
    g: &Inner,
    values: &[Value],
    after: &[Unit],
    homes: &mut [Option<(Region, usize)>],
    arena: &mut Arena,
) {
    let mut wanted: BTreeMap<u16, Vec<(usize, usize)>> = BTreeMap::new();
    for unit in after {
        let target = unit.nodes().iter().rev().find_map(|n| homes[*n].map(|home| (*n, home)));
        let Some((node, (region, offset))) = target else { continue };
        for (base, x) in reads(g, values, unit) {
            let gradient = homes[base].is_none() && values[x].view == values[node].view;
            if gradient && g.nodes[base].ty.dtype == g.nodes[node].ty.dtype && values[base].view.is_contiguous() {
                wanted.entry(region.0).or_default().push((offset, base));
                break;
            }
        }
    }
    for places in wanted.values_mut() {
        places.sort_unstable();
        places.dedup_by_key(|(_, base)| *base);
        let (Some(first), Some(last)) = (places.first().copied(), places.last().copied()) else { continue };
        let size = g.nodes[first.1].ty.dtype.size();
        let bytes = (last.0 - first.0) * size + g.nodes[last.1].ty.bytes().next_multiple_of(ALIGN);
        let start = arena.reserve(bytes);
        for (offset, base) in places.iter() {
            if homes[*base].is_none() {
                homes[*base] = Some((Region::ARENA, start / size + offset - first.0));
            }
        }
    }
}

/// Free pieces of the arena by offset.
#[derive(Default)]
struct Arena {
    free: BTreeMap<usize, usize>,
    end: usize,
}

impl Arena {
    /// Memory that is never given back.
    fn reserve(&mut self, bytes: usize) -> usize {
        let at = self.end;
        self.end += bytes.next_multiple_of(ALIGN);
        at
    }

    /// The smallest free piece that is large enough, or new memory (growing the last piece where it is free).
    fn take(&mut self, bytes: usize) -> usize {
        let best = self.free.iter().filter(|(_, len)| **len >= bytes).min_by_key(|(at, len)| (**len, **at));
        if let Some((at, len)) = best.map(|(at, len)| (*at, *len)) {
            self.free.remove(&at);
            if len > bytes {
                self.free.insert(at + bytes, len - bytes);
            }
            return at;
        }
        let at = match self.free.last_key_value() {
            Some((at, len)) if at + len == self.end => *at,
            _ => self.end,
        };
        self.free.remove(&at);
        self.end = at + bytes;
        at
    }

    fn give(&mut self, mut at: usize, mut len: usize) {
        if let Some((before, size)) = self.free.range(..at).next_back().map(|(a, l)| (*a, *l))
            && before + size == at
        {
            self.free.remove(&before);
            (at, len) = (before, size + len);
        }
        if let Some(size) = self.free.remove(&(at + len)) {
            len += size;
        }
        self.free.insert(at, len);
    }
}
