"""A teacher that writes: decoding equals a plain loop, batches change nothing, malformed chains are counted, grades are read."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from decoder_folders import bpe, make_writer

from components.shared.aspects import Chain, Step
from components.shared.errors import InputError
from components.shared.models import folder
from components.shared.models.generative import GenerativeGrader, GradeTokens, Wording
from components.shared.models.scoring import Scorer
from components.shared.models.tokens import join_pairs

LEFT = ["query: red shoes", "query: blue lamp for kitchen", "query: cup", "query: red shoes"]
RIGHT = ["title: red shoes | color: red", "title: green chair", "title: large garden lamp | color: blue", "title: small cup"]


@pytest.fixture(scope="module", params=["qwen3", "llama"])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_writer(str(tmp_path_factory.mktemp(request.param)), request.param)


def by_hand(scorer: Scorer, left: str, right: str) -> tuple[np.ndarray, list[int]]:
    """Token by token without a cache, one pair at a time."""
    wording = Wording(scorer.tokenizer, 3)
    ids = join_pairs(scorer.tokenizer, [left], [right], scorer.spec.max_tokens).row(0) + wording.task_ids("explain")
    steps: list[int] = []
    prefix, forced = wording.grade.prefix, 0

    def following() -> torch.Tensor:
        with torch.inference_mode():
            return scorer.model(torch.tensor([ids + steps])).logits[0, -1]

    while steps[-len(prefix) :] != prefix:
        token = int(following().argmax())
        if len(steps) >= scorer.spec.step_tokens or token == scorer.tokenizer.eos_token_id or forced:
            token, forced = prefix[forced], forced + 1
        steps.append(token)
    return following()[wording.grade.grades].numpy(), steps[: -len(prefix)]


def test_it_writes_what_a_plain_loop_writes_whatever_stands_beside(written: str) -> None:
    scorer = Scorer(written)
    assert scorer.writer is not None
    expected = [by_hand(scorer, *pair) for pair in zip(LEFT, RIGHT, strict=True)]
    together = scorer.writer.write(LEFT, RIGHT)
    for row, (logits, steps) in enumerate(expected):
        assert together.texts[row] == scorer.tokenizer.decode(steps, skip_special_tokens=True)
        np.testing.assert_allclose(together.logits[row], logits, atol=1e-5)
    alone = np.concatenate([scorer.probabilities([left], [right]) for left, right in zip(LEFT, RIGHT, strict=True)])
    np.testing.assert_allclose(scorer.probabilities(LEFT, RIGHT), alone, atol=1e-5)
    np.testing.assert_allclose(alone.sum(1), 1, atol=1e-6)
    assert together.malformed.total() == len(LEFT)  # nobody taught it to write chains
    assert together.chains() == [None] * len(LEFT)


def test_at_once_it_reads_the_grade_after_the_prompt(written: str) -> None:
    scorer = Scorer(written, steps=False)
    wording = Wording(scorer.tokenizer, 3)
    for left, right, found in zip(LEFT, RIGHT, scorer.logits(LEFT, RIGHT), strict=True):
        ids = join_pairs(scorer.tokenizer, [left], [right], 96).row(0) + wording.task_ids("grade") + wording.grade.prefix
        with torch.inference_mode():
            expected = scorer.model(torch.tensor([ids])).logits[0, -1, wording.grade.grades]
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert "writes grade" in scorer.engine


class Recorded:
    """A causal model that writes the given ids, whatever it is asked, and likes the second grade best."""

    def __init__(self, ids: list[int], liked: int, vocab_size: int) -> None:
        self.ids, self.liked, self.vocab_size = ids, liked, vocab_size
        self.config, self.device, self.asked = None, torch.device("cpu"), 0

    def __call__(self, input_ids: torch.Tensor, **_: Any) -> Any:
        logits = torch.zeros(len(input_ids), 1, self.vocab_size)
        logits[:, :, self.liked] = 1.0
        if self.asked < len(self.ids):
            logits[:, :, self.ids[self.asked]] = 5.0
        self.asked += 1
        return type("Answer", (), {"logits": logits})


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        ("category: match\nbrand: mismatch\ngrade:", ""),
        ("error: too_high\ncategory: match\ngrade:", ""),
        ("category: maybe\ngrade:", "unknown_verdict"),
        ("category: match", "unfinished"),
        ("brand: match\ncategory: match\ngrade:", "aspects_out_of_order"),
    ],
)
def test_a_malformed_chain_is_counted_and_its_grade_read(says: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("components.shared.models.generative.DynamicCache", lambda config: None)
    tokenizer = bpe()
    tokenizer.pad_token = tokenizer.eos_token
    spec = folder.ModelSpec("teacher", 96, gains=[0.0, 0.5, 1.0], decoder=True, replies=["explain"], step_tokens=60)
    ids = GradeTokens.of(tokenizer, 3).grades
    told = tokenizer(says.removesuffix("grade:"))["input_ids"]
    told += GradeTokens.of(tokenizer, 3).prefix if says.endswith("grade:") else [tokenizer.eos_token_id]
    model: Any = Recorded(told, ids[1], len(tokenizer))
    found = GenerativeGrader(model, tokenizer, spec).write(LEFT[:1], RIGHT[:1])
    assert dict(found.malformed) == ({reason: 1} if reason else {})
    assert found.logits.argmax() == 1
    assert (found.chains()[0] is None) == bool(reason)
    if not reason:
        assert Chain(found.chains()[0].steps, error=found.chains()[0].error).text() + "\n" == says.removesuffix("grade:")  # type: ignore[union-attr]


def test_replies_and_prompts_are_joined_as_ids() -> None:
    tokenizer = bpe()
    tokenizer.pad_token = tokenizer.eos_token
    wording = Wording(tokenizer, 3)
    chain = Chain({"brand": Step("match")}, 2, "too_low")
    assert tokenizer.decode(wording.step_ids([chain, Chain(grade=1)])[0]) == "error: too_low\nbrand: match\n"
    assert wording.step_ids([Chain(grade=1)]) == [[]]
    assert "decided grade: 2," in tokenizer.decode(wording.task_ids("reflect", 2))
    padded = wording.padded([[5, 6, 7], [8]])
    assert padded["input_ids"].tolist() == [[5, 6, 7], [0, 0, 8]]
    assert padded["attention_mask"].tolist() == [[1, 1, 1], [0, 0, 1]]
    assert padded["position_ids"].tolist() == [[0, 1, 2], [0, 0, 0]]


def test_what_cannot_write_is_refused(written: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="writes some of the grades 0 to 10 with several tokens; set form 'head'"):
        GradeTokens.of(bpe(), 11)
    scorer = Scorer(written)
    only = folder.ModelSpec("teacher", 96, gains=[0.0, 0.5, 1.0], decoder=True, replies=["explain"], step_tokens=8)
    with pytest.raises(InputError, match="not taught to give a grade at once, only explain"):
        GenerativeGrader(scorer.model, scorer.tokenizer, only, steps=False)
    headless = str(Path(written).parent / "bare")
    with pytest.raises(InputError, match=r"lacks 'lm_head.weight', without which it writes nothing"):
        folder.load_model(folder.fetch(headless), only)
