#!/bin/sh
# The paper's 0.5B rows on one GPU: the base model through supervised fine-tuning and reinforcement learning, then base, fine-tuned and final model evaluated
# with both sets of definitions.
#
#   BENCHMARK=safesql SEED=1 examples/one_gpu.sh [--set KEY=VALUE…]
#
# A call trains for at most MINUTES and saves; the same call again goes on from there. The last one evaluates, and leaves the completions as JSON lines beside
# the run folder, for other evaluators too. DEVICE=cpu tries it without a GPU (see --set below for a run of minutes).
#
#   DEVICE=cpu examples/one_gpu.sh --set data.train_tasks=8 --set data.test_tasks=2 --set sft.epochs=1 --set rollout.batch=8 --set rollout.samples=4 \
#     --set rollout.concurrency=8 --set ppo.mini_batch=0 --set ppo.micro_batch_tokens=1024 --set sft.micro_batch_tokens=1024 --set train.steps=1
set -eu
: "${BENCHMARK:=safesql}" "${SEED:=1}" "${MINUTES:=9}" "${DEVICE:=cuda}" "${DATA:=../shared/data}" "${LIMIT:=}"
: "${MODEL:=models/qwen2.5-coder-0.5b-instruct-q4_k_m.gguf}" "${REAL:=target/release/real}" "${RUN:=runs/gpu-$BENCHMARK-$SEED}"

if [ ! -d "$RUN/checkpoints/final" ]; then
  resume=
  if [ -f "$RUN/config.toml" ]; then resume=--resume; fi
  status=0
  timeout --signal=INT "${MINUTES}m" "$REAL" train "configs/gpu/$BENCHMARK.toml" $resume --set seed="$SEED" --set run.dir="$RUN" \
    --set model.path="$MODEL" --set model.device="$DEVICE" --set data.path="$DATA" "$@" || status=$?
  case $status in
    0) ln -sfn "$(cd "$RUN/checkpoints" && ls -d step-* | tail -n 1)" "$RUN/checkpoints/final" ;;
    1 | 124) echo "saved after $MINUTES minutes; the same command goes on" >&2; exit 1 ;;
    *) exit "$status" ;;
  esac
fi

for stage in base sft final; do
  case $stage in
    base) model=$MODEL ;;
    sft) model=$RUN/sft/checkpoint ;;
    final) model=$RUN/checkpoints/final ;;
  esac
  "$REAL" eval --benchmark "$BENCHMARK" --data "$DATA" --model "$model" --device "$DEVICE" --concurrency 256 --max-new-tokens 512 --stop-at-code-end \
    ${LIMIT:+--limit "$LIMIT"} --out "$RUN/eval-$stage"
  "$REAL" eval --benchmark "$BENCHMARK" --data "$DATA" --completions "$RUN/eval-$stage/completions.jsonl" --profile paper \
    ${LIMIT:+--limit "$LIMIT"} --out "$RUN/eval-$stage-paper"
done
