//! What a checkpoint needs beside the policy to go on to the bit: the critic, the moments of the optimisers, and β.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

use safetensors::{Dtype, SafeTensors};

use crate::hugging_face::weights::{self, Weights};
use crate::ppo::PpoTrainer;
use crate::{Error, WeightType, mapped_file};

/// Entries of the file's metadata: updates that the optimisers of policy and critic have made, and β.
const POLICY_STEPS: &str = "policy.steps";
const CRITIC_STEPS: &str = "critic.steps";
const KL_COEF: &str = "kl_coef";

impl PpoTrainer<'_> {
    /// Writes the critic and the optimisers to a safetensors file. The policy is a checkpoint's business.
    pub fn save_state(&self, path: &Path) -> Result<(), Error> {
        let tensors = self.tensors().into_iter().map(|(name, values)| {
            (name.to_owned(), Weights { shape: vec![values.len()], values, kind: WeightType::F32 })
        });
        let metadata = BTreeMap::from([
            (POLICY_STEPS, self.optimizer.step.to_string()),
            (CRITIC_STEPS, self.critic.optimizer.step.to_string()),
            (KL_COEF, self.kl_coef.to_string()),
        ]);
        weights::write(path, tensors, &metadata)
    }

    /// Reads what [`Self::save_state`] wrote. The trainer must have been made for a policy of the same shape and with the same
    /// kind of critic.
    pub fn load_state(&mut self, path: &Path) -> Result<(), Error> {
        let bytes = mapped_file::map(path)?;
        let malformed = |what: String| Error::malformed(path, what);
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| malformed(error.to_string()))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|error| malformed(error.to_string()))?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let policy_steps = number(path, &metadata, POLICY_STEPS)?;
        let critic_steps = number(path, &metadata, CRITIC_STEPS)?;
        let kl_coef = number(path, &metadata, KL_COEF)?;
        let mut sources = Vec::new();
        for (name, values) in self.tensors() {
            let tensor = file.tensor(name).map_err(|error| malformed(error.to_string()))?;
            let (kind, shape, len) = (tensor.dtype(), tensor.shape(), values.len());
            if kind != Dtype::F32 || shape != [len] {
                return Err(malformed(format!("{name} is {kind:?} {shape:?}, not F32 [{len}]")));
            }
            sources.push(tensor.data().as_chunks::<4>().0);
        }
        // All is well: from here on nothing can fail half-way.
        for (values, source) in self.tensors_mut().into_iter().zip(sources) {
            for (value, &bytes) in values.iter_mut().zip(source) {
                *value = f32::from_le_bytes(bytes);
            }
        }
        self.kl_coef = kl_coef;
        self.optimizer.step = policy_steps;
        self.critic.optimizer.step = critic_steps;
        if let Some(trunk) = &mut self.critic.trunk {
            trunk.optimizer.step = critic_steps;
        }
        Ok(())
    }

    fn tensors(&self) -> Vec<(&'static str, &[f32])> {
        let mut all = vec![
            ("policy.first_moment", &self.optimizer.first_moment[..]),
            ("policy.second_moment", &self.optimizer.second_moment),
            ("value_head", &self.critic.head.params),
            ("value_head.first_moment", &self.critic.optimizer.first_moment),
            ("value_head.second_moment", &self.critic.optimizer.second_moment),
        ];
        if let Some(trunk) = &self.critic.trunk {
            all.extend([
                ("critic", &trunk.model.params[..]),
                ("critic.first_moment", &trunk.optimizer.first_moment),
                ("critic.second_moment", &trunk.optimizer.second_moment),
            ]);
        }
        all
    }

    /// In the order of [`Self::tensors`].
    fn tensors_mut(&mut self) -> Vec<&mut [f32]> {
        let mut all = vec![
            &mut self.optimizer.first_moment[..],
            &mut self.optimizer.second_moment,
            &mut self.critic.head.params,
            &mut self.critic.optimizer.first_moment,
            &mut self.critic.optimizer.second_moment,
        ];
        if let Some(trunk) = &mut self.critic.trunk {
            all.extend([
                &mut trunk.model.params[..],
                &mut trunk.optimizer.first_moment,
                &mut trunk.optimizer.second_moment,
            ]);
        }
        all
    }
}

/// An entry of the metadata.
fn number<T: FromStr>(
    path: &Path,
    metadata: &std::collections::HashMap<String, String>,
    name: &str,
) -> Result<T, Error> {
    let text = metadata.get(name).map(String::as_str).unwrap_or_default();
    text.parse().map_err(|_| Error::malformed(path, format!("{name} is {text:?}, not a number")))
}
