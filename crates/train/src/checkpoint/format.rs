//! The bytes of a checkpoint: the header both ways, and tensors as little-endian numbers.

use std::collections::BTreeMap;

use geartrain_engine::{DType, Data, Shape, Tensor, Type};
use safetensors::tensor::{Dtype, SafeTensors, TensorInfo};
use serde_json::{Value, json};

use super::{Best, Meta};
use crate::error::{Error, Result};
use crate::schedule::Plateau;
use crate::stopping::Waiting;

/// The key of a safetensors header that is no tensor.
pub(super) const METADATA: &str = "__metadata__";

/// The value of the metadata key `format`: whose file it is, and the version of what is described here.
const FORMAT: &str = "geartrain checkpoint 1";

/// The first words of [`FORMAT`] in every version.
const FAMILY: &str = "geartrain checkpoint ";

/// The header is padded with spaces to a multiple of this, as the crate `safetensors` does.
const ALIGN: usize = 8;

/// Numbers that are turned into bytes at once.
const CHUNK: usize = 4096;

/// What stands before the numbers.
pub(super) struct Header {
    pub(super) meta: Meta,
    /// Names and types, in the order of the names.
    pub(super) tensors: Vec<(String, Type)>,
}

impl Header {
    /// The header as it stands in the file, with its length in front and its padding behind.
    pub(super) fn bytes(&self, checksum: Option<&str>) -> Vec<u8> {
        let mut entries = vec![(METADATA.to_string(), json!(metadata(&self.meta, checksum)))];
        let mut offset = 0;
        for (name, ty) in &self.tensors {
            let end = offset + ty.bytes();
            let (dtype, shape) = (dtype_name(ty.dtype), ty.shape.dims());
            entries.push((name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": [offset, end]})));
            offset = end;
        }
        // Joined here, because a map of `serde_json` would put the metadata among the tensors.
        let entries: Vec<String> =
            entries.into_iter().map(|(name, value)| format!("{}:{value}", Value::String(name))).collect();
        let mut text = format!("{{{}}}", entries.join(","));
        text.push_str(&" ".repeat(text.len().next_multiple_of(ALIGN) - text.len()));
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(text.as_bytes());
        bytes
    }

    /// The header of a file, and the checksum in it. The lengths of all tensors add up to the bytes behind the header.
    pub(super) fn parse(file: &[u8]) -> Result<(Header, String)> {
        let (_, found) = SafeTensors::read_metadata(file).map_err(|reason| damaged(&format!("{reason}")))?;
        let (meta, checksum) = read_meta(|key| found.metadata().as_ref()?.get(key).cloned())?;
        let mut tensors = Vec::new();
        for (name, info) in found.tensors() {
            let Some(ty) = read_type(info) else {
                return Err(damaged(&format!("`{name}` has a shape or dtype that no checkpoint has")));
            };
            tensors.push((name, ty));
        }
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        Ok((Header { meta, tensors }, checksum))
    }
}

/// The error of a checkpoint that is not as it was written.
pub(super) fn damaged(what: &str) -> Error {
    Error::no_checkpoint(format!("is damaged: {what}"))
        .hint("it was cut off or changed after it was saved; use another checkpoint of the run or a copy of this one")
}

fn metadata(meta: &Meta, checksum: Option<&str>) -> BTreeMap<&'static str, String> {
    let mut map = BTreeMap::from([
        ("config", meta.config.clone()),
        ("data_hash", meta.data_hash.clone()),
        ("format", FORMAT.to_string()),
        ("numerics_version", meta.numerics_version.clone()),
        ("seed", meta.seed.to_string()),
        ("step", meta.step.to_string()),
        ("tokenizer_hash", meta.tokenizer_hash.clone()),
    ]);
    if let Some(best) = meta.best {
        map.insert("best_step", best.step.to_string());
        map.insert("best_val_loss", format!("{:?}", best.val_loss));
    }
    if let Some(Plateau { best, waited, scale }) = meta.plateau {
        map.insert("plateau_best", format!("{best:?}"));
        map.insert("plateau_scale", format!("{scale:?}"));
        map.insert("plateau_waited", waited.to_string());
    }
    if let Some(Waiting { best, step, waited }) = meta.waiting {
        map.insert("patience_best", format!("{best:?}"));
        map.insert("patience_step", step.to_string());
        map.insert("patience_waited", waited.to_string());
    }
    if let Some(checksum) = checksum {
        map.insert("checksum", checksum.to_string());
    }
    map
}

fn read_meta(find: impl Fn(&str) -> Option<String>) -> Result<(Meta, String)> {
    let format = find("format").unwrap_or_default();
    if format != FORMAT {
        return Err(match format.strip_prefix(FAMILY) {
            Some(version) => Error::no_checkpoint(format!(
                "is of format version {version}, which this version of geartrain cannot read"
            ))
            .hint("use the version of geartrain that wrote it, or a newer one"),
            None => Error::no_checkpoint("is a safetensors file, but not a checkpoint of geartrain"),
        });
    }
    let text = |key: &str| find(key).ok_or_else(|| damaged(&format!("its metadata has no `{key}`")));
    let bad = |key: &str| damaged(&format!("its metadata has no number at `{key}`"));
    let number = |key: &str| text(key)?.parse::<u64>().map_err(|_| bad(key));
    let real = |key: &str| text(key)?.parse::<f64>().map_err(|_| bad(key));
    let best = match find("best_step").is_some() {
        true => Some(Best { step: number("best_step")?, val_loss: real("best_val_loss")? }),
        false => None,
    };
    let plateau = match find("plateau_best").is_some() {
        true => {
            let (best, scale) = (real("plateau_best")?, real("plateau_scale")?);
            Some(Plateau { best, waited: number("plateau_waited")?, scale })
        }
        false => None,
    };
    let waiting = match find("patience_best").is_some() {
        true => {
            let (best, step) = (real("patience_best")?, number("patience_step")?);
            Some(Waiting { best, step, waited: number("patience_waited")? })
        }
        false => None,
    };
    let meta = Meta {
        step: number("step")?,
        seed: number("seed")?,
        config: text("config")?,
        data_hash: text("data_hash")?,
        tokenizer_hash: text("tokenizer_hash")?,
        numerics_version: text("numerics_version")?,
        best,
        plateau,
        waiting,
    };
    Ok((meta, text("checksum")?))
}

fn dtype_name(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "F32",
        DType::F64 => "F64",
        DType::U32 => "U32",
    }
}

fn read_type(info: &TensorInfo) -> Option<Type> {
    let dtype = match info.dtype {
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
        Dtype::U32 => DType::U32,
        _ => return None,
    };
    Some(Type { dtype, shape: Shape::checked(&info.shape)? })
}

/// Hands out the numbers of a tensor as little-endian bytes, a piece at a time.
pub(super) fn each_chunk(tensor: &Tensor, take: &mut dyn FnMut(&[u8]) -> std::io::Result<()>) -> std::io::Result<()> {
    match tensor.data() {
        Data::F32(v) => v.chunks(CHUNK).try_for_each(|c| take(&to_bytes(c, f32::to_le_bytes))),
        Data::F64(v) => v.chunks(CHUNK).try_for_each(|c| take(&to_bytes(c, f64::to_le_bytes))),
        Data::U32(v) => v.chunks(CHUNK).try_for_each(|c| take(&to_bytes(c, u32::to_le_bytes))),
    }
}

fn to_bytes<T: Copy, const N: usize>(values: &[T], convert: fn(T) -> [u8; N]) -> Vec<u8> {
    let mut bytes = vec![0; values.len() * N];
    for (place, value) in bytes.as_chunks_mut::<N>().0.iter_mut().zip(values) {
        *place = convert(*value);
    }
    bytes
}

/// The tensor of a type from its bytes; `None` if there are too few or too many.
pub(super) fn tensor(ty: Type, bytes: &[u8]) -> Option<Tensor> {
    let data = match ty.dtype {
        DType::F32 => Data::F32(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
        DType::F64 => Data::F64(bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect()),
        DType::U32 => Data::U32(bytes.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect()),
    };
    if bytes.len() != ty.bytes() {
        return None;
    }
    Tensor::new(ty.shape, data)
}
