"""Answers that a protocol can read to what a request asks for, in the wording ``full``."""

from __future__ import annotations

LINES = "appearance | cat | Is the cat sharp?\nattributes | cat | Is there a cat?\nrelations | cat, mat | Is the cat on the mat?"
SLOTS = "Object: cat\nCount: none\nColor: none\nStyle: none\nSpatial: on the mat\nAction: none"
TEXTS = (  # what a request ends with or holds -> the answer
    ("[<naturalness>, <artifacts>]", '{"score": [7, 8], "reasoning": "fine"}'),
    ('{"score": [<score>]', '{"score": [7], "reasoning": "fine"}'),
    ("give each of these a score", '<think>It is fine.</think><answer>{"overall": 7}</answer>'),
    ("Compare two images", '<think>The first is better.</think><answer>{"A": 7, "B": 5}</answer>'),
    ("<answer>the number alone</answer>", "<think>It is fine.</think><answer>7</answer>"),
    ('"score name"', "7 overall\nIt is fine."),
    ("Take the words from the prompt", SLOTS),
    ("the number of one option", "2"),
    ('no "|" inside a field', "1 | yes | it is | 7\n2 | yes | it is | 7\n3 | yes | it is | 7"),
    ("Write nothing else.", LINES),
    ("Do not give a score.", "It is fine."),
    ("in one sentence.", "Yes, it is."),
)


def readable_answer(request: str) -> str:
    """A readable answer to a request whose last message has the text ``request``; 7 where a score is asked for."""
    return next((answer for key, answer in TEXTS if key in request), "7")
