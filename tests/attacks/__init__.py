"""Hostile, broken and foreign files.  Each module holds one kind of them; `ALL` has them all by name."""

from __future__ import annotations

from attacks import bombs, calls, foreign, nested, operations
from attacks.attack import Attack

ALL: dict[str, Attack] = {}
for module in (calls, nested, operations, bombs, foreign):
    for attack in module.attacks():
        assert attack.name not in ALL
        ALL[attack.name] = attack
