//! Decoding with caches against the forward pass, and what must not change completions.

use std::ops::ControlFlow;

use real_lm::head::{self, Rows};
use real_lm::{BlockModel, Finish, Generated, Keep, Model, Packed, Sampling, Workspace, forward, generate};

use crate::golden::{Golden, NAMES};
use crate::support::{random_model, wide_model};

fn prompts() -> Vec<Vec<u32>> {
    vec![
        vec![3, 1, 4],
        vec![1],
        (0..70).map(|i| i % 31).collect(),
        vec![3, 1, 4],
        vec![3, 1, 4],
        vec![2, 7, 1, 8, 2],
    ]
}

fn complete(model: &Model, sampling: &Sampling) -> Vec<Generated> {
    generate(model, &prompts(), sampling, |_, _| ControlFlow::Continue(()), |_, _| ())
}

/// The most probable next token and nothing cached.
fn argmax_of_forward(model: &Model, sequence: &[u32]) -> u32 {
    let mut workspace = Workspace::new(Keep::Nothing);
    forward(model, &Packed::new(&[sequence]), &mut workspace);
    let logits = head::logits(model, workspace.hidden(), &[sequence.len() - 1]);
    let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
    best as u32
}

#[test]
fn greedy_with_caches_equals_greedy_without() {
    for name in NAMES {
        let model = Golden::read(name).model();
        let sampling = Sampling { temperature: 0.0, max_new_tokens: 24, batch: 3, ..Sampling::default() };
        for (prompt, completion) in prompts().into_iter().zip(complete(&model, &sampling)) {
            let mut sequence = prompt;
            for &id in &completion.ids {
                assert_eq!(id, argmax_of_forward(&model, &sequence), "{name} after {sequence:?}");
                sequence.push(id);
            }
            assert_eq!(completion.finish, Finish::Length);
        }
    }
}

#[test]
fn weights_of_eight_bits_come_close() {
    let model = wide_model();
    let rounded = BlockModel::rounded(&model).unwrap();
    assert!(BlockModel::rounded(&random_model(0)).is_none(), "24 is no multiple of 32");
    let sampling = Sampling { temperature: 0.0, max_new_tokens: 6, ..Sampling::default() };
    let go = |batch| {
        let sampling = Sampling { batch, ..sampling.clone() };
        generate(&rounded, &prompts(), &sampling, |_, _| ControlFlow::Continue(()), |_, _| ())
    };
    let together = go(3);
    assert_eq!(together, go(1), "company changes nothing");
    // Compared is the first token of each prompt, one of which takes several steps to take in.
    for (full, rounded) in complete(&model, &sampling).iter().zip(&together) {
        assert!((full.logprobs[0] - rounded.logprobs[0]).abs() < 0.1, "{full:?} {rounded:?}");
    }
    let same =
        complete(&model, &sampling).iter().zip(&together).filter(|(a, b)| a.ids[0] == b.ids[0]).count();
    assert!(same >= 5, "{same} of 6");
}

#[test]
fn logprobs_are_those_of_the_head() {
    let named = NAMES.map(|name| (name, Golden::read(name).model()));
    // The last has heads as wide as a block of columns.
    for (name, model) in named.into_iter().chain([("wide", wide_model())]) {
        for temperature in [1.0, 0.6] {
            let sampling = Sampling { temperature, top_p: 0.9, max_new_tokens: 30, ..Sampling::default() };
            for (prompt, completion) in prompts().into_iter().zip(complete(&model, &sampling)) {
                let sequence = [prompt.as_slice(), &completion.ids].concat();
                let rows: Vec<usize> = (prompt.len() - 1..sequence.len() - 1).collect();
                let mut workspace = Workspace::new(Keep::Nothing);
                forward(&model, &Packed::new(&[sequence]), &mut workspace);
                let scored = Rows { rows: &rows, targets: &completion.ids, temperature };
                let scores = head::score(&model, workspace.hidden(), scored);
                for (drawn, scored) in completion.logprobs.iter().zip(&scores.logprobs) {
                    assert!((drawn - scored).abs() < 5e-5, "{name}: {drawn} is not {scored}");
                }
            }
        }
    }
}

#[test]
fn neither_the_batch_nor_the_threads_change_a_completion() {
    for model in [random_model(6), wide_model()] {
        let sampling = Sampling { max_new_tokens: 40, seed: 9, batch: 1, ..Sampling::default() };
        let alone = complete(&model, &sampling);
        for (batch, threads) in [(2, 1), (3, 2), (64, 5)] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let together = pool.install(|| complete(&model, &Sampling { batch, ..sampling.clone() }));
            assert_eq!(alone, together, "batch {batch}, {threads} threads");
        }
    }
}

#[test]
fn each_sequence_draws_from_its_own_stream() {
    let model = random_model(7);
    let sampling = Sampling { max_new_tokens: 20, temperature: 1.5, ..Sampling::default() };
    let completions = complete(&model, &sampling);
    assert_ne!(completions[0].ids, completions[3].ids, "the same prompt twice");
    assert_ne!(completions, complete(&model, &Sampling { seed: 1, ..sampling.clone() }), "another seed");
    assert_eq!(completions, complete(&model, &sampling), "the same seed");
}

#[test]
fn a_stop_token_ends_a_completion_and_belongs_to_it() {
    let model = random_model(8);
    let sampling = Sampling { max_new_tokens: 200, stop_tokens: vec![5, 6], ..Sampling::default() };
    for completion in complete(&model, &sampling) {
        let (last, before) = completion.ids.split_last().unwrap();
        assert!(!before.iter().any(|id| sampling.stop_tokens.contains(id)));
        assert_eq!(completion.finish == Finish::StopToken, sampling.stop_tokens.contains(last));
        assert_eq!(completion.ids.len(), completion.logprobs.len());
    }
}

#[test]
fn the_caller_can_stop_and_sees_each_completion_once() {
    let model = random_model(9);
    let sampling = Sampling { max_new_tokens: 10, batch: 2, ..Sampling::default() };
    let mut finished = Vec::new();
    let completions = generate(
        &model,
        &prompts(),
        &sampling,
        |index, ids| {
            if index == 3 && ids.len() == 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        },
        |index, completion| finished.push((index, completion.clone())),
    );
    assert_eq!((completions[3].ids.len(), completions[3].finish), (4, Finish::Stopped));
    // Prompts 2 and 3 enter together; 3 leaves first, and 4 takes its place and ends after 2.
    assert_eq!(finished.iter().map(|pair| pair.0).collect::<Vec<_>>(), [0, 1, 3, 2, 4, 5]);
    finished.sort_by_key(|pair| pair.0);
    assert_eq!(finished.into_iter().map(|pair| pair.1).collect::<Vec<_>>(), completions);
}

#[test]
fn the_longest_sequence_of_the_model_is_a_limit() {
    let mut model = random_model(10);
    model.config.max_position_embeddings = 8;
    let sampling = Sampling { max_new_tokens: 100, ..Sampling::default() };
    let completions = complete(&model, &sampling);
    let lengths: Vec<usize> = completions.iter().map(|completion| completion.ids.len()).collect();
    assert_eq!(lengths, [5, 7, 0, 5, 5, 3]);
    assert!(completions.iter().all(|completion| completion.finish == Finish::Length));
}
