//! What a checkpoint needs beside the policy to go on to the bit: the critic, the moments of the optimisers, and β.

use std::collections::BTreeMap;
use std::path::Path;

use crate::Error;
use crate::ppo::PpoTrainer;
use crate::state::{self, StateFile};

/// Numbers of the file: updates that the optimisers of policy and critic have made, and β.
const POLICY_STEPS: &str = "policy.steps";
const CRITIC_STEPS: &str = "critic.steps";
const KL_COEF: &str = "kl_coef";

impl PpoTrainer<'_> {
    /// Writes the critic and the optimisers to a safetensors file. The policy is a checkpoint's business.
    pub fn save_state(&self, path: &Path) -> Result<(), Error> {
        let (policy, critic) = (&self.optimizer, &self.critic.optimizer);
        let mut buffers = vec![
            ("policy.first_moment", &policy.first_moment[..]),
            ("policy.second_moment", &policy.second_moment),
            ("value_head", &self.critic.head.params),
            ("value_head.first_moment", &critic.first_moment),
            ("value_head.second_moment", &critic.second_moment),
        ];
        if let Some(lora) = &self.lora {
            buffers.push(("lora", &lora.params));
        }
        if let Some(trunk) = &self.critic.trunk {
            buffers.push(("critic", &trunk.model.params));
            buffers.push(("critic.first_moment", &trunk.optimizer.first_moment));
            buffers.push(("critic.second_moment", &trunk.optimizer.second_moment));
        }
        let numbers = BTreeMap::from([
            (POLICY_STEPS, policy.step.to_string()),
            (CRITIC_STEPS, critic.step.to_string()),
            (KL_COEF, self.kl_coef.to_string()),
        ]);
        state::write(path, buffers, &numbers)
    }

    /// Reads what [`Self::save_state`] wrote. The trainer must have been made for a policy of the same shape and with the same
    /// kind of critic.
    pub fn load_state(&mut self, path: &Path) -> Result<(), Error> {
        let file = StateFile::open(path)?;
        let (policy_steps, critic_steps) = (file.number(POLICY_STEPS)?, file.number(CRITIC_STEPS)?);
        let kl_coef = file.number(KL_COEF)?;
        let (policy, critic) = (&mut self.optimizer, &mut self.critic.optimizer);
        let mut buffers = vec![
            ("policy.first_moment", &mut policy.first_moment[..]),
            ("policy.second_moment", &mut policy.second_moment),
            ("value_head", &mut self.critic.head.params),
            ("value_head.first_moment", &mut critic.first_moment),
            ("value_head.second_moment", &mut critic.second_moment),
        ];
        if let Some(lora) = &mut self.lora {
            buffers.push(("lora", &mut lora.params));
        }
        if let Some(trunk) = &mut self.critic.trunk {
            buffers.push(("critic", &mut trunk.model.params));
            buffers.push(("critic.first_moment", &mut trunk.optimizer.first_moment));
            buffers.push(("critic.second_moment", &mut trunk.optimizer.second_moment));
        }
        file.read(buffers)?;
        self.kl_coef = kl_coef;
        self.optimizer.step = policy_steps;
        self.critic.optimizer.step = critic_steps;
        if let Some(trunk) = &mut self.critic.trunk {
            trunk.optimizer.step = critic_steps;
        }
        Ok(())
    }
}
