# What the paper sets, by BENCHMARK and SIZE; read by the scripts beside it.
: "${BENCHMARK:=starter}" "${SIZE:=0.5B}" "${GPUS:=8}"
MODEL=${MODEL:-Qwen/Qwen2.5-Coder-$SIZE-Instruct}
BATCH=256 MINI_BATCH=256 MAX_PROMPT=1024 MAX_RESPONSE=1024 ALPHA=0.5
case $BENCHMARK in
  seccodeplt) BATCH=512 MINI_BATCH=64 MAX_PROMPT=375 STEPS=140 ;;
  safesql)
    STEPS=600 ALPHA=0.1
    if [ "$SIZE" = 3B ]; then ALPHA=0.3; fi
    ;;
  apps) STEPS=800 ;;
  starter) STEPS=100 ;;
  *) echo "BENCHMARK is safesql, seccodeplt, apps or starter, not $BENCHMARK" >&2; exit 2 ;;
esac
