//! Language models over batches: what padding and the number of rows must not change.

use geartrain_engine::State;

use crate::config::{Config, ModelKind};
use crate::data::{Corpus, Dataset, Evaluation, Part, Text, TextData};
use crate::model::{self, Task};
use crate::tokenizer::Tokenizer;
use crate::trainer::Evaluator;
use geartrain_engine::Graph;
use geartrain_nn::Dropout;

fn config(kind: ModelKind) -> Config {
    let sets = [
        ("model.kind", kind.name()),
        ("model.layers", "1"),
        ("model.heads", "2"),
        ("model.width", "8"),
        ("model.hidden", "12"),
        ("model.context", "5"),
        ("data.validation", "0.5"),
        ("train.threads", "1"),
    ];
    Config::build(None, &sets.map(|(key, value)| (key.to_string(), value.to_string()))).unwrap()
}

#[test]
fn a_padded_batch_is_measured_as_its_windows_one_at_a_time() {
    for kind in ModelKind::ALL.iter().copied() {
        let config = config(kind);
        // 40 windows of 5 answers in the validation part, or 197 of one: neither is a whole number of batches.
        let text: String = (0..402u32).map(|i| char::from(b'a' + (i * i % 23 % 7) as u8)).collect();
        let text = Text::new(&text, "t", "`t`");
        let tokenizer = Tokenizer::chars(&text.whole().unwrap());
        let corpus = Corpus::new(&text, tokenizer.clone(), 0.5, config.model.context).unwrap();
        let vocab = tokenizer.vocab_size();
        let task = Task::Tokens { vocab };
        let graph = model::training_graph(&config, &task).unwrap();
        let state = State::new(&graph, 3).unwrap();

        let data = TextData::new(&config, corpus.clone());
        let rows = model::evaluation_rows(&config);
        let batches = data.batches(Part::Validation, rows).unwrap();
        let loss = Evaluator::new(&config, &task, &state).unwrap().run(&state, &data, Part::Validation).unwrap().loss;

        let answers = super::answers_a_window(&config);
        let g = Graph::new();
        let one = super::forward(&g, &config, vocab, 1, &Dropout::off()).unwrap();
        g.output("losses", one.losses);
        let mut program = model::compile(&g, &state, &config).unwrap();
        let mut batch = program.batch();
        let windows = Evaluation::new(&corpus.validation, config.model.context, 1).unwrap().answers(answers);
        assert!(windows.windows() < batches * rows, "{}: the last batch is padded", kind.name());
        let (mut sum, mut most) = (0.0, f64::MIN);
        for i in 0..windows.windows() {
            let (tokens, targets) = batch.u32_pair("tokens", "targets").unwrap();
            assert_eq!(windows.fill(i, tokens, targets), 1);
            program.evaluate(&state, &batch).unwrap();
            let losses = program.f32s("losses").unwrap();
            assert_eq!(losses.len(), answers);
            for loss in losses {
                sum += f64::from(*loss);
                most = most.max(f64::from(*loss));
            }
        }
        let mean = sum / (windows.windows() * answers) as f64;
        // The sums of f32 do not depend on the rows, so only the order in which f64 adds them may.
        assert!((mean - loss).abs() < 1e-12, "{}: {mean} one at a time, {loss} in batches", kind.name());
        assert!(most > mean + 1e-3, "{}: the losses differ from each other", kind.name());
    }
}
