//! What a checkpoint needs beside the policy to go on to the bit: the critic, the moments of the optimisers, and β.

use std::collections::BTreeMap;
use std::path::Path;

use crate::ppo::PpoTrainer;
use crate::state::{self, StateFile};
use crate::{Error, Model};

/// Numbers of the file: updates that the optimisers of policy and critic have made, and β.
const POLICY_STEPS: &str = "policy.steps";
const CRITIC_STEPS: &str = "critic.steps";
const KL_COEF: &str = "kl_coef";

impl PpoTrainer<'_> {
    /// Writes the critic and the optimisers to a safetensors file. The policy is a checkpoint's business.
    pub fn save_state(&self, path: &Path) -> Result<(), Error> {
        let (policy, critic) = (self.policy.optimizer()?, &self.critic.optimizer);
        let trunk =
            self.critic.trunk.as_ref().map(|trunk| Ok::<_, Error>((trunk.model()?, trunk.optimizer()?)));
        let trunk = trunk.transpose()?;
        let mut buffers = vec![
            ("policy.first_moment", &policy.first_moment[..]),
            ("policy.second_moment", &policy.second_moment),
            ("value_head", &self.critic.head.params),
            ("value_head.first_moment", &critic.first_moment),
            ("value_head.second_moment", &critic.second_moment),
        ];
        if let Some(lora) = self.policy.lora() {
            buffers.push(("lora", &lora.params));
        }
        if let Some((model, optimizer)) = &trunk {
            buffers.push(("critic", &model.params));
            buffers.push(("critic.first_moment", &optimizer.first_moment));
            buffers.push(("critic.second_moment", &optimizer.second_moment));
        }
        let numbers = BTreeMap::from([
            (POLICY_STEPS, policy.step.to_string()),
            (CRITIC_STEPS, critic.step.to_string()),
            (KL_COEF, self.kl_coef.to_string()),
        ]);
        state::write(path, buffers, &numbers)
    }

    /// Goes on with a policy of the same shape and what [`Self::save_state`] wrote beside it. The trainer must have been made with the same
    /// kind of critic. Where the file is not what it should be, nothing changes.
    pub fn restore(&mut self, policy: Model, path: &Path) -> Result<(), Error> {
        let file = StateFile::open(path)?;
        let (policy_steps, critic_steps) = (file.number(POLICY_STEPS)?, file.number(CRITIC_STEPS)?);
        let kl_coef = file.number(KL_COEF)?;
        let mut optimizer = self.policy.new_optimizer();
        let mut trunk = self.critic.trunk.as_ref().map(|trunk| (policy.clone(), trunk.new_optimizer()));
        let critic = &mut self.critic.optimizer;
        let mut buffers = vec![
            ("policy.first_moment", &mut optimizer.first_moment[..]),
            ("policy.second_moment", &mut optimizer.second_moment),
            ("value_head", &mut self.critic.head.params),
            ("value_head.first_moment", &mut critic.first_moment),
            ("value_head.second_moment", &mut critic.second_moment),
        ];
        if let Some(lora) = self.policy.lora_mut() {
            buffers.push(("lora", &mut lora.params));
        }
        if let Some((model, optimizer)) = &mut trunk {
            buffers.push(("critic", &mut model.params));
            buffers.push(("critic.first_moment", &mut optimizer.first_moment));
            buffers.push(("critic.second_moment", &mut optimizer.second_moment));
        }
        file.read(buffers)?;
        self.kl_coef = kl_coef;
        optimizer.step = policy_steps;
        self.critic.optimizer.step = critic_steps;
        self.policy.restore(policy, optimizer)?;
        if let Some((learner, (model, mut optimizer))) = self.critic.trunk.as_mut().zip(trunk) {
            optimizer.step = critic_steps;
            learner.restore(model, optimizer)?;
        }
        Ok(())
    }
}
