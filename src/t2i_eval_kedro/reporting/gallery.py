"""Example items, chosen by a stated rule, with what people and every evaluator said of them side by side."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from PIL import Image, UnidentifiedImageError

from t2i_eval_kedro import schema
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.ratings import valid_ratings

MAX_SIDE = 320  # pixels of the longer side of an embedded image
PIXEL_ART = 128  # images no wider than this are enlarged without smoothing
_MIME = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
_MAX_TEXT = 1200


@dataclass(frozen=True)
class Picture:
    """An image ready to be embedded: ``uri`` is a data URI, the sizes are pixels of the embedded image."""

    uri: str
    width: int
    height: int

    @property
    def pixelated(self) -> bool:
        """Whether it is so small that it is shown enlarged, pixel by pixel."""
        return self.width <= PIXEL_ART


def embed(data: bytes, name: str) -> Picture:
    """The encoded image ``data`` as a data URI, scaled down to JPEG where its longer side exceeds ``MAX_SIDE``.

    Raises:
        T2IEvalError: ``data`` is no image that can be read.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            if max(image.size) <= MAX_SIDE and image.format in _MIME:
                mime, encoded, size = _MIME[image.format], data, image.size
            else:
                small = image.convert("RGB")
                small.thumbnail((MAX_SIDE, MAX_SIDE))
                buffer = io.BytesIO()
                small.save(buffer, format="JPEG", quality=82, optimize=True)
                mime, encoded, size = "image/jpeg", buffer.getvalue(), small.size
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise T2IEvalError(
            f"Image '{name}' cannot be read for the report ({error}); replace it or leave its item out."
        ) from error
    return Picture(f"data:{mime};base64,{base64.b64encode(encoded).decode('ascii')}", *size)


RULE = (
    "The rule that chose them looks at numbers alone: of the items that {lead} scored, those with the highest and the "
    "lowest mean {dimension} rating by {who}, and those whose rank by {lead} stands furthest above and furthest below "
    "their rank by {who}. Ties go to the first item id, and a prompt is shown once as long as others are left."
)


def pick_cases(
    items: pd.DataFrame,
    people: pd.Series,
    judge: pd.Series | None,
    who: str = "people",
    lead: str = "the judge",
    each: int = 2,
) -> list[tuple[str, pd.Series]]:
    """Example items as (group, row of ``items``), by the rule that ``RULE`` states.

    Args:
        items: canonical items.
        people: people's mean by item.
        judge: the followed evaluator's score by item, higher for better images; None shows no disagreement.
        who: who rated, for the names of the groups.
        lead: the followed evaluator, for the names of the groups.
        each: items in a group.
    """
    table = items.assign(people=items["item_id"].map(people)).dropna(subset=["people"])
    if judge is not None:
        scored = table["item_id"].map(judge)
        table = table[scored.notna()] if scored.notna().any() else table
    table["high"] = table["people"].rank(pct=True)
    table["low"] = -table["high"]
    groups = {f"Rated high by {who}": "high", f"Rated low by {who}": "low"}
    if judge is not None:
        both = table["item_id"].map(judge)
        table["above"] = both.rank(pct=True) - table["people"].where(both.notna()).rank(pct=True)
        table["below"] = -table["above"]
        groups |= {f"Ranked higher by {lead} than by {who}": "above", f"Ranked lower by {lead} than by {who}": "below"}
    cases: list[tuple[str, pd.Series]] = []
    used_items: set[str] = set()
    used_prompts: set[str] = set()
    for group, key in groups.items():
        candidates = table.dropna(subset=[key]).sort_values([key, "item_id"], ascending=[False, True])
        if key in ("above", "below"):
            candidates = candidates[candidates[key] > 0]
        candidates = candidates[~candidates["item_id"].isin(used_items)]
        fresh = candidates[~candidates["prompt_id"].isin(used_prompts)].drop_duplicates("prompt_id")
        chosen = pd.concat([fresh, candidates.drop(fresh.index)]).head(each)
        for _, row in chosen.iterrows():
            cases.append((group, row))
            used_items.add(row["item_id"])
            used_prompts.add(row["prompt_id"])
    return cases


def _people(ratings: pd.DataFrame, dimensions: list[str]) -> dict[str, dict[str, Any]]:
    """What people gave one item: mean, range and number of raters on each dimension."""
    means = {}
    for dimension in dimensions:
        rows = valid_ratings(ratings[ratings["dimension"] == dimension])
        if rows.empty:
            continue
        known = rows["n_raters"].dropna()
        means[dimension] = {
            "mean": float(rows["score"].mean()),
            "low": float(rows["score"].min()),
            "high": float(rows["score"].max()),
            "n": int(known.iloc[0]) if len(known) else len(rows),
            "scale": f"{rows['scale_min'].iloc[0]:g} to {rows['scale_max'].iloc[0]:g}",
        }
    return means


def _verdicts(scores: pd.DataFrame, evaluators: list[str], dimensions: list[str]) -> list[dict[str, Any]]:
    """What each evaluator gave one item: its scores by dimension, its status where there is none, its explanations."""
    rows = []
    for evaluator in evaluators:
        mine = scores[scores["evaluator"] == evaluator].sort_values("run")
        if mine.empty:
            continue
        cells: dict[str, float | str] = {}
        texts: list[dict[str, str]] = []
        for dimension in dimensions:
            given = mine[mine["dimension"].isin([dimension, ""])]
            if given.empty:
                continue
            good = given.loc[(given["status"] == schema.OK) & given["score"].notna(), "score"]
            cells[dimension] = float(good.mean()) if len(good) else str(given["status"].iloc[0])
            explanations = given["explanation"].dropna()
            text = str(explanations.iloc[0]).strip() if len(explanations) else ""
            if text and text not in [one["text"] for one in texts]:
                texts.append({"dimension": dimension, "text": clip(text)})
        rows.append({"evaluator": evaluator, "cells": cells, "explanations": texts})
    return rows


def clip(text: str, length: int = _MAX_TEXT) -> str:
    """``text`` cut at ``length`` characters, with an ellipsis where it was cut."""
    return text if len(text) <= length else text[:length].rstrip() + " …"


def _asked(messages: str) -> str:
    """The last text that the evaluator was sent, from the JSON list of a transcript's messages."""
    try:
        texts = [
            str(message.get("text") or "") for message in json.loads(messages) if message.get("role") != "assistant"
        ]
    except (json.JSONDecodeError, AttributeError, TypeError):
        return messages
    return texts[-1] if texts else ""


def _dialogues(transcripts: pd.DataFrame, evaluators: list[str]) -> list[dict[str, Any]]:
    dialogues = []
    for evaluator in evaluators:
        rows = transcripts[transcripts["evaluator"] == evaluator]
        if rows.empty:
            continue
        rows = rows[rows["run"] == rows["run"].min()]
        steps = [
            {
                "step": row["step"],
                "asked": clip(_asked(row["messages"])),
                "answer": clip(row["answer"]) if isinstance(row["answer"], str) else row["status"],
            }
            for _, row in rows.head(16).iterrows()
        ]
        dialogues.append({"evaluator": evaluator, "steps": steps, "left_out": max(0, len(rows) - len(steps))})
    return dialogues


def build_cases(
    chosen: list[tuple[str, pd.Series]],
    tables_by_name: Mapping[str, pd.DataFrame],
    image: Callable[[str], bytes] | None,
    evaluators: list[str],
    dimensions: list[str],
) -> list[dict[str, Any]]:
    """Everything that the page shows of each chosen item.

    Args:
        chosen: see ``pick_cases``.
        tables_by_name: the canonical tables ``ratings``, ``scores`` and ``transcripts``.
        image: gives an image's bytes by its key.
        evaluators: whose verdicts are shown, in this order.
        dimensions: which dimensions are shown, in this order.
    """
    cases = []
    for group, item in chosen:
        mine = {name: frame[frame["item_id"] == item["item_id"]] for name, frame in tables_by_name.items()}
        for name in ("scores", "transcripts"):
            mine[name] = mine[name].assign(evaluator=schema.evaluator_names(mine[name]))
        key = item["image"]
        picture = embed(image(key), key) if image is not None and isinstance(key, str) else None
        verdicts = _verdicts(mine["scores"], evaluators, dimensions)
        people = _people(mine["ratings"], dimensions)
        cases.append(
            {
                "group": group,
                "item_id": item["item_id"],
                "prompt": item["prompt"],
                "generator": item["generator"],
                "picture": picture,
                "people": people,
                "verdicts": verdicts,
                "dimensions": [
                    name for name in dimensions if name in people or any(name in row["cells"] for row in verdicts)
                ],
                "dialogues": _dialogues(mine["transcripts"], evaluators),
            }
        )
    return cases
