"""kfp door of prepare_encoder."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Markdown, Model, Output


@dsl.component(base_image="python:3.11", install_kfp_package=False, packages_to_install=[])
def prepare_encoder(
    config: dict,
    section: str,
    workspace: str,
    run_id: str,
    items: Input[Dataset],
    queries: Input[Dataset],
    encoder: Output[Model],
    summary: Output[Markdown],
):
    """Make the encoder that a teacher or a student starts from.

    Args:
        items: catalogue whose texts the model will read.
        queries: queries of the shop.
        encoder: address of the model folder (Hugging Face layout, safetensors).
        summary: size and source.
    """
    from components.prepare_encoder.config import PrepareEncoderConfig
    from components.shared.handover import perform

    perform(
        "components.prepare_encoder.step", PrepareEncoderConfig, section=section, config=config, workspace=workspace, run_id=run_id,
        inputs={"items": items, "queries": queries}, outputs={"encoder": encoder}, pages={"summary": summary},
    )  # fmt: skip
