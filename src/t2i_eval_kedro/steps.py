"""Names in transcripts and training examples, each defined here alone: aspects, steps and tasks.

A step names a request within the transcript of its item; a task is the kind of request, and what a student learns from its answer.

| step | task | asks for |
|---|---|---|
| ``extract`` | ``extract`` | the questions that a prompt raises |
| ``<aspect>/<number>/answer``, ``.../explain`` | ``<aspect>_1`` | the answer to a question (not of appearance), and what speaks for it |
| ``<aspect>/<number>/score`` | ``<aspect>_2`` | the score of that question |
| ``summary/<aspect>/explain``, ``merge/explain`` | ``summary_1`` | what is to be said of an aspect, and of the whole |
| ``summary/<aspect>/score``, ``merge/score`` | ``summary_2`` | the score of an aspect, and of the whole |
| ``summary/<aspect>/levels``, ``merge/levels`` | ``summary_2`` | the same score once more, as a distribution over the levels |
| ``score/<dimension>`` | ``score`` | the score of a dimension without any step before it |
| ``direct`` | ``direct`` | all scores and an explanation at once |
| ``yes_no/<element>``, ``yes_no_negative/<element>`` | as the first part | whether the image shows an element |
| ``reason/<dimension>`` | ``reason`` | a thought, then the score of a dimension |
| ``reason_aspects`` | ``reason_aspects`` | a thought, then the score of every dimension |
| ``reason_pair/<dimension>``, ``.../swapped`` | ``reason_pair`` | a thought, then the scores of two images |
| as of the chain | ``conversation`` | the whole chain as one chat |

Source: T2I-Eval (arXiv 2411.15488), section 3: nine sub-tasks (one extraction, eight explanations and scores). ``score`` is ours.
"""

from __future__ import annotations

APPEARANCE, ATTRIBUTES, RELATIONS = ASPECTS = ("appearance", "attributes", "relations")
"""The three aspects of T2I-Eval: appearance quality, intrinsic attribute and relationship attribute consistency."""
OVERALL = "overall"

EXTRACT, ANSWER, EXPLAIN, SCORE, LEVELS = "extract", "answer", "explain", "score", "levels"
SUMMARY, MERGE = "summary", "merge"
DIRECT, CONVERSATION = "direct", "conversation"
REASON, REASON_ASPECTS, REASON_PAIR = REASONING = "reason", "reason_aspects", "reason_pair"
YES_NO, YES_NO_NEGATIVE = "yes_no", "yes_no_negative"


def question_step(aspect: str, number: int, stage: str = "") -> str:
    """The step of ``stage`` of question ``number`` of ``aspect``; without a stage, what the question's steps begin with.

    Example:
        >>> question_step(RELATIONS, 2, SCORE)
        'relations/2/score'
    """
    return f"{aspect}/{number}/{stage}".rstrip("/")


def summary_step(dimension: str, stage: str = "") -> str:
    """The step of ``stage`` of the summary of an aspect, or of the merge where ``dimension`` is the overall one.

    Example:
        >>> summary_step(RELATIONS, SCORE), summary_step(OVERALL)
        ('summary/relations/score', 'merge')
    """
    return f"{MERGE if dimension == OVERALL else f'{SUMMARY}/{dimension}'}/{stage}".rstrip("/")


def explanation_task(aspect: str) -> str:
    """The task of explaining: ``aspect`` is an aspect, or ``summary``."""
    return f"{aspect}_1"


def score_task(aspect: str) -> str:
    """The task of scoring what was explained: ``aspect`` is an aspect, or ``summary``."""
    return f"{aspect}_2"


def aspect_of(task: str) -> str | None:
    """The aspect, or ``summary``, that a task of explaining or scoring is about; None for every other task."""
    return next((one for one in (*ASPECTS, SUMMARY) if task in (explanation_task(one), score_task(one))), None)


def is_score_task(task: str) -> bool:
    """Whether the answer of ``task``, one of the nine sub-tasks, is a score alone."""
    about = aspect_of(task)
    return about is not None and task == score_task(about)
