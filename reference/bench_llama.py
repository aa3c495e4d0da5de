"""One measurement of llama.cpp on the decoding of `crates/real_lm/examples/bench_one.rs`, as a line of JSON.

    python reference/bench_llama.py decode-one FILE.gguf REPEATS

Needs llama-cpp-python. One sequence, greedy, two threads, the weights of the file as they are.
"""

import json
import os
import random
import resource
import sys
import time

from llama_cpp import Llama

PROMPT, NEW_TOKENS = 16, 64


def main():
    work, path, repeats = sys.argv[1:]
    assert work == "decode-one", "one sequence at a time is what is measured here"
    threads = len(os.sched_getaffinity(0))
    model = Llama(path, n_ctx=256, n_threads=threads, n_threads_batch=threads, verbose=False)
    prompt = [random.Random(0).randrange(model.n_vocab()) for _ in range(PROMPT)]

    def run(new_tokens):
        model.reset()
        model.eval(prompt)
        for _ in range(new_tokens - 1):
            model.eval([model.sample(temp=0.0)])

    run(2)
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(int(repeats)):
        run(NEW_TOKENS)
    result = {"tokens": int(repeats) * NEW_TOKENS, "cpu_seconds": time.process_time() - cpu,
              "wall_seconds": time.perf_counter() - wall,
              "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
