//! Random graphs through the whole compiler; `geartrain gradcheck --graphs 20000` does the same for longer.

use std::collections::BTreeSet;

use geartrain_engine::check::check_graphs;
use geartrain_engine::ops::OPS;

#[test]
fn random_graphs_hold() {
    let totals = check_graphs(0, 500, |_| {});
    let told: Vec<String> = totals.failures.iter().map(ToString::to_string).collect();
    assert!(
        told.is_empty(),
        "{} of {} graphs fail:\n{}",
        told.len(),
        totals.graphs,
        told[..told.len().min(20)].join("\n")
    );
    println!(
        "{} nodes, {} learn, {} refereed forwards, worst {:.1e}, forwards {:.1e}, {} redrawn",
        totals.nodes, totals.learning, totals.refereed, totals.worst, totals.forward, totals.redrawn
    );
    // What is not drawn is not checked.
    let all: BTreeSet<&str> = OPS.iter().map(|op| op.name()).collect();
    let missing: Vec<&&str> = all.difference(&totals.ops).collect();
    assert!(missing.is_empty(), "operations that no graph has: {missing:?}");
    assert!(totals.learning > 250 && totals.refereed > 150, "{} learn, {} refereed", totals.learning, totals.refereed);
    assert!(totals.redrawn < 500, "{} graphs put aside", totals.redrawn);
}
