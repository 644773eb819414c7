"""What a new composition costs: milliseconds by stage.

Every request names a new scale. `resolve` and `load` are the gateway's own figures in
`Server-Timing`; `merge` is the merge in its worker, from reading the ingredients to written files;
`write` is the rest of the gateway's merge stage: the way to the worker, hashing, moving the files
into the store, and the rows. `first_token` is the client's.
"""

import statistics
from collections.abc import Mapping

from server.engine.link import Endpoint
from server.server_timing import parse_server_timing
from tests.bench.serve.load import Part, session, stream
from tests.engine.gateway import Weft

TIMES = 15
STAGES = ("resolve", "merge", "write", "load", "first_token")
EXPRESSIONS = {
    "lego": "lego(zorp, blim; rank=16, scale={scale:.2f})",
    "linear": "linear(zorp, blim; rank=16, scale={scale:.2f})",
    "cat": "cat(zorp, blim; scale={scale:.2f})",
}


async def measure(weft: Weft) -> Part:
    """Ask for new compositions of two demo adapters, one after the other."""
    figures = {method: await cold(weft, text) for method, text in EXPRESSIONS.items()}
    return Part(
        f"a composition of two adapters that is new, median of {TIMES}, ms "
        "(merge + write + load: aim 80)",
        [
            f"{method:8}" + " | ".join(f"{stage} {ms[stage]:6.1f}" for stage in STAGES)
            + f" | merge + write + load {ms['merge'] + ms['write'] + ms['load']:6.1f}"
            for method, ms in figures.items()
        ],
        {"cold_ms": figures.pop("lego"), "cold_ms_others": figures},
    )  # fmt: skip


async def cold(weft: Weft, expression: str) -> Mapping[str, float]:
    """Return the median milliseconds of each stage."""
    registry = weft.registry
    rows = []
    async with session(Endpoint(weft.url)) as http:
        for number in range(TIMES + 1):
            answer = await stream(http, expression.format(scale=0.5 + number / 100), tokens=4)
            stages = parse_server_timing(answer.headers["server-timing"])
            artifact = registry.catalogue.artifact(answer.headers["x-weft-artifact"])
            merge = 1000 * artifact.seconds
            rest = {"merge": merge, "write": stages["merge"] - merge}
            rows.append(stages | rest | {"first_token": answer.first_ms})
    # The first one opens the ingredients and the connection.
    return {stage: round(statistics.median(row[stage] for row in rows[1:]), 2) for stage in STAGES}
