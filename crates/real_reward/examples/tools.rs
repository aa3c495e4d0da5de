//! Builds the Python environment of the judges and says what is in it.

use real_reward::Tools;

fn main() -> Result<(), real_reward::Error> {
    let start = std::time::Instant::now();
    let tools = Tools::install(&mut |line| eprintln!("{line}"))?;
    println!("{} in {:?}", tools.python().display(), start.elapsed());
    for check in Tools::check() {
        println!("{:10} {}", check.name, check.found.unwrap_or_else(|problem| format!("! {problem}")));
    }
    Ok(())
}
