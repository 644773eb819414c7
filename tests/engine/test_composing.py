"""Composing in a request, on the real engine: the `composition` object, and LoRAX's API."""

import json

from tests.engine.gateway import Weft

PROMPT = "zorp: abc"
MERGED = {"ids": ["zorp", "blim"], "weights": [0.6, 0.4]}
OBJECT = {"method": "linear", "adapters": [{"name": "zorp", "weight": 0.6},
                                           {"name": "blim", "weight": 0.4}]}  # fmt: skip


async def test_one_merge_is_reached_in_every_way(weft: Weft) -> None:
    """An expression, a `composition` object and LoRAX's body have one digest and one answer."""
    plain = {"prompt": PROMPT, "max_tokens": 8, "temperature": 0}
    asked = {"inputs": PROMPT, "parameters": {"merged_adapters": MERGED, "max_new_tokens": 8}}
    detailed = {**asked, "parameters": {**asked["parameters"], "details": True}}  # type: ignore[dict-item]
    async with weft.http() as http:
        written = await http.post("/v1/completions", json={"model": "0.6*zorp + 0.4*blim", **plain})
        built = await http.post("/v1/completions", json={"composition": OBJECT, **plain})
        whole = await http.post("/generate", json=detailed)
        stream = await http.post("/generate_stream", json=asked)
    assert written.json()["model"] == built.json()["model"] == whole.headers["x-weft-artifact"]
    assert written.json()["usage"]["weft"]["expression"] == "linear(0.6*zorp, 0.4*blim)"
    text = written.json()["choices"][0]["text"]
    answer = whole.json()
    assert text == built.json()["choices"][0]["text"] == answer["generated_text"]
    events = [json.loads(line[5:]) for line in stream.text.splitlines() if line]
    last = events[-1]
    assert text == last["generated_text"]
    # Where the engine ends a text at a special token, that token has no text.
    assert text == "".join(event["token"]["text"] for event in events)
    tokens = answer["details"]["tokens"]
    assert [t["id"] for t in tokens] == [event["token"]["id"] for event in events]
    assert all(t["id"] > 0 and t["logprob"] <= 0 for t in tokens)
    assert last["details"]["generated_tokens"] == answer["details"]["generated_tokens"] > 0
