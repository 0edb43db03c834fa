"""APIs of language models, in the shapes of OpenAI's and Anthropic's, that misbehave on demand: in the standard library alone.

`python -m tests.gateway.language.upstream` prints its address. What a request is answered with stands in its header `X-Act`,
as `name=value` joined by commas: `words`, `usage` (none, zero, twice), `cut` (after so many pieces), `pause` (seconds before
each), `fail` (an error after so many), `head` (seconds before the answer), `status`, `times` (that often, by `id`; then well), `retry_after`, `json` (bad),
`extra` (header), `drawn` pictures and their `size` and `quality`. `/log` tells the requests since it was last asked, `/sent/ID` how many pieces of a stream were written.
"""

import asyncio
import json
from collections import Counter
from typing import Any

from tests.gateway.upstream import Reader, Request, Writer

KEY = "upstream-key-0123456789"
INPUT, CACHED, REASONING = 25, 10, 4
WORD = "word "
Json = dict[str, Any]
log: list[Json] = []
failures: Counter[str] = Counter()
sent: Counter[str] = Counter()


class ModelRequest(Request):
    """A request with its body, and what its caller wants to see."""

    content = b""

    async def _take(self, length: int) -> None:
        self.content += await self.reader.readexactly(length)

    @property
    def act(self) -> dict[str, str]:
        pairs = [pair.partition("=") for pair in self.header("x-act").split(",") if pair]
        return {name: value for name, _, value in pairs}

    @property
    def words(self) -> int:
        return int(self.act.get("words", 12))

    async def json(self, status: int, value: Json, *lines: str) -> None:
        body = b'{"id": "broken' if self.act.get("json") == "bad" else json.dumps(value).encode()
        await self.answer(status, body, "Content-Type: application/json", *lines)


def usage_of(request: ModelRequest, shape: str) -> Json | None:
    """The usage in a dialect's shape, or as the caller wants it to be."""
    kind = request.act.get("usage", "")
    if kind == "none":
        return None
    all_in, cached, out, thought = (
        (INPUT, CACHED, request.words + REASONING, REASONING) if kind != "zero" else (0, 0, 0, 0)
    )
    if shape == "chat":
        return {
            "prompt_tokens": all_in, "completion_tokens": out, "total_tokens": all_in + out,
            "prompt_tokens_details": {"cached_tokens": cached}, "completion_tokens_details": {"reasoning_tokens": thought},
        }  # fmt: skip
    if shape == "responses":
        return {
            "input_tokens": all_in, "output_tokens": out, "total_tokens": all_in + out,
            "input_tokens_details": {"cached_tokens": cached}, "output_tokens_details": {"reasoning_tokens": thought},
        }  # fmt: skip
    return {"input_tokens": all_in - cached, "cache_read_input_tokens": cached, "output_tokens": out}


def with_usage(value: Json, usage: Json | None) -> Json:
    return value | {"usage": usage} if usage is not None else value


# --- answers that come whole -------------------------------------------------------------------------------------


def chat(request: ModelRequest, body: Json) -> Json:
    message: Json = {"role": "assistant", "content": WORD * request.words}
    if tools := body.get("tools"):
        function = {"name": tools[0]["function"]["name"], "arguments": '{"city": "Oslo"}'}
        message |= {
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": function}],
        }
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    value = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": body["model"],
        "choices": [choice],
    }
    return with_usage(value, usage_of(request, "chat"))


def completions(request: ModelRequest, body: Json) -> Json:
    choice = {"index": 0, "text": WORD * request.words, "finish_reason": "stop", "logprobs": None}
    value = {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1,
        "model": body["model"],
        "choices": [choice],
    }
    return with_usage(value, usage_of(request, "chat"))


def responses(request: ModelRequest, body: Json) -> Json:
    text = {"type": "output_text", "text": WORD * request.words, "annotations": []}
    output = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [text]}
    value = {
        "id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": body["model"], "output": [output],
        "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
    }  # fmt: skip
    return with_usage(value, usage_of(request, "responses"))


def embeddings(request: ModelRequest, body: Json) -> Json:
    row = {"object": "embedding", "index": 0, "embedding": [0.25, 0.5]}
    usage = None if request.act.get("usage") == "none" else {"prompt_tokens": 7, "total_tokens": 7}
    return with_usage({"object": "list", "data": [row], "model": body["model"]}, usage)


def images(request: ModelRequest, body: Json) -> Json:
    count = int(request.act.get("drawn", body.get("n") or 1))
    value: Json = {"created": 1, "data": [{"b64_json": "aGVsbG8=" * 1000}] * count}
    value |= {name: request.act[name] for name in ("size", "quality") if name in request.act}
    return with_usage(value, usage_of(request, "responses"))


def messages(request: ModelRequest, body: Json) -> Json:
    content: list[Json] = [{"type": "text", "text": WORD * request.words}]
    if tools := body.get("tools"):
        content = [{"type": "tool_use", "id": "toolu_1", "name": tools[0]["name"], "input": {"city": "Oslo"}}]
    value = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": body["model"], "content": content,
        "stop_reason": "end_turn", "stop_sequence": None,
    }  # fmt: skip
    return with_usage(value, usage_of(request, "messages"))


WHOLE = {
    "/chat/completions": chat, "/completions": completions, "/responses": responses, "/embeddings": embeddings,
    "/images/generations": images, "/messages": messages,
}  # fmt: skip


# --- streams: the frames before the text, one per piece of text, those after it -----------------------------------

Frames = tuple[list[bytes], bytes, list[bytes]]


def frame(value: Json | str, event: str = "") -> bytes:
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    return (f"event: {event}\n" if event else "").encode() + f"data: {text}\n\n".encode()


def chat_frames(request: ModelRequest, body: Json) -> Frames:
    is_chat = request.target.startswith("/chat")
    asked = (body.get("stream_options") or {}).get("include_usage")
    null = {"usage": None} if asked else {}

    def chunk(choices: list[Json]) -> Json:
        kind = "chat.completion.chunk" if is_chat else "text_completion"
        return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": body["model"], "choices": choices}

    def choice(delta: Json, text: str, finish: str | None = None) -> list[Json]:
        return [{"index": 0, "finish_reason": finish} | ({"delta": delta} if is_chat else {"text": text})]

    usage = usage_of(request, "chat") if asked else None
    usages = (
        [frame(chunk([]) | {"usage": usage})] * (2 if request.act.get("usage") == "twice" else 1)
        if usage
        else []
    )
    return (
        [frame(chunk(choice({"role": "assistant", "content": ""}, "")) | null)],
        frame(chunk(choice({"content": WORD}, WORD)) | null),
        [frame(chunk(choice({}, "", "stop")) | null), *usages, frame("[DONE]")],
    )


def response_frames(request: ModelRequest, body: Json) -> Frames:
    whole = responses(request, body)
    begun = {key: value for key, value in whole.items() if key != "usage"} | {
        "status": "in_progress",
        "output": [],
    }
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "sequence_number": 1, "logprobs": []}
    delta = {"type": "response.output_text.delta", "delta": WORD} | place
    end = {"type": "response.completed", "response": whole, "sequence_number": 2}
    return (
        [frame({"type": "response.created", "response": begun, "sequence_number": 0}, "response.created")],
        frame(delta, "response.output_text.delta"),
        [frame(end, "response.completed")],
    )


def message_frames(request: ModelRequest, body: Json) -> Frames:
    usage = usage_of(request, "messages")
    message = messages(request, body) | {"content": [], "stop_reason": None}
    if usage is not None:
        message["usage"] = usage | {"output_tokens": 1}
    ends: list[Json] = [{"type": "content_block_stop", "index": 0}]
    delta: Json = {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}}
    after = [delta | {"usage": {"output_tokens": usage["output_tokens"]}} if usage is not None else delta]
    block: Json = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    text: Json = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": WORD}}
    start: list[Json] = [{"type": "message_start", "message": message}, block]
    if request.act.get("usage") == "twice":
        after = after * 2
    return (
        [frame(value, value["type"]) for value in start],
        frame(text, text["type"]),
        [frame(value, str(value["type"])) for value in (*ends, *after, {"type": "message_stop"})],
    )


STREAMED = {
    "/chat/completions": chat_frames, "/completions": chat_frames, "/responses": response_frames,
    "/messages": message_frames,
}  # fmt: skip


async def stream(request: ModelRequest, frames: Frames) -> None:
    """Write the frames; a cut closes the connection after so many pieces of text."""
    act, (before, piece, after) = request.act, frames
    request.head(
        200, "Transfer-Encoding: chunked", "Content-Type: text/event-stream; charset=utf-8", "X-Upstream: yes"
    )
    for one in before:
        await request.chunk(one)
    for number in range(request.words):
        if "cut" in act and number == int(act["cut"]):
            request.writer.close()
            return
        if "fail" in act and number == int(act["fail"]):
            await request.chunk(
                frame({"type": "error", "error": {"type": "overloaded_error", "message": "no"}}, "error")
            )
            break
        if pause := float(act.get("pause", 0)):
            await asyncio.sleep(pause)
        await request.chunk(piece)
        sent[act.get("id", "")] += 1
    for one in after if "fail" not in act else ():
        await request.chunk(one)
    request.writer.write(b"0\r\n\r\n")
    await request.writer.drain()


async def act(request: ModelRequest) -> None:
    """Answer one request."""
    path, act = request.target.partition("?")[0], request.act
    if path == "/log":
        document = json.dumps(log).encode()
        log.clear()
        await request.answer(200, document)
        return
    if path.startswith("/sent/"):
        await request.answer(200, json.dumps(sent[path[6:]]).encode())
        return
    body = json.loads(request.content or b"{}")
    log.append({"path": path, "headers": request.headers, "body": body, "id": act.get("id", "")})
    await asyncio.sleep(float(act.get("head", 0)))
    if KEY not in (request.header("x-api-key"), request.header("authorization").removeprefix("Bearer ")):
        await request.json(
            401,
            {"error": {"message": f"Incorrect API key: {KEY[:5]}", "type": "x", "code": "invalid_api_key"}},
        )
        return
    failures[act.get("id", "")] += 1
    if "status" in act and failures[act.get("id", "")] <= int(act.get("times", 1_000_000)):
        more = [f"Retry-After: {act['retry_after']}"] if "retry_after" in act else []
        error = {"message": "no", "type": "upstream_says_no", "param": None, "code": "of_the_upstream"}
        await request.json(int(act["status"]), {"type": "error", "error": error}, *more)
    elif body.get("stream"):
        await stream(request, STREAMED[path](request, body))
    else:
        await request.json(
            200, WHOLE[path](request, body), "x-ratelimit-limit-requests: 99", "openai-organization: owner", "request-id: req_up"
        )  # fmt: skip


async def serve(reader: Reader, writer: Writer) -> None:
    """Requests of one connection; a caller that leaves ends what it asked for."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            request = ModelRequest(reader, writer, head)
            await request.read_body()
            await act(request)
            if writer.is_closing():
                break
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 22, backlog=2048)
    port = server.sockets[0].getsockname()[1]
    print(f"Upstream: http://127.0.0.1:{port}", flush=True)  # noqa: T201 - its address
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
