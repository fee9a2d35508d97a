"""``tesra node warm``: builds engine environments in this machine's cache; needs no server."""

import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tesra.cli.output import Output
from tesra.cli.words import size
from tesra.kit.settings import Settings
from tesra.node.devices import find_gpus
from tesra.node.environments import EnvironmentBuilder
from tesra.training.engines.catalog import EngineCatalog, read_engines
from tesra.wire.site import EngineSpec, WarmEngine


def warm_node(
    settings: Settings, engines: Sequence[str], backend: str | None, *, as_json: bool
) -> None:
    """Build those that are not there yet, one after another; stops at the first that can't be."""
    catalog = read_engines(settings.home.engines)
    specs = [_resolve(catalog, text, backend, alone=len(engines) == 1) for text in engines]
    out = Output(as_json=as_json)
    built = asyncio.run(_build_all(settings, specs, out))
    out.answer(built, lambda: None)


def _resolve(catalog: EngineCatalog, text: str, backend: str | None, *, alone: bool) -> EngineSpec:
    """Among several engines the backend is meant for those that have any."""
    if not alone and catalog.resolve(text).backend is None:
        return catalog.resolve(text)
    return catalog.resolve(text, backend)


async def _build_all(
    settings: Settings, specs: Sequence[EngineSpec], out: Output
) -> list[dict[str, object]]:
    settings.cache.mkdir(parents=True, exist_ok=True)
    builder = EnvironmentBuilder(settings.cache, gpu=bool(find_gpus()))
    built = []
    with tempfile.TemporaryDirectory() as nothing:
        for spec in specs:
            began = time.monotonic()
            await builder.ensure(spec, [], Path(nothing), lambda _line: None)
            seconds = time.monotonic() - began
            found = next(engine for engine in builder.warm() if _is(engine, spec))
            name = " ".join(filter(None, [f"{spec.name}=={spec.version}", spec.backend]))
            out.aside(f"{name}: {size(found.size_bytes)}, ready after {seconds:.1f} s")
            built.append({**found.model_dump(), "seconds": round(seconds, 2)})
    return built


def _is(engine: WarmEngine, spec: EngineSpec) -> bool:
    return (engine.name, engine.version, engine.backend) == (spec.name, spec.version, spec.backend)
