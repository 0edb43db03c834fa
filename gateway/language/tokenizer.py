"""How many tokens a text is, without asking anybody: for answers whose upstream did not say.

The vocabularies of OpenAI's models come with the package bpe-openai (GitHub's Rust tokenizer, linear in the worst case). They
are exact for plain text of those models and a near guess for others. Where it is not installed, four bytes are a token.
"""

import asyncio
import importlib.machinery
import importlib.util
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Any, Protocol, cast

import structlog

log = structlog.get_logger(__name__)

O200K, CL100K, BYTES = "o200k_base", "cl100k_base", "bytes"
BYTES_A_TOKEN = 4  # of text, where there is no tokenizer
MOST_BYTES = 1024 * 1024  # of a text are looked at; the rest counts like them
INLINE_BYTES = 8 * 1024  # a quarter of a millisecond; more is counted in a thread
PIECE = 16 * 1024  # characters at a time: a thread lets others run between two of them
_CL100K_MODELS = ("gpt-4", "gpt-3.5", "gpt-35", "text-embedding-")
_O200K_MODELS = ("gpt-4o", "gpt-4.1", "gpt-4.5")  # which begin like the others
_loading = Lock()


class Counter(Protocol):
    def count(self, text: str) -> int: ...


@dataclass(frozen=True, slots=True)
class Estimate:
    """Tokens of a text; `by` names the vocabulary, or `bytes`."""

    tokens: int
    by: str


def encoding_of(model: str) -> str:
    """The vocabulary that a model of this name reads; of strangers, the newest one."""
    name = model.lower().removeprefix("ft:").rsplit("/", 1)[-1]
    is_older = name.startswith(_CL100K_MODELS) and not name.startswith(_O200K_MODELS)
    return CL100K if is_older else O200K


async def estimate(model: str, texts: Iterable[str]) -> Estimate:
    """Tokens of these texts together."""
    parts = [text for text in texts if text]
    encoding, size = encoding_of(model), sum(map(len, parts))
    if not _is_loaded(encoding):
        await asyncio.to_thread(_counter, encoding)
    if size <= INLINE_BYTES:
        return _estimate(encoding, parts)
    return await asyncio.to_thread(_estimate, encoding, parts)


def _estimate(encoding: str, texts: list[str]) -> Estimate:
    counter = _counter(encoding)
    size = sum(len(text.encode(errors="replace")) for text in texts)
    if counter is None:
        return Estimate(-(-size // BYTES_A_TOKEN), BYTES)
    found = seen = 0
    for piece in _pieces(texts):
        found += counter.count(piece)
        seen += len(piece.encode())
        if seen >= MOST_BYTES:
            break
    return Estimate(found if seen >= size else -(-found * size // seen), encoding)


def _pieces(texts: list[str]) -> Iterator[str]:
    for text in texts:
        clean = text.encode(errors="replace").decode()  # JSON may hold halves of characters
        for start in range(0, len(clean), PIECE):
            yield clean[start : start + PIECE]


_loaded: dict[str, Counter | None] = {}


def _is_loaded(encoding: str) -> bool:
    return encoding in _loaded


def _counter(encoding: str) -> Counter | None:
    """The vocabulary, loaded once a process (30 to 70 ms, 60 MB)."""
    with _loading:
        if encoding not in _loaded:
            bindings = _bindings()
            _loaded[encoding] = bindings.tokenizer_for_encoding(encoding) if bindings is not None else None
        return _loaded[encoding]


@cache
def _bindings() -> Any:
    """The package's compiled part alone: its Python part builds tables of 60 MB and 0.7 s that counting does not need."""
    package = importlib.util.find_spec("bpe_openai")
    for folder in package.submodule_search_locations or () if package is not None else ():
        found = importlib.machinery.PathFinder.find_spec("_bindings", [folder])
        if found is not None and found.loader is not None:
            module = importlib.util.module_from_spec(found)
            found.loader.exec_module(module)
            return cast(Any, module)
    log.warning("no_tokenizer", hint="install bpe-openai; until then four bytes of text are a token")
    return None
