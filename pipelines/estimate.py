"""What training the teacher of a recipe takes: `python -m pipelines estimate --recipe decoder_nodes --judgments 1e6`.

Memory of a device, tokens and hours, counted from the network's config without its weights; nothing is started. The training itself says
the same before its first step, with its own prompts and the peak that it measures.
"""

import argparse
import importlib
import sys
from typing import Any

from components.shared.errors import InputError
from pipelines import recipe
from pipelines.plan import number

TERA = 1e12


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--judgments", required=True, metavar="N", help="judged pairs of split train; 1e6 is understood")
    parser.add_argument("--prompt-tokens", metavar="N", help="mean length of a prompt (default: the recipe's max_tokens, so at most)")
    parser.add_argument("--model", metavar="DIR", help="folder with the config.json to start from (default: the recipe's)")
    parser.add_argument("--peak-tflops", metavar="X", help="of a matrix product on one device (default: what this machine's CPUs reach)")


def command(given: argparse.Namespace) -> int:
    """Print the estimate. Raises InputError for numbers that make no sense, or a model whose config cannot be had."""
    cost = estimate_of(recipe.load(given.recipe, given.set), vars(given))
    sys.stdout.write(f"{given.recipe}: {cost.sentence()}\n")
    return 0


def estimate_of(settings: recipe.Settings, given: dict[str, Any]) -> Any:
    """The `cost.Estimate` of a recipe's teacher; `given` holds the options by name, numbers as text or absent."""
    sizes = {name: number(name, given[name], least=1) for name in ("judgments", "prompt_tokens") if given.get(name)}
    peak = number("peak_tflops", given["peak_tflops"], least=1e-3) * TERA if given.get("peak_tflops") else 0.0
    encoder = settings["teacher_encoder"] | ({"source": given["model"]} if given.get("model") else {})
    layout, pretrained = (importlib.import_module(f"components.{name}") for name in ("train_teacher.layout", "prepare_encoder.pretrained"))
    config = recipe.config_of("teacher").from_mapping(settings["teacher"], section="teacher")
    network = pretrained.network_config(recipe.config_of("teacher_encoder").from_mapping(encoder, section="teacher_encoder"))
    tokens = sizes.get("prompt_tokens", settings["teacher"]["max_tokens"])
    if tokens > settings["teacher"]["max_tokens"]:
        raise InputError(f"--prompt-tokens {tokens:g} is above teacher.max_tokens {settings['teacher']['max_tokens']}; lower it")
    return layout.estimate_of(network, config, num_pairs=sizes["judgments"], mean_tokens=tokens, peak=peak)
