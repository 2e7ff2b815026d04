"""Writes `v<N>.sql`, the dump of a small store at the newest schema: `python -m tests.store.golden.make`.

Run it once when a schema is new; the dump of an older schema is never made again.
"""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path

from rollouts.store import UseRow, open_store
from rollouts.store.schema import REVISIONS
from tests.store.rows import event, failed, generation, program, rollout, run, sample

HERE = Path(__file__).parent


def fill(place: Path) -> None:
    store = open_store(place)
    store.create_run(run("run-1", created_at=1.0, name="é"))
    store.create_run(run("run-2", created_at=2.0))
    store.update_run("run-1", status="stopped", authorised={"micros": 100}, summary={"best": "p1"})
    store.record(program("p1"), sample("x"), rollout("a", sample="x"), failed("b", sample="x"))
    store.record(rollout("c", output="naïve 😀", sample="x"), event(1), event(2))
    store.record(generation("g"), generation("h", phase="judge", request={"messages": ["hi"]}))
    store.record(UseRow(run_id="run-2", key="c", phase="test"))
    store.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory) / "store.db"
        fill(place)
        connection = sqlite3.connect(place)
        dump = "\n".join(connection.iterdump())
        connection.close()
    (HERE / f"v{int(REVISIONS[-1])}.sql").write_text(dump + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
