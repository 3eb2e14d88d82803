"""Whatever is sent, the API keeps to what it says of itself: schemathesis, with all its checks."""

from __future__ import annotations

import pytest

schemathesis = pytest.importorskip("schemathesis")
from hypothesis import HealthCheck, Phase, assume, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

PATHS = ["/api/v1/cells", "/api/v1/smears", "/api/v1/model", "/api/v1/model/curves", "/api/v1/reviews",
         "/api/v1/pictures", "/api/v1/pictures/{sha256}", "/api/v1/agreement", "/healthz", "/readyz",
         "/metrics"]  # fmt: skip
CASES = 40  # of each operation; `benchmarks/serve_fuzz.py` runs 2,000


def looks_right_when_sent(case):
    """Tell whether a list stands where one text should, and is sent as none or as one: nobody could tell."""
    body = case.body if isinstance(case.body, dict) else {}
    return any(isinstance(value, list) and len(value) < 2 for name, value in body.items() if name != "files")


def test_every_path_is_tried(client):
    assert set(client.get("/openapi.json").json()["paths"]) == set(PATHS)


@pytest.mark.parametrize("path", PATHS)
def test_nothing_sent_breaks_what_is_promised(server, client, path):
    described = client.get("/openapi.json").json()["paths"][path]
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    for method in described:
        operation = schema[path][method]

        made = operation.as_strategy()
        if list(operation.iter_parameters()) or len(operation.body):  # what is as described, and what is not
            made = st.one_of(made, operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE))

        @settings(max_examples=CASES, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
                  suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(case=made)
        def try_it(case):
            assume(not looks_right_when_sent(case))
            case.call_and_validate(timeout=60)

        try_it()
