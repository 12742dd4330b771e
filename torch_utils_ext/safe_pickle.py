"""A pickle interpreter that calls nothing: it turns a pickle into inert values, within bounds on work and memory.

Python's own unpickler imports what a file names and calls it; that is how a pickle runs code.  This one knows the
opcodes that today's picklers write (protocols 2 to 5) and builds from them

* None, bool, int, float, str, list, tuple, dict,
* `Span`, the place of a byte string in the file (its bytes are not read),
* `Global`, a name that the file mentions, never imported,
* `Call`, a call that the file asks for, never made,

and whatever a `Policy` makes of the few calls that it knows.  The policy also says which names are acceptable; any
other is refused, although it would not be called either, because a file that asks for it is not what it claims to be.

A hostile file may claim any length, nest to any depth and share one value a million times.  So lengths are checked
against what is left, memo indices against the opcodes seen, keys of dicts are scalars, and every opcode pays for what
it can allocate out of a `Budget`.  Code that walks the values must expect shared and self-containing ones: see
`reachable`.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from torch_utils_ext.errors import InputError
from torch_utils_ext.user_files import shown

MAX_OPCODES = 2_000_000  # a 400 MB EG3D pickle has about 100,000
MAX_STRING = 2 << 20  # bytes; the longest strings in a network pickle are Python sources of some 100 kB
MAX_INTEGER = 256  # bytes
MAX_NAME = 256  # bytes in the module or the name of a global
MAX_ODD_KEYS = 1_000  # dict keys that are no strings: crafted integers collide, and a dict then takes quadratic time
MEMORY_FLOOR = 16 << 20  # bytes that even the smallest file may need
MEMORY_PER_FILE_BYTE = 1.5

_COST_OPCODE = 64  # estimated bytes: a slot of the stack and a small object
_COST_CONTAINER = 240  # an empty set, the largest of the empty containers
_COST_ITEM = 16  # a slot in a list, with room to grow
_COST_PAIR = 128  # an entry in a dict, with room to grow


class PickleError(InputError):
    """The pickle is broken, cut off, or holds what no network pickle holds.  The message has no file name in it yet."""


@dataclass(frozen=True)
class Global:
    """A module-level name that the file mentions.  It is never imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return shown(f'{self.module}.{self.name}')


@dataclass(slots=True, eq=False)
class Span:
    """A byte string in the file: where it lies, not what it says."""

    offset: int
    length: int


@dataclass(slots=True, eq=False, repr=False)
class Call:
    """A call that the file asks for and that is not made: ``function(*args)``, then items and state for the result."""

    function: Global
    args: tuple
    items: dict | list | None = None
    state: Any = None


@dataclass
class Policy:
    """What a pickle may name and what becomes of its calls.

    `permits(global)` says whether the name may be mentioned, or raises PickleError itself to explain more.
    `reducers[global](args, machine)` gives the value of a known call; other permitted calls become a `Call`.
    `persistent(identity)` gives the value of a persistent id; None refuses them.
    """

    permits: Callable[[Global], bool]
    reducers: dict[Global, Callable[[tuple, Machine], Any]] = field(default_factory=dict)
    persistent: Callable[[Any], Any] | None = None


class Budget:
    """Opcodes and bytes that reading one file may cost, nested pickles included.  Nothing is ever paid back."""

    def __init__(self, file_size: int) -> None:
        self.opcodes = MAX_OPCODES
        self.memory = max(MEMORY_FLOOR, int(file_size * MEMORY_PER_FILE_BYTE))
        self.odd_keys = MAX_ODD_KEYS

    def opcode(self) -> None:
        self.opcodes -= 1
        if self.opcodes < 0:
            raise PickleError(f'it has more than {MAX_OPCODES:,} pickle operations, far more than any network')
        self.pay(_COST_OPCODE)

    def pay(self, cost: int) -> None:
        self.memory -= cost
        if self.memory < 0:
            raise PickleError('what it describes would take far more memory than the file is long')

    def odd_key(self) -> None:
        self.odd_keys -= 1
        if self.odd_keys < 0:
            raise PickleError(f'it has more than {MAX_ODD_KEYS:,} dictionary keys that are not text')


def reachable(roots: Iterable[Any]) -> Iterator[Any]:
    """Each container, `Call`, `Span` or other record that can be reached from `roots`, once; cycles are allowed."""
    waiting = list(roots)
    seen: set[int] = set()
    while waiting:
        value = waiting.pop()
        if value is None or isinstance(value, (bool, int, float, str, Global)) or id(value) in seen:
            continue
        seen.add(id(value))
        yield value
        waiting.extend(_parts(value))


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, (list, tuple)):
        return value
    if isinstance(value, dict):
        return value.values()
    if isinstance(value, Call):
        return (value.args, value.items, value.state)
    return ()


class Window:
    """An open file whose slices are bytes, read piece by piece.

    It is not mapped into memory: where another program shortens a mapped file, the process dies without a word.
    """

    PIECE = 1 << 14  # bytes: more than most operations need, little beside the tensors that are passed over

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file = file
        self.size = size
        self.start = 0
        self.piece = b''

    @classmethod
    def of(cls, content: bytes) -> Window:
        """What is in memory already, as one piece."""
        window = cls(io.BytesIO(), len(content))
        window.piece = content
        return window

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, place: slice) -> bytes:
        first = place.start - self.start
        last = place.stop - self.start
        if first < 0 or last > len(self.piece):
            self._load(place.start, max(place.stop - place.start, self.PIECE))
            first, last = 0, place.stop - place.start
            if last > len(self.piece):
                raise PickleError('it became shorter while it was read')
        return self.piece[first:last]

    def _load(self, start: int, count: int) -> None:
        self.file.seek(start)
        self.start, self.piece = start, self.file.read(max(0, min(count, self.size - start)))


class Machine:
    """Runs one pickle that lies in ``data[start:end]``; `position` then stands behind its STOP."""

    actions: dict[bytes, Callable[[Machine], Any]]  # opcode -> what it does; `_ACTIONS` below

    def __init__(self, data: Window, start: int, end: int, policy: Policy, budget: Budget) -> None:
        self.data = data
        self.position = start
        self.end = end
        self.policy = policy
        self.budget = budget
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.steps = 0

    def run(self) -> Any:
        """The one value that the pickle leaves.  Raises PickleError."""
        if self.take(1) != b'\x80':
            raise PickleError('it does not start as a pickle of protocol 2 to 5')
        protocol = self.take(1)[0]
        if not 2 <= protocol <= 5:
            raise PickleError(f'it says pickle protocol {protocol}, and only 2 to 5 are known')
        while True:
            opcode = self.take(1)
            self.budget.opcode()
            self.steps += 1
            if opcode == b'.':
                break
            action = self.actions.get(opcode)
            if action is None:
                what = _REFUSED.get(opcode, 'an unknown operation')
                raise PickleError(
                    f'it holds {what} (opcode {opcode!r} at byte {self.position - 1}), which no network needs'
                )
            action(self)
        if len(self.stack) != 1 or self.marks:
            raise PickleError('its pickle operations do not add up to one value')
        return self.stack[0]

    # Reading

    def take(self, count: int) -> bytes:
        chunk_end = self.position + count
        if chunk_end > self.end:
            raise PickleError(f'it ends in the middle, at byte {self.end}: the file is incomplete or damaged')
        # What lies in the window's piece is taken from it at once: this is called for every operation.
        start, self.position = self.position, chunk_end
        first = start - self.data.start
        chunk = self.data.piece[first : first + count] if first >= 0 else b''
        return chunk if len(chunk) == count else self.data[start:chunk_end]

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def expect(self, count: int) -> None:
        """Refuse a length that the file announces and does not have."""
        left = self.end - self.position
        if count > left:
            raise PickleError(
                f'at byte {self.position} it announces {count:,} bytes, and only {left:,} are left: '
                'the file is incomplete or damaged'
            )

    def skip(self, count: int) -> Span:
        self.expect(count)
        span = Span(self.position, count)
        self.position += count
        self.budget.pay(_COST_PAIR)
        return span

    def text(self, count: int) -> str:
        place = self.skip(count)
        if count > MAX_STRING:
            raise PickleError(
                f'it holds a text of {count:,} bytes, and no text in a network pickle is above {MAX_STRING:,}'
            )
        try:
            value = self.data[place.offset : place.offset + count].decode('utf-8', 'surrogatepass')
        except UnicodeDecodeError:
            raise PickleError(f'the text at byte {place.offset} is not UTF-8: the file is damaged') from None
        self.budget.pay(4 * len(value) if not value.isascii() else len(value))
        return value

    def line(self) -> str:
        length = self.data[self.position : min(self.end, self.position + MAX_NAME)].find(b'\n')
        if length < 0:
            raise PickleError(f'the name at byte {self.position} does not end: the file is incomplete or damaged')
        raw = self.take(length + 1)[:-1]
        try:
            return raw.decode('utf-8')
        except UnicodeDecodeError:
            raise PickleError('a name in it is not UTF-8: the file is damaged') from None

    # The stack

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        # Values below the last mark are out of reach until the mark goes, as in Python's own unpickler.
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise PickleError('a pickle operation finds its stack empty: the file is damaged')
        return self.stack.pop()

    def top(self) -> Any:
        value = self.pop()
        self.stack.append(value)
        return value

    def pop_mark(self) -> list[Any]:
        if not self.marks:
            raise PickleError('a pickle operation finds no mark: the file is damaged')
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        self.budget.pay(_COST_ITEM * len(values))
        return values

    # Containers and the memo

    def empty(self, container: Any) -> None:
        self.budget.pay(_COST_CONTAINER)
        self.push(container)

    def tuple_of(self, count: int) -> None:
        values = [self.pop() for _ in range(count)]
        self.budget.pay(_COST_ITEM * count)
        self.push(tuple(reversed(values)))

    def append(self, values: list[Any]) -> None:
        target = self.top()
        if not isinstance(target, list):
            raise PickleError('it appends to what is not a list')
        self.budget.pay(_COST_ITEM * len(values))
        target.extend(values)

    def add(self, values: list[Any]) -> None:
        target = self.top()
        if not isinstance(target, Call) or target.function != SET or target.args:
            raise PickleError('it adds elements to what is not a new set')
        self.budget.pay(_COST_ITEM * len(values))
        if not isinstance(target.items, list):
            target.items = []
        target.items.extend(values)

    def set_items(self, flat: list[Any]) -> None:
        target = self.top()
        if isinstance(target, Call) and target.function in DICT_CLASSES:
            if target.items is None:
                target.items = {}
            target = target.items
        if not isinstance(target, dict) or len(flat) % 2:
            raise PickleError('it sets items in what is not a dictionary')
        for key, value in zip(flat[0::2], flat[1::2], strict=True):
            if not isinstance(key, str):
                if not (key is None or isinstance(key, (bool, int, float))):
                    raise PickleError('it uses a container as the key of a dictionary')
                self.budget.odd_key()
            self.budget.pay(_COST_PAIR)
            target[key] = value

    def put(self, index: int) -> None:
        # Picklers number their memo 0, 1, 2, ...; an index beyond the operations so far is made up.
        if index > self.steps:
            raise PickleError(f'it stores under memo index {index}, which no pickler would use here')
        self.budget.pay(_COST_PAIR)
        self.memo[index] = self.top()

    def get(self, index: int) -> None:
        if index not in self.memo:
            raise PickleError(f'it refers to memo index {index}, under which it stored nothing')
        self.push(self.memo[index])

    # Names and calls

    def named(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str) or max(len(module), len(name)) > MAX_NAME:
            raise PickleError('it names a class by what is not a name')
        value = Global(module, name)
        if not self.policy.permits(value):
            raise PickleError(f'it asks for {value}, which no network needs')
        self.budget.pay(_COST_CONTAINER)
        self.push(value)

    def call(self) -> None:
        args, function = self.pop(), self.pop()
        if not isinstance(function, Global) or not isinstance(args, tuple):
            raise PickleError('it calls what is not a plain name')
        self.budget.pay(_COST_CONTAINER)
        reducer = self.policy.reducers.get(function)
        self.push(Call(function, args) if reducer is None else reducer(args, self))

    def build(self) -> None:
        state, target = self.pop(), self.top()
        if not isinstance(target, Call) or target.state is not None:
            raise PickleError('it sets the state of what is not a new object')
        target.state = state

    def persistent(self) -> None:
        if self.policy.persistent is None:
            raise PickleError('it refers to objects outside the file (a persistent id), which no network pickle does')
        self.push(self.policy.persistent(self.pop()))

    def integer(self, count: int) -> None:
        if not 0 <= count <= MAX_INTEGER:
            raise PickleError(f'it holds an integer of {count:,} bytes')
        self.budget.pay(count)
        self.push(int.from_bytes(self.take(count), 'little', signed=True))

    def frame(self) -> None:  # a hint for readers that read ahead
        self.expect(self.number('<Q'))


SET = Global('builtins', 'set')
FROZENSET = Global('builtins', 'frozenset')
DICT_CLASSES = frozenset({Global('collections', 'OrderedDict'), Global('dnnlib.util', 'EasyDict'), Global('dnnlib', 'EasyDict')})

_ACTIONS: dict[bytes, Callable[[Machine], Any]] = {
    b'\x95': Machine.frame,
    b'(': lambda m: m.marks.append(len(m.stack)),
    b'0': Machine.pop,
    b'1': Machine.pop_mark,
    b'N': lambda m: m.push(None),
    b'\x88': lambda m: m.push(True),
    b'\x89': lambda m: m.push(False),
    b'J': lambda m: m.push(m.number('<i')),
    b'K': lambda m: m.push(m.number('<B')),
    b'M': lambda m: m.push(m.number('<H')),
    b'\x8a': lambda m: m.integer(m.number('<B')),
    b'\x8b': lambda m: m.integer(m.number('<i')),
    b'G': lambda m: m.push(m.number('>d')),
    b'\x8c': lambda m: m.push(m.text(m.number('<B'))),
    b'X': lambda m: m.push(m.text(m.number('<I'))),
    b'\x8d': lambda m: m.push(m.text(m.number('<Q'))),
    b'C': lambda m: m.push(m.skip(m.number('<B'))),
    b'B': lambda m: m.push(m.skip(m.number('<I'))),
    b'\x8e': lambda m: m.push(m.skip(m.number('<Q'))),
    b'\x96': lambda m: m.push(m.skip(m.number('<Q'))),
    b')': lambda m: m.push(()),
    b'\x85': lambda m: m.tuple_of(1),
    b'\x86': lambda m: m.tuple_of(2),
    b'\x87': lambda m: m.tuple_of(3),
    b't': lambda m: m.push(tuple(m.pop_mark())),
    b']': lambda m: m.empty([]),
    b'a': lambda m: m.append([m.pop()]),
    b'e': lambda m: m.append(m.pop_mark()),
    b'}': lambda m: m.empty({}),
    b's': lambda m: m.set_items([m.pop(), m.pop()][::-1]),
    b'u': lambda m: m.set_items(m.pop_mark()),
    b'\x8f': lambda m: m.empty(Call(SET, ())),
    b'\x90': lambda m: m.add(m.pop_mark()),
    b'\x91': lambda m: m.empty(Call(FROZENSET, (m.pop_mark(),))),
    b'c': lambda m: m.named(m.line(), m.line()),
    b'\x93': lambda m: m.named(*[m.pop(), m.pop()][::-1]),
    b'R': Machine.call,
    b'\x81': Machine.call,  # cls.__new__(cls, *args): as inert as a call
    b'b': Machine.build,
    b'h': lambda m: m.get(m.number('<B')),
    b'j': lambda m: m.get(m.number('<I')),
    b'q': lambda m: m.put(m.number('<B')),
    b'r': lambda m: m.put(m.number('<I')),
    b'\x94': lambda m: m.put(len(m.memo)),
    b'Q': Machine.persistent,
}
Machine.actions = _ACTIONS

_REFUSED: dict[bytes, str] = {
    b'\x82': 'a reference to the extension registry',
    b'\x83': 'a reference to the extension registry',
    b'\x84': 'a reference to the extension registry',
    b'P': 'a reference to an object outside the file',
    b'\x97': 'a reference to a buffer outside the file',
    b'\x98': 'a reference to a buffer outside the file',
    b'\x92': 'a call with keyword arguments',
    b'i': 'an instance in the manner of Python 1',
    b'o': 'an instance in the manner of Python 1',
    b'\x80': 'a second protocol header',
} | {operation.to_bytes(1, 'little'): 'an operation of older pickle protocols' for operation in b'ILFSTUVgpld2'}
