use std::process::Command;

use geartrain_engine::{DType, Graph, Init};

use super::*;

const CHILD: &str = "GEARTRAIN_TEST_LOCK";

fn folder() -> (tempfile::TempDir, RunFolder) {
    let root = tempfile::tempdir().unwrap();
    let run = RunFolder::create(root.path(), "names", "gpt2").unwrap();
    run.write(&run.config_path(), "").unwrap();
    (root, run)
}

fn state() -> State {
    let graph = Graph::new();
    graph.parameter("w", DType::F32, [3], Init::ONES);
    State::new(&graph, 1).unwrap()
}

fn save(run: &RunFolder, steps: &[u64]) {
    for step in steps {
        let meta = Meta {
            step: *step,
            seed: 1,
            config: String::new(),
            data_hash: String::new(),
            tokenizer_hash: String::new(),
            numerics_version: "1".into(),
            best: None,
            plateau: None,
            waiting: None,
        };
        run.save(&state(), &meta).unwrap();
    }
}

fn damage(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn names_count_up() {
    let root = tempfile::tempdir().unwrap();
    let runs = root.path().join("runs");
    let name = |data: &str, model: &str| {
        let run = RunFolder::create(&runs, data, model).unwrap();
        assert!(run.checkpoints_path().is_dir());
        run.path().file_name().unwrap().to_str().unwrap().to_string()
    };
    assert_eq!(name("names", "gpt2"), "names-gpt2-1");
    assert_eq!(name("names", "gpt2"), "names-gpt2-2");
    assert_eq!(name("names", "mlp"), "names-mlp-1");
    std::fs::create_dir(runs.join("names-gpt2-9")).unwrap();
    std::fs::write(runs.join("names-gpt2-11"), "a file takes its name too").unwrap();
    std::fs::create_dir(runs.join("names-gpt2-x")).unwrap();
    std::fs::create_dir(runs.join("names-gpt2-18446744073709551615")).unwrap();
    assert_eq!(name("names", "gpt2"), "names-gpt2-12");
    std::fs::remove_dir_all(runs.join("names-gpt2-1")).unwrap();
    assert_eq!(name("names", "gpt2"), "names-gpt2-13");
    assert_eq!(name("../my books/é 1.txt", "gpt2"), "my-books-é-1-txt-gpt2-1");
    assert_eq!(name("", "."), "data-data-1");
    assert_eq!(name(&"long".repeat(100), "m").len(), PART + 4);
}

#[test]
fn the_output_folder_must_be_new_or_empty() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a/b");
    drop(RunFolder::create_at(&path).unwrap());
    let again = RunFolder::create_at(&path).unwrap_err();
    assert_eq!(again.exit_code(), 2);
    assert!(again.to_string().ends_with("is not empty: it has `checkpoints`"), "{again}");
    std::fs::remove_dir(path.join("checkpoints")).unwrap();
    let run = RunFolder::create_at(&path).expect("only the file of a lock is in it");
    run.write(&run.config_path(), "").unwrap();
    let used = RunFolder::create_at(&path).unwrap_err();
    assert!(used.hint.unwrap().contains("geartrain resume "));
    let file = root.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert_eq!(RunFolder::create_at(&file).unwrap_err().exit_code(), 2);
}

#[test]
fn files_stand_where_the_design_says() {
    let (_root, run) = folder();
    let relative = |path: PathBuf| path.strip_prefix(run.path()).unwrap().to_str().unwrap().to_string();
    assert_eq!(relative(run.config_path()), "config.toml");
    assert_eq!(relative(run.metrics_path()), "metrics.jsonl");
    assert_eq!(relative(run.plot_path()), "loss.svg");
    assert_eq!(relative(run.checkpoint_path(500)), "checkpoints/step-000500.safetensors");
    assert_eq!(relative(run.checkpoint_path(12_345_678)), "checkpoints/step-12345678.safetensors");
}

#[test]
fn a_folder_in_use_is_refused_but_can_be_looked_into() {
    let (_root, run) = folder();
    let error = RunFolder::open(run.path()).unwrap_err();
    assert_eq!(error.to_string(), format!("the run folder `{}` is in use by another process", run.path().display()));
    assert!(!RunFolder::open_to_read(run.path()).unwrap().is_locked());
    let path = run.path().to_path_buf();
    drop(run);
    assert!(RunFolder::open(&path).unwrap().is_locked());
}

/// Does nothing by itself: the next test runs it in a process of its own, and kills it.
#[test]
fn child() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let _run = RunFolder::open(Path::new(&path)).unwrap();
    std::fs::write(Path::new(&path).join("ready"), "").unwrap();
    std::thread::sleep(std::time::Duration::from_secs(30));
}

#[test]
fn a_killed_process_leaves_no_lock() {
    let (_root, run) = folder();
    let path = run.path().to_path_buf();
    drop(run);
    let mut other = Command::new(std::env::current_exe().unwrap())
        .args(["run_folder::tests::child", "--exact"])
        .env(CHILD, &path)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    for _ in 0..2000 {
        if path.join("ready").exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let while_it_runs = RunFolder::open(&path);
    other.kill().unwrap();
    other.wait().unwrap();
    assert!(while_it_runs.unwrap_err().to_string().ends_with("is in use by another process"));
    RunFolder::open(&path).unwrap();
}

#[test]
fn what_is_missing_is_named_with_what_there_is() {
    let (root, run) = folder();
    let error = RunFolder::open(&root.path().join("names-gpt2-7")).unwrap_err();
    assert_eq!(error.exit_code(), 4);
    assert!(error.to_string().starts_with("there is no run folder `"), "{error}");
    assert_eq!(error.hint.as_deref(), Some("runs there: names-gpt2-1"));
    let error = RunFolder::open(root.path()).unwrap_err();
    assert!(error.to_string().ends_with("is not the folder of a run: it has no config.toml"), "{error}");
    let error = run.newest(None).unwrap_err();
    assert_eq!(error.to_string(), format!("the run `{}` has no checkpoint", run.path().display()));
    assert_eq!(error.exit_code(), 4);
}

#[test]
fn opening_removes_leftovers_alone() {
    let (_root, run) = folder();
    save(&run, &[1]);
    let left = [run.path().join(".loss.svg.1-0.tmp"), run.checkpoints_path().join(".step-000002.safetensors.1-3.tmp")];
    left.iter().for_each(|path| std::fs::write(path, "half").unwrap());
    let path = run.path().to_path_buf();
    RunFolder::open_to_read(&path).unwrap();
    assert!(left.iter().all(|path| path.exists()));
    drop(run);
    let run = RunFolder::open(&path).unwrap();
    assert!(!left.iter().any(|path| path.exists()));
    assert_eq!(run.checkpoints().unwrap(), [1]);
}

#[test]
fn the_newest_checkpoint_that_verifies_is_loaded() {
    let (_root, run) = folder();
    save(&run, &[5, 10, 1_000_000, 30, 40]);
    std::fs::write(run.checkpoints_path().join("step-50.safetensors"), "not our name").unwrap();
    std::fs::write(run.checkpoints_path().join("notes.txt"), "").unwrap();
    assert_eq!(run.checkpoints().unwrap(), [5, 10, 30, 40, 1_000_000]);
    damage(&run.checkpoint_path(1_000_000));
    std::fs::copy(run.checkpoint_path(10), run.checkpoint_path(40)).unwrap();
    let loaded = run.newest(None).unwrap();
    assert_eq!((loaded.meta.step, loaded.path), (30, run.checkpoint_path(30)));
    assert_eq!(loaded.tensors.len(), 1);
    let warnings: Vec<String> = loaded.passed_over.iter().map(Error::to_string).collect();
    let [first, second] = warnings.as_slice() else { panic!("{warnings:?}") };
    assert!(first.ends_with("step-1000000.safetensors` is damaged: its checksum does not match"), "{first}");
    assert!(second.ends_with("step-000040.safetensors` is of step 10, though its name says 40"), "{second}");
    assert_eq!(run.newest(Some(29)).unwrap().meta.step, 10);
    let error = run.newest(Some(4)).unwrap_err();
    assert!(error.to_string().ends_with("has no checkpoint up to step 4"), "{error}");
    [5, 10, 30].iter().for_each(|step| damage(&run.checkpoint_path(*step)));
    let error = run.newest(None).unwrap_err();
    assert!(error.to_string().contains("has no checkpoint that can be used, out of 5; the newest: "), "{error}");
    assert_eq!(error.exit_code(), 4);
}

#[test]
fn pruning_keeps_the_newest_and_the_best() {
    let (_root, run) = folder();
    save(&run, &[10, 20, 30, 40, 50, 900]);
    run.prune(0, 50, None).unwrap();
    assert_eq!(run.checkpoints().unwrap().len(), 6);
    run.prune(2, 50, Some(20)).unwrap();
    assert_eq!(run.checkpoints().unwrap(), [20, 40, 50, 900]);
    run.prune(1, 50, Some(50)).unwrap();
    assert_eq!(run.checkpoints().unwrap(), [50, 900]);
    run.prune(3, 900, None).unwrap();
    assert_eq!(run.checkpoints().unwrap(), [50, 900]);
}
