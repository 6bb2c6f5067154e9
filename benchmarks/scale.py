"""The size of each work."""

from typing import Final

from msgspec import Struct


class Scale(Struct, frozen=True, kw_only=True):
    """The sizes of all works. `operations` counts those of one branch, which come in pairs."""

    branches: int = 64
    operations: int = 100
    processes: int = 4
    children: tuple[int, ...] = (64, 1000)
    rebuilt_events: int = 60_000
    replayed_events: int = 4_000
    inherited: tuple[int, ...] = (10, 1_000, 100_000)
    forks: int = 200
    lone_writes: int = 1_000
    followed_events: int = 300
    grown_events: tuple[int, ...] = (10_000, 100_000)
    grown_opens: int = 9
    grown_reads: int = 100


NORMAL: Final = Scale()
FULL: Final = Scale(grown_events=(10_000, 100_000, 1_000_000, 3_000_000))
SMOKE: Final = Scale(
    branches=4,
    operations=4,
    processes=2,
    children=(2, 4),
    rebuilt_events=100,
    replayed_events=60,
    inherited=(2, 20),
    forks=3,
    lone_writes=5,
    followed_events=5,
    grown_events=(50,),
    grown_opens=1,
    grown_reads=2,
)
WARM_UP: Final = Scale(branches=8, operations=10)
