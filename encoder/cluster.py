"""Units encoded by the workers of an existing Dask cluster.

A unit carries its weights, so that workers need this package (the same version) and no access to the
files. A unit whose worker dies is encoded by another; the result does not depend on who does it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from seedlm.encoder.pool import Work
from seedlm.encoder.units import Encoded, encode_unit
from seedlm.golden.errors import SeedLMError

__all__ = ["encode_on_dask"]

AHEAD = 2  # units per thread of the cluster that are sent ahead
RETRIES = 3
PATIENCE = 30  # seconds to wait for a scheduler and a first worker


def encode_on_dask(work: Iterable[Work], scheduler: str | None = None) -> Iterator[tuple[Any, Encoded]]:
    """Encode units on a cluster; results come in any order.

    Parameters
    ----------
    work : iterable of Work
    scheduler : str or None
        Its address, such as ``tcp://10.0.0.1:8786``; None: what Dask is configured for.

    Raises
    ------
    SeedLMError
        Dask is not installed, the cluster cannot be reached or has no worker, a unit fails.
    """
    try:
        import dask
        from distributed import Client, as_completed
    except ImportError as error:
        raise SeedLMError("--cluster dask needs the package distributed: pip install 'seedlm[cluster]'") from error
    address = scheduler or dask.config.get("scheduler-address", None)
    if not address:  # without one, Dask would start a cluster of its own
        raise SeedLMError("--cluster dask: expected --scheduler ADDRESS or DASK_SCHEDULER_ADDRESS")
    try:
        client = Client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise SeedLMError(f"scheduler {address}: cannot connect: {str(error).splitlines()[0]}") from error
    keys: dict[Any, Any] = {}
    source = iter(work)
    try:
        try:
            client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError as error:
            raise SeedLMError(f"scheduler {address}: has no workers") from error

        def submit() -> Any:
            key, make = next(source, (None, None))
            if make is None:
                return None
            # pure=False: a name of its own for each unit, so that nothing is taken from an earlier run
            with warnings.catch_warnings():
                # A unit with feedback carries its matrix: it can be done anywhere, again, without a file.
                warnings.filterwarnings("ignore", message="Sending large graph")
                future = client.submit(encode_unit, replace(make(), threads=1), pure=False, retries=RETRIES)
            keys[future.key] = key
            return future

        def wanted() -> int:
            return AHEAD * max(1, sum(client.nthreads().values()))  # workers may come and go

        done = as_completed(loop=client.loop)
        more = True
        while True:
            while more and len(keys) < wanted():
                future = submit()
                more = future is not None
                if more:
                    done.add(future)
            if not keys:
                return
            future = next(done)
            try:
                answer = future.result()
            except SeedLMError:
                raise
            except Exception as error:
                text = " ".join(str(error).split())[:300]
                raise SeedLMError(f"scheduler {address}: a unit failed: {type(error).__name__}: {text}") from error
            yield keys.pop(future.key), answer
    finally:
        client.close()
