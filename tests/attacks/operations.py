"""Pickle operations that a network never needs, and those that it needs, turned against their purpose."""

from __future__ import annotations

from pathlib import Path

from attacks.attack import Attack, call, fixed, inside_network, text, whole


def attacks() -> list[Attack]:
    plain = {
        'extension registry, 1 byte': (b'\x82\x01', 'extension registry'),
        'extension registry, 2 bytes': (b'\x83\x01\x00', 'extension registry'),
        'extension registry, 4 bytes': (b'\x84\x01\x00\x00\x00', 'extension registry'),
        'persistent id, text': (b'Pos.system\n', 'an object outside the file'),
        'persistent id': (b'(' + text('storage') + b'tQ', 'persistent id'),
        'out-of-band buffer': (b'\x97', 'a buffer outside the file'),
        'instance': (b'(ios\nsystem\n', 'in the manner of Python 1'),
        'object': (b'(cos\nsystem\no', 'hostile'),
        'call with keywords': (b'ccollections\nOrderedDict\n)}\x92', 'keyword arguments'),
        'string of Python 2': (b"S'abc'\n", 'older pickle protocols'),
        'state set on a name': (b'ctraining.triplane\nOSGDecoder\n}b', 'sets the state of what is not a new object'),
        'state set on a list': (b']}b', 'sets the state of what is not a new object'),
        'state set on a tensor function': (
            b'ctorch._utils\n_rebuild_tensor_v2\n}' + text('__code__') + b'Nsb',
            'not a new object',
        ),
        'state set twice': (call('torch.nn.modules.linear', 'Identity') + b'}b}b', 'not a new object'),
        'items set on a name': (b'cdnnlib.util\nEasyDict\n' + text('a') + b'Ns', 'not a dictionary'),
        'items set on a module': (call('torch.nn.modules.linear', 'Identity') + text('a') + b'Ns', 'not a dictionary'),
        'appended to a call': (call('builtins', 'set') + b'Na', 'not a list'),
        'added to a list': (b'](N\x90', 'not a new set'),
        'called a call': (call('builtins', 'set') + b')R', 'calls what is not a plain name'),
        'called a text': (text('os.system') + b')R', 'calls what is not a plain name'),
        'called with a list': (b'cbuiltins\nset\n]R', 'calls what is not a plain name'),
        'named by numbers': (b'K\x01K\x02\x93', 'what is not a name'),
        'name without an end': (b'cos' + b'y' * 300, 'does not end'),
        'name with escape characters': (b'cmy\x1b[2Jfork\nNet\n', r'my\\x1b\[2Jfork'),
        'memo never stored': (b'h\x07', 'under which it stored nothing'),
        'stack empty': (b'R', 'finds its stack empty'),
        'no mark': (b'N\x85u', 'finds no mark'),
        'below the mark': (b'N(0', 'finds its stack empty'),
        'two values': (b'NN', 'do not add up to one value'),
        'mark left over': (b'N(', 'do not add up to one value'),
        'second header': (b'\x80\x04N', 'second protocol header'),
        'unknown operation': (b'\xff', 'unknown operation'),
        'key that is a list': (b'}]Ns', 'container as the key'),
        'key that is a tuple': (b'})Ns', 'container as the key'),
        'text that is no UTF-8': (b'\x8c\x02\xff\xff', 'not UTF-8'),
        '__setstate__ through persistence': (_persistent(b'}' + text('__setstate__') + b'cos\nsystem\ns'), 'hostile'),
        '__reduce_ex__ through persistence': (
            _persistent(b'}' + text('__reduce_ex__') + b'cbuiltins\neval\ns'),
            'hostile',
        ),
        'state that is no dictionary': (_persistent(b'](Ne'), 'not as torch_utils.persistence writes'),
        'meta that is no dictionary': (
            call('torch_utils.persistence', '_reconstruct_persistent_obj', b'N'),
            'not as torch_utils',
        ),
        'not a network': (b'}' + text('G_ema') + b'Ns', 'not a network of torch_utils.persistence'),
        'a list': (b']', "dictionary with a network under 'G_ema'"),
    }
    found = [Attack(name, fixed(whole(value)), message) for name, (value, message) in plain.items()]
    return [
        *found,
        Attack('protocol 6', lambda _: b'\x80\x06N.', 'protocol 6, and only 2 to 5'),
        Attack('protocol 1', lambda _: b'\x80\x01N.', 'protocol 1, and only 2 to 5'),
        Attack(
            'bytes after the end', lambda _: inside_network(b'N') + b'cos\nsystem\n', 'follow the end of the pickle'
        ),
        Attack('setstate of a call', _setstate, 'hostile', runs=True),
    ]


def _persistent(state: bytes) -> bytes:
    pairs = [
        (b'type', text('class')),
        (b'version', b'K\x06'),
        (b'module_src', text('')),
        (b'class_name', text('Generator')),
    ]
    meta = b'}(' + b''.join(text(name.decode()) + value for name, value in pairs) + text('state') + state + b'u'
    return call('torch_utils.persistence', '_reconstruct_persistent_obj', meta)


def _setstate(sentinel: Path) -> bytes:
    """BUILD hands the state to a __setstate__ that the file put there itself."""
    holder = call('types', 'SimpleNamespace')
    return whole(holder + b'}' + text('__setstate__') + b'cos\nsystem\nsb' + text(f"touch '{sentinel}'") + b'b')
