//! Reads a checkpoint and writes it as a folder in Hugging Face layout: `convert SOURCE FOLDER`.

use real_lm::{Checkpoint, Error, WeightType};

fn main() -> Result<(), Error> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [source, folder] = arguments.as_slice() else {
        eprintln!("usage: convert SOURCE FOLDER");
        std::process::exit(2);
    };
    Checkpoint::load(source)?.save(folder.as_ref(), WeightType::F32)
}
