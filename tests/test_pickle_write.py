"""Writing network pickles: nothing changes but the generators' numbers, and the file is whole or not there."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pickle_stand_ins as stand_ins
import pytest
import torch
from checkouts import checkout_of

from torch_utils_ext import network_patch
from torch_utils_ext.errors import InputError
from torch_utils_ext.network_pickle import read_network_pickle, save_network_pickle, write_unlearned_pickle


def changed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def bytes_outside(source, data: bytes) -> bytes:
    """`data` with the numbers of G and G_ema blanked."""
    blank = bytearray(data)
    for key in ('G', 'G_ema'):
        for place in source.records[key].tensors.values():
            blank[place.offset : place.offset + place.length] = bytes(place.length)
    return bytes(blank)


@pytest.mark.parametrize('protocol', [3, 5])
@pytest.mark.parametrize('kind', ['eg3d', 'stylegan2', 'stylegan2-ada', 'stylegan3'])
def test_both_generators_change_and_nothing_else(tmp_path, kind, protocol):
    source = read_network_pickle(stand_ins.write_pickle(tmp_path / 'in.pkl', kind, protocol))
    new = changed(source.records['G_ema'].state_dict())
    out = tmp_path / 'out.pkl'
    assert write_unlearned_pickle(source, out, new) == []
    before, after = source.path.read_bytes(), out.read_bytes()
    assert bytes_outside(source, before) == bytes_outside(source, after) and before != after
    # Python's own unpickler agrees on what is in the new file.
    contents = stand_ins.load_inert(out)
    for key in ('G', 'G_ema'):
        found = stand_ins.inert_state_dict(contents[key])
        assert list(found) == list(new) and all(torch.equal(found[name], new[name]) for name in new)
    old = stand_ins.load_inert(source.path)
    old_d, new_d = (stand_ins.inert_state_dict(each['D']) for each in (old, contents))
    assert all(torch.equal(old_d[name], new_d[name]) for name in old_d)
    write_unlearned_pickle(source, tmp_path / 'again.pkl', new)
    assert (tmp_path / 'again.pkl').read_bytes() == after


def test_unchanged_tensors_give_the_same_file(tmp_path):
    shared = stand_ins.generator()
    source = read_network_pickle(stand_ins.write_pickle(tmp_path / 'in.pkl', G=shared, G_ema=shared))
    write_unlearned_pickle(source, tmp_path / 'out.pkl', source.records['G'].state_dict())
    assert (tmp_path / 'out.pkl').read_bytes() == source.path.read_bytes()


def test_one_object_under_both_names(tmp_path):
    shared = stand_ins.generator('eg3d')
    source = read_network_pickle(stand_ins.write_pickle(tmp_path / 'in.pkl', 'eg3d', G=shared, G_ema=shared))
    new = changed(source.records['G'].state_dict())
    write_unlearned_pickle(source, tmp_path / 'out.pkl', new)
    found = read_network_pickle(tmp_path / 'out.pkl').records['G'].state_dict()
    assert all(torch.equal(found[name], new[name]) for name in new)


def test_views_half_precision_and_strides(tmp_path):
    """Elements between those of a view belong to somebody else and stay."""
    net = stand_ins.generator()
    base = torch.arange(12.0)
    net.register_buffer('every_second', base[::2])
    net.register_buffer('halves', torch.ones(3, dtype=torch.float16))
    net.register_buffer('counter', torch.tensor(7))
    source = read_network_pickle(stand_ins.write_pickle(tmp_path / 'in.pkl', G=net, G_ema=net))
    new = changed(source.records['G'].state_dict())
    new['halves'] = torch.tensor([0.1, 0.2, 0.3])  # float32 given, float16 in the file
    new['counter'] = torch.tensor(8)
    write_unlearned_pickle(source, tmp_path / 'out.pkl', new)
    found = read_network_pickle(tmp_path / 'out.pkl').records['G']
    assert torch.equal(found.state_dict()['every_second'], base[::2] + 1)
    assert torch.equal(found.state_dict()['halves'], new['halves'].half())
    assert found.state_dict()['counter'] == 8
    with found.source.open() as file:
        file.seek(found.tensors['every_second'].storage.offset)
        whole = torch.frombuffer(bytearray(file.read(48)), dtype=torch.float32)
    assert torch.equal(whole[1::2], base[1::2])


def test_cached_planes_are_wiped(tmp_path):
    net = stand_ins.generator('eg3d')
    net._last_planes = torch.full((1, 96, 2, 2), 7.0)
    source = read_network_pickle(stand_ins.write_pickle(tmp_path / 'in.pkl', 'eg3d', G_ema=net))
    said = write_unlearned_pickle(source, tmp_path / 'out.pkl', source.records['G'].state_dict())
    assert said == ['1 cached tensors (_last_planes) were set to zero.']
    assert not stand_ins.load_inert(tmp_path / 'out.pkl')['G_ema']['state']['_last_planes'].any()


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda new: new.pop('mapping.w_avg'), 'does not fit G of the pickle: 1 tensors missing \\(mapping.w_avg\\)'),
        (lambda new: new.update(extra=torch.zeros(1)), '1 unexpected \\(extra\\)'),
        (
            lambda new: new.update({'mapping.w_avg': torch.zeros(9)}),
            'mapping.w_avg has shape \\[9\\], expected \\[8\\] as in G',
        ),
        (
            lambda new: new.update({'mapping.w_avg': torch.zeros(8, dtype=torch.int64)}),
            'is torch.int64, expected torch.float32',
        ),
        (lambda new: new.update(halves=torch.tensor([1e6])), 'halves has numbers that are too large for torch.float16'),
        (lambda new: new.update(left=torch.zeros(4), right=torch.ones(4)), 'shares its numbers with another tensor'),
    ],
)
def test_what_does_not_fit(tmp_path, change, message):
    net = stand_ins.generator()
    net.register_buffer('halves', torch.ones(1, dtype=torch.float16))
    storage = torch.zeros(4)
    net.register_buffer('left', storage)
    net.register_buffer('right', storage)  # one tensor under two names
    source = read_network_pickle(stand_ins.write_pickle(tmp_path / 'in.pkl', G=net, G_ema=net))
    new = changed(source.records['G'].state_dict())
    change(new)
    with pytest.raises(InputError, match=message):
        write_unlearned_pickle(source, tmp_path / 'out.pkl', new)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['in.pkl']


def test_numbers_shared_with_the_discriminator(tmp_path):
    net, other = stand_ins.generator(), stand_ins.discriminator()
    other.register_buffer('borrowed', net.mapping.w_avg)
    source = read_network_pickle(stand_ins.write_pickle(tmp_path / 'in.pkl', G=net, G_ema=net, D=other))
    new = source.records['G'].state_dict()
    write_unlearned_pickle(source, tmp_path / 'out.pkl', new)  # nothing changes, so nothing is in the way
    new['mapping.w_avg'] = new['mapping.w_avg'] + 1
    with pytest.raises(InputError, match='in another part of the file as well'):
        write_unlearned_pickle(source, tmp_path / 'out.pkl', new)


def test_missing_and_unwritable_folders_and_a_full_disk(tmp_path, monkeypatch):
    source = read_network_pickle(stand_ins.write_pickle(tmp_path / 'in.pkl'))
    state = source.records['G'].state_dict()
    with pytest.raises(InputError, match='Cannot write .*No such file or directory'):
        write_unlearned_pickle(source, tmp_path / 'missing' / 'out.pkl', state)
    (tmp_path / 'out.pkl').write_bytes(b'the earlier file')

    def full(original, copy):
        copy.write(original.read(100))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(network_patch, '_copy', full)
    with pytest.raises(InputError, match='Cannot write .*No space left on device'):
        write_unlearned_pickle(source, tmp_path / 'out.pkl', state)
    assert (tmp_path / 'out.pkl').read_bytes() == b'the earlier file'
    assert sorted(path.name for path in tmp_path.iterdir()) == ['in.pkl', 'out.pkl']


def test_leftovers_of_a_killed_writer_go(tmp_path):
    source = read_network_pickle(stand_ins.write_pickle(tmp_path / 'in.pkl'))
    (tmp_path / f'.out.pkl.1@{socket.gethostname()}.abcd1234.part').write_bytes(b'halves')
    (tmp_path / '.out.pkl.part').write_bytes(b'of another program')
    write_unlearned_pickle(source, tmp_path / 'out.pkl', source.records['G'].state_dict())
    assert sorted(path.name for path in tmp_path.iterdir()) == ['.out.pkl.part', 'in.pkl', 'out.pkl']


def test_file_without_g(tmp_path):
    path = tmp_path / 'guide.pkl'
    path.write_bytes(stand_ins.dump(dict(G_ema=stand_ins.generator('eg3d'))))
    source = read_network_pickle(path)
    new = changed(source.records['G_ema'].state_dict())
    write_unlearned_pickle(source, tmp_path / 'out.pkl', new)
    found = read_network_pickle(tmp_path / 'out.pkl').records['G_ema'].state_dict()
    assert all(torch.equal(found[name], new[name]) for name in new)


def test_writing_takes_less_memory_than_the_file(tmp_path):
    net = stand_ins.generator()
    for index in range(10):
        net.register_buffer(f'large{index}', torch.zeros(1_000_000))
    source = read_network_pickle(stand_ins.write_pickle(tmp_path / 'net.pkl', G=net, G_ema=net))
    new = changed(source.records['G'].state_dict())
    tracemalloc.start()
    write_unlearned_pickle(source, tmp_path / 'out.pkl', new)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < source.size / 2


def test_network_of_our_own(tmp_path):
    state = stand_ins.generator('eg3d').state_dict()
    kwargs = {
        'z_dim': 8,
        'rendering_kwargs': {'box_warp': 1, 'pivot': (0, 0.5, None), 'modes': {'a', 'b'}},
        'flag': True,
    }
    paths = [tmp_path / name for name in ('one.pkl', 'two.pkl')]
    for path in paths:
        save_network_pickle(
            path,
            'training.triplane.TriPlaneGenerator',
            kwargs,
            state,
            {'neural_rendering_resolution': 64},
            {'path': '/é'},
        )
    assert paths[0].read_bytes() == paths[1].read_bytes()
    source = read_network_pickle(paths[0])
    assert list(source.records) == ['G', 'G_ema'] and source.training_set_kwargs == {'path': '/é'}
    record = source.records['G_ema']
    assert (record.upstream_class, record.init_kwargs) == ('training.triplane.TriPlaneGenerator', kwargs)
    assert record.attributes == {'neural_rendering_resolution': 64}
    found = record.state_dict()
    assert list(found) == list(state) and all(torch.equal(found[name], state[name]) for name in state)
    assert source.size < 1.5 * sum(tensor.nbytes for tensor in state.values()) + 200_000
    new = changed(state)
    write_unlearned_pickle(source, tmp_path / 'out.pkl', new)
    patched = read_network_pickle(tmp_path / 'out.pkl')
    assert all(
        torch.equal(patched.records[key].state_dict()[name], new[name]) for key in ('G', 'G_ema') for name in new
    )


def test_only_plain_values_are_saved(tmp_path):
    with pytest.raises(InputError, match='Cannot save object in a network pickle'):
        save_network_pickle(tmp_path / 'net.pkl', 'training.networks.Generator', {'odd': object()}, {})
    with pytest.raises(InputError, match='Cannot save a tensor of torch.complex64'):
        save_network_pickle(
            tmp_path / 'net.pkl', 'training.networks.Generator', {}, {'odd': torch.zeros(1, dtype=torch.complex64)}
        )
    assert list(tmp_path.iterdir()) == []


# For real: inside NVIDIA's checkouts, where they are at hand.


def run_upstream(folder: Path, script: str, *arguments: object) -> str:
    """`script` of tests/upstream_scripts in a process of its own, with the checkout on its path."""
    scripts = Path(__file__).parent / 'upstream_scripts'
    environment = dict(
        os.environ, PYTHONPATH=os.pathsep.join([str(folder), str(scripts)]), PYTHONDONTWRITEBYTECODE='1'
    )
    command = [sys.executable, str(scripts / script), *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


UPSTREAM_CASES = [
    ('eg3d', 'eg3d'),
    ('eg3d', 'stylegan2'),
    ('stylegan2-ada', 'stylegan2-ada'),
    ('stylegan3', 'stylegan2'),
    ('stylegan3', 'stylegan3-t'),
    ('stylegan3', 'stylegan3-r'),
]


@pytest.mark.slow
@pytest.mark.upstream
@pytest.mark.parametrize(
    ('repository', 'kind', 'protocol'), [(*case, 3 + index % 3) for index, case in enumerate(UPSTREAM_CASES)]
)
def test_upstream_opens_what_we_write(tmp_path, repository, kind, protocol):
    folder = checkout_of(repository)
    run_upstream(folder, 'make.py', kind, protocol, tmp_path / 'in.pkl', tmp_path / 'in.pt')
    source = read_network_pickle(tmp_path / 'in.pkl')
    expected = torch.load(tmp_path / 'in.pt', weights_only=True)
    for key in ('G', 'D', 'G_ema'):
        found = source.records[key].state_dict()
        assert list(found) == list(expected[key])
        assert all(torch.equal(found[name], expected[key][name]) for name in found)
    new = {name: t * 1.01 if t.is_floating_point() else t for name, t in source.records['G_ema'].state_dict().items()}
    write_unlearned_pickle(source, tmp_path / 'out.pkl', new)
    assert bytes_outside(source, source.path.read_bytes()) == bytes_outside(source, (tmp_path / 'out.pkl').read_bytes())
    run_upstream(folder, 'open.py', tmp_path / 'out.pkl', tmp_path / 'out.pt')
    written = torch.load(tmp_path / 'out.pt', weights_only=True)
    for key, reference in (('G', new), ('G_ema', new), ('D', expected['D'])):
        assert all(torch.equal(written[key][name], reference[name]) for name in reference)


@pytest.mark.slow
@pytest.mark.upstream
@pytest.mark.parametrize(('repository', 'kind'), UPSTREAM_CASES)
def test_upstream_opens_a_network_of_our_own(tmp_path, repository, kind):
    folder = checkout_of(repository)
    run_upstream(folder, 'make.py', kind, 4, tmp_path / 'in.pkl', tmp_path / 'in.pt')
    record = read_network_pickle(tmp_path / 'in.pkl').records['G_ema']
    attributes = {
        name: record.attributes[name]
        for name in ('neural_rendering_resolution', 'rendering_kwargs')
        if name in record.attributes
    }
    own = tmp_path / 'own.pkl'
    save_network_pickle(own, record.upstream_class, record.init_kwargs, record.state_dict(), attributes)
    # open.py copies, reloads and saves the network again with upstream's code, and compares pictures.
    theirs = run_upstream(folder, 'open.py', tmp_path / 'in.pkl', tmp_path / 'in.pt')
    ours = run_upstream(folder, 'open.py', own, tmp_path / 'own.pt', tmp_path / 'resaved.pkl')
    assert ours == theirs
    assert read_network_pickle(tmp_path / 'resaved.pkl').records['G_ema'].upstream_class == record.upstream_class


@pytest.mark.slow
@pytest.mark.upstream
def test_stylegan2_moves_between_repositories(tmp_path):
    ada, newer = checkout_of('stylegan2-ada'), checkout_of('stylegan3')
    for home, away, kind in ((ada, newer, 'stylegan2-ada'), (newer, ada, 'stylegan2')):
        run_upstream(home, 'make.py', kind, 4, tmp_path / 'in.pkl', tmp_path / 'in.pt')
        record = read_network_pickle(tmp_path / 'in.pkl').records['G_ema']
        save_network_pickle(tmp_path / 'own.pkl', record.upstream_class, record.init_kwargs, record.state_dict())
        pictures = {run_upstream(place, 'open.py', tmp_path / 'own.pkl', tmp_path / 'own.pt') for place in (home, away)}
        assert len(pictures) == 1
