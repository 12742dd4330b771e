"""Bad input of every kind: the sentence that each gives, an exit code of 1 or 2, and nothing written or overwritten."""
from __future__ import annotations

import json
import os
import pickle

import numpy as np
import PIL.Image
import pytest
import torch
from click.testing import CliRunner
from small import SMALL, save_noise, save_small

from eg3d_unlearn.command import main
from torch_utils_ext.network_pickle import save_network_pickle


@pytest.fixture(scope='session')
def files(tmp_path_factory):
    """A folder of networks, photos and latents, good and bad."""
    folder = tmp_path_factory.mktemp('input')
    for family in SMALL:
        save_small(folder / f'{family}.pkl', family)
    from eg3d_unlearn.generators.build import build_network
    kwargs = {**SMALL['stylegan2'][1], 'c_dim': 3}
    save_network_pickle(folder / 'classes.pkl', SMALL['stylegan2'][0], kwargs, build_network(SMALL['stylegan2'][0], kwargs).state_dict())
    (folder / 'text.pkl').write_text('this is no network')
    (folder / 'empty.pkl').write_bytes(b'')
    (folder / 'cut.pkl').write_bytes((folder / 'stylegan2.pkl').read_bytes()[:5000])
    (folder / 'dict.pkl').write_bytes(pickle.dumps({'weights': [1, 2, 3]}))
    torch.save({'w': torch.zeros(3)}, folder / 'checkpoint.pkl')
    save_noise(folder / 'face.png')
    (folder / 'cut.png').write_bytes((folder / 'face.png').read_bytes()[:5000])
    PIL.Image.new('RGB', (1, 1)).save(folder / 'pixel.png')
    (folder / 'folder').mkdir()
    (folder / 'text.png').write_text('this is no picture')
    np.save(folder / 'good.npy', np.zeros((1, 24), np.float32) + 0.1)
    np.save(folder / 'wide.npy', np.zeros((1, 500), np.float32))
    np.save(folder / 'others.npy', np.zeros((2, 5, 24), np.float32))
    np.save(folder / 'nan.npy', np.full((24,), np.nan))
    np.save(folder / 'two_people.npy', np.zeros((2, 8, 24)))
    np.save(folder / 'objects.npy', np.array([{'a': 1}], dtype=object), allow_pickle=True)
    np.savez(folder / 'several.npz', a=np.zeros(24), b=np.zeros(24))
    (folder / 'text.npy').write_text('this is no latent')
    (folder / 'camera.json').write_text(json.dumps([1.0] * 24))
    (folder / 'script.pt').write_text('this is no TorchScript')
    return folder


def run(files, tmp_path, options: list[str]):
    """The command with ``options``, where a word like {eg3d.pkl} is a file of the folder."""
    words = [option.replace('{', f'{files}{os.sep}').replace('}', '') for option in options]
    if not any(word.startswith('--outdir') for word in words):
        words.append(f'--outdir={tmp_path / "out"}')
    return CliRunner().invoke(main, words)


SG2, EG3D, SEED = '--network={stylegan2.pkl}', '--network={eg3d.pkl}', '--latent-seed=1'
CHEAP = ['--random-metric-weights', '--lpips-net=squeeze', '--id-network=none', '--iters=2']

CASES = {
    # The network.
    'network not there': ([SEED, '--network={nowhere.pkl}'], 'nowhere.pkl'),
    'network is a folder': ([SEED, '--network={}'], 'folder|directory'),
    'network is text': ([SEED, '--network={text.pkl}'], 'text'),
    'network is empty': ([SEED, '--network={empty.pkl}'], 'empty'),
    'network is cut off': ([SEED, '--network={cut.pkl}'], 'cut|truncated|ends'),
    'network is some other pickle': ([SEED, '--network={dict.pkl}'], 'network'),
    'network is a torch checkpoint': ([SEED, '--network={checkpoint.pkl}'], 'torch'),
    'network from a server that is not there': ([SEED, '--network=http://127.0.0.1:9/a.pkl'], 'http://127.0.0.1:9/a.pkl'),
    'no network': ([SEED], "Missing option '--network'"),
    # The person.
    'nobody': ([SG2], 'exactly one of --image, --people, --latent and --latent-seed .got none'),
    'two ways of saying who': ([SG2, SEED, '--latent={good.npy}'], 'got --latent, --latent-seed'),
    'photo not there': ([SG2, '--image={nowhere.png}'], 'nowhere.png cannot be opened: No such file'),
    'no face in the photo': ([SG2, '--image={face.png}'], 'No face was found.*add --aligned'),
    'a face of no photo': ([SG2, SEED, '--face=2'], 'go with --image=FILE only'),
    'a face of an aligned photo': ([SG2, '--image={face.png}', '--face=1', '--aligned'], 'Leave one of them out'),
    'folder without a photo': ([SG2, '--image={folder}'], 'folder holds no photo'),
    'photos of a folder are bad': ([SG2, '--image={}'], '3 of 4 photos cannot.*cut.png is damaged.*pixel.png has.*text.png is not'),
    'photos without a face': ([SG2, '--image={face.png}', '--image={face.png}'], '2 of 2 photos cannot.*No face.*No face'),
    'photo is a folder of nothing': ([SG2, '--image={folder}', '--image={face.png}'], 'folder holds no photo'),
    'photo is a device': ([SG2, '--image=/dev/zero'], 'The photo /dev/zero is a device'),
    'a demo person and a photo': ([SG2, '--image=demo', '--image={face.png}'], 'it goes alone'),
    'one camera for two photos': ([EG3D, '--image={face.png}', '--image={face.png}', '--camera={camera.json}'], 'camera of one photo, and 2'),
    'the mean of one photo': ([SG2, '--image={face.png}', '--forget-from=mean'], 'Give --image more than once'),
    'unknown inversion': ([SG2, '--image={face.png}', '--inversion=encoder+z'], r"'encoder\+z' is not one of 'w', 'w\+', 'encoder', "),
    'an encoder nobody asked for': ([SG2, '--image={face.png}', '--encoder={text.pkl}'], 'uses no encoder'),
    'no encoder': ([SG2, '--image={face.png}', '--aligned', '--inversion=encoder'], 'Train one: python -m eg3d_unlearn.bench.train_encoder'),
    'encoder is text': ([SG2, '--image={face.png}', '--aligned', '--inversion=encoder', '--encoder={text.pkl}'], 'text.pkl'),
    'published encoder of another network': ([SG2, '--image={face.png}', '--inversion=e4e', '--encoder={text.pkl}'], 'is for'),
    'steps of an encoder alone': (['--network=demo-eg3d', '--image=demo', '--inversion-steps=50'], 'use --inversion=encoder.w'),
    'a mean without an encoder': ([SG2, '--image={face.png}', '--encoder-mean={good.npy}'], 'belongs to the published encoders'),
    'photo is no picture': ([SG2, '--image={text.png}'], 'not a picture'),
    'photo is cut off': ([SG2, '--image={cut.png}'], 'damaged'),
    'photo of one pixel': ([SG2, '--image={pixel.png}'], '1 x 1 pixels; at least 32'),
    'latent not there': ([SG2, '--latent={nowhere.npy}'], 'nowhere.npy is not there'),
    'latents of other layers': ([SG2, '--latent={others.npy}'], r'shape \[2, 5, 24\].*of several photos of one person \[photos, 8, 24\]'),
    'all of one latent': ([SG2, '--latent={good.npy}', '--forget-from=all'], 'good.npy holds one latent. Leave it out'),
    'latent of the wrong width': ([SG2, '--latent={wide.npy}'], r'shape \[1, 500\], but this network takes \[24\]'),
    'latent with NaN': ([SG2, '--latent={nan.npy}'], 'NaN'),
    'latents of two people': ([SG2, '--latent={two_people.npy}'], r'shape \[2, 8, 24\]: 2 latents.*--forget-from=all, or mean'),
    'latent that is a pickle': ([SG2, '--latent={objects.npy}'], 'holds a value of the type|asks for'),
    'latent file with several arrays': ([SG2, '--latent={several.npz}'], 'holds 2 arrays'),
    'latent is text': ([SG2, '--latent={text.npy}'], 'was not written by torch.save, numpy.save'),
    'camera of 24 numbers': ([EG3D, '--image={face.png}', '--camera={camera.json}'], '24 numbers. Expected 25'),
    'camera of words': ([EG3D, '--image={face.png}', '--camera=left'], 'not a list of numbers'),
    'camera without a photo': ([EG3D, SEED, '--camera={camera.json}'], 'camera of one photo, and 0'),
    'camera for a 2D network': ([SG2, '--image={face.png}', '--camera=' + ','.join(map(str, [
        1, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1, 2.7, 0, 0, 0, 1, 4.2647, 0, 0.5, 0, 4.2647, 0.5, 0, 0, 1]))], 'has no cameras'),
    'class missing': ([SEED, '--network={classes.pkl}'], '--class=0 to 2'),
    'class out of range': ([SEED, '--network={classes.pkl}', '--class=3'], 'outside the network'),
    'class for a network without': ([SG2, SEED, '--class=1'], 'no classes'),
    # The method.
    'typo in an option': ([SG2, SEED, '--lambda-lips=1'], 'No such option'),
    'negative weight': ([SG2, SEED, '--lambda-adj=-1'], 'not in the range'),
    'weight that is no number': ([SG2, SEED, '--lambda-adj=nan'], '--lambda-adj=nan is no usable number'),
    'infinite learning rate': ([SG2, SEED, '--lr=inf'], '--lr=inf is no usable number'),
    'all losses off': ([SG2, SEED, '--lambda-local=0', '--lambda-adj=0', '--lambda-global=0'], 'nothing to learn'),
    'only preserving': ([SG2, SEED, '--lambda-local=0', '--lambda-adj=0'], 'stay as it is'),
    'local loss without a term': ([SG2, SEED, '--lambda-l2=0', '--lambda-lpips=0', '--lambda-id=0'], 'no term'),
    'local loss of a recogniser that there is not': ([SG2, SEED, '--lambda-l2=0', '--lambda-lpips=0', '--id-network=none'], 'no term'),
    'raw losses on a 2D network': ([SG2, SEED, '--loss-resolution=raw'], 'loss-resolution=full'),
    'parameters that do not exist': ([SG2, SEED, '--trainable=synthesiss'], 'names no parameter'),
    'unknown target': ([SG2, SEED, '--target=median'], "not one of 'ufo', 'mean'"),
    'iterations of zero': ([SG2, SEED, '--iters=0'], 'not in the range'),
    # The machine.
    'no such device': ([SG2, SEED, '--device=toaster'], 'expected auto, cpu, cuda'),
    'half precision on a CPU': ([SG2, SEED, '--device=cpu', '--precision=fp16'], 'needs a CUDA GPU; this is cpu'),
    'outdir is a file': ([SG2, SEED, '--outdir={face.png}'], 'is a file'),
    'outdir inside a file': ([SG2, SEED, '--outdir={face.png}/out'], 'is a file|cannot'),
    # The judges and the checkout.
    'recogniser not there': ([SG2, SEED, *CHEAP[:2], '--id-network={nowhere.pt}'], 'nowhere.pt'),
    'recogniser is text': ([SG2, SEED, *CHEAP[:2], '--id-network={script.pt}'], 'TorchScript'),
    'LPIPS weights not there': ([SG2, SEED, '--lpips-weights={nowhere.pth}'], 'nowhere.pth'),
    'trusting without a checkout': ([SG2, SEED, '--trust-pickle'], '--upstream=DIR'),
    'a checkout that is none': ([SG2, SEED, *CHEAP, '--upstream={}'], '--upstream|checkout'),
}


@pytest.mark.parametrize('options, sentence', CASES.values(), ids=CASES)
def test_bad_input(files, tmp_path, options, sentence):
    before = {path.name: path.stat().st_mtime_ns for path in files.iterdir()}
    result = run(files, tmp_path, options)
    assert result.exit_code in (1, 2), (result.output, result.exception)
    assert isinstance(result.exception, SystemExit), result.exception
    import re
    flat = ' '.join(result.output.split())
    assert re.search(sentence, flat), flat
    assert not (tmp_path / 'out').exists()
    assert {path.name: path.stat().st_mtime_ns for path in files.iterdir()} == before


@pytest.mark.skipif(torch.cuda.is_available(), reason='this machine has a GPU; the case is one without')
def test_no_gpu_when_asked_for(files, tmp_path):
    result = run(files, tmp_path, [SG2, SEED, '--device=cuda'])
    assert result.exit_code == 1 and 'sees no CUDA GPU' in result.output and '--device=cpu' in result.output


def test_missing_weights_without_a_network(files, tmp_path, monkeypatch):
    monkeypatch.setenv('EG3D_UNLEARN_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'hub'))
    for name in ('http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY'):
        monkeypatch.setenv(name, 'http://127.0.0.1:9')
    result = run(files, tmp_path, [SG2, SEED, '--method=guide'])
    flat = ' '.join(result.output.split())
    assert result.exit_code == 1 and 'https://download.pytorch.org/models/vgg16-397923af.pth' in flat and str(tmp_path / 'cache') in flat
    result = run(files, tmp_path, [SG2, SEED, '--random-metric-weights', '--lpips-net=squeeze', '--id-network=nobody'])
    assert result.exit_code == 1 and 'nobody' in result.output


def test_an_outdir_that_cannot_be_written(files, tmp_path, monkeypatch):
    monkeypatch.setattr(os, 'access', lambda path, mode: False)   # root may write anywhere, so permissions are pretended
    result = run(files, tmp_path, [SG2, SEED])
    assert result.exit_code == 1 and 'no permission' in result.output


def test_a_full_disk_while_writing_the_network(files, tmp_path, monkeypatch):
    import errno

    from torch_utils_ext import network_patch

    def full(original, copy):
        copy.write(b'some bytes')
        raise OSError(errno.ENOSPC, 'No space left on device')
    monkeypatch.setattr(network_patch, '_copy', full)
    result = run(files, tmp_path, [SG2, SEED, *CHEAP])
    assert result.exit_code == 1 and 'No space left on device' in result.output
    left = sorted(name for name in os.listdir(tmp_path / 'out') if not name.startswith('events.out'))    # TensorBoard's, where it is installed
    assert left == ['.lock', 'log.txt', 'stats.jsonl', 'training-state.pt', 'training_options.json']
    monkeypatch.undo()               # space was made: the same command finishes
    assert run(files, tmp_path, [SG2, SEED, *CHEAP]).exit_code == 0
    assert 'network-unlearned.pkl' in os.listdir(tmp_path / 'out')


@pytest.mark.parametrize('error', [torch.cuda.OutOfMemoryError('CUDA out of memory'), MemoryError(),
                                   RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")])
def test_out_of_memory_halves_the_batch_and_then_gives_up(files, tmp_path, monkeypatch, error):
    from eg3d_unlearn.unlearning import loss
    sizes = []

    def too_much(self, step):
        sizes.append(self.batch)
        raise error
    monkeypatch.setattr(loss.UnlearningLoss, 'accumulate_gradients', too_much)
    result = run(files, tmp_path, [SG2, SEED, *CHEAP, '--batch=4'])
    assert result.exit_code == 1 and 'out of memory with one latent' in ' '.join(result.output.split()) and sizes == [4, 2, 1]


def test_a_loss_that_is_no_number_stops_with_the_last_good_state(files, tmp_path, monkeypatch):
    from eg3d_unlearn.unlearning import loss
    real = loss.UnlearningLoss.accumulate_gradients

    def breaks(self, step):
        terms = real(self, step)
        return {**terms, 'loss': float('nan')} if step == 3 else terms
    monkeypatch.setattr(loss.UnlearningLoss, 'accumulate_gradients', breaks)
    options = [SG2, SEED, *CHEAP[:-1], '--iters=6', '--snap=2']
    result = run(files, tmp_path, options)
    assert result.exit_code == 1 and 'became nan at step 4' in result.output and 'state of step 2 is kept' in ' '.join(result.output.split())
    assert torch.load(tmp_path / 'out' / 'training-state.pt', weights_only=True)['step'] == 2
    assert not (tmp_path / 'out' / 'network-unlearned.pkl').exists()


def test_a_diverging_loss_stops(files, tmp_path, monkeypatch):
    from eg3d_unlearn.unlearning import loss
    real = loss.UnlearningLoss.accumulate_gradients
    monkeypatch.setattr(loss.UnlearningLoss, 'accumulate_gradients', lambda self, step: {**real(self, step), 'loss': 1.0 if step < 11 else 99.0})
    result = run(files, tmp_path, [SG2, SEED, *CHEAP[:-1], '--iters=14'])
    assert result.exit_code == 1 and 'The loss grew from 1 to 99 by step 12' in result.output


def test_finished_and_foreign_folders_are_not_overwritten(files, tmp_path):
    assert run(files, tmp_path, [SG2, SEED, *CHEAP]).exit_code == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / 'out').iterdir()}
    again = run(files, tmp_path, [SG2, SEED, *CHEAP])
    assert again.exit_code == 1 and 'finished run' in again.output
    (tmp_path / 'out' / 'report.json').unlink()      # as if it had been killed at its last moment
    other = run(files, tmp_path, [SG2, SEED, *CHEAP, '--lr=0.5'])
    assert other.exit_code == 1 and 'other options' in other.output and 'lr: 0.0001 then, 0.5 now' in ' '.join(other.output.split())
    del before['report.json']
    assert {path.name: path.read_bytes() for path in (tmp_path / 'out').iterdir()} == before


def test_a_dry_run_prints_the_options_and_writes_nothing(files, tmp_path):
    result = run(files, tmp_path, [SG2, SEED, '--method=baseline', '--iters=5', '-n'])
    options = json.loads(result.output)
    assert result.exit_code == 0 and options['target'] == 'mean' and options['lambda_adj'] == 0 and options['iters'] == 5
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('options, sentence', [
    (['--image={face.png}', '--aligned'], None), (['--image={gone.png}', '--aligned'], 'gone'), (['--latent={face.png}'], 'latent'),
    (['--latent-seed=1', '--trainable=nothing'], 'nothing'), (['--latent-seed=1', '--lpips-weights={gone.png}'], 'is not a file')])
def test_a_dry_run_checks_the_files_and_resolves_everything(files, tmp_path, options, sentence):
    """As a run does; only judges that would have to be fetched are not, but said."""
    result = run(files, tmp_path, [SG2, *options, '-n'])
    assert not (tmp_path / 'out').exists() and (result.exit_code == 0) == (sentence is None)
    if sentence is not None:
        assert sentence in result.output and result.output.startswith('Error: ')
        return
    told = json.loads(result.output)
    assert told['target_d'] > 0 and told['alpha_max'] > 0 and told['lpips_net'] == 'vgg' and told['report'] == 'brief'
    assert any('This takes about' in line for line in told['dry_run'])
