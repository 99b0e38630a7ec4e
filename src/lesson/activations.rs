//! Activation functions: their values, their slopes, and what happens without them.

use geartrain_engine::{DType, Graph, Init};
use geartrain_nn::Activation;

use super::compute::{between, given, known, values};
use super::number::digits_of;
use super::page::{Cell, Format, column, plot, row};
use super::{Lesson, LessonError, Page};

/// Sigmoid, tanh, ReLU, GELU in both forms, SiLU.
pub static LESSON: Lesson = Lesson {
    name: "activations",
    title: "Activations: the bend between the layers, and the slope it lets through",
    network: None,
    write,
};

const ALL: [(&str, Activation); 6] = [
    ("sigmoid", Activation::Sigmoid),
    ("tanh", Activation::Tanh),
    ("relu", Activation::Relu),
    ("gelu", Activation::Gelu),
    ("gelu (tanh)", Activation::GeluTanh),
    ("silu", Activation::Silu),
];

fn write(page: &mut Page) -> Result<(), LessonError> {
    page.paragraph(
        "Between two layers stands a function of one number, the activation. It bends the straight line that a layer \
         computes, and on the way back its slope multiplies the gradient, as a gear in the train.",
    );
    tables(page)?;
    saturation(page)?;
    vanishing(page)?;
    without(page)?;
    page.next(&["geartrain lesson initialisation", "geartrain explain sigmoid"]);
    Ok(())
}

/// Values and slopes at several points, and plots of four of them.
fn tables(page: &mut Page) -> Result<(), LessonError> {
    const AT: [f64; 9] = [-4.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 4.0];
    let g = Graph::new();
    let x = given(&g, "x", [AT.len()], &AT);
    let across = between(-4.0, 4.0, 160);
    let curve = known(&g, DType::F64, [across.len()], &across);
    for (name, activation) in ALL {
        let y = activation.forward(x);
        g.output(&format!("{name} value"), y);
        g.output(&format!("{name} slope"), g.grad(y.sum_all(), &[x])?[0]);
        g.output(&format!("{name} curve"), activation.forward(curve));
    }
    let v = values(&g, page)?;

    let mut columns = vec![column("x", Format::Plain)];
    columns.extend(ALL.map(|(name, _)| column(name, Format::Fixed(4))));
    for (what, table) in [("value", "values"), ("slope", "slopes")] {
        let mut lists = Vec::new();
        for (name, _) in ALL {
            lists.push(v.list(&format!("{name} {what}"))?);
        }
        let row = |i: usize| [Cell::from(AT[i])].into_iter().chain(lists.iter().map(move |l| Cell::from(l[i])));
        page.heading(if what == "value" { "Values" } else { "Slopes" });
        page.table(table, &columns, &(0..AT.len()).map(|i| row(i).collect()).collect::<Vec<_>>());
    }
    page.paragraph(
        "The two forms of GELU differ in the fourth digit; GPT-2 was trained with the second. ReLU has a corner at 0, \
         where the engine takes 0 as its slope. The curves:",
    );
    let points = |name: &str| -> Result<Vec<(f64, f64)>, LessonError> {
        Ok(across.iter().copied().zip(v.list(&format!("{name} curve"))?).collect())
    };
    page.plots(
        &[
            plot("y", "x", vec![("sigmoid", points("sigmoid")?), ("tanh", points("tanh")?)]),
            plot("y", "x", vec![("relu", points("relu")?), ("gelu", points("gelu")?)]),
        ],
        9,
    );
    Ok(())
}

/// The activations that the second half compares.
const THREE: [(&str, Activation); 3] = [ALL[0], ALL[1], ALL[2]];

/// Slopes far out.
fn saturation(page: &mut Page) -> Result<(), LessonError> {
    const FAR: [f64; 5] = [0.0, 2.0, 5.0, 10.0, 20.0];
    let g = Graph::new();
    let far = given(&g, "far", [FAR.len()], &FAR);
    for (name, activation) in THREE {
        g.output(name, g.grad(activation.forward(far).sum_all(), &[far])?[0]);
    }
    let v = values(&g, page)?;

    page.heading("Saturation: where the slope goes");
    page.paragraph(
        "Far from 0 the sigmoid and tanh are flat. A neuron that has got there hardly learns: whatever gradient \
         arrives is multiplied by almost nothing. (Where 0 stands for tanh, 1 - tanh² was too small for 53 bits.)",
    );
    let mut columns = vec![column("slope at", Format::Plain)];
    columns.extend(THREE.map(|(name, _)| column(name, Format::Digits(4))));
    let (sigmoid, tanh, relu) = (v.list("sigmoid")?, v.list("tanh")?, v.list("relu")?);
    let rows: Vec<_> = (0..FAR.len()).map(|i| row![FAR[i], sigmoid[i], tanh[i], relu[i]]).collect();
    page.table("saturation", &columns, &rows);
    Ok(())
}

/// The gradient that is left behind many layers.
fn vanishing(page: &mut Page) -> Result<(), LessonError> {
    const DEPTHS: [usize; 4] = [1, 3, 10, 30];
    let g = Graph::new();
    let (zero, one) = (given(&g, "zero", [], &[0.0]), given(&g, "one", [], &[1.0]));
    let steepest = g.grad(zero.sigmoid(), &[zero])?[0];
    for depth in DEPTHS {
        g.output(&format!("best {depth}"), (1..depth).fold(steepest, |product, _| product * steepest));
        for (name, activation) in THREE {
            let y = (0..depth).fold(one, |x, _| activation.forward(x));
            g.output(&format!("{name} {depth}"), g.grad(y, &[one])?[0]);
        }
    }
    let v = values(&g, page)?;

    page.paragraph(
        "Even at its best, in the middle, the sigmoid lets a quarter through. In a deep network these quarters \
         multiply: that is the second column. For the others a number runs through so many activations one after \
         another, starting at 1, and the table has the slope of the last output by the first input. This is the \
         vanishing gradient, and one reason why deep networks use ReLU, GELU and their relatives.",
    );
    let mut columns = vec![column("layers", Format::Whole), column("0.25 each", Format::Digits(4))];
    columns.extend(THREE.map(|(name, _)| column(name, Format::Digits(4))));
    let mut rows = Vec::new();
    for depth in DEPTHS {
        let slope = |name: &str| v.number(&format!("{name} {depth}"));
        rows.push(row![depth, slope("best")?, slope("sigmoid")?, slope("tanh")?, slope("relu")?]);
    }
    page.table("depth", &columns, &rows);
    Ok(())
}

/// Two linear layers are one.
fn without(page: &mut Page) -> Result<(), LessonError> {
    let g = Graph::new();
    let x = known(&g, DType::F64, [4, 2], &[0., 0., 0., 1., 1., 0., 1., 1.]);
    let w1 = g.parameter("W1", DType::F64, [2, 3], Init::Normal { std: 1.0 });
    let w2 = g.parameter("W2", DType::F64, [3, 1], Init::Normal { std: 1.0 });
    let merged = w1.matmul(w2);
    let two = x.matmul(w1).matmul(w2);
    let one = x.matmul(merged);
    let bent = x.matmul(w1).relu().matmul(w2);
    // f(0, 1) + f(1, 0) - f(0, 0) - f(1, 1), which is 0 for every plane.
    let signs = known(&g, DType::F64, [1, 4], &[-1.0, 1.0, 1.0, -1.0]);
    for (name, y) in [("two", two), ("one", one), ("bent", bent)] {
        g.output(name, y);
        g.output(&format!("{name} bend"), signs.matmul(y));
    }
    let v = values(&g, page)?;
    let (two, one, bent) = (v.list("two")?, v.list("one")?, v.list("bent")?);

    page.heading("Without an activation, two layers are one");
    page.paragraph(
        "(X @ W1) @ W2 is the same as X @ (W1 @ W2): two layers with nothing between them are a single layer, whose \
         matrix is the product. Here with random weights, W1 of shape (2, 3) and W2 of shape (3, 1), on the four inputs \
         of XOR, and for comparison with a ReLU between them:",
    );
    let columns = [
        column("input", Format::Text),
        column("X @ W1 @ W2", Format::Fixed(6)),
        column("X @ (W1 @ W2)", Format::Fixed(6)),
        column("relu(X @ W1) @ W2", Format::Fixed(6)),
    ];
    let inputs = ["[0 0]", "[0 1]", "[1 0]", "[1 1]"];
    let rows: Vec<_> = (0..4).map(|i| row![inputs[i], two[i], one[i], bent[i]]).collect();
    page.table("layers", &columns, &rows);
    let largest = two.iter().zip(&one).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    page.paragraph(&format!(
        "The first two columns differ by {} at most, which is rounding. A plane has to give [0 1] and [1 0] together as \
         much as [0 0] and [1 1] together, and XOR asks for 2 against 0. Without the activation the difference is {}; \
         with it, {}.",
        digits_of(largest, 2),
        digits_of(v.number("one bend")?, 2),
        digits_of(v.number("bent bend")?, 4)
    ));
    Ok(())
}
