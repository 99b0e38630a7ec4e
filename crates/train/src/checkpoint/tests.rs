use super::*;
use crate::error::ErrorKind;
use geartrain_engine::{DType, Entry, Graph, Init, Role};

fn entry(name: &str, dtype: DType, shape: &[usize], role: Role, init: Init) -> Entry {
    let ty = Type { dtype, shape: geartrain_engine::Shape::checked(shape).unwrap() };
    let trainable = role == Role::Parameter;
    Entry { name: name.into(), ty, role, trainable, saved: role != Role::Cache, decay: false, init }
}

fn state_of(entries: &[Entry]) -> State {
    let graph = Graph::new();
    for entry in entries {
        graph.entry(entry.clone());
    }
    State::new(&graph, 7).unwrap()
}

fn entries() -> Vec<Entry> {
    vec![
        entry("wte.weight", DType::F32, &[3, 2], Role::Parameter, Init::Normal { std: 1.0 }),
        entry("b \"quoted\"\n", DType::F64, &[3], Role::Parameter, Init::Uniform { bound: 0.5 }),
        entry("count", DType::U32, &[], Role::Counter, Init::Constant(4_294_967_295.0)),
        entry("none", DType::F32, &[0, 5], Role::Buffer, Init::ZEROS),
        entry("cache", DType::F32, &[8], Role::Cache, Init::ZEROS),
    ]
}

fn meta() -> Meta {
    Meta {
        step: 500,
        seed: u64::MAX,
        config: "[model]\nkind = \"gpt2\"\nname = \"é\u{1f}\"\n".into(),
        data_hash: "d1".into(),
        tokenizer_hash: "70".into(),
        numerics_version: "1".into(),
        best: Some(Best { step: 400, val_loss: 0.1 + 0.2 }),
        plateau: None,
        waiting: None,
    }
}

fn written() -> (tempfile::TempDir, std::path::PathBuf, State) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("step-000500.safetensors");
    let mut state = state_of(&entries());
    let special =
        Tensor::new([3, 2], geartrain_engine::Data::F32(vec![f32::NAN, f32::INFINITY, -0.0, 1e-45, 1.5, -2.0]));
    state.set("wte.weight", &special.unwrap()).unwrap();
    write(&path, &state, &meta()).unwrap();
    (folder, path, state)
}

#[test]
fn what_is_read_is_what_was_written() {
    let (_folder, path, state) = written();
    let (found, tensors) = read(&path).unwrap();
    assert_eq!(found, meta());
    let names: Vec<&str> = tensors.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["b \"quoted\"\n", "count", "none", "wte.weight"]);
    let mut other = state_of(&entries());
    load_into(&mut other, &tensors).unwrap();
    for (name, tensor) in &tensors {
        assert_eq!(tensor.to_le_bytes(), state.get(name).unwrap().to_le_bytes(), "{name}");
        assert_eq!(other.get(name).unwrap().to_le_bytes(), tensor.to_le_bytes(), "{name}");
    }
}

#[test]
fn what_evaluations_have_decided_is_kept() {
    let (folder, _, state) = written();
    let path = folder.path().join("with.safetensors");
    let plateau = Some(Plateau { best: f64::INFINITY, waited: 3, scale: 0.1 + 0.2 });
    let waiting = Some(Waiting { best: 1e-300, step: 12, waited: u64::MAX });
    for (plateau, waiting) in [(plateau, None), (None, waiting), (plateau, waiting)] {
        let given = Meta { plateau, waiting, ..meta() };
        write(&path, &state, &given).unwrap();
        assert_eq!(read(&path).unwrap().0, given);
    }
}

#[test]
fn the_file_depends_on_its_contents_alone() {
    let (folder, path, state) = written();
    let again = folder.path().join("again.safetensors");
    write(&again, &state, &meta()).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(&again).unwrap());
    let mut reversed = entries();
    reversed.reverse();
    let mut reversed = state_of(&reversed);
    load_into(&mut reversed, &read(&path).unwrap().1).unwrap();
    write(&again, &reversed, &meta()).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(&again).unwrap());
    // Known bytes: a change here makes the checkpoints of every user unreadable.
    let bytes = std::fs::read(&path).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(
        text[8..]
            .starts_with(r#"{"__metadata__":{"best_step":"400","best_val_loss":"0.30000000000000004","checksum":""#)
    );
    assert!(text.contains(r#""seed":"18446744073709551615","step":"500","tokenizer_hash":"70"},"b \"quoted\"\n":{"#));
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    assert_eq!((header % 8, bytes.len()), (0, 8 + header + 24 + 4 + 24));
}

#[test]
fn other_readers_of_safetensors_open_it() {
    let (_folder, path, state) = written();
    let bytes = std::fs::read(&path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.tensor("wte.weight").unwrap().data(), state.get("wte.weight").unwrap().to_le_bytes());
    assert_eq!(file.tensor("count").unwrap().data(), [255; 4]);
    assert_eq!(file.len(), 4);
}

/// Changed bytes must be refused as a damaged checkpoint.
fn assert_refused(bytes: &[u8], what: &str) {
    assert_eq!(decode(bytes).expect_err(what).kind, ErrorKind::NoCheckpoint, "{what}");
}

#[test]
fn every_cut_is_found() {
    let (_folder, path, _) = written();
    let bytes = std::fs::read(&path).unwrap();
    for length in (0..bytes.len()).filter(|n| n % 64 == 0 || n + 70 > bytes.len()) {
        assert_refused(&bytes[..length], &format!("cut to {length} bytes"));
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert_refused(&longer, "one byte more");
    std::fs::write(&path, &bytes[..64]).unwrap();
    let error = read(&path).unwrap_err();
    assert!(error.to_string().starts_with(&format!("checkpoint `{}` is damaged: ", path.display())), "{error}");
}

#[test]
fn every_flipped_bit_is_found() {
    let (_folder, path, _) = written();
    let mut bytes = std::fs::read(&path).unwrap();
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_refused(&bytes, &format!("bit {bit}"));
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn headers_that_lie_about_sizes_are_refused_before_anything_is_made() {
    let huge = u64::MAX.to_le_bytes();
    assert_refused(&huge, "a huge header");
    for tensor in [
        r#"{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}"#,
        r#"{"dtype":"F32","shape":[18446744073709551615,18446744073709551615],"data_offsets":[0,4]}"#,
        r#"{"dtype":"F32","shape":[0,18446744073709551615],"data_offsets":[0,0]}"#,
        r#"{"dtype":"F32","shape":[1,1,1,1,1,1,1],"data_offsets":[0,4]}"#,
        r#"{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}"#,
        r#"{"dtype":"F32","shape":[1],"data_offsets":[4,0]}"#,
    ] {
        let meta = r#"{"format":"geartrain checkpoint 1","step":"1","seed":"1","config":"","data_hash":"",
            "tokenizer_hash":"","numerics_version":"","checksum":""}"#;
        let json = format!(r#"{{"__metadata__":{meta},"w":{tensor}}}"#);
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(json.as_bytes());
        bytes.extend_from_slice(&[0; 4]);
        assert_refused(&bytes, tensor);
    }
}

#[test]
fn files_of_others_are_told_apart_from_damage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    let file = |format: &str| {
        let json = format!(r#"{{"__metadata__":{{"format":"{format}"}}}}"#);
        [&(json.len() as u64).to_le_bytes()[..], json.as_bytes()].concat()
    };
    std::fs::write(&path, file("geartrain checkpoint 2")).unwrap();
    let error = read(&path).unwrap_err();
    assert!(
        error.to_string().ends_with("is of format version 2, which this version of geartrain cannot read"),
        "{error}"
    );
    std::fs::write(&path, file("pt")).unwrap();
    let error = read(&path).unwrap_err();
    assert!(error.to_string().ends_with("is a safetensors file, but not a checkpoint of geartrain"), "{error}");
    let error = read(&folder.path().join("no")).unwrap_err();
    assert!(error.to_string().contains("cannot be read"), "{error}");
    assert_eq!(error.exit_code(), 4);
}

#[test]
fn what_does_not_fit_is_named_and_changes_nothing() {
    let (_folder, path, _) = written();
    let (_, tensors) = read(&path).unwrap();
    let mut entries = entries();
    entries[0].ty.shape = [2, 3].into();
    entries[1].name = "bias".into();
    entries[2].saved = false;
    let mut state = state_of(&entries);
    let before = state.get("none").unwrap();
    let error = load_into(&mut state, &tensors).unwrap_err();
    assert_eq!(error.kind, ErrorKind::NoCheckpoint);
    let text = error.to_string();
    assert!(
        text.contains("it is without `bias`; with unknown `b \"quoted\"\n`, `count`; with another type of"),
        "{text}"
    );
    assert!(text.contains("`wte.weight` (the model's is f32 (2, 3), the checkpoint's f32 (3, 2))"), "{text}");
    assert_eq!(state.get("none").unwrap(), before);
}

#[test]
fn long_lists_of_names_are_cut() {
    let names: Vec<String> = (0..8).map(|i| i.to_string()).collect();
    assert_eq!(listed(&names), "0, 1, 2, 3, 4 and 3 more");
    assert_eq!(listed(&names[..5]), "0, 1, 2, 3, 4");
}

#[test]
fn a_reserved_name_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let state = state_of(&[entry("__metadata__", DType::F32, &[1], Role::Buffer, Init::ZEROS)]);
    assert!(write(&folder.path().join("x"), &state, &meta()).is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
