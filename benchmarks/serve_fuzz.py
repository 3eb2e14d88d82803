"""Try the API with 2,000 cases that schemathesis makes from its own description, all checks on.

The queue is kept from filling, since cases are sent one after another. What fails is printed, and the status is 1.

    python benchmarks/serve_fuzz.py [--cases 2000]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from schemathesis.core.failures import FailureGroup

from _common import write_result
from _serving import running_server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000)
    args = parser.parse_args()
    tried: dict[str, int] = {}
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        database = f"sqlite:///{Path(folder) / 'reviews.sqlite'}"
        with running_server("--threads", "1", "--database", database) as (url, _):
            schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
            operations = [one.ok() for one in schema.get_all_operations()]
            for operation in operations:
                name = operation.label
                tried[name] = 0

                def check(case: schemathesis.Case) -> None:
                    assume(not looks_right_when_sent(case))
                    tried[case.operation.label] += 1
                    case.call_and_validate(timeout=60)

                made = operation.as_strategy()
                if takes_something(operation):  # what is as described, and what is not
                    made = st.one_of(made, operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE))
                try_it = given(case=made)(check)
                rules = settings(
                    max_examples=-(-args.cases // sum(map(takes_something, operations))),
                    deadline=None,
                    database=None,
                    phases=[Phase.generate, Phase.shrink],
                    suppress_health_check=list(HealthCheck),
                )
                try:
                    rules(try_it)()
                except (Exception, FailureGroup) as error:
                    failed[name] = str(error)
    for name, error in failed.items():
        print(f"{name}\n{error}\n", file=sys.stderr)
    write_result("serve_fuzz", {"cases": sum(tried.values()), "by_operation": tried, "failed": sorted(failed),
                                "checks": "all", "schemathesis": schemathesis.__version__})  # fmt: skip
    if failed:
        raise SystemExit(1)


def looks_right_when_sent(case: schemathesis.Case) -> bool:
    """Whether a list stands where one text should, and is sent as none or as one: no server can tell these apart."""
    body = case.body if isinstance(case.body, dict) else {}
    return any(isinstance(value, list) and len(value) < 2 for name, value in body.items() if name != "files")


def takes_something(operation: Any) -> bool:  # noqa: ANN401
    """Whether there is anything to vary; other operations are tried once."""
    return bool(list(operation.iter_parameters()) or len(operation.body))


if __name__ == "__main__":
    main()
