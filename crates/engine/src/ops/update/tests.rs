use super::*;
use crate::ops::tests::{gradient, text};
use crate::{DType, Graph, Init};

#[test]
fn steps_print_as_formulas() {
    let g = Graph::new();
    let of = |name: &str| g.parameter(name, DType::F64, [3], Init::ZEROS);
    let (w, d, m, v) = (of("W"), of("d_W"), of("m"), of("v"));
    let [lr, c1, c2] = ["lr", "c1", "c2"].map(|name| g.scalar(name));
    assert_eq!(text(w.sgd(d, lr)), "W - lr * d_W");
    assert_eq!(text(m.momentum(d, 0.9)), "0.9 * m + d_W");
    assert_eq!(text(m.ema(d, 0.9)), "0.9 * m + (1 - 0.9) * d_W");
    assert_eq!(text(v.ema_square(d, 0.95)), "0.95 * v + (1 - 0.95) * d_W * d_W");
    let step = "lr / c1 * m / (sqrt(v) * (1 / sqrt(c2)) + 1e-8)";
    assert_eq!(text(w.adamw(m, v, [lr, c1, c2], 1e-8, 0.1)), format!("W * (1 - lr * 0.1) - {step}"));
    assert_eq!(text(w.adamw(m, v, [lr, c1, c2], 1e-8, 0.0)), format!("W - {step}"));
    assert_eq!(text(lr.clip_scale(1.0)), "minimum(1, 1 / (lr + 1e-6))");
}

#[test]
fn the_learning_rate_takes_the_dtype_of_the_parameter() {
    let g = Graph::new();
    let w = g.parameter("W", DType::F32, [3, 2], Init::ZEROS);
    let y = w.sgd(w, g.scalar("lr"));
    assert_eq!(y.ty(), w.ty());
    assert!(g.check().is_ok());
    assert!(w.sgd(w.cast(DType::F64), g.scalar("lr")).is_poison());
}

#[test]
fn derivatives_come_from_the_definitions() {
    let g = Graph::new();
    let of = |name: &str| g.parameter(name, DType::F64, [3], Init::ZEROS);
    let (w, d, lr) = (of("W"), of("g"), of("lr"));
    let y = w.sgd(d, lr).named("y");
    assert_eq!(g.node(gradient(y, w).id()).name.as_deref(), Some("d_y"));
    assert_eq!(text(gradient(y, d)), "-d_y * lr");
    assert_eq!(text(gradient(d.ema(w, 0.5).named("z"), w)), "d_z * 0.5");
    assert_eq!(text(gradient(lr.clip_scale(1.0).named("s"), lr)), "-(d_s * s / (lr + 0.000001)) * (s < 1)");
}

/// One step of `torch.optim.AdamW(lr=0.1, betas=(0.9, 0.95), weight_decay=0.1)` from zero moments moves a parameter by
/// nearly the learning rate, whatever its gradient is.
#[test]
fn the_first_step_of_adamw() {
    for g in [-3.0, 0.01, 2.0] {
        let m = Ema::map(&[0.9, 0.0, 0.0, 0.0], [0.0, g]);
        let v = EmaSquare::map(&[0.95, 0.0, 0.0, 0.0], [0.0, g]);
        let y = AdamW::map(&[1e-8, 0.1, 0.0, 0.0], [1.0, m, v, 0.1, 0.1 / (1.0 - 0.9), (1.0 - 0.95_f64).powf(-0.5)]);
        assert!((y - (0.99 - 0.1 * f64::signum(g))).abs() < 1e-6);
    }
}

#[test]
fn kernels_and_referees_agree_in_f64() {
    let number = |i: usize| 0.1 + ((i * 37) % 89) as f64 / 100.0;
    for i in 0..200 {
        let x: [f64; 6] = std::array::from_fn(|k| number(i * 6 + k));
        let [a, b, c, ..] = x;
        let near = |y: f64, reference: f64| assert!((y - reference).abs() < 1e-14, "{y} {reference}");
        near(Sgd::map(&[0.0; 4], [a, b, c]), Pointwise::reference(&Sgd, [a, b, c]));
        let (momentum, ema, square) = (Momentum::EXAMPLE, Ema::EXAMPLE, EmaSquare::EXAMPLE);
        near(Momentum::map(&momentum.params(), [a, b]), Pointwise::reference(&momentum, [a, b]));
        near(Ema::map(&ema.params(), [a, b]), Pointwise::reference(&ema, [a, b]));
        near(EmaSquare::map(&square.params(), [a, b]), Pointwise::reference(&square, [a, b]));
        let (adamw, clip) = (AdamW::EXAMPLE, ClipScale { max: 0.5 });
        near(AdamW::map(&adamw.params(), x), Pointwise::reference(&adamw, x));
        near(ClipScale::map(&clip.params(), [a]), Pointwise::reference(&clip, [a]));
    }
    assert!(ClipScale::map(&[1.0; 4], [f64::NAN]).is_nan());
}
