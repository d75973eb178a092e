"""Which networks a teacher can start from, by their configs."""

from pathlib import Path
from typing import Any

import pytest
from decoder_folders import bpe
from transformers import AutoModel, BertConfig, BloomConfig, Gemma3Config, GraniteConfig, MptConfig, T5Config, T5EncoderModel, XLNetConfig

from components.shared.errors import InputError
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.network import build_network, teacher_spec


def spec_of(settings: Any, place: Path, max_tokens: int) -> Any:
    settings.save_pretrained(place)
    return teacher_spec(place, TrainTeacherConfig(max_tokens=max_tokens), [0.0, 1.0])


@pytest.mark.parametrize("settings", [BloomConfig(), MptConfig(), XLNetConfig()])
def test_positions_without_end_bound_nothing(settings: Any, tmp_path: Path) -> None:
    assert spec_of(settings, tmp_path, 4096).max_tokens == 4096


@pytest.mark.parametrize("settings", [BertConfig(max_position_embeddings=40), Gemma3Config(text_config={"max_position_embeddings": 40})])
def test_a_network_reads_no_more_than_its_positions(settings: Any, tmp_path: Path) -> None:
    assert spec_of(settings, tmp_path, 40).max_tokens == 40
    with pytest.raises(InputError, match=r"key 'max_tokens' = 41: the encoder '.*' reads at most 40 tokens; lower it"):
        spec_of(settings, tmp_path, 41)


def test_an_encoder_with_its_decoder_is_refused(tmp_path: Path) -> None:
    told = r"encoder '.*' is a t5, an encoder and a decoder in one; give an encoder \(as BERT\) or a decoder \(as Qwen3\)"
    with pytest.raises(InputError, match=told):
        spec_of(T5Config(), tmp_path, 64)
    half = T5Config(d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, vocab_size=20)
    T5EncoderModel(half).save_pretrained(tmp_path / "half")  # transformers has no classifier over this half alone
    with pytest.raises(InputError, match=told):
        teacher_spec(tmp_path / "half", TrainTeacherConfig(max_tokens=64), [0.0, 1.0])


def test_a_family_without_a_head_that_grades_is_refused_unless_it_writes(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"the encoder is a granite, to which transformers puts no head that grades; give another .* set form 'gen"
    ):
        spec_of(GraniteConfig(), tmp_path, 64)


def test_a_decoder_whose_head_scoring_cannot_read_is_refused_before_training(tmp_path: Path) -> None:
    tokenizer, config = bpe(), TrainTeacherConfig(max_tokens=64)
    settings = XLNetConfig(vocab_size=len(tokenizer), d_model=16, n_layer=1, n_head=2, d_inner=16)
    AutoModel.from_config(settings).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"is a xlnet, whose head is not the one matrix that scoring reads; give another decoder"):
        build_network(tmp_path, teacher_spec(tmp_path, config, [0.0, 1.0]), config)
