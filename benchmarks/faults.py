"""The nightly fault tests, with what they counted: kills, dead workers, races, and jobs on a bucket in trouble.

  python benchmarks/faults.py                  # writes benchmarks/results/faults.json; about half an hour on 2 cores

A test that fails ends this without a result: the counts are of runs in which no row was lost, doubled or unreadable.
"""

import argparse
import ast
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from machine import describe_machine, save

ROOT = Path(__file__).parents[1]


def counts_of(report: Path) -> dict[str, dict[str, int]]:
    """Test -> what it recorded, from pytest's JUnit file."""
    found = {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        for counts in case.iterfind("properties/property[@name='counts']"):
            found[case.attrib["name"]] = ast.literal_eval(counts.attrib["value"])
    return found


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    machine = describe_machine()
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-m", "nightly", "tests/faults", f"--junitxml={report}"]
        subprocess.run(command, check=True, cwd=ROOT)
        counts = counts_of(report)
    total = {name: sum(one.get(name, 0) for one in counts.values()) for name in ("kills", "shards_scored_again", "tables_equal", "races")}
    save("faults", machine, {"shards": 12, "pairs_per_shard": 20}, {"total": total, "tests": counts})
    print(total)


if __name__ == "__main__":
    main()
