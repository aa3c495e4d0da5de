"""What the adapters share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import real

_SPECIAL = re.compile(r"(?:\s*<(?:\|[^\s|<>]+\||/s|eos|pad|end_of_turn)>)+\s*\Z")


def judge(
    tasks: Iterable[Mapping[str, Any] | str], texts: Iterable[str], config: Mapping[str, Any] | None = None
) -> list[real.Score]:
    """The scores of texts; special tokens at their ends, which would stand on the line that closes the code, are removed."""
    items = [real.Item(task=task, completion=_SPECIAL.sub("", text)) for task, text in zip(tasks, texts, strict=True)]
    return real.score_batch(items, config=config)


def numbers(score: real.Score) -> dict[str, float]:
    """The numbers worth logging, under the same names for every score."""
    return {
        "function": score["function"] or 0.0,
        "quality": score["quality"] or 0.0,
        "passed": float(score["passed"]),
        "parsed": float(score["parsed"]),
        "findings": float(sum(finding["counted"] for finding in score["findings"])),
        "type_errors": float(len(score["type_errors"])),
        "flags": float(len(score["flags"])),
        "infra_error": float(score["infra_error"] is not None),
    }


def text_of(completion: str | list[dict[str, Any]]) -> str:
    """The text of a completion that may be a list of messages."""
    return completion if isinstance(completion, str) else "".join(m["content"] or "" for m in completion)
