"""How often Postgres synced its log: what a slower disk would make each run pay."""

from __future__ import annotations

import time
from dataclasses import dataclass

from bench.harness.surroundings import sql

_STATISTICS_DELAY = 1.2  # backends report about once a second


@dataclass(frozen=True)
class Wal:
    syncs: int
    size: int

    def per_unit(self, before: Wal, units: int) -> dict[str, float]:
        return {
            "wal_syncs": round((self.syncs - before.syncs) / units, 4),
            "wal_bytes": round((self.size - before.size) / units),
        }


def wal() -> Wal:
    """The counters of the whole cluster, which only this measurement uses."""
    time.sleep(_STATISTICS_DELAY)
    newer = int(sql("SHOW server_version_num")) >= 180000
    syncs = "SELECT sum(fsyncs) FROM pg_stat_io WHERE object = 'wal'" if newer else "SELECT wal_sync FROM pg_stat_wal"
    return Wal(int(sql(syncs)), int(sql("SELECT wal_bytes FROM pg_stat_wal")))
