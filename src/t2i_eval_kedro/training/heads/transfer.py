"""Other benchmarks that judges are measured on and did not learn from: the cross-dataset table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from t2i_eval_kedro.benchmarks.splits import TRAINING_FOLDS, near_form
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.models.processors import ImageSource
from t2i_eval_kedro.training.heads.data import HeadData, HeadItem, PromptPart

if TYPE_CHECKING:
    from PIL.Image import Image

_BETWEEN = "::"


@dataclass(frozen=True)
class OtherBenchmark:
    """A benchmark that nothing is learned from.

    Attributes:
        data: its rated items with an image whose prompt is not among those that are learned from.
        images: its images.
        left_out: its rated images whose prompt is.
    """

    data: HeadData
    images: ImageSource
    left_out: int


@dataclass(frozen=True)
class OtherBenchmarks:
    """Several of them by name, beside the one that is learned from.

    Items, prompts and images are named ``<benchmark>::<their name>``, so that equal names do not meet.
    """

    known: Mapping[str, OtherBenchmark] = field(default_factory=dict)

    def items(self, *names: str) -> list[HeadItem]:
        """The items of the benchmarks ``names``, of all where none is given."""
        return [
            replace(
                item,
                item_id=name + _BETWEEN + item.item_id,
                prompt_id=name + _BETWEEN + item.prompt_id,
                image=name + _BETWEEN + item.image,
            )
            for name in names or self.known
            for item in self.known[name].data.items
        ]

    def beside(self, data: HeadData, images: ImageSource) -> tuple[HeadData, ImageSource]:
        """``data`` with the elements of the prompts of these benchmarks too, and ``images`` with their images."""
        if not self.known:
            return data, images
        parts: dict[str, Mapping[str, PromptPart]] = dict(data.parts)
        for name, other in self.known.items():
            parts |= {name + _BETWEEN + prompt: known for prompt, known in other.data.parts.items()}
        return replace(data, parts=parts), _Beside(images, {name: other.images for name, other in self.known.items()})


class _Beside:
    """Images of one benchmark by their keys, and of others by theirs behind the benchmark's name."""

    def __init__(self, images: ImageSource, others: Mapping[str, ImageSource]) -> None:
        self._images, self._others = images, others

    def image(self, key: str) -> Image:
        name, _, rest = key.partition(_BETWEEN)
        return self._others[name].image(rest) if rest and name in self._others else self._images.image(key)


def other_benchmark(data: HeadData, images: ImageSource, learned: Iterable[HeadItem]) -> OtherBenchmark:
    """The rated items of ``data`` without those whose prompt is the prompt of one that is learned from.

    Args:
        data: the other benchmark's.
        images: its images.
        learned: all items of the benchmark that is learned from; those of its training and validation fold count.
    """
    seen = {near_form(item.prompt) for item in learned if item.fold in TRAINING_FOLDS}
    rated = [item for item in data.items if item.rating is not None]
    kept = tuple(item for item in rated if near_form(item.prompt) not in seen)
    return OtherBenchmark(replace(data, items=kept), images, len(rated) - len(kept))


def refuse_unusable(names: Iterable[str], learned: str) -> None:
    """Refuse a benchmark that is named twice, or that judges learn from.

    Raises:
        T2IEvalError: one of ``names`` is.
    """
    listed = list(names)
    for name in listed:
        if name == learned:
            raise T2IEvalError(
                f"heads.other_benchmarks names '{name}', which the judges learn from; its own held-out prompts are in the table anyway."
            )
        if listed.count(name) > 1:
            raise T2IEvalError(f"heads.other_benchmarks names '{name}' twice.")
