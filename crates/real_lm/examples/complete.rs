//! Completes prompts greedily: `complete MODEL TOKENS` reads a JSON list of token ids a line and writes one of the same form.

use std::io::BufRead as _;
use std::ops::ControlFlow;

use real_lm::{Checkpoint, Sampling, generate};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(model), Some(tokens)) = (arguments.next(), arguments.next()) else {
        return Err("usage: complete MODEL TOKENS < prompts".into());
    };
    let checkpoint = Checkpoint::load(model)?;
    let prompts = std::io::stdin()
        .lock()
        .lines()
        .map(|line| Ok(serde_json::from_str(&line?)?))
        .collect::<Result<Vec<Vec<u32>>, Box<dyn std::error::Error>>>()?;
    let sampling =
        Sampling { temperature: 0.0, max_new_tokens: tokens.parse()?, batch: 4, ..Sampling::default() };
    let go = |_: usize, _: &[u32]| ControlFlow::Continue(());
    for completion in generate(&checkpoint.model, &prompts, &sampling, go, |_, _| ()) {
        println!("{}", serde_json::to_string(&completion.ids)?);
    }
    Ok(())
}
