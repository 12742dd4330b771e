"""Deltas: a file gives back the edit, merging and withdrawing are erasing together and alone, and nothing damaged is believed."""
import json
import os
import stat

import pytest
import safetensors.torch
import torch
from click.testing import CliRunner
from small import SMALL, save_small, small_generator

import eg3d_unlearn
from eg3d_unlearn.delta import MAX_BYTES, REVEALS, Delta, checksum, from_bytes, merge, read_delta, to_bytes, withdraw, write_delta
from eg3d_unlearn.delta.__main__ import main
from eg3d_unlearn.unlearning.closed_form import Erasure, edit_of, erasure, fold, population
from torch_utils_ext.errors import InputError
from torch_utils_ext.network_pickle import read_network_pickle, save_network_pickle, write_unlearned_pickle

SOURCE = 'ab' * 32


@pytest.fixture(scope='module', params=SMALL)
def family(request):
    return request.param


def erasures(family, count=3, photos=1, plus=False):
    """A network, and people with a part of an edit each."""
    generator = small_generator(family)
    rng = torch.Generator().manual_seed(7)
    everybody = population(generator, 1024)
    people = []
    for _ in range(count):
        ws = generator.sample(photos, rng)
        ws = ws + plus * 0.1 * torch.randn(ws.shape, generator=rng)
        people.append(erasure(ws, 1.3 * (ws.mean(0) - generator.w_avg), generator.w_avg, everybody))
    return generator, people


def delta_of(generator, people, source=SOURCE):
    return Delta(source, generator.w_avg.double(), tuple(people))


def weights_after(family, edit):
    """All weights of the small network with ``edit`` in it."""
    generator = small_generator(family)
    fold(generator, edit)
    return generator.network.state_dict()


def assert_same(one, other, atol=0.0):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.allclose(one[name], other[name], rtol=0, atol=atol), name


@pytest.fixture
def three(tmp_path):
    """A StyleGAN2 pickle, three people, and a delta of each in a file."""
    generator, people = erasures('stylegan2')
    source = save_small(tmp_path / 'source.pkl', 'stylegan2', generator.network)
    files = [tmp_path / f'{name}.safetensors' for name in 'abc']
    for file, one in zip(files, people, strict=True):
        write_delta(file, delta_of(generator, [one], read_network_pickle(source).sha256()))
    return source, generator, people, files


def run(*words):
    return CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)


def refused(*words):
    done = run(*words)
    assert done.exit_code == 1 and 'unexpected' not in done.output, done.output
    return done.output


# ---- the file ----

@pytest.mark.parametrize('photos, plus', [(1, False), (3, False), (2, True)], ids=['W', 'photos', 'W+'])
def test_a_file_gives_back_every_number(family, photos, plus, tmp_path):
    generator, people = erasures(family, photos=photos, plus=plus)
    delta = delta_of(generator, people)
    write_delta(tmp_path / 'x.safetensors', delta)
    back = read_delta(tmp_path / 'x.safetensors')
    assert (back.source_sha256, back.library_version, len(back.people)) == (SOURCE, delta.library_version, 3)
    assert torch.equal(back.w_avg, delta.w_avg)
    for one, other in zip(back.people, people, strict=True):
        for part in ('photos', 'reach', 'move'):
            assert torch.equal(getattr(one, part), getattr(other, part)) and getattr(one, part).dtype == torch.float64
    assert to_bytes(back) == to_bytes(delta) == (tmp_path / 'x.safetensors').read_bytes()    # the library alone would shuffle the metadata
    assert os.name != 'posix' or stat.S_IMODE((tmp_path / 'x.safetensors').stat().st_mode) == 0o600


@pytest.mark.parametrize('photos', [1, 2, 3])    # a matrix product may round its last rows differently
def test_latents_of_w_are_stored_as_one_layer(family, photos):
    generator, people = erasures(family, photos=photos)
    content = to_bytes(delta_of(generator, people))
    tensors = safetensors.torch.load(content)
    assert {name: list(value.shape) for name, value in tensors.items() if '1' in name or name == 'w_avg'} == {
        'w_avg': [1, generator.w_dim], 'person.1.photos': [photos, 1, generator.w_dim], 'person.1.reach': [photos, 1, generator.w_dim],
        'person.1.move': [1, generator.w_dim]}
    assert len(content) < 100_000
    assert torch.equal(people[1].reach, people[1].reach[:, :1].expand_as(people[1].reach))


def test_latents_of_w_plus_are_stored_layer_by_layer(family):
    generator = small_generator(family)
    plus = safetensors.torch.load(to_bytes(delta_of(*erasures(family, 1, plus=True))))
    assert plus['person.0.photos'].shape == (1, generator.num_ws, generator.w_dim)


def test_any_tool_reads_what_the_metadata_says(tmp_path):
    generator, people = erasures('stylegan2')
    write_delta(tmp_path / 'x.safetensors', delta_of(generator, people))
    with safetensors.safe_open(tmp_path / 'x.safetensors', 'pt') as file:
        said = file.metadata()
    assert {name: said[name] for name in ('format', 'format_version', 'method', 'source_sha256', 'people', 'ranks', 'num_ws', 'warning')} == {
        'format': 'eg3d_unlearn.delta', 'format_version': '1', 'method': 'closed-form', 'source_sha256': SOURCE, 'people': '3', 'ranks': '3',
        'num_ws': str(generator.num_ws), 'warning': REVEALS}
    assert 'latents of the people' in REVEALS and 'source network' in REVEALS and 'personal data' in REVEALS


# ---- merge and withdraw ----

@pytest.mark.parametrize('order', [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_merged_deltas_are_the_joint_edit_in_any_order(family, order):
    generator, people = erasures(family)
    merged = merge([delta_of(generator, [people[k]]) for k in order])
    assert_same(weights_after(family, merged.edit()), weights_after(family, edit_of(people, generator.w_avg)), atol=1e-6)


def test_people_of_w_and_of_w_plus_merge(family):
    generator, people = erasures(family, 2)
    mixed = [people[0], erasures(family, 2, photos=2, plus=True)[1][1]]
    merged = merge([from_bytes(to_bytes(delta_of(generator, [one]))) for one in mixed])
    assert_same(weights_after(family, merged.edit()), weights_after(family, edit_of(mixed, generator.w_avg)))


def test_people_of_runs_that_kept_different_photos_are_erased_alike(family):
    """The merged edit is not the one of least disturbance then; where the people go is the same."""
    generator, people = erasures(family)
    first, second = people[0], people[1]
    keeping = population(generator, 1024).with_photos(generator.sample(8, torch.Generator().manual_seed(3)), generator.w_avg)
    other = erasure(second.photos.float() + generator.w_avg, second.move.float(), generator.w_avg, keeping)
    merged = merge([delta_of(generator, [first]), delta_of(generator, [other])]).edit()
    for number, one in enumerate((first, other)):
        said = merged.says(one.photos + generator.w_avg)
        assert torch.allclose(said, torch.eye(2, dtype=torch.float64)[number].expand_as(said), atol=1e-5)


@pytest.mark.parametrize('numbers, left', [([2], [0, 2]), ([1, 3], [1]), ([3, 3], [0, 1])])
def test_withdrawing_gives_what_erasing_the_others_gives(family, numbers, left):
    generator, people = erasures(family)
    rest = withdraw(delta_of(generator, people), numbers)
    assert_same(weights_after(family, rest.edit()), weights_after(family, edit_of([people[k] for k in left], generator.w_avg)))


def test_nobody_else_is_left_erased_by_a_withdrawal():
    """Not a subtraction of one person's move: the detectors of the others change, too."""
    generator, people = erasures('stylegan2')
    before, after = edit_of(people, generator.w_avg), withdraw(delta_of(generator, people), [1]).edit()
    withdrawn = people[0].photos + generator.w_avg
    assert torch.allclose(before.says(withdrawn)[0, 0], torch.tensor([1.0, 0, 0]).double(), atol=1e-8)
    assert not torch.allclose(after.detectors[0], before.detectors[0, 1:], atol=1e-3)


def test_what_cannot_be_merged_or_withdrawn():
    generator, people = erasures('stylegan2')
    one, other = delta_of(generator, people[:1]), delta_of(generator, people[1:2])
    for bad, words in (
            (delta_of(generator, people[1:2], source='cd' * 32), 'are for different networks'),
            (Delta(SOURCE, generator.w_avg.double() + 0.1, tuple(people[1:2])), 'different mean latents'),
            (Delta(SOURCE, generator.w_avg.double()[:1], tuple(people[1:2])), 'different mean latents')):
        with pytest.raises(InputError, match=f'a.file and b.file .*{words}|a.file and b.file {words}'):
            merge([one, bad], ['a.file', 'b.file'])
    # The same person once more: found by one photo of several, and where the last bits differ.
    both = (torch.cat([getattr(people[1], part), getattr(people[0], part) * (1 + 1e-7)]) for part in ('photos', 'reach'))
    again = Erasure(*both, people[1].move)
    for twice in (people[0], again):
        with pytest.raises(InputError, match='Person 1 of a.file and person 2 of b.file share a photo'):
            merge([one, delta_of(generator, [people[2], twice])], ['a.file', 'b.file'])
    for numbers, words in (([1, 2], 'Nobody would be left'), ([3], 'no person 3: the delta has 2 people'), ([0], 'no person 0')):
        with pytest.raises(InputError, match=words):
            withdraw(merge([one, other]), numbers)


# ---- damaged files ----

def remade(content, change):
    """The file with its parts changed and everything else, checksum included, made to fit."""
    tensors = safetensors.torch.load(content)
    metadata = json.loads(content[8:8 + int.from_bytes(content[:8], 'little')])['__metadata__']
    change(tensors, metadata)
    if 'content_sha256' in metadata:
        metadata['content_sha256'] = checksum(metadata, tensors)
    return safetensors.torch.save(tensors, metadata)


def in_tensor(name, make):
    return lambda tensors, metadata: tensors.update({name: make(tensors[name]).contiguous()})


def in_metadata(**values):
    return lambda tensors, metadata: metadata.update(values)


def filled(value):
    def make(tensor):
        tensor = tensor.clone()
        tensor[..., 3] = value
        return tensor
    return make


CHANGES = {
    'nan': (in_tensor('person.0.move', filled(float('nan'))), 'person.0.move holds numbers that are NaN'),
    'infinite': (in_tensor('w_avg', filled(float('-inf'))), 'w_avg holds numbers'),
    'too large': (in_tensor('person.1.reach', filled(1e300)), 'person.1.reach holds numbers'),
    'float32': (in_tensor('person.0.photos', lambda t: t.float()), 'person.0.photos does not consist of 64-bit'),
    'complex': (in_tensor('person.0.photos', lambda t: t.to(torch.complex64)), 'person.0.photos does not consist of 64-bit'),
    'another w_dim': (in_tensor('person.0.move', lambda t: t[:, :-1]), r'person.0.move has the shape \[1, 23\]'),
    'w_avg without axes': (in_tensor('w_avg', lambda t: t[0, 0]), r'w_avg has the shape \[\]'),
    'flat': (in_tensor('w_avg', lambda t: t[0]), 'w_avg has the shape'),
    'empty': (in_tensor('person.0.photos', lambda t: t[:0]), 'person.0.photos has the shape'),
    'no dimensions': (lambda tensors, metadata: tensors.update({name: tensors[name][..., :0] for name in tensors}), 'w_avg has the shape'),
    'too many layers': (in_tensor('person.0.move', lambda t: t.expand(3, -1)), r'person.0.move has the shape \[3, 24\]'),
    'reach of other photos': (in_tensor('person.1.reach', lambda t: t.expand(2, -1, -1)), 'person.1.reach has the shape'),
    'missing': (lambda tensors, metadata: tensors.pop('person.0.reach'), 'it has 6 tensors; 7 were expected for 2 people'),
    'renamed': (lambda tensors, metadata: tensors.update({'person.2.reach': tensors.pop('person.0.reach')}), 'person.0.reach is missing'),
    'unexpected': (lambda tensors, metadata: tensors.update(more=torch.ones(1)), 'it has 8 tensors'),
    'format': (in_metadata(format='pt'), 'no delta of this library'),
    'no metadata': (lambda tensors, metadata: metadata.clear(), 'no delta of this library'),
    'version': (in_metadata(format_version='2'), 'has the version 2.*Update the library'),
    'method': (in_metadata(method='guide\x1b[31m'), r'method as guide\\x1b\[31m'),
    'source': (in_metadata(source_sha256='AB' * 32), 'gives source_sha256 as'),
    'no source': (lambda tensors, metadata: metadata.pop('source_sha256'), 'gives source_sha256 as None'),
    'nobody': (in_metadata(people='0'), 'gives people as 0'),
    'more people': (in_metadata(people='3'), '7 tensors; 10 were expected'),
    'digits of another script': (in_metadata(people='٢'), 'gives people as'),
    'layers': (in_metadata(num_ws='99999999999'), 'gives num_ws as'),
    'library': (in_metadata(library_version='<script>'), 'gives library_version as'),
    'ranks': (in_metadata(ranks='many'), 'gives ranks as many'),
}


@pytest.fixture(scope='module')
def good():
    generator, people = erasures('stylegan2', 2)
    return to_bytes(delta_of(generator, people))


@pytest.mark.parametrize('name', CHANGES)
def test_a_changed_file_is_refused(name, good):
    change, words = CHANGES[name]
    assert len(from_bytes(remade(good, lambda tensors, metadata: None)).people) == 2     # so it is the change that is refused
    with pytest.raises(InputError, match=words) as found:
        from_bytes(remade(good, change))
    assert str(found.value).isprintable()


def test_every_flipped_bit_is_noticed(good):
    before = to_bytes(from_bytes(good))
    for position in [*range(0, 1200, 7), *range(1200, len(good), 211)]:
        damaged = bytearray(good)
        damaged[position] ^= 1 << position % 8
        try:
            assert to_bytes(from_bytes(bytes(damaged))) == before, f'byte {position} of {len(good)}'
        except InputError:
            pass


def test_numbers_of_one_file_only(good):
    """Without a word changed in the header: a latent with another sign."""
    damaged = bytearray(good)
    damaged[-1] ^= 0x80
    with pytest.raises(InputError, match='checksum is wrong'):
        from_bytes(bytes(damaged))


@pytest.mark.parametrize('content, words', [
    (lambda good: b'', 'no safetensors file'), (lambda good: good[:5], 'no safetensors file'), (lambda good: good[:200], 'no safetensors file'),
    (lambda good: good[:-1], 'damaged or incomplete'), (lambda good: good + b'x', 'damaged or incomplete'),
    (lambda good: torch.rand(999).numpy().tobytes(), 'no safetensors file'), (lambda good: b'PK\x03\x04' + good, 'no safetensors file'),
    (lambda good: (1 << 62).to_bytes(8, 'little') + good[8:], 'no safetensors file'),
    (lambda good: (2 << 20).to_bytes(8, 'little') + b'{}'.ljust(2 << 20), 'its header has 2,097,152 bytes'),
    (lambda good: (9).to_bytes(8, 'little') + b'{"a": [1]', 'its header is not valid json'),
    (lambda good: (200_000).to_bytes(8, 'little') + b'{"a":' + b'[' * 199_995, 'its header is not valid json'),
    (lambda good: safetensors.torch.save({'w': torch.ones(3)}), 'no delta of this library'),
], ids=['nothing', 'start', 'header cut', 'end cut', 'more', 'noise', 'zip', 'endless', 'long header', 'no json', 'nested', 'other safetensors'])
def test_other_files_are_refused(content, words, good, tmp_path):
    path = tmp_path / 'x.safetensors'
    path.write_bytes(content(good))
    with pytest.raises(InputError, match=f'x.safetensors cannot be used: .*{words}'):
        read_delta(path)


def test_pipes_folders_and_giants_are_refused_unread(tmp_path):
    with pytest.raises(InputError, match='is a folder'):
        read_delta(tmp_path)
    with open(tmp_path / 'giant', 'wb') as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(InputError, match='far more than a delta needs'):
        read_delta(tmp_path / 'giant')
    if hasattr(os, 'mkfifo'):
        os.mkfifo(tmp_path / 'pipe')
        with pytest.raises(InputError, match='is a pipe'):
            read_delta(tmp_path / 'pipe')


def test_a_small_file_that_unfolds_to_a_giant_is_refused(good):
    def change(tensors, metadata):
        tensors.update({f'person.0.{part}': torch.ones(600, 1, 24, dtype=torch.float64) for part in ('photos', 'reach')})
        metadata['num_ws'] = '9999'
    with pytest.raises(InputError, match='far more numbers than a delta needs'):
        from_bytes(remade(good, change))


# ---- the commands ----

@pytest.mark.parametrize('separate', [True, False], ids=['three files', 'merged'])
def test_apply_writes_what_the_joint_edit_gives(family, separate, tmp_path):
    generator, people = erasures(family, photos=2)
    source, out, wanted = tmp_path / 'source.pkl', tmp_path / 'out.pkl', tmp_path / 'wanted.pkl'
    save_small(source, family, generator.network)
    pickle = read_network_pickle(source)
    before = source.read_bytes()
    files = [tmp_path / f'{k}.safetensors' for k in range(3)]
    for file, one in zip(files, people, strict=True):
        write_delta(file, delta_of(generator, [one], pickle.sha256()))
    if not separate:
        merged = tmp_path / 'merged.safetensors'
        assert run('merge', *files, f'--outfile={merged}').exit_code == 0
        files = [merged]
    done = run('apply', f'--network={source}', *(f'--delta={file}' for file in files), f'--outfile={out}')
    assert done.exit_code == 0 and '3 people erased' in done.output and 'audit tier T7' in done.output, done.output
    write_unlearned_pickle(pickle, wanted, weights_after(family, edit_of(people, generator.w_avg)))
    assert out.read_bytes() == wanted.read_bytes() != before == source.read_bytes()


def test_withdraw_then_apply(three, tmp_path):
    source, generator, people, files = three
    merged, rest, out = tmp_path / 'm.safetensors', tmp_path / 'r.safetensors', tmp_path / 'out.pkl'
    assert run('merge', *files, f'--outfile={merged}').exit_code == 0
    done = run('withdraw', merged, '--person=2', f'--outfile={rest}')
    assert done.exit_code == 0 and '2 people' in done.output and 'latents of the erased people' in done.output
    assert run('apply', f'--network={source}', f'--delta={rest}', f'--outfile={out}').exit_code == 0
    wanted = weights_after('stylegan2', edit_of([people[0], people[2]], generator.w_avg))
    assert_same(read_network_pickle(out).records['G_ema'].state_dict(), wanted)


def test_inspect_says_what_is_in_it_but_no_latent(three, tmp_path):
    source, generator, people, files = three
    merged = tmp_path / 'm.safetensors'
    run('merge', *files, f'--outfile={merged}')
    done = run('inspect', merged)
    said = json.loads(done.output)
    assert said == {
        'format': 'eg3d_unlearn.delta', 'format_version': '1', 'library_version': eg3d_unlearn.__version__, 'method': 'closed-form',
        'source_sha256': read_network_pickle(source).sha256(),
        'people': [{'person': k, 'photos': 1, 'latents': 'W'} for k in (1, 2, 3)],
        'ranks': [3], 'num_ws': 8, 'w_dim': 24, 'bytes': merged.stat().st_size, 'reveals': REVEALS}


def test_what_the_commands_refuse(three, tmp_path):
    source, generator, people, files = three
    out = tmp_path / 'out'
    other = save_small(tmp_path / 'other.pkl', 'stylegan2', small_generator('stylegan2', seed=1).network)
    text = refused('apply', f'--network={other}', f'--delta={files[0]}', f'--outfile={out}')
    assert read_network_pickle(source).sha256() in text and read_network_pickle(other).sha256() in text
    text = refused('apply', f'--network={source}', f'--delta={files[0]}', f'--delta={files[0]}', f'--outfile={out}')
    assert text.count('a.safetensors') == 2 and 'share a photo' in text
    assert 'exists and is not overwritten' in refused('apply', f'--network={source}', f'--delta={files[0]}', f'--outfile={source}')
    assert 'exists and is not overwritten' in refused('merge', *files, f'--outfile={files[0]}')
    assert 'exists and is not overwritten' in refused('withdraw', files[0], '--person=1', f'--outfile={files[0]}')
    assert 'at least two' in refused('merge', files[0], f'--outfile={out}')
    assert 'Nobody would be left' in refused('withdraw', files[0], '--person=1', f'--outfile={out}')
    assert 'no safetensors file' in refused('inspect', source)
    assert 'No such file' in refused('inspect', tmp_path / 'nothing')
    assert '--upstream' in refused('apply', f'--network={source}', f'--delta={files[0]}', f'--outfile={out}', '--trust-pickle')
    write_delta(tmp_path / 'wide', Delta(read_network_pickle(source).sha256(), torch.zeros(8, 3).double(), (
        Erasure(*(torch.ones(1, 8, 3).double(),) * 2, torch.ones(8, 3).double()),)))
    assert 'latents of [8, 3] numbers' in refused('apply', f'--network={source}', f'--delta={tmp_path / "wide"}', f'--outfile={out}')
    assert not out.exists()


def test_the_class_of_a_class_conditional_network_does_not_matter(tmp_path):
    kind, options = SMALL['stylegan2']
    from eg3d_unlearn.generators.build import build_network, wrap
    options = {**options, 'c_dim': 3}
    network = build_network(kind, options).requires_grad_(False)
    save_network_pickle(tmp_path / 'n.pkl', kind, options, network.state_dict())
    generator = wrap(network, 'stylegan2', class_label=2)
    ws = generator.map_seed(1)
    one = erasure(ws, ws[0] - generator.w_avg, generator.w_avg, population(generator, 256))
    write_delta(tmp_path / 'd', delta_of(generator, [one], read_network_pickle(tmp_path / 'n.pkl').sha256()))
    assert run('apply', f'--network={tmp_path / "n.pkl"}', f'--delta={tmp_path / "d"}', f'--outfile={tmp_path / "out.pkl"}').exit_code == 0
    fold(generator, edit_of([one], generator.w_avg))
    assert_same(read_network_pickle(tmp_path / 'out.pkl').records['G_ema'].state_dict(), network.state_dict())


@pytest.mark.parametrize('words', [[], ['apply'], ['merge'], ['withdraw'], ['inspect']])
def test_every_help_says_what_a_delta_shows(words):
    text = ' '.join(run(*words, '--help').output.split())
    assert 'whoever has the source network can show their faces' in text and 'audit tier T7' in text
