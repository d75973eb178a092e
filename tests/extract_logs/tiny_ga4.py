"""Rows in the shape of GA4's BigQuery export."""

from typing import Any

BASE_US = 1_715_335_200_000_000  # 2024-05-10T10:00:00Z


def happening(name: str, second: float, user: str | None = "u1", visit: int | None = 7, items: Any = (), **params: Any) -> dict[str, Any]:
    """One row of events_YYYYMMDD: `params` become event_params, items are (item_id, index) or dicts."""
    values = {"ga_session_id": visit, **params}
    return {
        "event_date": "20240510",
        "event_timestamp": BASE_US + round(second * 1_000_000),
        "event_name": name,
        "event_params": [_parameter(key, value) for key, value in values.items() if value is not None],
        "user_pseudo_id": user,
        "items": [one if isinstance(one, dict) else _item(*one) for one in items],
    }


def _parameter(key: str, value: Any) -> dict[str, Any]:
    empty = {"string_value": None, "int_value": None, "float_value": None, "double_value": None}
    return {"key": key, "value": empty | {"int_value" if isinstance(value, int) else "string_value": value}}


def _item(item_id: str, index: int | None = None, where: str = "(not set)") -> dict[str, Any]:
    shown = "(not set)" if index is None else str(index)
    return {"item_id": item_id, "item_name": f"name of {item_id}", "item_list_name": where, "item_list_index": shown, "quantity": 1}


def as_bigquery_json(row: dict[str, Any]) -> dict[str, Any]:
    """BigQuery writes INT64 into JSON as text."""
    params = [
        {"key": one["key"], "value": {name: str(value) for name, value in one["value"].items() if value is not None}}
        for one in row["event_params"]
    ]
    return row | {"event_timestamp": str(row["event_timestamp"]), "event_params": params}
