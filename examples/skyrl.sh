#!/usr/bin/env bash
# GRPO with SkyRL: BENCHMARK=safesql SIZE=0.5B GPUS=8 examples/skyrl.sh [more=overrides]
set -euo pipefail
cd "$(dirname "$0")/.."
. examples/paper.sh
exec python examples/skyrl_main.py \
  data.train_data="['data/skyrl-$BENCHMARK-train.parquet']" data.val_data="['data/skyrl-$BENCHMARK-test.parquet']" \
  environment.env_class=real \
  trainer.policy.model.path="$MODEL" trainer.policy.optimizer_config.lr=1e-6 \
  trainer.algorithm.advantage_estimator=grpo trainer.algorithm.use_kl_loss=true \
  trainer.train_batch_size=$((BATCH / 8)) trainer.policy_mini_batch_size=$((BATCH / 8)) generator.n_samples_per_prompt=8 \
  trainer.max_prompt_length="$MAX_PROMPT" generator.sampling_params.max_generate_length="$MAX_RESPONSE" \
  trainer.placement.colocate_all=true trainer.placement.policy_num_gpus_per_node="$GPUS" trainer.placement.ref_num_gpus_per_node="$GPUS" \
  generator.inference_engine.num_engines="$GPUS" generator.inference_engine.tensor_parallel_size=1 \
  trainer.project_name=real trainer.run_name="skyrl-$BENCHMARK-$SIZE" "$@"
