"""Settings of import_dataset (recipe section `dataset`)."""

from pydantic import Field

from components.shared.config import StepConfig


class ImportDatasetConfig(StepConfig):
    """How a data folder is read where its card leaves it open."""

    shape: str = Field(
        "", description="Name of the packaged card to use; empty takes the folder's dataset.yaml, else a card whose files fit."
    )
    train_share: float = Field(0.6, gt=0, lt=1, description="Share of queries in the train split where the data has no split.")
    dev_share: float = Field(
        0.15, gt=0, lt=1, description="Share of queries in the dev split where the data has no split; the rest is test."
    )
