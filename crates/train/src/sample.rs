//! Logits to text.

use std::collections::HashSet;

use geartrain_engine::{Batch, Program, State, philox};

use crate::config::Config;
use crate::data::Corpus;
use crate::error::{Error, Result};
use crate::model;
use crate::tokenizer::Tokenizer;

/// New lines that a model of short lines writes at the end of its run.
const NEW_LINES: usize = 10;
/// The most tokens of a text that is looked at for being a list of short lines.
const LIST_TOKENS: usize = 1 << 22;
/// Tokens that any other model writes.
const SAMPLE_TOKENS: usize = 300;

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// Divides the logits; 0 takes the most likely token.
    pub temperature: f64,
    /// Only this many of the most likely tokens; 0 for all.
    pub top_k: usize,
    /// Only the most likely tokens that together reach this probability; 1 for all.
    pub top_p: f64,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for Choice {
    fn default() -> Choice {
        Choice { temperature: 0.8, top_k: 0, top_p: 1.0, seed: 0 }
    }
}

impl Choice {
    /// # Errors
    /// A temperature that is negative or not finite, or a probability outside (0, 1].
    pub fn check(&self) -> Result<()> {
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return Err(Error::usage(format!("--temperature must be at least 0, got {}", self.temperature)));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(Error::usage(format!("--top-p must be above 0 and at most 1, got {}", self.top_p)));
        }
        Ok(())
    }

    /// The token for draw number `draw`: the same logits, seed and number give the same token.
    pub fn pick(&self, logits: &[f32], draw: u64) -> u32 {
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b)));
        let Some(best) = order.first().copied() else { return 0 };
        if self.temperature == 0.0 {
            return best as u32;
        }
        if self.top_k > 0 {
            order.truncate(self.top_k);
        }
        let top = f64::from(logits[best]);
        let weight = |i: &usize| libm::exp((f64::from(logits[*i]) - top) / self.temperature);
        let mut weights: Vec<f64> = order.iter().map(weight).collect();
        let total: f64 = weights.iter().sum();
        let mut kept = 0.0;
        let enough = weights.iter().position(|w| {
            kept += w;
            kept >= self.top_p * total
        });
        weights.truncate(enough.map_or(weights.len(), |i| i + 1));
        let total: f64 = weights.iter().sum();
        let mut left = philox::uniform(self.seed, philox::stream_of("sample"), draw) * total;
        for (token, weight) in order.iter().zip(&weights) {
            left -= weight;
            if left < 0.0 {
                return *token as u32;
            }
        }
        order[weights.len() - 1] as u32
    }
}

/// A model that writes: continues a text token by token.
pub struct Writer {
    program: Program,
    batch: Batch,
    context: usize,
    answers: usize,
    vocab: usize,
    /// Tokens that the tokenizer knows; a larger table's others are never chosen.
    known: usize,
    draws: u64,
}

impl Writer {
    /// Compiles the program that writes with `state`.
    ///
    /// # Errors
    /// A model that does not fit the state.
    pub fn new(config: &Config, state: &State, known: usize) -> Result<Writer> {
        let vocab = config.vocab_for(known)?;
        let program = model::compile(&model::writing_graph(config, vocab), state, config)?;
        let batch = program.batch();
        let answers = model::answers_a_window(config);
        Ok(Writer { program, batch, context: config.model.context, answers, vocab, known, draws: 0 })
    }

    /// The token after `text`, which must not be empty; only its last `context` tokens count.
    ///
    /// # Errors
    /// A token that the model does not know.
    pub fn next(&mut self, state: &State, text: &[u32], choice: &Choice) -> Result<u32> {
        let window = &text[text.len().saturating_sub(self.context)..];
        let tokens = self.batch.u32s("tokens").map_err(Error::bug)?;
        // A model that answers after every token is causal, so what stands after the text does not matter. One that
        // answers once wants a whole window: a short text begins with its first token again and again.
        let last = if self.answers == 1 { self.context } else { window.len().max(1) };
        tokens.fill(window.first().copied().unwrap_or(0));
        tokens[last - window.len()..last].copy_from_slice(window);
        self.program.evaluate(state, &self.batch).map_err(Error::bug)?;
        let logits = self.program.f32s("logits").unwrap_or(&[]);
        let row = (last + self.answers - self.context - 1) * self.vocab;
        let logits = logits.get(row..row + self.known).ok_or_else(|| Error::failed("the model gave no logits"))?;
        if let Some(bad) = logits.iter().find(|l| l.is_nan()) {
            return Err(Error::non_finite(format!("a logit is {bad}: the weights are damaged")));
        }
        self.draws += 1;
        Ok(choice.pick(logits, self.draws - 1))
    }
}

/// What the trained model writes: ten new lines where the data is a list of short lines, else one text.
///
/// # Errors
/// A model that does not fit the state.
pub fn samples(config: &Config, corpus: &Corpus, state: &State) -> Result<Vec<String>> {
    let tokenizer = &corpus.tokenizer;
    let mut writer = Writer::new(config, state, tokenizer.vocab_size())?;
    let choice = Choice { seed: config.train.seed, ..Choice::default() };
    let Ok(newline) = tokenizer.encode("\n") else {
        let mut start = [0];
        corpus.train.copy(0, &mut start);
        return Ok(vec![write_text(&mut writer, state, tokenizer, start.to_vec(), &choice)?]);
    };
    // A text that is as long as a book or two is no list of names, and is not looked through.
    let list = corpus.train.len() + corpus.validation.len() <= LIST_TOKENS;
    // The cut between the parts may go through a character.
    let all = if list { [corpus.train.to_vec(), corpus.validation.to_vec()].concat() } else { Vec::new() };
    let all = tokenizer.decode(&all);
    // A list has no empty lines, and each fits into what the model sees.
    let short = |line: &str| (1..config.model.context).contains(&line.chars().count());
    if !list || !all.lines().all(short) {
        return Ok(vec![write_text(&mut writer, state, tokenizer, newline, &choice)?]);
    }
    write_lines(&mut writer, state, tokenizer, &newline, &all.lines().collect(), (config.model.context, choice))
}

/// Lines that are not in `known`, each begun after a line's end and ended by the next.
fn write_lines(
    writer: &mut Writer,
    state: &State,
    tokenizer: &Tokenizer,
    newline: &[u32],
    known: &HashSet<&str>,
    (longest, choice): (usize, Choice),
) -> Result<Vec<String>> {
    let mut lines: Vec<String> = Vec::new();
    for _ in 0..20 * NEW_LINES {
        let mut tokens = newline.to_vec();
        loop {
            let next = writer.next(state, &tokens, &choice)?;
            tokens.push(next);
            if newline.ends_with(&[next]) || tokens.len() > longest {
                break;
            }
        }
        let line = tokenizer.decode(&tokens).trim().to_string();
        if !line.is_empty() && !known.contains(line.as_str()) && !lines.contains(&line) {
            lines.push(line);
        }
        if lines.len() == NEW_LINES {
            break;
        }
    }
    Ok(lines)
}

fn write_text(
    writer: &mut Writer,
    state: &State,
    tokenizer: &Tokenizer,
    start: Vec<u32>,
    choice: &Choice,
) -> Result<String> {
    let (mut tokens, from) = (start.clone(), start.len());
    for _ in 0..SAMPLE_TOKENS {
        let next = writer.next(state, &tokens, choice)?;
        tokens.push(next);
    }
    Ok(tokenizer.decode(&tokens[from..]).trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 4] = [1.0, 3.0, 2.0, -1.0];

    #[test]
    fn temperature_zero_takes_the_most_likely() {
        let choice = Choice { temperature: 0.0, ..Choice::default() };
        assert!((0..50).all(|draw| choice.pick(&LOGITS, draw) == 1));
    }

    #[test]
    fn top_k_and_top_p_cut_the_tail() {
        let two = Choice { temperature: 5.0, top_k: 2, ..Choice::default() };
        let few = Choice { temperature: 1.0, top_p: 0.5, ..Choice::default() };
        assert!((0..200).all(|draw| [1, 2].contains(&two.pick(&LOGITS, draw))));
        assert!((0..200).any(|draw| two.pick(&LOGITS, draw) == 2));
        assert!((0..200).all(|draw| few.pick(&LOGITS, draw) == 1));
    }

    #[test]
    fn draws_follow_the_probabilities_and_repeat() {
        let choice = Choice { temperature: 1.0, ..Choice::default() };
        let n = 20_000;
        let total: f64 = LOGITS.iter().map(|l| f64::from(*l).exp()).sum();
        for token in 0..4u32 {
            let share = (0..n).filter(|d| choice.pick(&LOGITS, *d) == token).count() as f64 / n as f64;
            let expected = f64::from(LOGITS[token as usize]).exp() / total;
            assert!((share - expected).abs() < 0.02, "token {token}: {share} against {expected}");
        }
        assert_eq!(choice.pick(&LOGITS, 7), choice.pick(&LOGITS, 7));
    }

    #[test]
    fn impossible_choices_are_refused() {
        for (temperature, top_p) in [(-1.0, 1.0), (f64::NAN, 1.0), (1.0, 0.0), (1.0, 1.5)] {
            assert!(Choice { temperature, top_p, ..Choice::default() }.check().is_err());
        }
    }
}
