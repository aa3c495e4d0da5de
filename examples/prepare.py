"""Writes the tasks of a benchmark in the columns that an engine reads: `python examples/prepare.py --engine verl --benchmark starter`."""

import argparse
import json
import pathlib

import real


def row(engine, task, index, alpha):
    messages, text = task["messages"], json.dumps(task)
    match engine:
        case "verl":
            return {
                "data_source": task["benchmark"],
                "prompt": messages,
                "reward_model": {"style": "rule", "ground_truth": text},
                "extra_info": {"index": index, "id": task["id"]},
            }
        case "trl" | "openrlhf":
            return {"prompt": messages, "task": text}
        case "skyrl":
            return {
                "data_source": task["benchmark"],
                "prompt": messages,
                "env_class": "real",
                "reward_spec": {"method": "rule", "ground_truth": text, "config": {"alpha": alpha}},
            }
        case "nemo_rl":
            return {"messages": messages, "task": text, "task_name": "real"}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", required=True, choices=["verl", "trl", "openrlhf", "skyrl", "nemo_rl"])
    parser.add_argument("--benchmark", required=True, choices=["starter", "safesql", "seccodeplt", "apps"])
    parser.add_argument("--data", help="the folder of the benchmarks' files; not needed for starter")
    parser.add_argument("--alpha", type=float, default=0.5, help="SkyRL's rows carry it; 0.1 or 0.3 for safesql")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("data"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        tasks = real.tasks(arguments.benchmark, data=arguments.data, split=split)
        rows = [row(arguments.engine, task, index, arguments.alpha) for index, task in enumerate(tasks)]
        path = arguments.out / f"{arguments.engine}-{arguments.benchmark}-{split}"
        if arguments.engine in ("verl", "skyrl"):
            import pyarrow
            import pyarrow.parquet

            path = path.with_suffix(".parquet")
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        else:
            path = path.with_suffix(".jsonl")
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        print(f"{len(rows)} rows in {path}")


if __name__ == "__main__":
    main()
