//! Lifetimes to offsets: where every value stands.

use std::collections::BTreeMap;

use geartrain_kernels::{Region, View};

use crate::compile::arena::{ALIGN, Arena};
use crate::compile::fuse::Unit;
use crate::compile::layout::{self, Value};
use crate::ir::graph::{Inner, Source};
use crate::ir::op::Kernel;
use crate::run::batch;
use crate::state::State;

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
    /// The most bytes that values take at one call: what a perfect plan for this order of calls would need.
    pub live: usize,
}

/// Plans the calls `before` and `after` the guard.
pub fn plan(g: &Inner, values: &[Value], before: Vec<Unit>, mut after: Vec<Unit>, state: &State) -> Plan {
    let mut homes = fixed_homes(g, state);
    let constants = constants(g);
    for (node, offset) in &constants.0 {
        homes[*node] = Some((Region::CONSTANTS, offset / g.nodes[*node].ty.dtype.size()));
    }
    let late = place_updates(g, values, &before, &mut after, &mut homes, state);
    let before_guard = before.len();
    let mut units = before;
    units.append(&mut after);
    let last = last_reads(g, values, &units, before_guard, &late);
    let mut arena = Arena::default();
    let gradients = place_gradients(g, values, (&units, before_guard), &last, &mut homes, &mut arena);
    let bytes = |node: usize| g.nodes[node].ty.bytes().next_multiple_of(ALIGN);
    for (u, unit) in units.iter().enumerate() {
        let reads = reads(g, values, unit);
        let mut taken = Vec::new();
        for node in stored(g, values, unit, &last).into_iter().map(|node| values[node].base) {
            let (size, until) = (g.nodes[node].ty.dtype.size(), last[node].unwrap_or(u));
            // The first part of a concatenation to be computed brings memory for all of it.
            if let Some((_, offset)) = homes[node] {
                if gradients[node] {
                    arena.take_claimed(offset * size);
                }
                continue;
            }
            let in_place = in_place(g, unit).then(|| {
                let fits = |(base, x): &(usize, usize)| {
                    last[*base] == Some(u)
                        && owned(&homes, *base, &gradients, g)
                        && !taken.contains(base)
                        && same_place(values, *x, node, &reads, *base)
                        && homes[*base].is_some_and(|(_, at)| arena.allows(at * size, bytes(*base), until))
                };
                reads.iter().copied().find(fits)
            });
            let offset = match in_place.flatten() {
                Some((base, _)) => {
                    taken.push(base);
                    homes[base].map_or(0, |(_, offset)| offset * size)
                }
                None => arena.take(bytes(node), until),
            };
            homes[node] = Some((Region::ARENA, offset / size));
        }
        // Memory of values that nobody reads after this call is free for the next one.
        let mut done: Vec<usize> = reads.iter().map(|(base, _)| *base).filter(|b| last[*b] == Some(u)).collect();
        done.extend(unit.nodes().iter().filter(|n| values[**n].base == **n && last[**n].is_none()));
        done.sort_unstable();
        done.dedup();
        for node in done.into_iter().filter(|n| !taken.contains(n)) {
            if let (true, Some((_, offset))) = (owned(&homes, node, &gradients, g), homes[node]) {
                arena.give(offset * g.nodes[node].ty.dtype.size(), bytes(node));
            }
        }
    }
    Plan { units, before_guard, homes, late, constants, arena: arena.bytes(), live: arena.most }
}

/// Whether what a call computes may replace one of the values that it reads.
fn in_place(g: &Inner, unit: &Unit) -> bool {
    match unit {
        Unit::Tiles(_) => true,
        Unit::Call(node) => {
            matches!(layout::kernel(g, &g.nodes[*node]), Some(Kernel::Call(routine)) if routine.in_place())
        }
        Unit::Product(..) | Unit::Copy(_) => false,
    }
}

/// Whether a node's memory is a piece of the arena that may be used again (not that of a gradient).
fn owned(homes: &[Option<(Region, usize)>], node: usize, gradients: &[bool], g: &Inner) -> bool {
    let in_arena = homes[node].is_some_and(|(region, _)| region == Region::ARENA);
    in_arena && !gradients[node] && g.nodes[node].ty.bytes() > 0
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
        .filter(|(_, x)| values[*x].from != *x || !inside.contains(x))
        .collect();
    reads.sort_unstable();
    reads.dedup();
    reads
}

/// The nodes of a call whose values are put into memory: those that somebody reads later, and at least one of the type
/// of the product, which goes to its place first.
pub fn stored(g: &Inner, values: &[Value], unit: &Unit, last: &[Option<usize>]) -> Vec<usize> {
    let read = |node: &usize| last[values[*node].base].is_some();
    match unit {
        Unit::Call(node) | Unit::Copy(node) => vec![*node],
        Unit::Tiles(nodes) => nodes.iter().copied().filter(read).collect(),
        Unit::Product(product, nodes) => {
            let room = |node: &usize| g.nodes[*node].ty == g.nodes[*product].ty && values[*node].base == *node;
            let keep = !nodes.iter().any(|node| read(node) && room(node));
            nodes.iter().copied().filter(|node| read(node) || (keep && node == product)).collect()
        }
    }
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
        Source::State(i) => entry_home(state, &g.entries[*i].name),
        _ => None,
    };
    g.nodes.iter().map(|node| home(&node.source)).collect()
}

fn entry_home(state: &State, name: &str) -> Option<(Region, usize)> {
    state.place(name).map(|(place, _)| (Region::state(place.region), place.offset))
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
    state: &State,
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
        // An entry that nobody reads has no node.
        let home = entry_home(state, &g.entries[*entry].name);
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
    sort_writers(g, values, after, homes);
    late
}

/// Puts the calls that write entries behind the others and in the order of the state, if no order is needed among them:
/// then neighbours can be joined into one pass.
fn sort_writers(g: &Inner, values: &[Value], after: &mut [Unit], homes: &[Option<(Region, usize)>]) {
    // An entry without elements stands where the next one begins: nothing is written there.
    let entry =
        |node: &usize| homes[*node].filter(|(region, _)| *region >= Region::state(0) && g.nodes[*node].ty.bytes() > 0);
    let written = |unit: &Unit| unit.nodes().iter().rev().find_map(entry).map(|(r, offset)| (r.0, offset));
    // The calls that compute a value or write the place it stands at.
    let mut writer_of: BTreeMap<usize, usize> = BTreeMap::new();
    let mut place_of: BTreeMap<(u16, usize), usize> = BTreeMap::new();
    for (u, unit) in after.iter().enumerate().filter(|(_, unit)| written(unit).is_some()) {
        for node in unit.nodes() {
            writer_of.insert(*node, u);
            entry(node).map(|(region, offset)| place_of.insert((region.0, offset), u));
        }
    }
    let free = after.iter().enumerate().all(|(u, unit)| {
        let writes = written(unit).is_some();
        let fine = |base: &usize| {
            let computed = writer_of.get(base).copied();
            let place = homes[*base].and_then(|(region, offset)| place_of.get(&(region.0, offset)).copied());
            // Nobody reads what another writer computes, and no writer an old value that another one replaces; those
            // that come first read old values.
            computed.is_none_or(|w| w == u) && (!writes || place.is_none_or(|w| w == u))
        };
        (!writes || matches!(unit, Unit::Tiles(_))) && reads(g, values, unit).iter().all(|(base, _)| fine(base))
    });
    if free {
        after.sort_by_key(written);
    }
}

/// Gradients that an update reads stand side by side in the order of the state, so that clipping and updating are flat
/// passes over whole groups of parameters. Says which nodes they are.
fn place_gradients(
    g: &Inner,
    values: &[Value],
    (units, before_guard): (&[Unit], usize),
    last: &[Option<usize>],
    homes: &mut [Option<(Region, usize)>],
    arena: &mut Arena,
) -> Vec<bool> {
    let mut wanted: BTreeMap<u16, Vec<(usize, usize)>> = BTreeMap::new();
    for unit in &units[before_guard..] {
        let target = unit.nodes().iter().rev().find_map(|n| homes[*n].map(|home| (*n, home)));
        let Some((node, (region, offset))) = target else { continue };
        for (base, x) in reads(g, values, unit) {
            // A part of something larger stays there.
            let whole = values[base].view.shape.count() == values[node].view.shape.count();
            // An entry without elements stands where the next one begins: its gradient needs no place.
            let gradient =
                homes[base].is_none() && whole && values[x].view == values[node].view && g.nodes[base].ty.bytes() > 0;
            if gradient && g.nodes[base].ty.dtype == g.nodes[node].ty.dtype && values[base].view.is_contiguous() {
                wanted.entry(region.0).or_default().push((offset, base));
                break;
            }
        }
    }
    let mut born: BTreeMap<usize, usize> = BTreeMap::new();
    for (u, unit) in units.iter().enumerate() {
        stored(g, values, unit, last).into_iter().for_each(|node| {
            born.entry(values[node].base).or_insert(u);
        });
    }
    let mut placed = vec![false; g.nodes.len()];
    for places in wanted.values_mut() {
        places.sort_unstable();
        places.dedup_by_key(|(_, base)| *base);
        let (Some(first), Some(last)) = (places.first().copied(), places.last().copied()) else { continue };
        let size = g.nodes[first.1].ty.dtype.size();
        let bytes = |base: usize| g.nodes[base].ty.bytes().next_multiple_of(ALIGN);
        let start = arena.reserve((last.0 - first.0) * size + bytes(last.1));
        for (offset, base) in places.iter() {
            if homes[*base].is_none() {
                let at = start + (offset - first.0) * size;
                homes[*base] = Some((Region::ARENA, at / size));
                placed[*base] = true;
                arena.claim(at, bytes(*base), born.get(base).copied().unwrap_or(0));
            }
        }
    }
    placed
}
