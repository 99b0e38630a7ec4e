//! Full training steps with burn on its `flex` CPU backend: `burn-peer W1|W2|W3|W6|W7 SECONDS` prints one JSON row.
//! Shapes by RECIPE.md; initial values are burn's own. Threads: RAYON_NUM_THREADS.
#![allow(deprecated)]
#![recursion_limit = "256"]
use burn::module::Module;
use burn::nn::loss::{CrossEntropyLossConfig, MseLoss, Reduction};
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::optim::{AdamWConfig, GradientsParams, SgdConfig};
use burn::tensor::{Bool, Device, Int, Tensor, TensorData, activation};
use std::time::Instant;

#[derive(Module, Debug)]
struct Mlp {
    l: Vec<Linear>,
}
impl Mlp {
    fn new(d: &[usize], dev: &Device) -> Self {
        Mlp { l: d.windows(2).map(|w| LinearConfig::new(w[0], w[1]).init(dev)).collect() }
    }
}

#[derive(Module, Debug)]
struct Block {
    ln1: LayerNorm,
    qkv: Linear,
    proj: Linear,
    ln2: LayerNorm,
    up: Linear,
    down: Linear,
}
#[derive(Module, Debug)]
struct Gpt {
    tok: Embedding,
    pos: Embedding,
    blocks: Vec<Block>,
    lnf: LayerNorm,
    head: Linear,
}
#[derive(Clone, Copy)]
struct Cfg {
    l: usize,
    h: usize,
    c: usize,
    t: usize,
    b: usize,
    v: usize,
}

impl Gpt {
    fn new(k: Cfg, dev: &Device) -> Self {
        let lin = |i, o| LinearConfig::new(i, o).init(dev);
        Gpt {
            tok: EmbeddingConfig::new(k.v, k.c).init(dev),
            pos: EmbeddingConfig::new(k.t, k.c).init(dev),
            blocks: (0..k.l)
                .map(|_| Block {
                    ln1: LayerNormConfig::new(k.c).init(dev),
                    qkv: lin(k.c, 3 * k.c),
                    proj: lin(k.c, k.c),
                    ln2: LayerNormConfig::new(k.c).init(dev),
                    up: lin(k.c, 4 * k.c),
                    down: lin(4 * k.c, k.c),
                })
                .collect(),
            lnf: LayerNormConfig::new(k.c).init(dev),
            head: LinearConfig::new(k.c, k.v).with_bias(false).init(dev),
        }
    }
    fn forward(&self, k: Cfg, idx: Tensor<2, Int>, pos: Tensor<2, Int>, mask: Tensor<4, Bool>) -> Tensor<2> {
        let mut x = self.tok.forward(idx) + self.pos.forward(pos);
        let hd = k.c / k.h;
        for b in &self.blocks {
            let qkv = b.qkv.forward(b.ln1.forward(x.clone()));
            let part = |i: usize| {
                qkv.clone().slice([0..k.b, 0..k.t, i * k.c..(i + 1) * k.c]).reshape([k.b, k.t, k.h, hd]).swap_dims(1, 2)
            };
            let (q, kk, v) = (part(0), part(1), part(2));
            let s = q.matmul(kk.transpose()).mul_scalar(1.0 / (hd as f32).sqrt()).mask_fill(mask.clone(), -1e9f32);
            let y = activation::softmax(s, 3).matmul(v).swap_dims(1, 2).reshape([k.b, k.t, k.c]);
            x = x + b.proj.forward(y);
            let h = b.down.forward(activation::gelu(b.up.forward(b.ln2.forward(x.clone()))));
            x = x + h;
        }
        self.head.forward(self.lnf.forward(x)).reshape([k.b * k.t, k.v])
    }
}

/// Runs `step` for some seconds and prints its times in microseconds.
fn timed(secs: f64, mut step: impl FnMut(bool) -> Option<f32>) {
    let first = step(true).unwrap();
    let t0 = Instant::now();
    let mut n = 0;
    while t0.elapsed().as_secs_f64() < secs * 0.3 || n < 3 {
        step(false);
        n += 1;
    }
    let batch = if t0.elapsed().as_secs_f64() / (n as f64) < 2e-4 { 20 } else { 1 };
    let mut v = vec![];
    let t0 = Instant::now();
    while t0.elapsed().as_secs_f64() < secs || v.len() < 5 {
        let t = Instant::now();
        for _ in 0..batch {
            step(false);
        }
        v.push(t.elapsed().as_secs_f64() * 1e6 / batch as f64);
    }
    v.sort_by(|a, b| a.total_cmp(b));
    let last = step(true).unwrap();
    println!(
        "{{\"median_us\": {}, \"min_us\": {}, \"first_loss\": {first}, \"last_loss\": {last}}}",
        v[v.len() / 2],
        v[0]
    );
}

fn main() {
    let mut args = std::env::args().skip(1);
    let workload = args.next().expect("usage: WORKLOAD SECONDS");
    let secs: f64 = args.next().and_then(|s| s.parse().ok()).expect("usage: WORKLOAD SECONDS");
    let dev = Device::flex().autodiff();
    dev.seed(42);
    let rnd = |n: usize, seed: u32| {
        let mut s = seed;
        (0..n)
            .map(|_| {
                s = s.wrapping_mul(1664525).wrapping_add(1013904223);
                (s >> 8) as f32 / (1 << 24) as f32 - 0.5
            })
            .collect::<Vec<f32>>()
    };
    {
        match workload.as_str() {
            "W1" => {
                let x = Tensor::<2>::from_floats([[0., 0.], [0., 1.], [1., 0.], [1., 1.]], &dev);
                let y = Tensor::<2>::from_floats([[0.], [1.], [1.], [0.]], &dev);
                let mut m = Some(Mlp::new(&[2, 4, 1], &dev));
                let mut opt = SgdConfig::new().init();
                timed(secs, |r| {
                    let mm = m.take().unwrap();
                    let o = activation::sigmoid(mm.l[1].forward(activation::sigmoid(mm.l[0].forward(x.clone()))));
                    let loss = MseLoss::new().forward(o, y.clone(), Reduction::Mean);
                    let g = GradientsParams::from_grads(loss.backward(), &mm);
                    m = Some(opt.step(0.5, mm, g));
                    r.then(|| loss.into_scalar::<f32>())
                });
            }
            "W2" => {
                let mut e = vec![0f32; 20];
                for i in 0..4 {
                    e[i * 5 + i] = 1.0;
                }
                let x = Tensor::<2>::from_data(TensorData::new(e, [4, 5]), &dev);
                let y = Tensor::<1, Int>::from_ints([1, 2, 3, 4], &dev);
                let ce = CrossEntropyLossConfig::new().init(&dev);
                let mut m = Some(Mlp::new(&[5, 16, 5], &dev));
                let mut opt = SgdConfig::new().init();
                timed(secs, |r| {
                    let mm = m.take().unwrap();
                    let o = mm.l[1].forward(activation::gelu(mm.l[0].forward(x.clone())));
                    let loss = ce.forward(o, y.clone());
                    let g = GradientsParams::from_grads(loss.backward(), &mm);
                    m = Some(opt.step(0.3, mm, g));
                    r.then(|| loss.into_scalar::<f32>())
                });
            }
            "W3" => {
                let x = Tensor::<2>::from_data(TensorData::new(rnd(128 * 784, 1), [128, 784]), &dev);
                let y = Tensor::<1, Int>::from_data(
                    TensorData::new((0..128).map(|i| (i * 7 % 10) as i32).collect::<Vec<_>>(), [128]),
                    &dev,
                );
                let ce = CrossEntropyLossConfig::new().init(&dev);
                let mut m = Some(Mlp::new(&[784, 512, 256, 10], &dev));
                let mut opt = AdamWConfig::new().with_weight_decay(0.01).with_epsilon(1e-8).init();
                timed(secs, |r| {
                    let mm = m.take().unwrap();
                    let h = activation::relu(mm.l[0].forward(x.clone()));
                    let h = activation::relu(mm.l[1].forward(h));
                    let loss = ce.forward(mm.l[2].forward(h), y.clone());
                    let g = GradientsParams::from_grads(loss.backward(), &mm);
                    m = Some(opt.step(1e-3, mm, g));
                    r.then(|| loss.into_scalar::<f32>())
                });
            }
            "W6" | "W7" => {
                let k = if workload == "W6" {
                    Cfg { l: 4, h: 4, c: 128, t: 64, b: 12, v: 65 }
                } else {
                    Cfg { l: 6, h: 6, c: 384, t: 256, b: 4, v: 65 }
                };
                let ids: Vec<i32> = (0..k.b * k.t + 1).map(|i| ((i * 2654435761usize >> 7) % 65) as i32).collect();
                let x = Tensor::<2, Int>::from_data(TensorData::new(ids[..k.b * k.t].to_vec(), [k.b, k.t]), &dev);
                let y = Tensor::<1, Int>::from_data(TensorData::new(ids[1..].to_vec(), [k.b * k.t]), &dev);
                let pos =
                    Tensor::<2, Int>::from_data(TensorData::new((0..k.t as i32).collect::<Vec<_>>(), [1, k.t]), &dev);
                // triu/tril convention differs between versions: build the "future" mask from data
                let fm: Vec<bool> = (0..k.t * k.t).map(|i| i % k.t > i / k.t).collect();
                let mask = Tensor::<2, Bool>::from_data(TensorData::new(fm, [k.t, k.t]), &dev)
                    .unsqueeze::<4>()
                    .expand([k.b, k.h, k.t, k.t]);
                let ce = CrossEntropyLossConfig::new().init(&dev);
                let mut m = Some(Gpt::new(k, &dev));
                let mut opt = AdamWConfig::new().with_weight_decay(0.1).with_epsilon(1e-8).init();
                timed(secs, |r| {
                    let mm = m.take().unwrap();
                    let loss = ce.forward(mm.forward(k, x.clone(), pos.clone(), mask.clone()), y.clone());
                    let g = GradientsParams::from_grads(loss.backward(), &mm);
                    m = Some(opt.step(1e-3, mm, g));
                    r.then(|| loss.into_scalar::<f32>())
                });
            }
            x => {
                eprintln!("no workload {x}");
                std::process::exit(2);
            }
        }
    }
}
