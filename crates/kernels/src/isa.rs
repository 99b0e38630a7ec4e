//! Which vector instructions a tape uses: chosen once, when the tape is built.
//!
//! Every path computes the same bits: sums have one order, fused multiply-add is explicit, and reductions use the same
//! number of virtual lanes everywhere. A CPU without FMA gets the same bits slowly.

/// A set of vector instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// What the build target guarantees; `mul_add` may be a software call.
    Portable,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, BW, DQ and VL; BF16 too where the CPU has it.
    Avx512,
}

impl Isa {
    /// All paths, slowest first.
    pub const ALL: [Isa; 3] = [Isa::Portable, Isa::Avx2, Isa::Avx512];

    /// Whether this CPU can run the path.
    pub fn supported(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = || is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            match self {
                Isa::Portable => true,
                Isa::Avx2 => avx2(),
                Isa::Avx512 => {
                    avx2()
                        && is_x86_feature_detected!("avx512f")
                        && is_x86_feature_detected!("avx512bw")
                        && is_x86_feature_detected!("avx512dq")
                        && is_x86_feature_detected!("avx512vl")
                }
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Isa::Portable
        }
    }

    /// The fastest supported path, or the one that the environment variable `GEARTRAIN_ISA` names
    /// (`portable`, `avx2`, `avx512`) if this CPU can run it.
    pub fn best() -> Isa {
        let asked = std::env::var("GEARTRAIN_ISA").ok();
        let wanted = match asked.as_deref() {
            Some("portable") => Isa::Portable,
            Some("avx2") => Isa::Avx2,
            _ => Isa::Avx512,
        };
        Isa::ALL.into_iter().rev().find(|isa| *isa <= wanted && isa.supported()).unwrap_or(Isa::Portable)
    }
}
