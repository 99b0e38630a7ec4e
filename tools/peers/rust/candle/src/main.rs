//! Full training steps with candle: `candle-peer W1|W2|W3|W6|W7 SECONDS` prints one JSON row. Shapes by RECIPE.md;
//! initial values are candle's own. Threads: RAYON_NUM_THREADS.
use candle_core::{D, DType, Device, Module, Result, Tensor};
use candle_nn::{
    AdamW, Embedding, Linear, Optimizer, ParamsAdamW, VarBuilder, VarMap, embedding, linear, linear_no_bias, loss, ops,
    optim,
};
use std::time::Instant;

fn timed(secs: f64, mut step: impl FnMut(bool) -> Result<Option<f32>>) -> Result<()> {
    let first = step(true)?.unwrap();
    let t0 = Instant::now();
    let mut n = 0;
    while t0.elapsed().as_secs_f64() < secs * 0.3 || n < 3 {
        step(false)?;
        n += 1;
    }
    let batch = if t0.elapsed().as_secs_f64() / (n as f64) < 2e-4 { 20 } else { 1 };
    let mut v = vec![];
    let t0 = Instant::now();
    while t0.elapsed().as_secs_f64() < secs || v.len() < 5 {
        let t = Instant::now();
        for _ in 0..batch {
            step(false)?;
        }
        v.push(t.elapsed().as_secs_f64() * 1e6 / batch as f64);
    }
    v.sort_by(|a, b| a.total_cmp(b));
    let last = step(true)?.unwrap();
    println!(
        "{{\"median_us\": {}, \"min_us\": {}, \"first_loss\": {first}, \"last_loss\": {last}}}",
        v[v.len() / 2],
        v[0]
    );
    Ok(())
}
struct Ln {
    g: Tensor,
    b: Tensor,
}
impl Ln {
    fn new(c: usize, vb: VarBuilder) -> Result<Self> {
        Ok(Ln {
            g: vb.get_with_hints(c, "weight", candle_nn::Init::Const(1.0))?,
            b: vb.get_with_hints(c, "bias", candle_nn::Init::Const(0.0))?,
        })
    }
    // the fused layer_norm has no backward; the slow one is the differentiable path
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::layer_norm_slow(x, &self.g, &self.b, 1e-5)
    }
}
struct Block {
    ln1: Ln,
    qkv: Linear,
    proj: Linear,
    ln2: Ln,
    up: Linear,
    down: Linear,
}
struct Gpt {
    tok: Embedding,
    pos: Embedding,
    blocks: Vec<Block>,
    lnf: Ln,
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
    fn new(k: Cfg, vb: VarBuilder) -> Result<Self> {
        Ok(Gpt {
            tok: embedding(k.v, k.c, vb.pp("tok"))?,
            pos: embedding(k.t, k.c, vb.pp("pos"))?,
            blocks: (0..k.l)
                .map(|i| {
                    let v = vb.pp(format!("b{i}"));
                    Ok(Block {
                        ln1: Ln::new(k.c, v.pp("ln1"))?,
                        qkv: linear(k.c, 3 * k.c, v.pp("qkv"))?,
                        proj: linear(k.c, k.c, v.pp("proj"))?,
                        ln2: Ln::new(k.c, v.pp("ln2"))?,
                        up: linear(k.c, 4 * k.c, v.pp("up"))?,
                        down: linear(4 * k.c, k.c, v.pp("down"))?,
                    })
                })
                .collect::<Result<_>>()?,
            lnf: Ln::new(k.c, vb.pp("lnf"))?,
            head: linear_no_bias(k.c, k.v, vb.pp("head"))?,
        })
    }
    fn forward(&self, k: Cfg, idx: &Tensor, pos: &Tensor, bias: &Tensor) -> Result<Tensor> {
        let mut x = self.tok.forward(idx)?.broadcast_add(&self.pos.forward(pos)?)?;
        let hd = k.c / k.h;
        for b in &self.blocks {
            let qkv = b.qkv.forward(&b.ln1.forward(&x)?)?;
            let part = |i: usize| -> Result<Tensor> {
                qkv.narrow(2, i * k.c, k.c)?.reshape((k.b, k.t, k.h, hd))?.transpose(1, 2)?.contiguous()
            };
            let (q, kk, v) = (part(0)?, part(1)?, part(2)?);
            let s = (q.matmul(&kk.t()?)? * (1.0 / (hd as f64).sqrt()))?.broadcast_add(bias)?;
            let y = ops::softmax(&s, D::Minus1)?.matmul(&v)?.transpose(1, 2)?.reshape((k.b, k.t, k.c))?;
            x = (x + b.proj.forward(&y)?)?;
            let h = b.down.forward(&b.up.forward(&b.ln2.forward(&x)?)?.gelu_erf()?)?;
            x = (x + h)?;
        }
        self.head.forward(&self.lnf.forward(&x)?)?.reshape((k.b * k.t, k.v))
    }
}
fn main() -> Result<()> {
    let dev = Device::Cpu;
    let rnd = |n: usize, seed: u32| {
        let mut s = seed;
        (0..n)
            .map(|_| {
                s = s.wrapping_mul(1664525).wrapping_add(1013904223);
                (s >> 8) as f32 / (1 << 24) as f32 - 0.5
            })
            .collect::<Vec<f32>>()
    };
    let mut args = std::env::args().skip(1);
    let workload = args.next().expect("usage: WORKLOAD SECONDS");
    let secs: f64 = args.next().and_then(|s| s.parse().ok()).expect("usage: WORKLOAD SECONDS");
    {
        let vm = VarMap::new();
        let vb = VarBuilder::from_varmap(&vm, DType::F32, &dev);
        match workload.as_str() {
            "W1" => {
                let x = Tensor::new(&[[0f32, 0.], [0., 1.], [1., 0.], [1., 1.]], &dev)?;
                let y = Tensor::new(&[[0f32], [1.], [1.], [0.]], &dev)?;
                let (a, b) = (linear(2, 4, vb.pp("a"))?, linear(4, 1, vb.pp("b"))?);
                let mut o = optim::SGD::new(vm.all_vars(), 0.5)?;
                timed(secs, |r| {
                    let p = ops::sigmoid(&b.forward(&ops::sigmoid(&a.forward(&x)?)?)?)?;
                    let l = loss::mse(&p, &y)?;
                    o.backward_step(&l)?;
                    if r { Ok(Some(l.to_scalar()?)) } else { Ok(None) }
                })?;
            }
            "W2" => {
                let mut e = vec![0f32; 20];
                for i in 0..4 {
                    e[i * 5 + i] = 1.0;
                }
                let x = Tensor::from_vec(e, (4, 5), &dev)?;
                let y = Tensor::new(&[1u32, 2, 3, 4], &dev)?;
                let (a, b) = (linear(5, 16, vb.pp("a"))?, linear(16, 5, vb.pp("b"))?);
                let mut o = optim::SGD::new(vm.all_vars(), 0.3)?;
                timed(secs, |r| {
                    let l = loss::cross_entropy(&b.forward(&a.forward(&x)?.gelu_erf()?)?, &y)?;
                    o.backward_step(&l)?;
                    if r { Ok(Some(l.to_scalar()?)) } else { Ok(None) }
                })?;
            }
            "W3" => {
                let x = Tensor::from_vec(rnd(128 * 784, 1), (128, 784), &dev)?;
                let y = Tensor::from_vec((0..128u32).map(|i| i * 7 % 10).collect::<Vec<_>>(), 128, &dev)?;
                let (a, b, c) =
                    (linear(784, 512, vb.pp("a"))?, linear(512, 256, vb.pp("b"))?, linear(256, 10, vb.pp("c"))?);
                let mut o = AdamW::new(vm.all_vars(), ParamsAdamW { lr: 1e-3, ..Default::default() })?;
                timed(secs, |r| {
                    let l = loss::cross_entropy(&c.forward(&b.forward(&a.forward(&x)?.relu()?)?.relu()?)?, &y)?;
                    o.backward_step(&l)?;
                    if r { Ok(Some(l.to_scalar()?)) } else { Ok(None) }
                })?;
            }
            "W6" | "W7" => {
                let k = if workload == "W6" {
                    Cfg { l: 4, h: 4, c: 128, t: 64, b: 12, v: 65 }
                } else {
                    Cfg { l: 6, h: 6, c: 384, t: 256, b: 4, v: 65 }
                };
                let ids: Vec<u32> = (0..k.b * k.t + 1).map(|i| ((i * 2654435761usize >> 7) % 65) as u32).collect();
                let x = Tensor::from_vec(ids[..k.b * k.t].to_vec(), (k.b, k.t), &dev)?;
                let y = Tensor::from_vec(ids[1..].to_vec(), k.b * k.t, &dev)?;
                let pos = Tensor::arange(0u32, k.t as u32, &dev)?;
                let bias = Tensor::from_vec(
                    (0..k.t * k.t).map(|i| if i % k.t > i / k.t { -1e9f32 } else { 0.0 }).collect::<Vec<_>>(),
                    (1, 1, k.t, k.t),
                    &dev,
                )?;
                let g = Gpt::new(k, vb)?;
                let mut o =
                    AdamW::new(vm.all_vars(), ParamsAdamW { lr: 1e-3, weight_decay: 0.1, ..Default::default() })?;
                timed(secs, |r| {
                    let l = loss::cross_entropy(&g.forward(k, &x, &pos, &bias)?, &y)?;
                    o.backward_step(&l)?;
                    if r { Ok(Some(l.to_scalar()?)) } else { Ok(None) }
                })?;
            }
            x => {
                eprintln!("no workload {x}");
                std::process::exit(2);
            }
        }
    }
    Ok(())
}
