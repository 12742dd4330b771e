"""Small files that ask for much: memory, time, depth."""

from __future__ import annotations

import struct

import pickle_stand_ins as stand_ins
from attacks.attack import Attack, call, fixed, inside_network, text, whole

TOO_LONG = 'it announces .* bytes, and only .* are left'
TOO_MUCH = 'far more memory than the file is long|more than .* pickle operations'


def attacks() -> list[Attack]:
    huge = 1 << 62
    lengths = {
        'bytes of 4 exabytes': (b'\x8e' + struct.pack('<Q', huge), TOO_LONG),
        'text of 4 exabytes': (b'\x8d' + struct.pack('<Q', huge), TOO_LONG),
        'byte array of 4 exabytes': (b'\x96' + struct.pack('<Q', huge), TOO_LONG),
        'frame of 4 exabytes': (b'\x95' + struct.pack('<Q', huge), TOO_LONG),
        'bytes of 4 gigabytes': (b'B\xff\xff\xff\xff', TOO_LONG),
        'text of 4 gigabytes': (b'X\xff\xff\xff\xff', TOO_LONG),
        'integer of 2 gigabytes': (b'\x8b\xff\xff\xff\x7f', 'an integer of'),
        'integer of negative length': (b'\x8b\xff\xff\xff\xff', 'an integer of'),
        'memo index of 4 billion': (b'Nr\xff\xff\xff\xff', 'memo index 4294967295'),
        'text of 3 megabytes': (b'X' + struct.pack('<I', 3 << 20) + b'a' * (3 << 20), 'no text in a network pickle'),
    }
    found = [Attack(name, fixed(whole(value)), message) for name, (value, message) in lengths.items()]
    return [
        *found,
        Attack('millions of lists', lambda _: whole(b'(' + b']' * 5_000_000 + b't'), TOO_MUCH),
        Attack('millions of sets', lambda _: whole(b'(' + b'\x8f' * 5_000_000 + b't'), TOO_MUCH),
        Attack(
            'set that is added to again and again',
            lambda _: whole(b'\x8f(' + b'N' * 60_000 + b'\x90' + b'(\x90' * 60_000),
            'dictionary with a network',
        ),
        Attack('millions of integers', lambda _: whole(b'(' + (b'\x8a\x20' + b'\x7f' * 32) * 200_000 + b't'), TOO_MUCH),
        Attack('millions of None', lambda _: whole(b'(' + b'N' * 5_000_000 + b't'), TOO_MUCH),
        Attack('millions of marks', lambda _: whole(b'(' * 5_000_000), TOO_MUCH),
        Attack('millions of memo entries', lambda _: whole(b'N' + b'\x94' * 5_000_000), TOO_MUCH),
        Attack('millions of copies of one list', lambda _: whole(b']\x94(' + b'h\x00' * 3_000_000 + b't'), TOO_MUCH),
        Attack('wide texts', lambda _: whole(b'(' + _wide_text() * 8 + b't'), TOO_MUCH + '|no text'),
        Attack(
            'list that contains itself',
            lambda _: whole(b']\x94' + b'(' + b'h\x00' * 1000 + b'e'),
            'dictionary with a network',
        ),
        Attack(
            'nested lists', lambda _: whole(b']' * 100_000 + b'a' * 99_999), TOO_MUCH + '|dictionary with a network'
        ),
        Attack('nested tuples', lambda _: whole(b')' + b'\x85' * 100_000), TOO_MUCH + '|dictionary with a network'),
        Attack('nested settings', lambda _: inside_network_kept(b')' + b'\x85' * 20_000), 'settings'),
        Attack(
            'billion laughs in settings', lambda _: inside_network_kept(_laughs(40)), 'nested or repeated without end'
        ),
        Attack('billion laughs as a key', lambda _: whole(b'}' + _laughs(60) + b'Ns'), 'container as the key'),
        Attack('colliding keys', lambda _: whole(_colliding(20_000)), 'keys that are not text'),
        Attack('modules that share children', lambda _: _laughing_modules(), 'more than .* modules and tensors'),
        Attack('module that contains itself', lambda _: _module_loop(), 'nested without end|more than'),
        Attack(
            'one storage, a thousand tensors', lambda _: _shared_storage(), 'claims more numbers than the file holds'
        ),
        Attack('the same tensor bytes loaded again and again', lambda _: _reloaded(), TOO_MUCH),
    ]


def inside_network_kept(value: bytes) -> bytes:
    """`value` as one of the training set's settings."""
    return inside_network(b'N').replace(b'N0N\x94', b'}' + text('setting') + value + b's\x94')


def _wide_text() -> bytes:
    raw = b'a' * (2_000_000 - 4) + '\U0001f600'.encode()
    return b'X' + struct.pack('<I', len(raw)) + raw


def _laughs(levels: int) -> bytes:
    """A tuple of two tuples of two tuples ...: 2^levels values in a few bytes."""
    return b')' + b''.join(b'r' + struct.pack('<I', 0) + b'j' + struct.pack('<I', 0) + b'\x86' for _ in range(levels))


def _colliding(count: int) -> bytes:
    """Integers that all have one hash make a dict take quadratic time."""
    modulus = (1 << 61) - 1
    keys = (b'\x8a\x0a' + (index * modulus).to_bytes(10, 'little') + b'N' for index in range(1, count))
    return b'}(' + b''.join(keys) + b'u'


def _module(children: dict) -> stand_ins.Persistent:
    module = stand_ins.Persistent('SynthesisBlock')
    module._modules.update(children)
    return module


def _laughing_modules() -> bytes:
    child = _module({})
    for _ in range(40):
        child = _module({'a': child, 'b': child})
    return stand_ins.dump(stand_ins.network_contents() | {'G_ema': child})


def _module_loop() -> bytes:
    """A plain module is a memo entry before it has a state, so it can be its own child."""
    names = ('_parameters', '_buffers')
    state = b'}(' + b''.join(text(name) + b'}' for name in names) + text('_modules') + b'}' + text('a') + b'h\x00su'
    loop = call('torch.nn.modules.linear', 'Identity') + b'q\x00' + state + b'b'
    pairs = [
        ('type', text('class')),
        ('version', b'K\x06'),
        ('module_src', text('')),
        ('class_name', text('Generator')),
    ]
    outer = b'}(' + b''.join(text(name) + b'}' for name in names) + text('_modules') + b'}' + text('a') + loop + b'su'
    meta = b'}(' + b''.join(text(name) + value for name, value in pairs) + text('state') + outer + b'u'
    return whole(b'}' + text('G_ema') + call('torch_utils.persistence', '_reconstruct_persistent_obj', meta) + b's')


def _shared_storage() -> bytes:
    net = stand_ins.generator()
    net.register_buffer('large', stand_ins.torch.zeros(100_000))
    for index in range(1000):
        net.register_buffer(f'large{index}', net.large)
    return stand_ins.dump(stand_ins.network_contents() | {'G_ema': net})


def _reloaded() -> bytes:
    from attacks.nested import legacy, storage

    raw = legacy(storage(4))
    function, place = (
        b'ctorch.storage\n_load_from_bytes\nq\x000',
        b'B' + struct.pack('<I', len(raw)) + raw + b'\x85q\x010',
    )
    return whole(function + place + b'(' + b'h\x00h\x01R' * 200_000 + b't')
