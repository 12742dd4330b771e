"""Reads every file named on the command line and reports what happened, one line of JSON each.

An audit hook sees whatever Python does of its own accord: imports, compiled or executed code, processes, connections,
files opened.  An alarm ends a file that takes too long, and the process with it.
"""

import json
import resource
import signal
import sys
import time
import tracemalloc
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from torch_utils_ext.errors import InputError
from torch_utils_ext.network_pickle import read_network_pickle

SECONDS = 120
WATCHED = (
    'import',
    'compile',
    'exec',
    'os.',
    'subprocess.',
    'socket.',
    'ctypes.',
    'open',
    'pickle.find_class',
    'shutil.',
    'pty.',
)
events: list[str] = []
watching = False


def watch(event: str, arguments: tuple) -> None:
    if watching and event.startswith(WATCHED):
        events.append(f'{event} {str(arguments[:1])[:200]}')


def read(path: str) -> dict:
    global watching
    events.clear()
    signal.alarm(SECONDS)
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    start = time.process_time()     # of the processor: others may keep the machine busy
    watching = True
    try:
        source = read_network_pickle(path)
        source.records['G_ema'].state_dict()
        outcome, message = 'read', ''
    except InputError as error:
        outcome, message = 'InputError', str(error)
    except BaseException as error:  # the point is to see what else can come out
        outcome, message = type(error).__name__, str(error)
    watching = False
    seconds = time.process_time() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    signal.alarm(0)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident) * 1024
    seen = [event for event in events if path not in event]
    return dict(
        path=path,
        size=Path(path).stat().st_size,
        outcome=outcome,
        message=message,
        seconds=seconds,
        peak=peak,
        grown=grown,
        events=seen,
    )


''.encode('unicode_escape')  # Python imports a codec at its first use
sys.addaudithook(watch)
for name in sys.argv[1:]:
    print(json.dumps(read(name)), flush=True)
