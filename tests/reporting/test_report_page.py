from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest
from pages import outside, resources

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.reporting.agreement import agreement_tables
from t2i_eval_kedro.reporting.inputs import ReportInputs
from t2i_eval_kedro.reporting.report import build_report

VOID = {"meta", "img", "br", "hr", "input", "link", "use", "path", "image"}


class Page(HTMLParser):
    """The page's elements; open and close tags must match."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def words(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.text))


@pytest.fixture(scope="module")
def html(inputs: ReportInputs) -> str:
    return build_report(inputs)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_page_is_well_formed_and_its_ids_are_unique(page: Page) -> None:
    assert page.open == []
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        for name in attributes.get("aria-labelledby", "").split():
            assert name in ids
        if attributes.get("href", "").startswith("#"):
            assert attributes["href"][1:] in ids
        for reference in re.findall(r"url\(#([^)]+)\)", " ".join(attributes.values())):
            assert reference in ids


def test_nothing_is_fetched_and_nothing_runs(html: str, page: Page) -> None:
    for tag in ("script", "iframe", "object", "embed", "link", "form"):
        assert page.all(tag) == []
    assert outside(html) == []
    assert len(resources(html)) >= 6
    policy = next(meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    assert "default-src 'none'" in policy


def test_prompts_explanations_answers_and_faults_are_escaped(html: str, page: Page) -> None:
    assert "<script" not in html
    assert "two <b>" not in html
    assert 'alert("x")</script> & "quoted" a cat' in page.words()


def test_images_and_figures_are_described(page: Page) -> None:
    assert len(page.all("img")) >= 6
    assert all("prompt" in image["alt"] for image in page.all("img"))
    assert all(image["class"] == "pixelated" for image in page.all("img"))
    assert all(svg["role"] == "img" and len(svg["aria-label"]) > 20 for svg in page.all("svg"))


def test_headings_do_not_skip_a_level_and_tables_have_captions(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert len(page.all("caption")) == len(page.all("table"))


def test_parts_stand_in_the_order_that_a_reader_needs(page: Page) -> None:
    parts = [attributes["id"] for tag, attributes in page.elements if tag == "section"]
    assert parts == [
        "question",
        "conclusions",
        "data",
        "examples",
        "agreement",
        "answers",
        "differences",
        "scatter",
        "teacher",
        "diagnostics",
        "training",
        "rebalancing",
        "published",
        "reproduce",
    ]


def test_title_is_followed_by_the_answer_and_by_a_notice_that_the_data_is_synthetic(page: Page) -> None:
    words = page.words()
    assert "On 36 held-out synthetic items (12 prompts) the judge trained by SFT agrees" in words
    assert "All images, prompts and ratings behind these figures are synthetic." in words
    assert "agree with simulated raters?" in words


def test_an_evaluator_whose_low_scores_are_good_is_drawn_with_a_turned_axis(page: Page) -> None:
    assert "Low scores of falling_metric mean good images, so its axis is turned over." in page.words()
    assert "Low scores of sft" not in page.words()


def test_published_figures_stand_apart(html: str) -> None:
    before, after = html.split('<section id="published"')
    assert "0.310" in after
    assert "clip" not in re.sub(r"clip-?[pP]ath|clip-", "", before.split("</style>")[1])


def test_the_same_inputs_give_the_same_page(inputs: ReportInputs, html: str) -> None:
    assert build_report(inputs) == html


def test_absent_parts_are_named_in_a_sentence(make_summary: Callable[..., dict[str, Any]]) -> None:
    page = Page(build_report(ReportInputs(summary=make_summary(clip=0.3))))
    words = page.words()
    for sentence in (
        "There is no data card for this benchmark.",
        "No table of ratings was given to this report.",
        "No items with ratings were given to this report, so it shows no examples.",
        "No paired differences were measured.",
        "No scores and ratings of the same items were given to this report.",
        "No judge was trained in this run, so there are no training curves.",
        "No training examples were rebalanced in this run.",
        "No provenance was recorded.",
    ):
        assert sentence in words
    assert page.all("img") == []
    assert "kedro run --params=benchmark=shapes,variant=full,seed=0" in words


def test_items_without_images_are_shown_without_them(inputs: ReportInputs) -> None:
    page = Page(build_report(replace(inputs, image=None)))
    assert page.all("img") == []
    assert "The images of these items are not at hand" in page.words()


def test_an_undefined_figure_gives_its_reason(make_summary: Callable[..., dict[str, Any]]) -> None:
    given = make_summary(sft=0.7, constant=None)
    given["evaluators"]["constant"]["overall"]["spearman"]["reason"] = "all scores are equal"
    assert "undefined: all scores are equal" in Page(build_report(ReportInputs(summary=given))).words()


def test_page_stays_small(inputs: ReportInputs, make_png: Callable[..., bytes]) -> None:
    large = make_png(2000, 1500)
    html = build_report(replace(inputs, image=lambda key: large))
    assert len(html) < 1_500_000
    assert 'width="320" height="240"' in html
    assert "pixelated" not in html.split("</style>")[1]


def test_a_corrupt_image_is_named(inputs: ReportInputs) -> None:
    with pytest.raises(T2IEvalError, match=r"Image 'i\d\d-\w+\.png' cannot be read"):
        build_report(replace(inputs, image=lambda key: b"no image"))


def test_a_summary_without_evaluators_is_refused() -> None:
    with pytest.raises(T2IEvalError, match="no 'evaluators'"):
        build_report(ReportInputs(summary={"benchmark": "shapes"}))


def test_labels_of_elements_and_preferences_have_their_tables(make_summary: Callable[..., dict[str, Any]]) -> None:
    figure = {"value": 0.812, "low": 0.71, "high": 0.9, "n": 216}
    nothing = {"value": None, "low": None, "high": None, "n": 0, "reason": "no element has both a label and a score"}
    four = ("accuracy", "precision", "recall", "f1")
    html = build_report(
        ReportInputs(
            make_summary(sft=0.5)
            | {
                "elements": {
                    "sft_pn_vqa": {**dict.fromkeys(four, figure), "n_unscored": 3},
                    "silent": {**dict.fromkeys(four, nothing), "n_unscored": 219},
                },
                "preferences": {
                    "sft": {
                        "overall": {
                            "n_unscored": 2,
                            "accuracy": figure,
                            "accuracy_without_ties": figure | {"value": 0.934},
                        }
                    }
                },
            }
        )
    )
    words = Page(html).words()
    assert "sft_pn_vqa2163" in words
    assert "silent" not in words
    assert "sftoverall21620.812 [0.710, 0.900]0.934" in words
    assert "Same in both orders" not in words
    assert "Labels of single" not in Page(build_report(ReportInputs(make_summary(sft=0.5)))).words()


def test_a_judge_of_pairs_shows_how_often_both_orders_agree(make_summary: Callable[..., dict[str, Any]]) -> None:
    figure = {"value": 0.8, "low": 0.7, "high": 0.9, "n": 40}
    cell = {"n_unscored": 1, "accuracy": figure, "accuracy_without_ties": figure}
    summary = make_summary(sft=0.5) | {
        "preferences": {
            "sft": {"overall": cell},
            "sft_pairwise": {"": cell | {"order_consistency": figure | {"value": 0.95}}},
        }
    }
    words = Page(build_report(ReportInputs(summary))).words()
    assert "Same in both orders" in words
    assert "sft_pairwiseany4010.800 [0.700, 0.900]0.800 [0.700, 0.900]0.950 [0.700, 0.900]" in words
    nothing: dict[str, Any] = {
        "evaluators": {},
        "within_group": {},
        "counts": {},
        "noise_ceiling": {},
        "significance": [],
    }
    alone = nothing | {"settings": {"confidence": 0.95}, "preferences": summary["preferences"]}
    (table,) = [one.frame for one in agreement_tables(alone) if "people's preferences" in one.title]
    assert dict(zip(table["evaluator"], table["same in both orders"], strict=True)) == {
        "sft": "-",
        "sft_pairwise": "0.950 [0.700, 0.900]",
    }


def test_rationales_and_the_time_of_a_step_are_shown(inputs: ReportInputs) -> None:
    estimate = {"value": 0.91, "low": 0.88, "high": 0.94, "n": 40}
    row = {"evaluator": "grpo_reasoning", "items": 40, "true_faults": 70, "named": 1.5, "named_true": estimate}
    given = replace(
        inputs,
        diagnostics={"rationales": [row | {"false": estimate, "contradictions": estimate | {"value": 0.04}}]},
        grpo_seconds={"generation": 1.5712, "reward": 0.004, "update": 3.23},
    )
    words = Page(build_report(given)).words()
    assert "grpo_reasoning40701.5000.910 [0.880, 0.940]0.910 [0.880, 0.940]0.040 [0.880, 0.940]" in words
    assert "A step of GRPO took 1.57 s for generation, 0.00 s for reward and 3.23 s for update." in words
    assert "A step of GRPO" not in Page(build_report(inputs)).words()


TEACHER = {
    "costs": {
        "teacher": "openai",
        "model": "gpt-x",
        "currency": "USD",
        "prices_as_of": "2026-06-01",
        "account": {"requests": 1200, "cost": 20.5},
        "dropped": {"a question without a question mark": 3},
    },
    "checks": {"contradictions": [{"what": "no and yes", "checked": 10, "found": 2}], "agreement_of_runs": []},
    "break_even": {"currency": "USD", "building_the_training_set": 20.5, "teacher_an_image": 0.02, "images": 1579},
}


def test_the_teacher_its_cost_and_when_it_pays(make_summary: Callable[..., dict[str, Any]]) -> None:
    words = Page(build_report(ReportInputs(make_summary(), teacher=TEACHER))).words()
    assert "The teacher was openai: gpt-x." in words
    assert "Cost20.5000" in words
    assert "in USD at the prices of 2026-06-01" in words
    assert "asking the teacher about 1,579 images" in words
    assert "a question without a question mark (3)" in words
    assert "Answers that speak against the teacher's own scores." in words
    assert "two runs" not in words


def test_a_student_that_never_pays_and_a_teacher_that_cost_nothing(make_summary: Callable[..., dict[str, Any]]) -> None:
    never = TEACHER | {"break_even": TEACHER["break_even"] | {"images": None}}
    assert "never pays for itself" in Page(build_report(ReportInputs(make_summary(), teacher=never))).words()
    free = {"costs": {"teacher": "simulated", "model": None, "currency": "USD"}}
    assert "It cost nothing" in Page(build_report(ReportInputs(make_summary(), teacher=free))).words()
    priced = free | {"break_even": TEACHER["break_even"] | {"as_if_asked": "gpt-x"}}
    words = Page(build_report(ReportInputs(make_summary(), teacher=priced))).words()
    assert "It cost nothing." in words
    assert "Assumed, not paid: what the same requests and answers would cost from gpt-x" in words
    human = {"costs": {"teacher": "human"}}
    assert "they are the reference" in Page(build_report(ReportInputs(make_summary(), teacher=human))).words()
    assert "No teacher was asked" in Page(build_report(ReportInputs(make_summary(), teacher={}))).words()
