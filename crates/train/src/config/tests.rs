//! Defaults, layers, round trips, and the words of every error.

mod fit;

use std::collections::HashSet;

use super::*;
use crate::error::ErrorKind;

fn text_defaults() -> Config {
    Config::defaults(DataKind::Text)
}

/// What `--set key=value` answers: the error and its hint.
fn refused(key: &str, value: &str) -> (String, String) {
    let mut config = text_defaults();
    let error = config.set(key, value).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Usage);
    assert_eq!(config, text_defaults(), "a refused value changes nothing");
    (error.what, error.hint.unwrap_or_default())
}

fn refused_toml(text: &str) -> (String, String) {
    let mut config = text_defaults();
    let error = config.merge_toml(text, "c.toml").unwrap_err();
    assert_eq!(config, text_defaults(), "a refused file changes nothing");
    (error.what, error.hint.unwrap_or_default())
}

fn owned(sets: &[(&str, &str)]) -> Vec<(String, String)> {
    sets.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

#[test]
fn the_defaults_of_a_text_are_the_recipe() {
    let config = text_defaults();
    assert_eq!(
        config.resolved(),
        r#"[data]
tokenizer = "char"
vocab = 0
validation = 0.1
order = "shuffle"
task = "auto"
missing = "refuse"

[model]
kind = "gpt2"
layers = 4
heads = 4
width = 128
hidden = 512
context = 64
vocab = 0
dropout = 0.0
tied = true
bias = false
activation = "gelu"

[optimizer]
kind = "adamw"
lr = 0.001
betas = [0.9, 0.99]
eps = 0.00000001
alpha = 0.99
weight_decay = 0.1
decay = "matrices"
momentum = 0.9
clip = 1.0

[schedule]
kind = "cosine"
warmup = 100
min_lr = 0.0001
factor = 0.5
every = 0
patience = 2
threshold = 0.0001
pct_start = 0.3
div_factor = 25.0
final_div_factor = 10000.0

[train]
steps = 2000
batch = 12
grad_shards = 1
ema = 0.0
eval_every = 500
class_weights = "none"
save_every = 500
keep = 3
patience = 0
min_delta = 0.0
norms = false
tensorboard = false
precision = "f32"
seed = 1337
threads = 0
"#
    );
    assert!(config.check().is_ok());
    assert_eq!(config.optimizer.kind, OptimizerKind::AdamW);
    assert_eq!(config.model.activation, Activation::Gelu);
}

#[test]
fn the_table_is_whole() {
    let names: HashSet<_> = KEYS.iter().map(|key| key.name).collect();
    assert_eq!(names.len(), KEYS.len(), "every name once");
    let mut sections: Vec<_> = KEYS.iter().map(Key::section).collect();
    sections.dedup();
    assert_eq!(sections, ["data", "model", "optimizer", "schedule", "train"], "each section in one piece");
    let models = |data: DataKind| ModelKind::ALL.iter().map(move |model| (data, *model));
    let all = |(data, model)| OptimizerKind::ALL.iter().map(move |optimizer| (data, model, *optimizer));
    for (data, model, optimizer) in
        [DataKind::Names, DataKind::Text, DataKind::Table].into_iter().flat_map(models).flat_map(all)
    {
        let config = Config::defaults_for(data, model, optimizer);
        assert!(config.check().is_ok());
        let kinds = ["model.kind", "optimizer.kind"];
        for key in KEYS.iter().filter(|key| !kinds.contains(&key.name)) {
            assert!(key.help.ends_with('.'), "{}", key.name);
            let default = key.default_for(data, model, optimizer);
            let again = parse::value_of_text(key, default).unwrap();
            assert_eq!(config.value(key), again, "{}", key.name);
        }
    }
    for (planned, _) in keys::PLANNED_KEYS {
        assert!(!names.contains(planned), "{planned} is built");
    }
    for (name, words) in keys::PLANNED_VALUES {
        let key = KEYS.iter().find(|key| key.name == *name).unwrap();
        let KeyType::Choice(built) = key.kind else { panic!("{name}") };
        assert!(words.iter().all(|word| !built.contains(word)), "{name}");
    }
}

#[test]
fn every_key_can_be_set_to_another_value_and_read_back() {
    let mut config = text_defaults();
    for key in KEYS {
        let other = match key.kind {
            KeyType::Whole { .. } => "7".to_string(),
            KeyType::Number(_) => "0.25".to_string(),
            KeyType::Pair(_) => "[0.5, 0.75]".to_string(),
            KeyType::Flag => (key.default == "false").to_string(),
            KeyType::Choice(words) | KeyType::ChoiceOrFile(words) => {
                format!("\"{}\"", words.iter().find(|w| **w != key.default).unwrap_or(&words[0]))
            }
            KeyType::Path | KeyType::Names => "\"a b/\\\"c\\\".txt\"".to_string(),
        };
        let plain = other.trim_matches('"').replace("\\\"", "\"");
        config.set(key.name, &plain).unwrap();
        let got = config.get(key.name).unwrap();
        let want: toml::Table = format!("x = {other}").parse().unwrap();
        let read: toml::Table = format!("x = {got}").parse().unwrap();
        assert_eq!(read, want, "{}", key.name);
    }
    let mut again = Config::defaults(DataKind::Names);
    again.merge_toml(&config.resolved(), "config.toml").unwrap();
    assert_eq!(again, config, "the resolved text is the configuration");
    assert_eq!(again.resolved(), config.resolved());
    assert_eq!(config.get("train.nothing"), None);
    assert_eq!(text_defaults().get("data.path"), None);
}

#[test]
fn awkward_numbers_return_from_their_text() {
    for number in [1e-300, 5e-324, 0.1 + 0.2, 1e22, 123_456_789.123, 3.0] {
        let mut config = text_defaults();
        config.optimizer.lr = number;
        let mut again = text_defaults();
        again.merge_toml(&config.resolved(), "c").unwrap();
        assert_eq!(again.optimizer.lr.to_bits(), number.to_bits());
    }
}

#[test]
fn a_checkpoint_holds_neither_paths_nor_threads() {
    let mut config = text_defaults();
    let before = config.for_checkpoint();
    config.set("data.path", "/home/me/text.txt").unwrap();
    config.set("train.threads", "3").unwrap();
    config.set("train.tensorboard", "true").unwrap();
    assert_eq!(config.for_checkpoint(), before);
    assert!(config.resolved().starts_with("[data]\npath = \"/home/me/text.txt\"\n"));
    assert!(config.resolved().ends_with("threads = 3\n"));
    config.set("train.seed", "1").unwrap();
    assert_ne!(config.for_checkpoint(), before);
}

#[test]
fn a_plan_is_compared_with_that_of_a_checkpoint() {
    let mut config = text_defaults();
    config.set("train.seed", "5").unwrap();
    let whole = config.for_checkpoint();
    assert!(config.is_planned_as(&whole));
    // A run of a version that did not know a key goes on where the key changes nothing.
    let old = whole.replace("ema = 0.0\n", "").replace("factor = 0.5\n", "");
    assert_ne!(old, whole);
    assert!(config.is_planned_as(&old));
    config.set("train.ema", "0.5").unwrap();
    assert!(!config.is_planned_as(&old) && !config.is_planned_as(&whole));
    config.set("train.ema", "0").unwrap();
    config.set("train.seed", "6").unwrap();
    assert!(!config.is_planned_as(&whole));
    assert!(!config.is_planned_as("[train]\nunknown = 1\n") && !config.is_planned_as("]"));
}

#[test]
fn later_layers_win_and_the_data_decides_the_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.toml");
    let names = Config::build(None, &[]).unwrap();
    assert_eq!(names, Config::defaults(DataKind::Names));
    std::fs::write(&file, "data.path = 'x.txt'\n[train]\nsteps = 50\nbatch = 5\n").unwrap();
    let config = Config::build(Some(&file), &owned(&[("train.steps", "60"), ("train.steps", "70")])).unwrap();
    assert_eq!((config.train.steps, config.train.batch), (70, 5));
    assert_eq!(config.model.width, 128, "the file names a text, so its defaults hold");
    let config = Config::build(Some(&file), &owned(&[("data.path", "")])).unwrap();
    assert_eq!((config.data.path.as_deref(), config.model.width), (None, 64), "an empty path is the embedded names");
    let config = Config::build(None, &owned(&[("data.path", "y")])).unwrap();
    assert_eq!((config.data.path.as_deref(), config.train.steps), (Some("y"), 2000));
    let mut merged = text_defaults();
    merged.merge_file(&file).unwrap();
    assert_eq!(merged.train.batch, 5);
    let config = Config::build(None, &owned(&[("model.kind", "ngram"), ("model.hidden", "9")])).unwrap();
    let got = (config.model.context, config.model.width, config.model.hidden, config.train.batch);
    assert_eq!(got, (8, 32, 9, 256), "a model has its own defaults, on the names too");
    let text = Config::defaults_with(DataKind::Text, ModelKind::Ngram);
    assert_eq!((text.model.context, text.model.hidden), (16, 512));
    let config =
        Config::build(None, &owned(&[("optimizer.kind", "nesterov"), ("optimizer.betas", "0.5,0.6")])).unwrap();
    let got = (config.optimizer.lr, config.optimizer.weight_decay, config.optimizer.betas);
    assert_eq!(got, (0.05, 0.0, [0.5, 0.6]), "an optimizer has its own defaults");
    let error = Config::build(None, &owned(&[("model.heads", "3")])).unwrap_err();
    assert_eq!(error.what, "model.width must be a multiple of model.heads, got a width of 64 and 3 heads");
}

#[test]
fn a_table_has_a_model_and_defaults_of_its_own() {
    let build = |sets: &[(&str, &str)]| Config::build(None, &owned(sets));
    let config = build(&[("data.path", "x.CSV"), ("data.target", "y")]).unwrap();
    assert_eq!(config.model.kind, ModelKind::Mlp);
    let got = (config.data.validation, config.model.layers, config.model.hidden, config.model.bias, config.train.batch);
    assert_eq!(got, (0.2, 2, 128, true, 32));
    let refused = |sets: &[(&str, &str)]| build(sets).map_err(|error| (error.what, error.hint.unwrap())).unwrap_err();
    let (what, hint) = refused(&[("data.path", "x.npy"), ("model.kind", "gpt2")]);
    assert_eq!(what, "gpt2 is a model of a text, and the data is a table");
    assert_eq!(hint, "take --model mlp");
    let (what, hint) = refused(&[("data.path", "x.txt"), ("model.kind", "mlp")]);
    assert_eq!(what, "mlp is a model of a table, and the data is a text");
    assert_eq!(hint, "take --model gpt2, ngram, rnn or gru");
    let (what, _) = refused(&[("data.target", "y")]);
    assert_eq!(what, "data.target is the column of a table, and the data is a text");
}

#[test]
fn toml_may_be_written_in_any_of_its_ways() {
    let mut config = text_defaults();
    let text = "# mine\r\ntrain = { steps = 0x10, batch = 1_000 }\r\noptimizer.lr = 1\nmodel.bias = true\n[schedule]\n";
    config.merge_toml(text, "c.toml").unwrap();
    assert_eq!((config.train.steps, config.train.batch), (16, 1000));
    assert_eq!((config.optimizer.lr, config.model.bias), (1.0, true));
    config.set("train.steps", "1_000_000").unwrap();
    config.set("optimizer.lr", "3e-4").unwrap();
    config.set("optimizer.betas", "0.5,0.75").unwrap();
    assert_eq!((config.train.steps, config.optimizer.lr, config.optimizer.betas), (1_000_000, 3e-4, [0.5, 0.75]));
}

#[test]
fn unknown_keys_name_the_nearest() {
    let unknown = |name: &str, near: &str| {
        assert_eq!(refused(name, "1"), (format!("unknown key `{name}`"), format!("did you mean {near}?")));
    };
    unknown("train.step", "train.steps");
    unknown("steps", "train.steps");
    unknown("lr", "optimizer.lr");
    unknown("model.lr", "optimizer.lr");
    unknown("optimiser.lr", "optimizer.lr");
    unknown("model.layer", "model.layers");
    unknown("train.eval-every", "train.eval_every");
    unknown("betas", "optimizer.betas");
    unknown("train.warmup", "schedule.warmup");
    unknown("drop_out", "model.dropout");
    let nothing = refused("colour", "blue");
    assert_eq!(nothing, ("unknown key `colour`".into(), "`geartrain train --help` lists the keys".into()));
    assert_eq!(refused("", "1").0, "unknown key ``");
    let section = refused("model", "gpt2");
    assert_eq!(section, ("model is a section, not a key".into(), "name a key in it too, as in model.kind".into()));
}

#[test]
fn planned_keys_and_values_are_not_available_yet() {
    for (name, hint) in keys::PLANNED_KEYS {
        assert_eq!(refused(name, "1"), (format!("{name} is not available yet"), hint.to_string()));
    }
    for kind in ["lstm", "llama"] {
        let hint = "use gpt2, ngram, rnn, gru or mlp for now".to_string();
        let want = (format!("model.kind = `{kind}` is not available yet"), hint);
        assert_eq!(refused("model.kind", kind), want);
    }
}

#[test]
fn a_tokenizer_is_a_word_or_a_file() {
    let mut config = text_defaults();
    for kind in TokenizerKind::ALL {
        config.set("data.tokenizer", kind.name()).unwrap();
        assert_eq!(config.data.tokenizer, TokenizerSource::Made(*kind));
    }
    for path in ["my.json", "other/file", "bpe/tokenizer.json"] {
        config.merge_toml(&format!("data.tokenizer = {path:?}"), "c.toml").unwrap();
        assert_eq!(config.data.tokenizer, TokenizerSource::File(path.to_string()));
        let mut again = text_defaults();
        again.merge_toml(&config.resolved(), "c.toml").unwrap();
        assert_eq!(again, config);
        assert!(config.for_checkpoint().contains("\ntokenizer = \"tokenizer.json\"\n"), "no path in a checkpoint");
    }
    let wanted = "data.tokenizer wants char, byte, bpe or the path of a tokenizer.json, got `bpee`";
    assert_eq!(refused("data.tokenizer", "bpee"), (wanted.to_string(), "did you mean bpe?".to_string()));
}

#[test]
fn a_vocabulary_is_for_bpe_and_has_all_bytes() {
    let build = |sets: &[(&str, &str)]| Config::build(None, &owned(sets));
    let bpe = ("data.tokenizer", "bpe");
    for vocab in ["0", "256", "50257"] {
        assert_eq!(build(&[bpe, ("data.vocab", vocab)]).unwrap().get("data.vocab").as_deref(), Some(vocab));
    }
    for vocab in ["1", "255"] {
        let error = build(&[bpe, ("data.vocab", vocab)]).unwrap_err();
        assert_eq!(error.what, format!("data.vocab must be at least 256, one token for each byte, got {vocab}"));
    }
    for other in ["char", "byte", "my.json"] {
        let error = build(&[("data.tokenizer", other), ("data.vocab", "300")]).unwrap_err();
        assert_eq!(error.what, "data.vocab is for data.tokenizer=bpe: other tokenizers have the size they have");
    }
}

#[test]
fn values_of_another_type_are_refused() {
    let wrong = |key: &str, value: &str, wanted: &str, hint: &str| {
        let (what, got_hint) = refused(key, value);
        assert_eq!(what, format!("{key} wants {wanted}, got `{value}`"));
        assert_eq!(got_hint, hint);
    };
    for value in ["abc", "", "1.5", "1e3", "1 2"] {
        wrong("train.steps", value, "a whole number", "for example train.steps = 2000");
    }
    wrong("optimizer.lr", "fast", "a number", "for example optimizer.lr = 0.001");
    for value in ["0.9", "0.9,x", "0.9, 0.99, 0.999", "[0.9"] {
        wrong("optimizer.betas", value, "two numbers", "for example optimizer.betas = [0.9, 0.99]");
    }
    wrong("model.tied", "yes", "true or false", "");
    let optimizers = "sgd, momentum, nesterov, adamw, adam, rmsprop, adagrad or lion";
    wrong("optimizer.kind", "adamww", optimizers, "did you mean adamw?");
    wrong("optimizer.kind", "sophia", optimizers, "");
    wrong("model.kind", "gpt3", "gpt2, ngram, rnn, gru or mlp", "did you mean gpt2?");
    wrong("data.order", "sequentiel", "shuffle or sequential", "did you mean sequential?");
}

#[test]
fn values_out_of_range_are_refused() {
    let outside = |key: &str, value: &str, range: &str| {
        assert_eq!(refused(key, value).0, format!("{key} must be {range}, got {value}"));
    };
    outside("train.batch", "0", "at least 1");
    outside("train.steps", "-3", "at least 1");
    outside("schedule.warmup", "-1", "at least 0");
    outside("model.layers", "2147483648", "at most 2147483647");
    outside("train.seed", "9223372036854775808", "at most 9223372036854775807");
    outside("train.seed", "99999999999999999999", "at most 9223372036854775807");
    outside("data.validation", "0.51", "from 0 to 0.5");
    outside("data.validation", "-0.1", "from 0 to 0.5");
    outside("model.dropout", "1", "at least 0 and below 1");
    outside("optimizer.lr", "0", "above 0");
    outside("optimizer.lr", "inf", "above 0");
    outside("optimizer.lr", "NaN", "above 0");
    outside("optimizer.clip", "-1", "at least 0");
    outside("schedule.factor", "1", "above 0 and below 1");
    outside("schedule.pct_start", "0", "above 0 and below 1");
    outside("train.ema", "1", "at least 0 and below 1");
    outside("train.grad_shards", "0", "at least 1");
    outside("optimizer.weight_decay", "-1", "at least 0");
    let (what, _) = refused("optimizer.betas", "0.9,1");
    assert_eq!(what, "optimizer.betas must be two numbers, each at least 0 and below 1, got 0.9 and 1");
    for (key, edge) in
        [("data.validation", "0"), ("data.validation", "0.5"), ("model.dropout", "0"), ("train.seed", "0")]
    {
        text_defaults().set(key, edge).unwrap();
    }
}

#[test]
fn files_say_file_and_line() {
    let (what, hint) = refused_toml("[train]\nbatch = 4\nstep = 3\n");
    assert_eq!((what.as_str(), hint.as_str()), ("c.toml:3: unknown key `train.step`", "did you mean train.steps?"));
    let (what, hint) = refused_toml("\n[train]\nsteps = \"abc\"\n");
    assert_eq!(what, "c.toml:3: train.steps wants a whole number, got `\"abc\"`");
    assert_eq!(hint, "for example train.steps = 2000");
    let lines = [
        ("train.batch = 0", "train.batch must be at least 1, got 0"),
        ("train.batch = 1.5", "train.batch wants a whole number, got `1.5`"),
        ("train.batch = -1", "train.batch must be at least 1, got -1"),
        ("model.tied = 1", "model.tied wants true or false, got `1`"),
        ("data.path = 3", "data.path wants the path of a file or folder, in quotes, got `3`"),
        ("data.tokenizer = true", "data.tokenizer wants char, byte, bpe or the path of a tokenizer.json, got `true`"),
        ("data.tokenizer = \"bpr\"", "data.tokenizer wants char, byte, bpe or the path of a tokenizer.json, got `bpr`"),
        ("optimizer.betas = [0.9, \"x\"]", "optimizer.betas wants two numbers, got `[0.9, \"x\"]`"),
        ("optimizer.lr = nan", "optimizer.lr must be above 0, got NaN"),
        ("model.kv_heads = 2", "model.kv_heads is not available yet"),
        ("train = 3", "train is a section, not a key"),
        ("train.steps.x = 3", "unknown key `train.steps.x`"),
        ("[tarin]\nsteps = 1", "unknown key `tarin.steps`"),
        ("[nothing]", "unknown key `nothing`"),
        ("[[train]]", "train is a section, not a key"),
    ];
    for (text, want) in lines {
        let line = if text.starts_with("[tarin]") { 2 } else { 1 };
        assert_eq!(refused_toml(text).0, format!("c.toml:{line}: {want}"));
    }
    let (what, _) = refused_toml("[train]\nlayers = 1\n[model]\nlr = 1\n");
    assert!(what.starts_with("c.toml:2: "), "the first line is named first: {what}");
}

#[test]
fn what_is_not_toml_has_a_line() {
    let (what, _) = refused_toml("[train]\nsteps 100\n");
    assert!(what.starts_with("c.toml:2: not valid TOML, "), "{what}");
    let (what, _) = refused_toml("[train]\nsteps = 1\nsteps = 2\n");
    assert_eq!(what, "c.toml:3: not valid TOML, duplicate key");
    let (what, _) = refused_toml("a = \"é");
    assert!(what.starts_with("c.toml:1: not valid TOML, "), "{what}");
}

#[test]
fn a_missing_file_is_named() {
    let error = text_defaults().merge_file(Path::new("no/such.toml")).unwrap_err();
    assert_eq!(error.what, "there is no configuration file `no/such.toml`");
    assert_eq!(error.hint.as_deref(), Some("--config wants a TOML file; `geartrain train --help` lists its keys"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.toml");
    std::fs::write(&file, b"\xff").unwrap();
    let error = text_defaults().merge_file(&file).unwrap_err();
    assert_eq!(error.what, format!("the configuration file `{}` is not valid UTF-8 text", file.display()));
    let error = text_defaults().merge_file(folder.path()).unwrap_err();
    assert!(error.what.starts_with(&format!("cannot read `{}`: ", folder.path().display())), "{error}");
    assert_eq!(error.kind, ErrorKind::Failed);
}

#[test]
fn the_token_table_is_as_large_as_asked_for() {
    let mut config = text_defaults();
    assert_eq!(config.vocab_for(65), Ok(65));
    config.model.vocab = 128;
    assert_eq!(config.vocab_for(65), Ok(128));
    let error = config.vocab_for(256).unwrap_err();
    assert_eq!(error.what, "model.vocab must be at least 256, the size of the tokenizer, got 128");
    assert_eq!(error.hint.as_deref(), Some("leave model.vocab at 0 to take the tokenizer's size"));
}

#[test]
fn set_wants_a_key_and_a_value() {
    assert_eq!(split_set("train.steps = 5"), Ok(("train.steps".into(), "5".into())));
    assert_eq!(split_set("data.path=a=b"), Ok(("data.path".into(), "a=b".into())));
    let error = split_set("train.steps").unwrap_err();
    assert_eq!(error.what, "--set wants key=value, got `train.steps`");
    assert_eq!(
        error.hint.as_deref(),
        Some("for example --set train.steps=500; `geartrain train --help` lists the keys")
    );
}

#[test]
fn help_shows_every_key() {
    let help = keys_help();
    assert_eq!(help.lines().filter(|line| line.starts_with("  ")).count(), KEYS.len());
    assert!(help.contains("\n[train]\n  steps            2000       How many training steps are planned."), "{help}");
    assert!(help.contains("(the embedded names: 1000, ngram: 12000, ngram on names: 1000, "));
    assert!(help.contains("[sgd, momentum, nesterov, adamw, adam, rmsprop, adagrad, lion]"));
}
