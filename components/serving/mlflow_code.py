"""The file that MLflow runs to make the model of `mlflow_model.py` (models from code)."""

from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from components.serving.runtime import ITEM_FIELDS, model_items, model_query, open_runtime
from components.serving.service import answer_of
from components.shared.calibration import EVERYWHERE
from components.shared.errors import InputError


class StudentModel(PythonModel):
    """Columns query, title and, if known, brand, color, category, segment -> score and, of a calibrated student, gain and verdict."""

    def load_context(self, context: Any) -> None:
        given = context.model_config
        self.runtime = open_runtime(given["model"])
        if self.runtime.digest != given["digest"]:
            raise InputError(f"model '{given['model']}' is not the one that was saved (its digest differs); save the MLflow model again")

    # its base is written without a type of what it returns, which reads as None
    def predict(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        del context, params
        texts = model_input.astype(object).where(model_input.notna(), None)
        fields = {name: texts[name].tolist() for name in ITEM_FIELDS if name in texts}
        scores = self.runtime.scores(model_query(texts["query"].tolist()), model_items(fields))
        segments = texts["segment"].fillna(EVERYWHERE).tolist() if "segment" in texts else [EVERYWHERE] * len(texts)
        answer = answer_of(self.runtime.calibration, scores, segments)
        columns = {"score": answer.scores, "gain": answer.gains, "verdict": answer.verdicts}
        return pd.DataFrame({name: values for name, values in columns.items() if values is not None})


set_model(StudentModel())
