//! What a checkpoint needs beside the policy to go on to the bit: the critic and the moments of both optimisers.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};

use crate::hugging_face::weights::{self, Weights};
use crate::ppo::PpoTrainer;
use crate::{Error, WeightType};

/// Entries of the file's metadata: updates that each optimiser has made.
const POLICY_STEPS: &str = "policy.steps";
const VALUE_STEPS: &str = "value_head.steps";

impl PpoTrainer {
    /// Writes the critic and the optimisers to a safetensors file. The policy is a checkpoint's business.
    pub fn save_state(&self, path: &Path) -> Result<(), Error> {
        let tensors = self.tensors().into_iter().map(|(name, values)| {
            (name.to_owned(), Weights { shape: vec![values.len()], values, kind: WeightType::F32 })
        });
        let metadata = BTreeMap::from([
            (POLICY_STEPS, self.optimizer.step.to_string()),
            (VALUE_STEPS, self.value_optimizer.step.to_string()),
        ]);
        weights::write(path, tensors, &metadata)
    }

    /// Reads what [`Self::save_state`] wrote. The trainer must have been made for a policy of the same shape.
    pub fn load_state(&mut self, path: &Path) -> Result<(), Error> {
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        let malformed = |what: String| Error::malformed(path, what);
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| malformed(error.to_string()))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|error| malformed(error.to_string()))?;
        let steps = |name: &str| {
            let text =
                header.metadata().as_ref().and_then(|m| m.get(name)).map(String::as_str).unwrap_or_default();
            text.parse::<u32>().map_err(|_| malformed(format!("{name} is {text:?}, not a number")))
        };
        let read = |name: &str, len: usize| {
            let tensor = file.tensor(name).map_err(|error| malformed(error.to_string()))?;
            if tensor.dtype() != Dtype::F32 || tensor.shape() != [len] {
                let (kind, shape) = (tensor.dtype(), tensor.shape());
                return Err(malformed(format!("{name} is {kind:?} {shape:?}, not F32 [{len}]")));
            }
            let words = tensor.data().chunks_exact(4);
            Ok(words.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect::<Vec<f32>>())
        };
        let (policy_steps, value_steps) = (steps(POLICY_STEPS)?, steps(VALUE_STEPS)?);
        let restored = self
            .tensors()
            .into_iter()
            .map(|(name, values)| read(name, values.len()))
            .collect::<Result<Vec<_>, Error>>()?;
        self.optimizer.step = policy_steps;
        self.value_optimizer.step = value_steps;
        for (values, read) in self.tensors_mut().into_iter().zip(restored) {
            *values = read;
        }
        Ok(())
    }

    fn tensors(&self) -> [(&'static str, &Vec<f32>); 5] {
        [
            ("policy.first_moment", &self.optimizer.first_moment),
            ("policy.second_moment", &self.optimizer.second_moment),
            ("value_head", &self.value_head.params),
            ("value_head.first_moment", &self.value_optimizer.first_moment),
            ("value_head.second_moment", &self.value_optimizer.second_moment),
        ]
    }

    /// In the order of [`Self::tensors`].
    fn tensors_mut(&mut self) -> [&mut Vec<f32>; 5] {
        [
            &mut self.optimizer.first_moment,
            &mut self.optimizer.second_moment,
            &mut self.value_head.params,
            &mut self.value_optimizer.first_moment,
            &mut self.value_optimizer.second_moment,
        ]
    }
}
