"""How a model's chat template writes an answer, and by which tokens each of several possible answers can be given.

A template may write a blank before an answer ("Assistant: 5"), and a tokenizer may split "5" in two or know " 5" as a token of its own. So
answers are compared and learned as tokens behind the request, not as texts: a request is always what the template writes with its
generation prompt, and an answer what the template writes behind that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from t2i_eval_kedro.errors import T2IEvalError

if TYPE_CHECKING:
    import torch

Tokens = tuple[int, ...]

_PROBE = "Q7"  # an answer that no template writes by itself


@dataclass(frozen=True)
class AnswerForm:
    """What stands around an answer.

    Attributes:
        anchor: the end of a request, up to where an answer begins: the template's generation prompt, or the last word.
        lead: what the template writes between the request and the answer, such as one blank.
        close: what ends the answer's turn; empty where the template writes nothing but blanks.
    """

    anchor: str
    lead: str
    close: str


def answer_form(processor: Any) -> AnswerForm:
    """How the chat template of ``processor`` writes an answer, from a short conversation that it writes with and without one.

    Where the answered conversation does not begin as the request does, nothing but the answer follows the request.

    Raises:
        T2IEvalError: the template does not write the answer as it is.
    """
    return _form(processor, processor.chat_template)


@lru_cache(maxsize=8)
def _form(processor: Any, template: str) -> AnswerForm:
    ask = [{"role": "user", "content": [{"type": "text", "text": "x"}]}]
    answer = {"role": "assistant", "content": [{"type": "text", "text": _PROBE}]}

    def write(chat: list[dict[str, Any]], generate: bool) -> str:
        text: str = processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=generate)
        return text

    asked, plain, answered = write(ask, True), write(ask, False), write([*ask, answer], False)
    before, probe, after = answered.partition(_PROBE)
    if not probe or _PROBE in after:
        raise T2IEvalError(
            "The chat template of this model does not write an answer as it is, so that it could be neither learned nor read; use "
            "another model."
        )
    prompt = asked[len(plain) :] if asked.startswith(plain) else ""
    return AnswerForm(
        anchor=prompt.lstrip() or asked.split()[-1],
        lead=before.removeprefix(asked) if before.startswith(asked) else "",
        close=after if after.strip() else "",
    )


def keeps_answers(processor: Any) -> bool:
    """Whether the chat template writes an answer in the same way once the conversation has gone on, so that several can be learned in one.

    Templates of thinking models drop the thoughts of earlier answers, and LLaVA-OneVision's writes another blank before them.
    """
    form = answer_form(processor)
    turns = [
        {"role": role, "content": [{"type": "text", "text": text}]}
        for role, text in (("user", "x"), ("assistant", _PROBE), ("user", "y"))
    ]
    asked, later = (
        processor.apply_chat_template(turns[:n], tokenize=False, add_generation_prompt=True) for n in (1, 3)
    )
    return bool(later.startswith(asked + form.lead + _PROBE + form.close))


def answer_tokens(processor: Any, texts: Sequence[str]) -> list[list[int]]:
    """The tokens of each of ``texts`` where it follows a request as an answer, with what the template writes before it.

    Args:
        processor: what ``load_processor`` returned.
        texts: answers, each perhaps with what ends its turn.
    """
    form, tokenizer = answer_form(processor), processor.tokenizer
    written = [form.anchor, *(form.anchor + form.lead + text for text in texts)]
    anchor, *joint = tokenizer(written, add_special_tokens=False)["input_ids"]
    return [
        ids[len(anchor) :]
        if ids[: len(anchor)] == anchor
        else tokenizer.encode(form.lead + text, add_special_tokens=False)
        for ids, text in zip(joint, texts, strict=True)
    ]


def candidate_sequences(processor: Any, words: Sequence[str]) -> list[list[Tokens]]:
    """The token sequences that count as each of ``words``, the one that is learned first.

    Beside that one there count: the same without the blank token that it begins with; the word with and without a blank before it,
    where that is one token; and for a word of several letters "Word" and "WORD", where these are one token.

    Args:
        processor: what ``load_processor`` returned.
        words: possible answers to one request.

    Raises:
        T2IEvalError: two words are the same tokens, so that they cannot be told apart.
    """
    return [list(sequences) for sequences in _candidates(processor, processor.chat_template, tuple(words))]


@lru_cache(maxsize=64)
def _candidates(processor: Any, template: str, words: tuple[str, ...]) -> tuple[tuple[Tokens, ...], ...]:
    tokenizer = processor.tokenizer
    learned = [tuple(ids) for ids in answer_tokens(processor, words)]
    for word, ids in zip(words, learned, strict=True):
        if learned.count(ids) > 1 or not ids:
            same = words[next(n for n, other in enumerate(learned) if other == ids and words[n] != word)] if ids else ""
            raise T2IEvalError(
                f"The tokenizer of this model writes '{word}' with the same tokens as '{same}', so they cannot be told apart; choose "
                "another wording or answer vocabulary (judging.wording, judging.options.answer_vocabulary)."
            )
    unknown = tokenizer.unk_token_id
    per_word: list[list[Tokens]] = []
    for word, ids in zip(words, learned, strict=True):
        sequences = [ids]
        if len(ids) > 1 and not tokenizer.decode([ids[0]]).strip():
            sequences.append(ids[1:])
        forms = [word, *((word.capitalize(), word.upper()) if word.isalpha() and len(word) > 1 else ())]
        for form in forms:
            for text in (form, f" {form}"):
                single = tuple(tokenizer.encode(text, add_special_tokens=False))
                if len(single) == 1 and single[0] != unknown:
                    sequences.append(single)
        per_word.append(list(dict.fromkeys(sequences)))
    return tuple(
        tuple(ids for ids in forms_of_word if not any(ids in other for other in per_word if other is not forms_of_word))
        or (forms_of_word[0],)
        for forms_of_word in per_word
    )


def inner_nodes(candidates: Sequence[Sequence[Tokens]]) -> list[Tokens]:
    """What may stand before a token of a candidate: every proper beginning of a sequence, the empty one first.

    Example:
        >>> inner_nodes([[(7,)], [(8, 1)], [(8, 2)]])
        [(), (8,)]
    """
    return sorted({ids[:n] for sequences in candidates for ids in sequences for n in range(len(ids))}, key=_by_length)


def next_tokens(candidates: Sequence[Sequence[Tokens]]) -> dict[Tokens, list[int]]:
    """For each of :func:`inner_nodes` the tokens by which a candidate goes on there, ascending.

    Example:
        >>> next_tokens([[(7,)], [(8, 1)], [(8, 2)]])
        {(): [7, 8], (8,): [1, 2]}
    """
    follow: dict[Tokens, set[int]] = {node: set() for node in inner_nodes(candidates)}
    for sequences in candidates:
        for ids in sequences:
            for n in range(len(ids)):
                follow[ids[:n]].add(ids[n])
    return {node: sorted(tokens) for node, tokens in follow.items()}


def _by_length(ids: Tokens) -> tuple[int, Tokens]:
    return len(ids), ids


def sequence_log_probabilities(
    candidates: Sequence[Sequence[Tokens]], log_probabilities: Mapping[Tokens, torch.Tensor]
) -> torch.Tensor:
    """Log probability of each candidate, (N, candidates): of the sum over its sequences of the product over their tokens.

    A sequence that is the beginning of another ("1" and "10") counts only as far as none of the tokens follows that would continue it
    to another candidate.

    Args:
        candidates: sequences of each candidate, see :func:`candidate_sequences`.
        log_probabilities: for each of :func:`inner_nodes` the log probabilities of the next token, (N, vocabulary).
    """
    import torch

    follow = next_tokens(candidates)

    def of(ids: Tokens) -> torch.Tensor:
        steps = [log_probabilities[ids[:n]][:, ids[n]] for n in range(len(ids))]
        if ids in follow:
            steps.append(torch.log1p(-log_probabilities[ids][:, follow[ids]].exp().sum(dim=1).clamp(max=1 - 1e-6)))
        return torch.stack(steps).sum(dim=0)

    return torch.stack([torch.stack([of(ids) for ids in forms]).logsumexp(dim=0) for forms in candidates], dim=1)
