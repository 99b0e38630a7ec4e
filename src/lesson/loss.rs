//! How wrong is an answer? Cross-entropy, and why it takes the logarithm.

use geartrain_engine::{DType, Graph};

use super::compute::{between, given, known, values};
use super::number::{fixed, thousands};
use super::page::{Column, Format, column, plot, row};
use super::{Lesson, LessonError, Page};

/// One-hot targets, cross-entropy, and what is wrong with simpler losses.
pub static LESSON: Lesson =
    Lesson { name: "loss", title: "Loss: one number that says how wrong an answer is", network: None, write };

/// What the model can answer, and which answer is right.
const WORDS: [&str; 4] = ["Paris", "Berlin", "London", "Madrid"];
const RIGHT: usize = 0;

/// Three answers of a model: wrong, undecided, right.
const ANSWERS: [(&str, [f64; 4]); 3] =
    [("wrong", [0.1, 0.7, 0.15, 0.05]), ("undecided", [0.3, 0.3, 0.2, 0.2]), ("right", [0.9, 0.05, 0.03, 0.02])];

fn write(page: &mut Page) -> Result<(), LessonError> {
    answers(page)?;
    logarithm(page)?;
    squares(page)?;
    sequences(page)?;
    page.next(&["geartrain lesson descent", "geartrain explain cross_entropy"]);
    Ok(())
}

/// Cross-entropy of three answers through softmax, and its gradient.
fn answers(page: &mut Page) -> Result<(), LessonError> {
    let g = Graph::new();
    let p = known(&g, DType::F64, [3, 4], ANSWERS.map(|(_, p)| p).as_flattened());
    // The logarithms of probabilities are logits that softmax turns into these probabilities.
    let logits = g.parameter("logits", DType::F64, [3, 4], geartrain_engine::Init::ZEROS) + p.ln();
    let target = known(&g, DType::U32, [3], &[RIGHT as f64; 3]);
    let loss = logits.cross_entropy(target);
    let gradient = g.grad(loss.sum_all(), &[logits])?[0];
    g.output("p", logits.softmax());
    g.output("loss", loss);
    g.output("gradient", gradient);
    let mut one_hot = [0.0; 4];
    one_hot[RIGHT] = 1.0;
    let truth = known(&g, DType::F64, [1, 4], &one_hot);
    g.output("truth", truth);
    g.output("least loss", -(truth * truth).sum_all().ln());
    let v = values(&g, page)?;
    let (truth, least) = (v.list("truth")?, v.number("least loss")?);
    let (p, loss, gradient) = (v.list("p")?, v.list("loss")?, v.list("gradient")?);

    page.paragraph(&format!(
        "\"The capital of France is ...\": a model gives each word that it knows a probability, and the right one is \
         {}. Written the same way, the truth is a row with a single 1, called one-hot. The loss compares the two rows. \
         Cross-entropy is minus the sum of truth times ln(probability), and since the truth is 0 everywhere else, only \
         -ln p of the right word is left.",
        WORDS[RIGHT]
    ));
    let columns = beside_words("answer", column("loss = -ln p", Format::Fixed(4)));
    let rows = p.chunks(4).zip(&loss).zip(ANSWERS);
    let mut rows: Vec<_> = rows.map(|((p, loss), (name, _))| row![name, p[0], p[1], p[2], p[3], *loss]).collect();
    rows.push(row!["the truth", truth[0], truth[1], truth[2], truth[3], least]);
    page.table("answers", &columns, &rows);
    gradients(page, &gradient);
    Ok(())
}

/// A column of names, one for each word, and one more.
fn beside_words(names: &str, last: Column) -> Vec<Column> {
    let words = WORDS.iter().map(|word| column(*word, Format::Fixed(2)));
    [column(names, Format::Text)].into_iter().chain(words).chain([last]).collect()
}

/// The gradient of the loss by the logits of each answer.
fn gradients(page: &mut Page, gradient: &[f64]) {
    page.paragraph(
        "The model computes these probabilities by softmax from numbers called logits. How the loss changes with each \
         logit is the gradient, and for this pair of functions it is as simple as a gradient can be: probability minus \
         truth. It is negative where the logit should rise, and its entries add up to 0: what one word gains, the \
         others lose.",
    );
    let columns = beside_words("d loss / d logit", column("sum", Format::Fixed(2)));
    let rows = gradient.chunks(4).zip(ANSWERS);
    let rows: Vec<_> = rows.map(|(d, (name, _))| row![name, d[0], d[1], d[2], d[3], d.iter().sum::<f64>()]).collect();
    page.table("gradients", &columns, &rows);
}

/// -ln p beside 1 - p as p falls.
fn logarithm(page: &mut Page) -> Result<(), LessonError> {
    const P: [f64; 7] = [0.99, 0.9, 0.5, 0.1, 0.01, 0.001, 1e-6];
    let g = Graph::new();
    let p = given(&g, "p", [7], &P);
    let (log, plain) = (-p.ln(), 1.0 - p);
    g.output("log", log);
    g.output("plain", plain);
    g.output("d_log", g.grad(log.sum_all(), &[p])?[0]);
    g.output("d_plain", g.grad(plain.sum_all(), &[p])?[0]);
    let at = between(0.005, 1.0, 200);
    let curve = known(&g, DType::F64, [200], &at);
    g.output("curve", -curve.ln());
    g.output("line", 1.0 - curve);
    let v = values(&g, page)?;
    let (log, plain, d_log, d_plain) = (v.list("log")?, v.list("plain")?, v.list("d_log")?, v.list("d_plain")?);

    page.heading("Why the logarithm, and not simply 1 - p?");
    page.paragraph(
        "Both fall to 0 as p, the probability of the right word, goes to 1. They differ where the model is wrong. The \
         worst that 1 - p can say is 1, with the same slope everywhere. -ln p has no worst: ten times less probable \
         costs the same amount again and again, and its slope -1/p pulls the harder, the more wrong the model is.",
    );
    let columns = [
        column("p", Format::Plain),
        column("1 - p", Format::Digits(4)),
        column("slope of 1 - p", Format::Whole),
        column("-ln p", Format::Fixed(4)),
        column("slope of -ln p", Format::Digits(3)),
    ];
    let rows: Vec<_> = (0..P.len()).map(|i| row![P[i], plain[i], d_plain[i], log[i], d_log[i]]).collect();
    page.table("logarithm", &columns, &rows);
    let points = |y: Vec<f64>| at.iter().copied().zip(y).collect();
    let lines = vec![("-ln p", points(v.list("curve")?)), ("1 - p", points(v.list("line")?))];
    page.plots(&[plot("loss", "p", lines)], 9);
    Ok(())
}

/// What each loss tells the logit of the right word.
fn squares(page: &mut Page) -> Result<(), LessonError> {
    const P: [f64; 5] = [0.9, 0.5, 0.1, 0.01, 0.001];
    let g = Graph::new();
    let others = P.map(|p| [p, 1.0 - p]);
    let p = known(&g, DType::F64, [5, 2], others.as_flattened());
    let logits = g.parameter("logits", DType::F64, [5, 2], geartrain_engine::Init::ZEROS) + p.ln();
    let target = known(&g, DType::U32, [5], &[0.0; 5]);
    let truth = known(&g, DType::F64, [5, 2], [[1.0, 0.0]; 5].as_flattened());
    let probabilities = logits.softmax();
    let missed = truth - probabilities;
    let cross_entropy = logits.cross_entropy(target).sum_all();
    let squared = (missed.square().sum_all()) / 2.0;
    let plain = (missed * truth).sum_all();
    g.output("squares", missed.square().mean(1));
    for (name, loss) in [("cross-entropy", cross_entropy), ("squared", squared), ("plain", plain)] {
        g.output(name, g.grad(loss, &[logits])?[0].slice(1, 0, 1));
    }
    let v = values(&g, page)?;
    let (squares, ce, sq, plain) = (v.list("squares")?, v.list("cross-entropy")?, v.list("squared")?, v.list("plain")?);

    page.heading("Beside the mean squared error");
    page.paragraph(
        "What moves the weights is the gradient that reaches the logit of the right word. Here for two words, of which \
         the right one has probability p. Softmax adds its own slope, p · (1 - p), which is flat where the model is \
         sure of itself, and so weakens both other losses just where help is needed most: at p = 0.001 they hardly pull \
         at all. In cross-entropy its p cancels against the 1/p of the logarithm, and p - 1 is left. (A negative pull \
         raises the logit.)",
    );
    let columns = [
        column("p", Format::Plain),
        column("squared error", Format::Fixed(4)),
        column("its pull", Format::Fixed(4)),
        column("pull of 1 - p", Format::Fixed(4)),
        column("pull of -ln p", Format::Fixed(4)),
    ];
    let rows: Vec<_> = (0..P.len()).map(|i| row![P[i], squares[i], sq[i], plain[i], ce[i]]).collect();
    page.table("pulls", &columns, &rows);
    Ok(())
}

/// A product of probabilities against a sum of logarithms.
fn sequences(page: &mut Page) -> Result<(), LessonError> {
    const WORDS: [f64; 4] = [0.5, 0.4, 0.9, 0.2];
    const LONG: usize = 400;
    let g = Graph::new();
    let p: Vec<_> = (0..).zip(WORDS).map(|(i, p)| given(&g, &format!("p{i}"), [], &[p])).collect();
    let product = p.iter().skip(1).fold(p[0], |product, p| product * *p);
    let sum = p.iter().skip(1).fold(-p[0].ln(), |sum, p| sum - p.ln());
    let tenth = given(&g, "tenth", [], &[0.1]);
    let long = (1..LONG).fold(tenth, |product, _| product * tenth);
    g.output("product", product);
    g.output("sum", sum);
    g.output("mean", sum / WORDS.len() as f64);
    g.output("back", (-sum).exp());
    g.output("long product", long);
    g.output("long sum", (-tenth.ln()).broadcast_to([LONG]).sum_all());
    let v = values(&g, page)?;

    page.heading("A whole text: products become sums");
    page.paragraph(
        "The probability of a text is the product of the probabilities of its words. Such products soon become too \
         small for any floating-point number. Their logarithm is a sum, which stays handy, and which gradients pass \
         through term by term. Divided by the number of words it is the loss that training prints, in nats a token.",
    );
    let columns = [
        column("text", Format::Text),
        column("product of p", Format::Digits(4)),
        column("sum of -ln p", Format::Fixed(4)),
    ];
    let text = WORDS.map(|p| p.to_string()).join(", ");
    let rows = [
        row![text, v.number("product")?, v.number("sum")?],
        row![format!("0.1, {} times", thousands(LONG)), v.number("long product")?, v.number("long sum")?],
    ];
    page.table("texts", &columns, &rows);
    page.paragraph(&format!(
        "Back again: e to the power of -{} is {}. The mean of the first text is {} nats a token.",
        fixed(v.number("sum")?, 4),
        fixed(v.number("back")?, 4),
        fixed(v.number("mean")?, 4)
    ));
    Ok(())
}
