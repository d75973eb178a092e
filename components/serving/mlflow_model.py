"""A student as an MLflow model: code, signature, example and an address. The weights stay where they are, nothing is pickled.

python -c "from components.serving import mlflow_model; mlflow_model.save('models:/relevance-student@champion', 'champion')"
mlflow models serve -m champion --env-manager local --port 5001
"""

from pathlib import Path
from typing import Any

from components.serving.runtime import ITEM_FIELDS
from components.shared import registry, storage
from components.shared.errors import InputError

EXAMPLE = {"query": ["red shoes", "red shoes"], "title": ["red running shoes", "blue kettle"]}
OPTIONAL = (*ITEM_FIELDS[1:], "segment")


def save(model: str, path: str) -> None:
    """Write the MLflow model; `mlflow.pyfunc.load_model(path)` reads the student from where it lies and refuses it when it has changed.

    Args:
        model: folder of a student, or `models:/name@champion`: the version that holds the alias now.

    Raises:
        InputError: when the folder `path` is there already, or the model is not.
    """
    # takes seconds, and needs pandas
    import mlflow.pyfunc  # noqa: PLC0415
    import pandas as pd  # noqa: PLC0415

    uri = registry.resolve(model)
    if not uri or not storage.exists(uri):
        raise InputError(f"model '{model}' does not exist; give a model folder, or models:/<name>@champion")
    if Path(path).exists():
        raise InputError(f"'{path}' is there already; give a new folder")
    mlflow.pyfunc.save_model(
        path,
        python_model=str(Path(__file__).with_name("mlflow_code.py")),
        model_config={"model": uri, "digest": storage.content_digest(uri)},
        signature=_signature(),
        input_example=pd.DataFrame(EXAMPLE),
        pip_requirements=["relevance-distillery[serve,tracking]"],
    )


def _signature() -> Any:
    from mlflow.models import ModelSignature  # noqa: PLC0415
    from mlflow.types import ColSpec, DataType, Schema  # noqa: PLC0415

    needed = [ColSpec(DataType.string, name) for name in EXAMPLE]
    known = [ColSpec(DataType.string, name, required=False) for name in OPTIONAL]
    said = [ColSpec(DataType.double, "gain", required=False), ColSpec(DataType.string, "verdict", required=False)]
    return ModelSignature(Schema([*needed, *known]), Schema([ColSpec(DataType.double, "score"), *said]))
