#!/usr/bin/env bash
# PPO with verl (0.9): BENCHMARK=safesql SIZE=0.5B GPUS=8 examples/verl.sh [more=overrides]
set -euo pipefail
cd "$(dirname "$0")/.."
. examples/paper.sh
REWARD=$(python -c 'import importlib.util as u; print(u.find_spec("real.integrations.verl").origin)')
exec python -m verl.trainer.main_ppo \
  data.train_files="data/verl-$BENCHMARK-train.parquet" data.val_files="data/verl-$BENCHMARK-test.parquet" \
  data.train_batch_size="$BATCH" data.max_prompt_length="$MAX_PROMPT" data.max_response_length="$MAX_RESPONSE" \
  data.filter_overlong_prompts=True \
  actor_rollout_ref.model.path="$MODEL" actor_rollout_ref.actor.optim.lr=1e-6 \
  actor_rollout_ref.actor.ppo_mini_batch_size="$MINI_BATCH" actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=4 \
  actor_rollout_ref.actor.entropy_coeff=0.001 \
  actor_rollout_ref.rollout.name=vllm actor_rollout_ref.rollout.gpu_memory_utilization=0.4 \
  actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=4 actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=4 \
  critic.model.path="$MODEL" critic.optim.lr=1e-5 critic.ppo_micro_batch_size_per_gpu=4 \
  algorithm.adv_estimator=gae algorithm.gamma=1 algorithm.lam=1 algorithm.use_kl_in_reward=True algorithm.kl_ctrl.kl_coef=0.001 \
  reward.custom_reward_function.path="$REWARD" reward.custom_reward_function.name=compute_score \
  +reward.custom_reward_function.reward_kwargs.alpha="$ALPHA" reward.num_workers=8 \
  trainer.n_gpus_per_node="$GPUS" trainer.nnodes=1 trainer.total_training_steps="$STEPS" trainer.test_freq=20 trainer.save_freq=40 \
  trainer.project_name=real trainer.experiment_name="verl-$BENCHMARK-$SIZE" "$@"
