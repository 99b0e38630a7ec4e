//! Windows of training and evaluation.

use super::*;

fn counting(n: u32) -> Vec<u32> {
    (0..n).collect()
}

fn tokens(n: u32) -> Tokens {
    counting(n).into()
}

fn batch_of(windows: &Windows, step: u64) -> (Vec<u32>, Vec<u32>) {
    let mut inputs = vec![u32::MAX; windows.rows() * windows.context()];
    let mut targets = inputs.clone();
    windows.batch(step, 0, &mut inputs, &mut targets);
    (inputs, targets)
}

#[test]
fn shuffled_places_are_those_of_the_published_layout() {
    // From an independent implementation of Philox4x32-10 in Python: seed, step, row, tokens, context, start.
    let known = [
        (1337, 0, 0, 1000, 8, 177),
        (1337, 0, 1, 1000, 8, 790),
        (1337, 1, 0, 1000, 8, 380),
        (1338, 0, 0, 1000, 8, 846),
        (1337, 1 << 32, 0, 1000, 8, 663),
        (1337 | 1 << 40, 0, 0, 1000, 8, 811),
        (1337, 1999, 11, 1_003_854, 64, 357_062),
    ];
    for (seed, step, row, n, context, start) in known {
        let tokens = Tokens::from(vec![0; n]);
        let windows = Windows::new(&tokens, Order::Shuffle, seed, context, 12).unwrap();
        assert_eq!(windows.start(step, row), start, "seed {seed}, step {step}, row {row}");
    }
}

#[test]
fn shuffled_windows_fit_and_reach_both_ends() {
    let tokens = tokens(20);
    let windows = Windows::new(&tokens, Order::Shuffle, 7, 8, 3).unwrap();
    let mut seen = [0; 12];
    for step in 0..400 {
        let (inputs, targets) = batch_of(&windows, step);
        for row in 0..3 {
            let (x, y) = (&inputs[row * 8..][..8], &targets[row * 8..][..8]);
            assert_eq!(x, &counting(20)[x[0] as usize..][..8], "a piece of the text");
            assert!(x.iter().zip(y).all(|(x, y)| x + 1 == *y), "targets are the next tokens");
            seen[x[0] as usize] += 1;
        }
        assert_eq!((inputs, targets), batch_of(&windows, step), "the step decides");
    }
    // 1,200 draws over 12 places: 100 each, five standard deviations are 48.
    assert!(seen.iter().all(|n| (52..=148).contains(n)), "{seen:?}");
}

#[test]
fn a_text_of_one_window_is_read_again_and_again() {
    let tokens = tokens(5);
    for order in [Order::Shuffle, Order::Sequential] {
        let windows = Windows::new(&tokens, order, 3, 4, 2).unwrap();
        for step in [0, 1, u64::MAX] {
            let (inputs, targets) = batch_of(&windows, step);
            assert_eq!(inputs, [0, 1, 2, 3, 0, 1, 2, 3]);
            assert_eq!(targets, [1, 2, 3, 4, 1, 2, 3, 4]);
        }
    }
}

#[test]
fn sequential_windows_follow_each_other_and_wrap() {
    // 3 whole windows of 3: the token 9 is a target only, 10 and 11 are left out.
    let tokens = tokens(12);
    let windows = Windows::new(&tokens, Order::Sequential, 0, 3, 2).unwrap();
    assert_eq!(batch_of(&windows, 0).0, [0, 1, 2, 3, 4, 5]);
    assert_eq!(batch_of(&windows, 1).0, [6, 7, 8, 0, 1, 2]);
    assert_eq!(batch_of(&windows, 1).1, [7, 8, 9, 1, 2, 3]);
    assert_eq!(batch_of(&windows, 3).0, batch_of(&windows, 0).0);
    // (2^64 - 1) * 2 mod 3 is 0.
    assert_eq!(windows.start(u64::MAX, 0), 0);
}

#[test]
fn evaluation_reads_every_whole_window_once() {
    for (n, context, rows, windows, batches) in [(12, 3, 2, 3, 2), (13, 3, 2, 4, 2), (4, 3, 64, 1, 1), (7, 1, 6, 6, 1)]
    {
        let tokens = tokens(n);
        let evaluation = Evaluation::new(&tokens, context, rows).unwrap();
        assert_eq!((evaluation.windows(), evaluation.batches()), (windows, batches));
        let mut read = Vec::new();
        for batch in 0..batches {
            let mut inputs = vec![u32::MAX; rows * context];
            let mut targets = inputs.clone();
            let real = evaluation.fill(batch, &mut inputs, &mut targets);
            assert!(inputs[real * context..].iter().chain(&targets[real * context..]).all(|token| *token == 0));
            assert!(inputs[..real * context].iter().zip(&targets).all(|(x, y)| x + 1 == *y));
            read.extend_from_slice(&inputs[..real * context]);
        }
        assert_eq!(read, counting((windows * context) as u32));
    }
    let tokens = tokens(12);
    let mut buffer = ([9; 6], [9; 6]);
    let evaluation = Evaluation::new(&tokens, 3, 2).unwrap();
    assert_eq!(evaluation.fill(2, &mut buffer.0, &mut buffer.1), 0, "past the end is padding");
    assert_eq!(buffer, ([0; 6], [0; 6]));
}

#[test]
fn a_model_with_one_answer_is_asked_for_every_token() {
    let tokens = tokens(7);
    let evaluation = Evaluation::new(&tokens, 3, 2).unwrap().answers(1);
    // Windows start at 0, 1, 2 and 3; the tokens 0 to 2 have too little before them.
    assert_eq!((evaluation.windows(), evaluation.batches()), (4, 2));
    let (mut inputs, mut targets) = ([9; 6], [9; 2]);
    assert_eq!(evaluation.fill(1, &mut inputs, &mut targets), 2);
    assert_eq!((inputs, targets), ([2, 3, 4, 3, 4, 5], [5, 6]));
    let windows = Windows::new(&tokens, Order::Sequential, 0, 3, 3).unwrap().answers(1);
    let (mut inputs, mut targets) = ([9; 9], [9; 3]);
    windows.batch(1, 0, &mut inputs, &mut targets);
    assert_eq!((inputs, targets), ([3, 4, 5, 0, 1, 2, 1, 2, 3], [6, 3, 4]), "after the last window comes the first");
}

#[test]
fn a_shard_is_a_part_of_the_batch() {
    let tokens = tokens(50);
    for (order, answers) in [(Order::Shuffle, 4), (Order::Sequential, 4), (Order::Shuffle, 1)] {
        let windows = Windows::new(&tokens, order, 5, 4, 6).unwrap().answers(answers);
        let (mut inputs, mut targets) = (vec![99; 24], vec![99; 6 * answers]);
        windows.batch(3, 0, &mut inputs, &mut targets);
        let (mut part, mut part_targets) = (vec![99; 8], vec![99; 2 * answers]);
        windows.batch(3, 4, &mut part, &mut part_targets);
        assert_eq!((&part[..], &part_targets[..]), (&inputs[16..], &targets[4 * answers..]));
    }
}

#[test]
fn too_few_tokens_are_refused() {
    let tokens = tokens(4);
    let error = Windows::new(&tokens, Order::Shuffle, 0, 4, 1).unwrap_err();
    assert_eq!(error.what, "the text has 4 tokens, but a context of 4 needs at least 5");
    assert_eq!(error.hint.as_deref(), Some("use a longer text or a model with a shorter context"));
    let error = Evaluation::new(&Tokens::default(), 1, 1).unwrap_err();
    assert_eq!(error.what, "the text has 0 tokens, but a context of 1 needs at least 2");
    let error = Windows::new(&tokens, Order::Shuffle, 0, 2, 0).unwrap_err();
    assert_eq!(error.what, "a batch needs rows and a context, got 0 rows of 2 tokens");
    assert!(Evaluation::new(&tokens, 0, 1).is_err());
}
