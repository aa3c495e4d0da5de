#!/usr/bin/env bash
# PPO with OpenRLHF (0.11): BENCHMARK=safesql SIZE=0.5B GPUS=8 examples/openrlhf.sh [--more options]
# REAL_URLS are reward servers, as http://any:TOKEN@a:8700/openrlhf,http://any:TOKEN@b:8700/openrlhf, each started with `real serve --alpha …`.
set -euo pipefail
cd "$(dirname "$0")/.."
. examples/paper.sh
if [ -z "${REAL_URLS:-}" ]; then
  REAL_URLS=data/openrlhf_reward.py
  cat > "$REAL_URLS" <<REWARD
import functools
from real.integrations import openrlhf
reward_func = functools.partial(openrlhf.reward_func, config={"alpha": $ALPHA})
REWARD
fi
exec python -m openrlhf.cli.train_ppo_ray \
  --actor.model_name_or_path "$MODEL" --critic.model_name_or_path "$MODEL" \
  --actor.num_nodes 1 --actor.num_gpus_per_node "$GPUS" --ref.num_nodes 1 --ref.num_gpus_per_node "$GPUS" \
  --critic.num_nodes 1 --critic.num_gpus_per_node "$GPUS" --train.colocate_all \
  --vllm.num_engines "$GPUS" --vllm.tensor_parallel_size 1 --vllm.gpu_memory_utilization 0.4 --vllm.enable_sleep \
  --data.prompt_dataset "data/openrlhf-$BENCHMARK-train.jsonl" --data.input_key prompt --data.label_key task --data.apply_chat_template \
  --data.max_len $((MAX_PROMPT + MAX_RESPONSE)) --rollout.max_new_tokens "$MAX_RESPONSE" \
  --rollout.batch_size "$BATCH" --train.batch_size "$MINI_BATCH" --train.max_epochs 1 \
  --actor.adam.lr 1e-6 --critic.adam.lr 1e-5 --actor.lr_scheduler constant --critic.lr_scheduler constant \
  --algo.kl.init_coef 0.001 --actor.entropy_coef 0.001 \
  --reward.remote_url "$REAL_URLS" "$@"
