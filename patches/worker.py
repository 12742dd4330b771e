"""The main module of a process that a patched script starts: patch first, then import the script."""

from __future__ import annotations

import os
import runpy

from .runner import WORKER_VARIABLE, Run, prepare

if __name__ == '__mp_main__':
    _run = Run.from_json(os.environ[WORKER_VARIABLE])
    prepare(_run)
    globals().update(runpy.run_path(str(_run.script), run_name='__mp_main__'))
