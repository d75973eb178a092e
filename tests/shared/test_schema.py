"""The tables' rules: columns, types, nulls, keys, allowed values; and that every table can be written empty."""

import pyarrow as pa
import pytest

from components.shared.errors import InputError
from components.shared.schema import JUDGMENTS, TABLES


def judgments(**changes) -> pa.Table:
    columns = {
        "query_id": ["q1", "q1"], "item_id": ["i1", "i2"], "grade": [0, 1], "gain": [0.0, 1.0],
        "judged_at": pa.nulls(2, pa.date32()), "split": ["dev", "test"],
    }  # fmt: skip
    return pa.table({**columns, **changes})


def test_good_rows_get_our_columns_and_types():
    checked = JUDGMENTS.check(judgments(extra=[1, 2]), where="here")
    assert checked.schema.equals(JUDGMENTS.schema)  # int64 grades became int32, `extra` is gone
    assert checked["gain"].to_pylist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grade": ["good", "bad"]}, "here: table 'judgments':.*expected query_id: string"),
        ({"grade": [0, 2**40]}, "not in range"),
        ({"gain": [None, 1.0]}, "column 'gain' of 'judgments' has 1 nulls"),
        ({"query_id": pa.array([None, "q1"])}, "column 'query_id' of 'judgments' has 1 nulls"),
        ({"split": ["dev", "validation"]}, "column 'split' of 'judgments' has 'validation'; allowed: train, dev, test"),
        ({"item_id": ["i1", "i1"]}, r"1 repeated keys, first \{'query_id': 'q1', 'item_id': 'i1'\}"),
    ],
)
def test_bad_rows_are_explained(changes, message):
    with pytest.raises(InputError, match=message):
        JUDGMENTS.check(judgments(**changes), where="here")


def test_absent_column_is_named_with_those_present():
    with pytest.raises(InputError, match="lacks column 'grade'; it has query_id, item_id, gain"):
        JUDGMENTS.check(judgments().drop_columns(["grade"]), where="here")


def test_judgments_come_with_or_without_votes():
    assert JUDGMENTS.check(judgments(), where="here")["votes"].to_pylist() == [None, None]
    assert JUDGMENTS.check(judgments(votes=[[2, 1], None]), where="here")["votes"].to_pylist() == [[2, 1], None]


def test_keys_may_go_unchecked():
    assert len(JUDGMENTS.check(judgments(item_id=["i1", "i1"]), where="here", unique=False)) == 2


@pytest.mark.parametrize("name", sorted(TABLES))
def test_keys_and_required_columns_exist_and_empty_tables_pass(name):
    spec = TABLES[name]
    assert {*spec.key, *spec.required, *spec.allowed} <= set(spec.schema.names)
    assert spec.check(spec.schema.empty_table(), where="here").schema.equals(spec.schema)
