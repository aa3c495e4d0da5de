"""The package in the situations that engines put it in: threads, forks, failures of ours, odd text."""

import json
import multiprocessing
import threading
import unittest
from concurrent.futures import ThreadPoolExecutor

import real
from real.integrations import trl, verl
from support import BROKEN, RIGHT, UNTYPED, WRONG, own_task


def in_a_child(queue):
    queue.put(real.score_batch([{"task": own_task(), "completion": RIGHT}])[0]["reward"])


class Package(unittest.TestCase):
    def test_scores_in_order_with_the_same_keys(self):
        task = own_task()
        completions = [RIGHT, WRONG, UNTYPED, "no code"]
        scores = real.score_batch([{"task": task, "completion": text, "sample": n} for n, text in enumerate(completions)])
        self.assertEqual([score["reward"] for score in scores], [1.0, 0.5, 0.5, -1.0])
        self.assertEqual([score["sample"] for score in scores], [0, 1, 2, 3])
        self.assertEqual({frozenset(score) for score in scores}, {frozenset(real.Score.__annotations__)})
        gentle = real.score_batch([{"task": json.dumps(task), "completion": UNTYPED}], config={"alpha": 0.0})
        self.assertEqual(gentle[0]["reward"], 1.0)

    def test_many_threads_share_the_judges(self):
        def ask(n):
            task = own_task(f"task-{n}")
            return real.score_batch([{"task": task, "completion": RIGHT if n % 2 else WRONG}])[0]

        with ThreadPoolExecutor(32) as threads:
            scores = list(threads.map(ask, range(64)))
        self.assertEqual([score["task_id"] for score in scores], [f"task-{n}" for n in range(64)])
        self.assertEqual([score["passed"] for score in scores], [bool(n % 2) for n in range(64)])

    def test_the_lock_of_the_interpreter_is_released(self):
        turns = 0
        done = threading.Event()

        def judge():
            real.score_batch([{"task": own_task("slow"), "completion": "```python\nimport time\ntime.sleep(0.5)\ndef add(a: int, b: int) -> int:\n    return a + b\n```"}])
            done.set()

        thread = threading.Thread(target=judge)
        thread.start()
        while not done.wait(0.01):
            turns += 1
        thread.join()
        self.assertGreater(turns, 10)

    def test_a_fork_has_judges_of_its_own(self):
        self.assertEqual(real.score_batch([{"task": own_task(), "completion": RIGHT}])[0]["reward"], 1.0)
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        child = context.Process(target=in_a_child, args=(queue,))
        child.start()
        self.assertEqual(queue.get(timeout=120), 1.0)
        child.join(60)
        self.assertEqual(child.exitcode, 0)
        # The child's end did not take the parent's workers along.
        self.assertEqual(real.score_batch([{"task": own_task("after"), "completion": WRONG}])[0]["reward"], 0.5)

    def test_an_outage_is_no_reward(self):
        score = real.score_batch([{"task": BROKEN, "completion": RIGHT}])[0]
        self.assertIsNone(score["reward"])
        self.assertIn("a_prelude_of_ours_that_fails", score["infra_error"])
        late = real.score_batch([{"task": own_task("late"), "completion": RIGHT}], deadline=0.0)[0]
        self.assertEqual((late["reward"], late["infra_error"]), (None, "the deadline has passed"))

    def test_mistakes_are_named(self):
        with self.assertRaisesRegex(ValueError, "item 0: no task.*massages"):
            real.score_batch([{"task": {"massages": []}, "completion": ""}])
        with self.assertRaisesRegex(ValueError, "alfa"):
            real.score_batch([], config={"alfa": 1})
        with self.assertRaisesRegex(RuntimeError, "alpha"):
            real.score_batch([], config={"alpha": 7})
        with self.assertRaisesRegex(ValueError, "benchmark"):
            real.tasks("nothing")

    def test_half_a_surrogate_pair_is_taken(self):
        score = real.score_batch([{"task": own_task(), "completion": "\ud83d\n" + RIGHT}])[0]
        self.assertEqual(score["reward"], 1.0)

    def test_tasks_can_be_scored(self):
        tasks = real.tasks("starter", split="train", limit=3)
        self.assertEqual(len(tasks), 3)
        items = [{"task": task, "completion": f"```python\n{task['reference']}\n```"} for task in tasks]
        self.assertEqual([score["reward"] for score in real.score_batch(items)], [1.0] * 3)


class PlainAdapters(unittest.TestCase):
    """Adapters that are functions need no engine to be called as the engine does."""

    def test_verl(self):
        truth = json.dumps(own_task())
        answers = [RIGHT + "<|im_end|>", UNTYPED, "no code"]
        rows = [verl.compute_score(data_source="own", solution_str=text, ground_truth=truth, extra_info={}) for text in answers]
        rows.append(verl.compute_score("own", RIGHT, json.dumps(BROKEN), on_outage=-0.25))
        self.assertEqual([row["score"] for row in rows], [1.0, 0.5, -1.0, -0.25])
        self.assertEqual(len({tuple(row) for row in rows}), 1, "verl takes the keys from the first sample")
        self.assertTrue(all(isinstance(value, float) for row in rows for value in row.values()))
        self.assertEqual([row["infra_error"] for row in rows], [0.0, 0.0, 0.0, 1.0])
        self.assertEqual(verl.compute_score("own", UNTYPED, truth, alpha=0.0)["score"], 1.0)

    def test_trl(self):
        tasks = [json.dumps(task) for task in (own_task(), own_task(), BROKEN)]
        chat = [[{"role": "assistant", "content": text}] for text in (RIGHT, WRONG, RIGHT)]
        extra, metrics = {}, {}
        rewards = trl.real_reward(["q"] * 3, chat, task=tasks, log_extra=extra.__setitem__, log_metric=metrics.__setitem__, other=[1, 2, 3])
        self.assertEqual(rewards, [1.0, 0.5, None])
        self.assertEqual(extra["passed"], [1.0, 0.0, 0.0])
        self.assertAlmostEqual(metrics["real/infra_error"], 1 / 3)
        self.assertEqual(trl.function_reward(["q"] * 3, chat, task=tasks), [1.0, 0.0, None])
        self.assertEqual(trl.quality_reward(["q"] * 3, chat, task=tasks), [1.0, 1.0, None])


if __name__ == "__main__":
    unittest.main()
