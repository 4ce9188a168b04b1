"""The OpenAPI description, the routes and the answers agree; metrics."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace

import pytest
from PIL import Image
from starlette.routing import Route

from clipkit.server.openapi import description
from server.conftest import running

schemathesis = pytest.importorskip("schemathesis")
import hypothesis  # noqa: E402
from schemathesis.checks import not_a_server_error  # noqa: E402
from schemathesis.specs.openapi.checks import (  # noqa: E402
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)


def test_every_route_of_the_api_is_described_and_nothing_else(server):
    routes = {
        (route.path, method)
        for route in server.app.routes
        if isinstance(route, Route) and re.match(r"/(api/|healthz|metrics|openapi)", route.path)
        for method in (route.methods or ()) - {"HEAD"}
    }
    described = {(path, method.upper()) for path, item in description()["paths"].items() for method in item}
    assert described == routes
    assert server.get("/openapi.json").json == description()


def test_the_examples_are_answered(server):
    for path, item in description()["paths"].items():
        for method, operation in item.items():
            parameters = operation.get("parameters", [])
            examples = {p["name"]: p["example"] for p in parameters if p["in"] == "query" and "example" in p}
            if method != "get" or not examples:
                continue
            place = path.replace("{id}", str(server.get("/api/images", {"limit": 1}).json["images"][0]["id"]))
            assert server.get(place, examples).status == 200, (place, examples)


OPERATIONS = {
    operation["operationId"]: (path, method, operation)
    for path, item in description()["paths"].items()
    for method, operation in item.items()
}
STARTS_JOB = [name for name, (_, _, operation) in OPERATIONS.items() if "202" in operation["responses"]]


@pytest.fixture(scope="module")
def full(library_folder, quick):
    """A server that checks requests for jobs to the end, and then has no room for any."""
    with running(library_folder, replace(quick, max_jobs=0)) as server:
        yield server


def bodies(operation: dict) -> dict[str, dict]:
    """The examples of the body of a request, by name."""
    content = operation["requestBody"]["content"]["application/json"]
    examples = content.get("examples") or {"example": {"value": content["example"]}}
    return {name: example["value"] for name, example in examples.items()}


@pytest.mark.parametrize("name", STARTS_JOB)
def test_the_examples_of_jobs_pass_every_check(full, name, scene_folder):
    path, _, operation = OPERATIONS[name]
    picture = full.get("/api/images", {"limit": 1}).json["images"][0]
    mask = io.BytesIO()
    Image.new("L", (picture["width"], picture["height"]), 255).save(mask, "PNG")
    upload = full.upload("/api/uploads", [("picture", "mask.png", mask.getvalue())]).json["uploads"][0]["upload_id"]
    for example, body in bodies(operation).items():
        text = re.sub(r"upload:[0-9a-f]{32}", f"upload:{upload}", json.dumps(body))
        text = re.sub(r"\b12\b|\"generated:3\"", str(picture["id"]), text)
        body = json.loads(text) | ({"paths": [str(scene_folder)]} if "paths" in body else {})
        answer = full.post(path, body)
        assert (answer.status, answer.json["type"]) == (429, "urn:clipkit:problem:too-busy"), (example, answer.body)


@pytest.mark.parametrize("name", OPERATIONS)
def test_no_request_that_fits_or_misfits_the_description_breaks_the_server(server, full, name):
    server = full if name in STARTS_JOB else server
    schema = schemathesis.openapi.from_dict(description())
    schema.config.update(base_url=server.url)
    operation = next(o.ok() for o in schema.get_all_operations() if o.ok().definition.raw["operationId"] == name)
    modes = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]

    @hypothesis.given(data=hypothesis.strategies.data())
    @hypothesis.settings(
        max_examples=12,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    def check(data):
        case = data.draw(operation.as_strategy(generation_mode=data.draw(hypothesis.strategies.sampled_from(modes))))
        hypothesis.assume(len(case.as_curl_command()) < 25_000)  # longer lines are refused before they are read
        response = case.call(headers={"X-Clipkit": "1"})
        assert response.status_code < 500, (case.as_curl_command(), response.text)
        case.validate_response(
            response,
            checks=[
                not_a_server_error,
                response_schema_conformance,
                content_type_conformance,
                status_code_conformance,
            ],
        )

    check()


def test_metrics_count_by_endpoint(server):
    server.get("/api/search", {"q": "a dog"})
    server.get("/api/images/999999")
    answer = server.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    text = answer.body.decode()
    assert re.search(r'clipkit_requests_total\{endpoint="search",method="GET",status="200"\} [1-9]', text)
    assert re.search(r'clipkit_requests_total\{endpoint="image",method="GET",status="404"\} [1-9]', text)
    assert re.search(r'clipkit_request_seconds_bucket\{endpoint="search",le="\+Inf"\} [1-9]', text)
    assert "999999" not in text and "a dog" not in text
    for line in text.splitlines():
        assert line.startswith("# ") or re.fullmatch(r'[a-z_]+(\{([a-z]+="[^"]*",?)+\})? [-+0-9.e]+', line), line
