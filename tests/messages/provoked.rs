//! Mistakes that a user can make, and what the program says to each.

use std::fs;
use std::path::PathBuf;

use geartrain::engine::{DType, Data, Graph, Init, State, Tensor};
use geartrain::train::config::{Config, ModelConfig, ModelKind};
use geartrain::train::run_folder::RunFolder;
use geartrain::train::sample::{Choice, Writer};
use geartrain::train::session::{Session, Trained};
use geartrain::train::trainer::Trainer;
use geartrain::train::{Error, checkpoint, data, model};
use geartrain::workloads::WORKLOADS;
use tempfile::TempDir;

use crate::common::{SMALL, command, finished, run, text};

/// A folder, and what the program said there.
struct Scene {
    dir: TempDir,
    told: String,
}

impl Scene {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), bytes).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Runs the program for what it leaves.
    fn quietly(&self, args: &str) {
        run(self.dir.path(), args).good();
    }

    /// Runs the program and writes down all of standard error.
    fn tell(&mut self, args: &str) {
        let ran = run(self.dir.path(), args);
        let code = ran.code.map_or("a signal".to_string(), |code| format!("exit code {code}"));
        let err: Vec<&str> = ran.err.lines().filter(|line| !line.is_empty()).collect();
        assert!(!err.is_empty(), "nothing is said to `{args}`");
        let text = format!("\n$ geartrain {}  ({code})\n{}\n", args.replace(SMALL, "..."), err.join("\n"));
        let workloads: Vec<&str> = WORKLOADS.iter().map(|workload| workload.name).collect();
        let text = text.replace(&workloads.join(", "), "WORKLOADS");
        self.told += &text.replace(&format!("{}/", self.dir.path().display()), "");
    }

    /// Trains on a table that is written first.
    fn table(&mut self, name: &str, text: &str, args: &str) {
        self.write(name, text);
        self.tell(&format!("train {name} --out out {args}"));
    }

    /// Tells what a function of the library said.
    fn function<T>(&mut self, result: Result<T, Error>) {
        let Err(error) = result else { panic!("no error") };
        let hint = error.hint.as_ref().map_or(String::new(), |hint| format!("hint: {hint}\n"));
        // Where in the source a graph was built changes with the source.
        let mut what = error.to_string();
        if let Some((before, place)) = what.split_once(" [crates/") {
            what = before.to_string() + place.split_once(']').map_or("", |(_, after)| after);
        }
        let text = format!("\nlibrary\nerror: {what}\n{hint}");
        self.told += &text.replace(&format!("{}/", self.dir.path().display()), "");
    }

    /// Changes a file by a replacement of text, calls `then` and puts it back.
    fn changed(&mut self, name: &str, from: &str, to: &str, then: impl FnOnce(&mut Scene)) {
        let bytes = fs::read(self.path(name)).unwrap();
        let at = bytes.windows(from.len()).position(|part| part == from.as_bytes());
        let at = at.unwrap_or_else(|| panic!("no {from} in {name}"));
        self.write(name, [&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat());
        then(self);
        self.write(name, bytes);
    }
}

/// `numpy.save`.
fn npy(descr: &str, shape: &str, numbers: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let length = u16::try_from(header.len()).unwrap().to_le_bytes();
    [b"\x93NUMPY\x01\x00".as_slice(), &length, header.as_bytes(), numbers].concat()
}

fn f64s(n: usize) -> Vec<u8> {
    (0..n).flat_map(|i| ((i * 7 % 11) as f64 * 0.5).to_le_bytes()).collect()
}

/// `x`, `word` and the number `y` of some rows.
fn rows(n: usize) -> String {
    let row = |i: usize| format!("{}.5,{},{}.25\n", i * 7 % 11, ["a", "b"][i % 2], i * 5 % 13);
    "x,word,y\n".to_string() + &(0..n).map(row).collect::<String>()
}

fn command_line(s: &mut Scene) {
    s.tell("train --steps 0");
    s.tell("bench profile");
    s.tell("bench nothing");
    s.write("peers/python/bench_numpy.py", "");
    s.write("peers/python/bench_jax.py", "");
    let against = "bench xor --seconds 0.0001 --turns 1 --threads 1 --json --peers peers --against";
    s.tell(&format!("{against} jax --precision bf16"));
    s.tell(&format!("{against} torch"));
    s.tell(&format!("{against} burn"));
    s.tell(&format!("{against} numpy --python no-python"));
    s.tell(&format!("{against} numpy --python true"));
    s.tell(&format!("{against} numpy --python false"));
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut lesson = command(s.dir.path(), "lesson");
    lesson.stdout(full);
    s.told += &format!("\n$ geartrain lesson > /dev/full\n{}", finished(lesson).err);
}

fn configuration(s: &mut Scene) {
    s.tell("train --set data.vocab=300");
    s.tell("train --target x");
    s.tell("train --set train.patience=2 --set data.validation=0");
    s.tell("train --set schedule.kind=plateau --set train.eval_every=0");
    s.tell("train --set train.grad_shards=3 --batch 8");
    s.tell("train --set model.kv_heads=2");
    s.tell("train --model mlp");
    for (name, toml) in
        [("ignore", "[data]\nignore = 3\n"), ("path", "[data]\npath = 3\n"), ("lr", "[optimizer]\nlr = \"x\"\n")]
    {
        let name = format!("{name}.toml");
        s.write(&name, toml);
        s.tell(&format!("train --config {name}"));
    }
}

fn texts(s: &mut Scene) {
    s.write("t.txt", text(40));
    s.tell("train t.txt --set data.tokenizer=bpe --set data.vocab=100000");
    s.tell("train t.txt --set data.tokenizer=no.json");
    for (name, json) in [
        ("text", "text"),
        ("empty", "{}"),
        ("unigram", r#"{"model": {"type": "Unigram", "vocab": []}}"#),
        ("untyped", r#"{"model": {"vocab": {"a": 0}}}"#),
        (
            "lossy",
            r#"{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false}}"#,
        ),
        (
            "added",
            r#"{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "added_tokens": [{"id": 1}], "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false}}"#,
        ),
    ] {
        s.write(&format!("{name}.json"), json);
        s.tell(&format!("train t.txt --set data.tokenizer={name}.json"));
    }
}

fn tables(s: &mut Scene) {
    s.tell("train no.csv --target y");
    s.table("spaces.csv", " \n", "--target y");
    s.table("cells.csv", "a,y\n1,2\n1,2,3\n", "--target y");
    s.table("header.csv", "a,y\n", "--target y");
    s.write("latin.csv", b"a,y\n\xe9,1\n");
    s.tell("train latin.csv --target y");
    s.table("open.csv", "a,y\n1,\"2\n3,4\n", "--target y");
    s.table("numbers.csv", "1,2\n3,4\n", "--target 2");
    s.table("unnamed.csv", ",y\n1,2\n", "--target y");
    s.table("twice.csv", "a,a,y\n1,2,3\n", "--target y");
    s.table("one.csv", "a,y\n1,2\n", "--target y");
    s.table("same.csv", "a,y\n1,2\n2,2\n3,2\n", "--target y --set data.task=regression");
    s.table("same.csv", "a,y\n1,2\n2,2\n3,2\n", "--target y");
    s.table("words.csv", "a,y\n1,b\n2,c\n", "--target y --set data.task=regression");
    let names: String = (0..60).map(|i| format!("{i},w{i}\n")).collect();
    s.table("names.csv", &format!("a,y\n{names}"), "--target y");
    s.table("names.csv", &format!("y,a\n{names}"), "--target y");
    s.table("constant.csv", "a,y\n1,2\n1,3\n1,4\n", "--target y");
    s.table("alone.csv", "y\n2.5\n3\n4\n", "--target y");
    s.write("rows.csv", rows(30));
    s.tell("train rows.csv --target y --set data.ignore=y");
    s.tell("train rows.csv --target z");
    s.tell("train rows.csv --target word --model gpt2");
    s.tell("train rows.csv");
    s.table("dates.csv", "a,y\n2024-01-31,2.5\n2024-02-01,3\n", "--target y");
    s.table("commas.csv", "a;y\n3,14;2.5\n2,72;3\n", "--target y");
    s.table("comma.csv", "a;y\n3;2.5\n2;3\n3;4\n1,5;5\n", "--target y");
    s.table("empty-cell.csv", "a,y\n1,2.5\n,3\n3,4\n", "--target y");
    s.table("empty-column.csv", "a,b,y\n1,,2.5\n2,,3\n", "--target y");
    s.table("empty-target.csv", "a,y\n1,2.5\n2,\n3,4\n", "--target y");
    s.table("large.csv", "a,y\n1,2.5\n1e31,3\n3,4\n", "--target y");
    s.table("infinite.csv", "a,y\n1,2.5\ninf,3\n3,4\n", "--target y");
    s.table("mistake.csv", "a,y\n1,2.5\nx,3\n3,4\n", "--target y");
    s.tell("train rows.csv --target y --set train.patience=1 --set data.validation=0.01 --set train.eval_every=1");
    s.tell("train rows.csv --target y --set train.grad_shards=32");
    let counted: String = (0..30).map(|i| format!("{i},{}.5\n", i * 7 % 11)).collect();
    s.table("counted.csv", &format!("row,y\n{counted}"), "--target y --json --steps 1");
}

fn arrays(s: &mut Scene) {
    s.tell("train no.npy --target y.npy");
    s.write("x.npy", npy("<f8", "(30, 2)", &f64s(60)));
    s.write("y.npy", npy("<f8", "(30,)", &f64s(30)));
    s.write("two.npy", npy("<f8", "(30, 2)", &f64s(60)));
    s.write("short.npy", npy("<f8", "(29,)", &f64s(29)));
    s.write("none.npy", npy("<f8", "(30, 0)", &[]));
    s.write("no-rows.npy", npy("<f8", "(0, 2)", &[]));
    s.write("no-targets.npy", npy("<f8", "(0,)", &[]));
    s.write("text.npy", "text");
    s.write("strings.npy", npy("<U5", "(30, 2)", &[]));
    let order = String::from_utf8_lossy(&npy("<f8", "(1, 1)", &[])[10..]).replace("False", "Maybe");
    let header = |text: &str| [b"\x93NUMPY\x01\x00".as_slice(), &[text.len() as u8, 0], text.as_bytes()].concat();
    s.write("order.npy", header(&order));
    s.write("shapeless.npy", header("{'descr': '<f8', 'fortran_order': False, }\n"));
    for x in ["text.npy", "strings.npy", "order.npy", "shapeless.npy"] {
        s.tell(&format!("train {x} --target y.npy"));
    }
    s.tell("train x.npy");
    s.tell("train x.npy --target y");
    s.tell("train y.npy --target y.npy");
    s.tell("train x.npy --target short.npy");
    s.tell("train x.npy --target none.npy");
    s.tell("train no-rows.npy --target no-targets.npy");
    s.tell("train x.npy --target two.npy --set data.task=classification");
    s.quietly("train x.npy --target y.npy --out a --steps 1 --json --threads 1");
    s.tell("eval a x.npy --target two.npy");
    s.write("wide.npy", npy("<f8", "(30, 3)", &f64s(90)));
    s.tell("predict a wide.npy");
    s.write("narrow.npy", npy("<f8", "(30, 1)", &f64s(30)));
    s.tell("predict a narrow.npy");
    s.tell("predict a narrow.csv");
}

fn runs_of_tables(s: &mut Scene) {
    s.write("rows.csv", rows(30));
    s.quietly("train rows.csv --target y --out a --steps 1 --json --threads 1 --set data.validation=0");
    s.tell("eval a");
    s.tell("eval a rows.csv --target word");
    s.tell("train rows.csv --target y --out b --set data.categories=y");
    s.tell("generate a");
    s.tell("predict a rows.txt");
    s.write("questions.csv", "x,word\n1.5,a\n");
    s.tell("predict a questions.csv --out rows.csv");
    s.tell("predict a questions.csv --out new/..");
    s.write("new.csv", "x,word,z\n1.5,c,0\n2,c,0\n");
    s.tell("predict a new.csv");
    s.write("lost.csv", "word\na\n");
    s.tell("predict a lost.csv");
    let tiny: String = (0..30).map(|i| format!("{}e-20,{i}.5\n", i * 7 % 11)).collect();
    s.write("tiny.csv", format!("x,y\n{tiny}"));
    s.quietly("train tiny.csv --target y --out tiny --steps 1 --json --threads 1");
    s.write("far.csv", "x\n1\n1e30\n");
    s.tell("predict tiny far.csv");
    s.quietly("train rows.csv --target word --out words --steps 1 --json --threads 1");
    s.write("other.csv", "x,word,y\n1,a,1\n1,c,1\n");
    s.tell("eval words other.csv");
    let no_path =
        data::KINDS.iter().find(|kind| kind.name == "table").map(|kind| (kind.load)(&Config::default(), None));
    s.function(no_path.unwrap());
    let file = "words/preprocessing.json";
    s.changed(file, "\"version\": 1", "\"version\": 9", |s| s.tell("predict words rows.csv"));
    s.changed(file, "\"std\": ", "\"std\": -", |s| s.tell("predict words rows.csv"));
    s.changed(file, "\"name\": \"y\"", "\"name\": \"x\"", |s| s.tell("predict words rows.csv"));
    s.changed(file, "\"a\",", "\"b\",", |s| s.tell("predict words rows.csv"));
    s.changed(file, "\"mean\": ", "\"mean\": 1", |s| s.tell("predict words rows.csv"));
    s.changed(file, "{", "[", |s| s.tell("predict words rows.csv"));
}

fn runs_of_texts(s: &mut Scene) {
    s.write("t.txt", text(200));
    s.quietly(&format!("train t.txt --out a --steps 2 --json {SMALL} --set data.tokenizer=byte"));
    s.changed("t.txt", "gear", "gore", |s| s.tell("resume a"));
    fs::rename(s.path("t.txt"), s.path("moved.txt")).unwrap();
    s.tell("resume a");
    s.tell("eval a");
    fs::rename(s.path("moved.txt"), s.path("t.txt")).unwrap();
    let config = s.read("a/config.toml");
    let path = config.lines().find(|line| line.starts_with("path = ")).unwrap();
    s.changed("a/config.toml", path, "", |s| s.tell("resume a"));
    s.changed("a/config.toml", "lr = 0.001", "lr = 0.002", |s| s.tell("resume a"));
    s.quietly(&format!("train t.txt --out chars --steps 2 --json {SMALL}"));
    let mut json: serde_json::Value = serde_json::from_str(&s.read("chars/tokenizer.json")).unwrap();
    let vocab = json["model"]["vocab"].as_object_mut().unwrap();
    let (a, e) = (vocab["a"].clone(), vocab["e"].clone());
    (vocab["a"], vocab["e"]) = (e, a);
    s.write("chars/tokenizer.json", json.to_string());
    s.tell("resume chars");
    s.tell("eval chars");
    let file = "a/checkpoints/step-000002.safetensors";
    s.changed(file, "\"dtype\":\"F32\"", "\"dtype\":\"I32\"", |s| s.tell("eval a"));
    s.changed(file, "data_hash", "data_hush", |s| s.tell("eval a"));
    s.changed(file, "\"step\":\"2\"", "\"step\":\"x\"", |s| s.tell("eval a"));
    s.changed(file, "geartrain checkpoint 1", "geartrain checkpoint 9", |s| {
        s.tell("eval a");
        s.function(checkpoint::read(&s.path(file)));
    });
    s.changed(file, "\"seed\":\"1337\"", "\"seed\":\"+337\"", |s| s.tell("eval a"));
    s.changed(file, "\"step\":\"2\"", "\"step\":\"3\"", |s| {
        s.tell("eval a");
        s.function(checkpoint::read(&s.path(file)));
    });
}

/// What a run says that its files do not bring about by themselves.
fn library(s: &mut Scene) {
    s.write("t.txt", text(200));
    s.quietly(&format!("train t.txt --out a --steps 2 --set train.save_every=1 --json {SMALL}"));
    let (run, path) = (s.path("a"), s.path("a/checkpoints/step-000002.safetensors"));
    let mut trained = Trained::open(&run, &[]).unwrap();
    let task = trained.encoder.task();
    let mlp = Config {
        model: ModelConfig { kind: ModelKind::Mlp, ..trained.config.model.clone() },
        ..trained.config.clone()
    };
    s.function(model::evaluation_graph(&mlp, &task));
    s.function(model::writing_graph(&mlp, 16).check().map_err(model::model_error));

    // A name that the format of checkpoints has taken, a file that is not there, and one of another model.
    let g = Graph::new();
    g.output("y", g.parameter("__metadata__", DType::F32, [1], Init::ZEROS));
    let (meta, _) = checkpoint::read(&path).unwrap();
    s.function(checkpoint::write(&s.path("reserved"), &State::new(&g, 0).unwrap(), &meta));
    s.function(checkpoint::read(&s.path("nowhere")));
    s.function(checkpoint::load_into(&mut trained.state, &[]));

    // A checkpoint of another version of the numbers.
    let (mut meta, tensors) = checkpoint::read(&path).unwrap();
    meta.numerics_version = "0".to_string();
    let mut trainer = Trainer::new(trained.config.clone(), data::load(&trained.config).unwrap()).unwrap();
    checkpoint::load_into(trainer.state_mut(), &tensors).unwrap();
    checkpoint::write(&path, trainer.state(), &meta).unwrap();
    let ours = format!("of version {}", model::numerics_version(&trained.config));
    let neutral = |error: Error| Error { what: error.what.replace(&ours, "of version N"), ..error };
    s.function(Session::resume(&run, &[]).map(|_| ()).map_err(neutral));

    // Weights that are not numbers.
    let (name, ty) = trained.state.entries().iter().map(|entry| (entry.name.clone(), entry.ty)).next().unwrap();
    let values = Tensor::new(ty.shape, Data::F32(vec![f32::NAN; ty.shape.count()])).unwrap();
    trained.state.set(&name, &values).unwrap();
    let mut writer = Writer::new(&trained.config, &trained.state, 16).unwrap();
    let choice = Choice { temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0 };
    s.function(writer.next(&trained.state, &[0], &choice));

    s.function(RunFolder::open_to_read(&run).unwrap().newest(Some(0)));
    s.write("a/checkpoints/step-000001.safetensors", "");
    s.write("a/checkpoints/step-000002.safetensors", "");
    s.function(RunFolder::open_to_read(&run).unwrap().newest(None));
    let diverges = "--lr 1e30 --set optimizer.kind=sgd --set optimizer.clip=0 --set schedule.warmup=0";
    s.tell(&format!("train t.txt --out b --steps 9 --json {diverges} {SMALL}"));
}

/// A title, and what makes the messages below it.
type Part = (&'static str, fn(&mut Scene));

/// Every part in a folder of its own.
pub fn all() -> String {
    let parts: [Part; 8] = [
        ("the command line", command_line),
        ("configuration", configuration),
        ("texts and tokenizers", texts),
        ("tables", tables),
        ("arrays", arrays),
        ("runs of tables", runs_of_tables),
        ("runs of texts", runs_of_texts),
        ("what takes a hand inside", library),
    ];
    let mut all = String::from("What the program says to mistakes. Written by tests/messages.rs.\n");
    for (title, part) in parts {
        let mut scene = Scene { dir: tempfile::tempdir().unwrap(), told: String::new() };
        part(&mut scene);
        all += &format!("\n## {title}\n{}", scene.told);
    }
    all
}
