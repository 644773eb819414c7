"""What each foreign client runs, as text: it is for other interpreters than this one.

A script reads URL, KEY and MODEL from the environment and prints one JSON object: `text` is the
whole answer, `streamed` the same answer from its pieces, and more where a client can do more.
"""

LANGCHAIN = """
import json, os
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

llm = ChatOpenAI(base_url=os.environ["URL"] + "/v1", api_key=os.environ["KEY"],
                 model=os.environ["MODEL"], temperature=0, max_tokens=16, max_retries=0)

@tool
def mark(zorp: bool) -> str:
    "Mark it."
    return ""

answer = llm.invoke("copy sun moon")
called = llm.bind_tools([mark], tool_choice="mark").invoke("copy sun", max_tokens=60)
print(json.dumps({
    "text": answer.content, "model": answer.response_metadata["model_name"],
    "tokens": answer.usage_metadata["output_tokens"],
    "streamed": "".join(part.content for part in llm.stream("copy sun moon")),
    "tool": called.tool_calls[0]["name"], "arguments": list(called.tool_calls[0]["args"]),
}))
"""
LITELLM = """
import json, os
import litellm

asked = dict(model="openai/" + os.environ["MODEL"], api_base=os.environ["URL"] + "/v1",
             api_key=os.environ["KEY"], temperature=0, max_tokens=16, num_retries=0,
             messages=[{"role": "user", "content": "copy sun moon"}])
answer = litellm.completion(**asked)
parts = litellm.completion(**asked, stream=True)
print(json.dumps({
    "text": answer.choices[0].message.content, "tokens": answer.usage.completion_tokens,
    "streamed": "".join(part.choices[0].delta.content or "" for part in parts),
}))
"""
LLAMA_INDEX = """
import json, os
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike

llm = OpenAILike(api_base=os.environ["URL"] + "/v1", api_key=os.environ["KEY"],
                 model=os.environ["MODEL"], is_chat_model=True, temperature=0, max_tokens=16,
                 max_retries=0)
asked = [ChatMessage(role="user", content="copy sun moon")]
answer = llm.chat(asked)
print(json.dumps({
    "text": answer.message.content, "model": answer.raw.model,
    "streamed": "".join(part.delta or "" for part in llm.stream_chat(asked)),
}))
"""
INSTRUCTOR = """
import json, os
import instructor
from openai import OpenAI
from pydantic import BaseModel

class Mark(BaseModel):
    zorp: bool

client = instructor.from_openai(OpenAI(base_url=os.environ["URL"] + "/v1",
                                       api_key=os.environ["KEY"], max_retries=0))
mark = client.chat.completions.create(
    model=os.environ["MODEL"], response_model=Mark, temperature=0, max_tokens=60, max_retries=0,
    messages=[{"role": "user", "content": "copy sun moon"}],
)
print(json.dumps({"zorp": mark.zorp}))
"""
HUGGINGFACE_HUB = """
import json, os
from huggingface_hub import InferenceClient

client = InferenceClient(base_url=os.environ["URL"] + "/v1", api_key=os.environ["KEY"])
asked = dict(messages=[{"role": "user", "content": "copy sun moon"}], model=os.environ["MODEL"],
             temperature=0, max_tokens=16)
answer = client.chat_completion(**asked)
parts = client.chat_completion(**asked, stream=True)
print(json.dumps({
    "text": answer.choices[0].message.content, "model": answer.model,
    "tokens": answer.usage.completion_tokens,
    "streamed": "".join(part.choices[0].delta.content or "" for part in parts if part.choices),
}))
"""
NODE = """
import OpenAI from "openai";

const client = new OpenAI({
  baseURL: process.env.URL + "/v1", apiKey: process.env.KEY, maxRetries: 0,
});
const asked = {
  model: process.env.MODEL, temperature: 0, max_tokens: 16,
  messages: [{ role: "user", content: "copy sun moon" }],
};
const answer = await client.chat.completions.create(asked);
const parts = await client.chat.completions.create({
  ...asked, stream: true, stream_options: { include_usage: true },
});
let streamed = "", tokens = 0;
for await (const part of parts) {
  streamed += part.choices[0]?.delta?.content ?? "";
  tokens = part.usage?.completion_tokens ?? tokens;
}
const models = (await client.models.list()).data.map((model) => model.id);
console.log(JSON.stringify({
  text: answer.choices[0].message.content, model: answer.model, streamed, tokens, models,
}));
"""
# `vllm bench serve`, whose program looks for a distribution that the CPU build does not have.
VLLM_BENCH = """
import argparse
from vllm.benchmarks.serve import add_cli_args, main

parser = argparse.ArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""
# An evaluation of three questions of the demo, without a tokenizer or the network.
LM_EVAL_TASK = """
task: zorp
dataset_path: json
dataset_kwargs:
  data_files:
    test: FOLDER/questions.jsonl
test_split: test
output_type: generate_until
doc_to_text: "{{prompt}}"
doc_to_target: "{{answer}}"
generation_kwargs:
  until: ["<|end|>"]
  max_gen_toks: 16
  temperature: 0
metric_list:
  - metric: exact_match
"""
