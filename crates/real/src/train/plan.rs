//! Whether a run fits into memory, said before it starts.

use anyhow::{Result, bail};
use real_lm::memory::{Decoding, Plan, Tuning, gigabytes};
use real_lm::{Model, ModelConfig};

use crate::config::Config;

/// Refuses a run that needs more than there is, with the settings that would help. `base` is loaded already.
pub(super) fn check_memory(config: &Config, base: &Model) -> Result<()> {
    let plan = plan(config, &base.config);
    let Some(available) = available() else { return Ok(()) };
    // The base model has its memory, and is the reference.
    let needed = plan.total().saturating_sub(size_of_val(&base.params[..]));
    tracing::info!("memory: {:.2} GB needed, {:.2} GB available", gigabytes(needed), gigabytes(available));
    if needed > available {
        bail!("{}", refusal(&plan, needed, available));
    }
    Ok(())
}

/// What rollouts and evaluations decode.
pub(super) fn decoding(config: &Config, model: &ModelConfig) -> Decoding {
    Decoding {
        max_prompt: config.rollout.max_prompt_tokens.min(model.max_position_embeddings),
        max_response: config.rollout.max_new_tokens.max(config.eval.max_new_tokens),
        batch: config.rollout.concurrency.min(config.rollout.batch),
    }
}

fn plan(config: &Config, model: &ModelConfig) -> Plan {
    let decoding = decoding(config, model);
    let tuning = if config.lora.is_some() { Tuning::Lora } else { Tuning::Full };
    Plan::ppo(model, &config.ppo, tuning, decoding)
}

fn refusal(plan: &Plan, needed: usize, available: usize) -> String {
    format!(
        "the run needs {:.1} GB more memory and {:.1} GB are free:\n{plan}\nWhat would help most, in this order: {}",
        gigabytes(needed),
        gigabytes(available),
        plan.remedies().join(", ")
    )
}

/// Bytes that can be had without swapping: the least that the machine and a limit on this process's group leave. Unknown elsewhere than
/// on Linux.
fn available() -> Option<usize> {
    let machine = std::fs::read_to_string("/proc/meminfo").ok()?;
    let machine = machine.lines().find_map(|line| {
        let kib: usize =
            line.strip_prefix("MemAvailable:")?.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib * 1024)
    })?;
    let number = |file: &str| -> Option<usize> {
        std::fs::read_to_string(format!("/sys/fs/cgroup/{file}")).ok()?.trim().parse().ok()
    };
    let group =
        number("memory.max").zip(number("memory.current")).map(|(max, used)| max.saturating_sub(used));
    Some(group.map_or(machine, |group| group.min(machine)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_told_with_what_would_help() {
        let text = include_str!("../../../../configs/quickstart.toml");
        let config = Config::parse(text, &["ppo.critic=model".to_owned()]).unwrap();
        let shape = config.model.scratch.clone().unwrap();
        let model = crate::policy::shape_of(&shape);
        let plan = plan(&config, &model);
        assert!((1e7..1e9).contains(&(plan.total() as f64)), "{plan}");
        let refusal = refusal(&plan, plan.total(), 1000);
        assert!(refusal.contains("GB  activations") && refusal.contains("ppo.lanes = 1"), "{refusal}");
        assert!(refusal.contains("ppo.critic = \"head\""), "{refusal}");
    }

    #[test]
    fn this_machine_tells_its_memory() {
        if std::path::Path::new("/proc/meminfo").exists() {
            assert!(available().is_some_and(|bytes| bytes > 1 << 20));
        } else {
            eprintln!("skipped: this_machine_tells_its_memory (no /proc/meminfo)");
        }
    }
}
