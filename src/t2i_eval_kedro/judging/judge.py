"""A judge that is ready to be asked: one call from images and prompts to verdicts, without a pipeline."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageOps

from t2i_eval_kedro.benchmarks.images import SUFFIXES, BadImage, ImageFiles, check_image, upright_png
from t2i_eval_kedro.datasets.image_store import as_rgb
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.backends.base import Backend
from t2i_eval_kedro.judging.comparisons import Comparison, Comparisons
from t2i_eval_kedro.judging.engine import judge
from t2i_eval_kedro.judging.evidence import EvidenceSource, add_evidence
from t2i_eval_kedro.judging.familiarity import KnownWords
from t2i_eval_kedro.judging.known_elements import elements_for
from t2i_eval_kedro.judging.pairs import compare
from t2i_eval_kedro.judging.protocols import EvaluationItem, Protocol
from t2i_eval_kedro.judging.protocols.base import PromptElement
from t2i_eval_kedro.judging.protocols.decomposed import Decomposed
from t2i_eval_kedro.judging.protocols.reasoning import PairRule, Pairwise, Preference
from t2i_eval_kedro.judging.verdicts import ElementAnswer, Verdict, Verdicts
from t2i_eval_kedro.schema import FAILED
from t2i_eval_kedro.tables.values import plain_line_breaks

ImageLike = str | Path | bytes | Image.Image | np.ndarray[Any, Any]
"""A path, an encoded image, a Pillow image, or an array of 8-bit pixels, (H, W) or (H, W, C): C is 1 for grey, 3 for RGB, 4 for RGBA."""
CHANNELS = ((), (1,), (3,), (4,))
"""What may follow height and width in the shape of such an array."""
Elements = Mapping[str, tuple[PromptElement, ...]]


class GivenImages(ImageFiles):
    """Images by their path, and images in memory by a name made from their content."""

    def __init__(self, folder: Path = Path()) -> None:
        """Read paths relative to ``folder``."""
        super().__init__(folder)
        self._encoded: dict[str, bytes] = {}

    def add(self, image: ImageLike) -> str:
        """The key of ``image``, which is held until this object is gone where it is in memory.

        Raises:
            T2IEvalError: it is an array that is no picture, or has pixels that do not fit eight bits a channel.
        """
        if isinstance(image, str | Path):
            return str(image)
        if isinstance(image, np.ndarray):
            if image.dtype != np.uint8 or not image.size or image.ndim < 2 or image.shape[2:] not in CHANNELS:
                raise T2IEvalError(
                    f"An image is an array of {image.dtype} and shape {image.shape}; give uint8 and (H, W), or (H, W, C) with 1, 3 or 4 "
                    "channels."
                )
            image = Image.fromarray(image[..., 0] if image.shape[2:] == (1,) else image)
        if isinstance(image, Image.Image):
            if image.mode in ("I", "F"):
                raise T2IEvalError(
                    f"An image has pixels of kind {image.mode}; give eight bits a channel, or 16 of grey (I;16)."
                )
            buffer = io.BytesIO()
            as_rgb(ImageOps.exif_transpose(image)).save(buffer, "PNG")
            image = buffer.getvalue()
        key = f"image-{hashlib.sha256(image).hexdigest()[:12]}"
        self._encoded[key] = image
        return key

    def read(self, key: str) -> bytes:
        """The encoded image at ``key``; raises BadImage as :class:`ImageFiles` does."""
        if key not in self._encoded:
            return super().read(key)
        data = self._encoded[key]
        return upright_png(data) if check_image(data, self.limits) else data


@dataclass(frozen=True)
class Judge:
    """A protocol and what answers it.

    Attributes:
        name: name of the judge, as results carry it.
        protocol: how the judge is asked.
        backend: who answers.
        images: where the backend reads images.
        dimensions: what is scored: name -> phrase that the judge is asked with.
        batch_size: items judged together; None for all, which suits a server.
        run: number of the repetition.
        rule: what a difference of two scores means, for comparisons.
        familiar: the words that the judge has met, where they are known; verdicts on other prompts are flagged.
        elements: the parts of each prompt, where they are known.
        max_out_of_vocabulary: see :func:`t2i_eval_kedro.judging.engine.judge`.
        evidence: where evidence comes from, for a protocol that is asked with some.

    Example:
        >>> judge = load_judge("data/06_models/shapes/tiny_vlm/full/seed_0/sft")    # doctest: +SKIP
        >>> judge("cat.png", "a cat on a mat").score                                # doctest: +SKIP
        6.4
    """

    name: str
    protocol: Protocol
    backend: Backend
    images: GivenImages
    dimensions: Mapping[str, str]
    batch_size: int | None = None
    run: int = 0
    elements: Elements = field(default_factory=dict)
    rule: PairRule = field(default_factory=PairRule)
    familiar: KnownWords | None = None
    max_out_of_vocabulary: float = 1.0
    evidence: EvidenceSource | None = None

    def __call__(
        self,
        images: ImageLike | Sequence[ImageLike] | pd.DataFrame,
        prompts: str | Sequence[str] | Mapping[str, str] | None = None,
        *,
        references: ImageLike | Sequence[ImageLike | None] | None = None,
        elements: Elements | None = None,
    ) -> Verdict | Verdicts:
        """Judge one image or many.

        Args:
            images: one image; a list of them; a folder, of which every image is judged; or a frame with the columns ``image`` and
                ``prompt``, optionally ``reference`` and ``item_id``, whose other columns are kept.
            prompts: the text that each image was generated from; one text for all of them; for a folder also a mapping from file
                name to text. Without it, the prompt of an image in a folder is the text file of the same name beside it.
            references: image or images that show how good such an image can look, for the decomposed protocols.
            elements: the parts of each prompt (prompt -> elements), where they are known.

        Returns:
            A :class:`Verdict` for one image, else :class:`Verdicts` in the order of the images. An image that cannot be read
            in a list costs its own verdict alone.

        Raises:
            T2IEvalError: the one image cannot be read or its prompt is empty, or the numbers of images and prompts differ.
        """
        if isinstance(images, pd.DataFrame):
            return self.judge_frame(images, elements=elements)
        folder = Path(images) if isinstance(images, str | Path) and Path(self.images.folder, images).is_dir() else None
        if folder is None and not isinstance(images, list | tuple):
            if not isinstance(prompts, str):
                raise T2IEvalError("The prompt of the image is missing; give the text that it was generated from.")
            if isinstance(references, list | tuple):
                raise T2IEvalError("Several reference images were given for one image; give one.")
            return self.judge_image(images, prompts, reference=references, elements=elements)  # type: ignore[arg-type]
        if folder is not None:
            paths = sorted(p for p in Path(self.images.folder, folder).iterdir() if p.suffix.lower() in SUFFIXES)
            if not paths:
                raise T2IEvalError(f"Folder '{folder}' does not contain an image ({', '.join(SUFFIXES)}).")
            listed: Sequence[ImageLike] = [path.resolve() for path in paths]
            if prompts is None or isinstance(prompts, Mapping):
                prompts = [_prompt_of(path, prompts) for path in paths]
        else:
            listed = images  # type: ignore[assignment]
        if isinstance(prompts, Mapping) or prompts is None:
            raise T2IEvalError("The prompts are missing; give one text for every image, or one for all of them.")
        texts = [prompts] * len(listed) if isinstance(prompts, str) else list(prompts)
        shown: list[ImageLike | None] = (
            list(references) if isinstance(references, list | tuple) else [references] * len(listed)  # type: ignore[list-item]
        )
        if len(texts) != len(listed) or len(shown) != len(listed):
            raise T2IEvalError(
                f"There are {len(listed)} images, {len(texts)} prompts and {len(shown)} reference images; give one for each "
                "image, or one for all."
            )
        return self.judge_frame(self._frame(listed, texts, shown), elements=elements, keep_columns=False)

    def judge_image(
        self,
        image: ImageLike,
        prompt: str,
        *,
        reference: ImageLike | None = None,
        elements: Elements | None = None,
    ) -> Verdict:
        """Judge one image.

        Raises:
            T2IEvalError: the image cannot be read, or the prompt is empty.
        """
        require_readable(self.images, image, prompt, reference)
        return self.judge_frame(self._frame([image], [prompt], [reference]), elements=elements)[0]

    def judge_frame(
        self, frame: pd.DataFrame, *, elements: Elements | None = None, keep_columns: bool = True
    ) -> Verdicts:
        """Judge every row of ``frame``; see :meth:`__call__`.

        Raises:
            T2IEvalError: a column is missing, or there are reference images and the protocol looks at none.
        """
        if isinstance(self.protocol, Pairwise):
            raise T2IEvalError(
                f"The protocol {self.protocol.name} compares two images of one prompt; give a second image, or choose another "
                "protocol."
            )
        _require_columns(frame, "prompt", "image")
        known = self.elements if elements is None else elements
        rows = pd.DataFrame(
            {"prompt": frame["prompt"], "image": frame["image"], "reference": frame.get("reference", "")}
        )
        items = [
            EvaluationItem(str(i), prompt, image, self.dimensions, elements_for(prompt, known), reference)
            for i, (prompt, image, reference) in enumerate(
                (plain_line_breaks(_text(prompt)), self._key(image), self._key(reference))
                for prompt, image, reference in rows.itertuples(index=False)
            )
        ]
        if any(item.reference for item in items) and not isinstance(self.protocol, Decomposed):
            raise T2IEvalError(f"The protocol {self.protocol.name} looks at no reference image; decomposed does.")
        askable = [item for item in items if item.prompt.strip() and item.image]
        judged = judge(
            add_evidence(askable, self.protocol, self.evidence),
            self.protocol,
            self.backend,
            name=self.name,
            run=self.run,
            chunk_size=self.batch_size,
            max_out_of_vocabulary=self.max_out_of_vocabulary,
        )
        scores = dict(tuple(judged.scores.groupby("item_id", sort=False)))
        answers = dict(tuple(judged.element_scores.groupby("item_id", sort=False)))
        notes = [""] * len(items) if self.familiar is None else self.familiar.notes([item.prompt for item in items])
        verdicts = [
            self._verdict(item, scores.get(item.item_id), answers.get(item.item_id), note)
            for item, note in zip(items, notes, strict=True)
        ]
        return Verdicts(verdicts, source=frame if keep_columns else None, run=self.run)

    def compare(self, image_a: ImageLike, image_b: ImageLike, prompt: str) -> Comparison:
        """Which of two images of one prompt is better.

        The protocol ``pairwise`` shows both images at once, in both orders; by any other each is scored alone.

        Raises:
            T2IEvalError: an image cannot be read, or the prompt is empty.
        """
        for image in (image_a, image_b):
            require_readable(self.images, image, prompt, None)
        frame = pd.DataFrame(
            {"prompt": [prompt], "image": [self.images.add(image_a)], "image_b": [self.images.add(image_b)]}
        )
        return self.compare_frame(frame)[0]

    def compare_frame(self, frame: pd.DataFrame) -> Comparisons:
        """Compare the columns ``image`` and ``image_b`` of every row of ``frame``, whose prompt is in ``prompt``.

        An image that cannot be read, or a row without a prompt or without one of its images, costs its own row alone.

        Raises:
            T2IEvalError: a column is missing.
        """
        _require_columns(frame, "prompt", "image", "image_b")
        rows = frame[["prompt", "image", "image_b"]].itertuples(index=False)
        pairs = [
            EvaluationItem(
                str(i), prompt, image, self.dimensions, elements_for(prompt, self.elements), comparison_image=image_b
            )
            for i, (prompt, image, image_b) in enumerate(
                (plain_line_breaks(_text(prompt)), self._key(image), self._key(image_b))
                for prompt, image, image_b in rows
            )
        ]
        askable = [pair for pair in pairs if pair.prompt.strip() and pair.image and pair.comparison_image]
        preferences, _ = compare(
            askable,
            self.protocol,
            self.backend,
            self.rule,
            name=self.name,
            evidence=self.evidence,
            run=self.run,
            chunk_size=self.batch_size,
            max_out_of_vocabulary=self.max_out_of_vocabulary,
        )
        by_id = {pair.item_id: by_name for pair, by_name in zip(askable, preferences, strict=True)}
        return Comparisons([self._comparison(pair, by_id.get(pair.item_id)) for pair in pairs], frame, self.run)

    def _comparison(self, pair: EvaluationItem, preferences: Mapping[str, Preference] | None) -> Comparison:
        if preferences is None:
            reason = "the row has no prompt" if not pair.prompt.strip() else "the row does not have two images"
            nothing = Preference(None, None, None, None, None, FAILED, (reason,))
            preferences = dict.fromkeys(self.protocol.verdict(pair, {}).scores, nothing)
        return Comparison(
            prompt=pair.prompt,
            image_a=pair.image,
            image_b=pair.comparison_image,
            judge=self.name,
            protocol=self.protocol.name,
            prompt_version=self.protocol.label,
            tie=self.rule.tie,
            preferences=preferences,
        )

    def _frame(
        self, images: Sequence[ImageLike], prompts: Sequence[str], references: Sequence[ImageLike | None]
    ) -> pd.DataFrame:
        keys = [self.images.add(image) for image in images]
        shown = ["" if one is None else self.images.add(one) for one in references]
        return pd.DataFrame({"prompt": list(prompts), "image": keys, "reference": shown})

    def _key(self, cell: Any) -> str:
        if isinstance(cell, Path | bytes | Image.Image | np.ndarray):
            return self.images.add(cell)
        return _text(cell)

    def _verdict(
        self, item: EvaluationItem, scores: pd.DataFrame | None, answers: pd.DataFrame | None, note: str
    ) -> Verdict:
        if scores is None:
            reason = "the row has no image" if item.prompt.strip() else "the row has no prompt"
            names = list(self.protocol.verdict(item, {}).scores)
            rows = [(name, None, FAILED, reason) for name in names]
        else:
            columns = scores[["dimension", "score", "status", "explanation"]].astype(object)
            rows = list(columns.where(columns.notna(), None).itertuples(index=False, name=None))
        texts = {element.element_id: element.text for element in item.elements}
        elements: tuple[ElementAnswer, ...] = ()
        if answers is not None:
            given = answers[["element_id", "score", "status"]].astype(object)
            elements = tuple(
                ElementAnswer(str(key), texts.get(str(key), str(key)), None if score is None else float(score), status)
                for key, score, status in given.where(given.notna(), None).itertuples(index=False, name=None)
            )
        return Verdict(
            prompt=item.prompt,
            image=item.image,
            judge=self.name,
            protocol=self.protocol.name,
            prompt_version=self.protocol.label,
            scores={name: None if score is None else float(score) for name, score, _, _ in rows},
            statuses={name: status for name, _, status, _ in rows},
            explanations={name: explanation for name, _, _, explanation in rows},
            elements=elements,
            domain_note=note,
            read_image=self.images.read,
        )


def _require_columns(frame: pd.DataFrame, *names: str) -> None:
    """Check that ``frame`` has the columns ``names``.

    Raises:
        T2IEvalError: it does not.
    """
    absent = [name for name in names if name not in frame.columns]
    if absent:
        raise T2IEvalError(
            f"The table does not have the column '{absent[0]}'; its columns are {', '.join(map(str, frame.columns))}."
        )


def require_readable(images: GivenImages, image: ImageLike, prompt: str, reference: ImageLike | None) -> None:
    """Check one image before anything is loaded or asked.

    Raises:
        T2IEvalError: the prompt is empty, or an image cannot be read.
    """
    if not prompt.strip():
        raise T2IEvalError("The prompt is empty; give the text that the image was generated from.")
    for key in [images.add(one) for one in (image, reference) if one is not None]:
        try:
            images.read(key)
        except BadImage as error:
            raise T2IEvalError(f"The image '{key}' cannot be judged: {error}.") from error


def require_references(protocol: Protocol) -> None:
    """Check that ``protocol`` looks at reference images.

    Raises:
        T2IEvalError: it does not.
    """
    if not isinstance(protocol, Decomposed):
        raise T2IEvalError(f"The protocol {protocol.name} looks at no reference image; decomposed does.")


def _prompt_of(path: Path, prompts: Mapping[str, str] | None) -> str:
    """The prompt of one image of a folder."""
    if prompts is not None:
        for name in (path.name, path.stem):
            if name in prompts:
                return prompts[name]
        raise T2IEvalError(f"There is no prompt for the image '{path.name}'; give one for each image of the folder.")
    beside = path.with_suffix(".txt")
    if not beside.is_file():
        raise T2IEvalError(
            f"There is no prompt for the image '{path.name}'; write it to '{beside.name}' beside it, or give the prompts."
        )
    return beside.read_text(encoding="utf-8").strip()


def _text(cell: Any) -> str:
    """A cell as text; a null is empty."""
    return "" if cell is None or cell is pd.NA or (isinstance(cell, float) and np.isnan(cell)) else str(cell)
