"""What vLLM's log says of its start: the stage that it is at, and the cause of a failure.

Written for vLLM 0.32. Not covered: running the engine (`launch`).
"""

import re
from collections.abc import Mapping

# What vLLM puts before a line: the process, and for its logger also level, time and place.
_PREFIX = re.compile(
    r"^(?:\([\w+ ]*pid=\d+\) ?)?(?:(?:ERROR|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d \[[^\]]*\] ?)?"
)
_EXCEPTION = re.compile(r"^(?:[\w.]+\.)?\w*(?:Error|Exception|Interrupt|Exit|Failed)\b(?::|$)")
_USAGE = re.compile(r"^[\w.]+: error: ")  # argparse
# vLLM's processes report each other's failures; the cause is in another traceback.
_GENERIC = re.compile(
    r"Engine core initialization failed|WorkerProc initialization failed|"
    r"Engine process failed|root cause|EngineDeadError|^SystemExit|^KeyboardInterrupt"
)
_STAGES: Mapping[str, str] = {
    r"Using max model len": "reading the model's config",
    r"Initializing a V1 LLM engine": "starting the engine core",
    r"Starting to load model": "loading weights",
    r"Loading \w+ checkpoint shards: +(\d+%)": "loading weights",
    r"Loading weights took": "weights are loaded",
    r"torch\.compile|Dynamo bytecode|Compiling a graph": "compiling the model",
    r"KV cache size|KV cache memory": "allocating the KV cache",
    r"Capturing CUDA graph": "capturing CUDA graphs",
    r"init engine .{0,200} took": "starting the API server",
    r"Started server process": "waiting for the first answer",
}
_MAX_CAUSE = 2000


def root_cause(log: str) -> str | None:
    """Return the last exception of a log that is not a report of another process's failure.

    None when the log holds none. A message of several lines is returned whole.
    """
    lines = [_PREFIX.sub("", line, count=1) for line in log.splitlines()]
    causes = [
        number
        for number, line in enumerate(lines)
        if (_EXCEPTION.match(line) or _USAGE.match(line)) and not _GENERIC.search(line)
    ]
    if not causes:
        return None
    first = causes[-1]
    message = [lines[first]]
    for line in lines[first + 1 :]:  # the message's own further lines are indented
        if not line.startswith((" ", "\t")) or line.lstrip().startswith(("File ", "^")):
            break
        message.append(line)
    return "\n".join(message)[:_MAX_CAUSE].rstrip()


def stage_of(log: str) -> str | None:
    """Return the stage that the last telling line of a log shows."""
    for line in reversed(log.splitlines()):
        for pattern, stage in _STAGES.items():
            match = re.search(pattern, line)
            if match:
                return f"{stage} ({match[1]})" if match.groups() else stage
    return None
