"""Arithmetic: work spread over threads, and products that stay exact."""

import threading

import pytest
import torch

from components.shared.models import arithmetic
from components.shared.models.arithmetic import fast_float32, resolve_precision, spread


@pytest.fixture
def two_threads():
    standing = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(standing)


def test_parts_are_spread_over_workers_of_one_thread(two_threads):
    seen, done = set(), []
    together = threading.Barrier(2, timeout=20)

    def work(part):
        if part < 2:
            together.wait()  # two must be at work at once
        seen.add((threading.get_ident(), torch.get_num_threads(), torch.is_inference_mode_enabled()))
        done.append(part)

    spread(work, range(6), torch.device("cpu"))
    assert sorted(done) == list(range(6))
    assert {(threads, inference) for _, threads, inference in seen} == {(1, True)}
    assert len(seen) == 2
    assert torch.get_num_threads() == 2


def test_few_parts_are_worked_off_by_all_threads(two_threads):
    seen = []
    spread(lambda part: seen.append((part, torch.get_num_threads(), threading.get_ident())), range(3), torch.device("cpu"))
    assert seen == [(part, 2, threading.get_ident()) for part in range(3)]


def test_a_workers_error_is_ours(two_threads):
    def work(part):
        raise ValueError(part)

    with pytest.raises(ValueError, match="0"):
        spread(work, range(9), torch.device("cpu"))
    assert torch.get_num_threads() == 2


def test_fast_float32_is_exact_and_puts_the_setting_back():
    standing = torch.backends.mkldnn.matmul.fp32_precision
    left, right = torch.randn(300, 400), torch.randn(400, 200)
    with fast_float32():
        found = left @ right
    assert torch.backends.mkldnn.matmul.fp32_precision == standing
    torch.testing.assert_close(found.double(), left.double() @ right.double(), atol=1e-4, rtol=1e-5)


def test_precision_auto_follows_the_hardware(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for native, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda native=native: native)
        assert (resolve_precision("auto"), resolve_precision("fp32")) == (expected, "fp32")


@pytest.mark.parametrize(("maker", "inside"), [("AuthenticAMD", "bf16"), ("GenuineIntel", None)])
def test_fast_float32_leaves_other_makers_products_alone(monkeypatch, tmp_path, maker, inside):
    described = tmp_path / "cpuinfo"
    described.write_text(f"vendor_id : {maker}\n")
    monkeypatch.setattr(arithmetic, "DESCRIPTION", described)
    monkeypatch.setattr(arithmetic, "EXACT", 1.0)  # whatever this machine's own products err by
    standing = torch.backends.mkldnn.matmul.fp32_precision
    arithmetic.uses_onednn.cache_clear()
    try:
        with fast_float32():
            assert torch.backends.mkldnn.matmul.fp32_precision == (inside or standing)
    finally:
        arithmetic.uses_onednn.cache_clear()
