"""People as the state of a run holds them until it ends, so that a run that was stopped goes on with the same latents."""
from __future__ import annotations

from typing import Callable

from eg3d_unlearn.config import CLOSED, Config
from eg3d_unlearn.generators.generator import Generator
from eg3d_unlearn.generators.precision import arithmetic
from eg3d_unlearn.judges.judges import Judges
from eg3d_unlearn.person.given import each_person, names_of
from eg3d_unlearn.person.latents import digest
from eg3d_unlearn.person.person import Person, find_person, latents_kept
from eg3d_unlearn.run_folder import RunFolder
from torch_utils_ext.errors import InputError

# What a saved state holds of the person until the run ends.
KEPT = ('person', 'ws_source', 'notes', 'ws_others', 'ws_strangers', 'cameras', 'camera', 'ws_mirrored', 'more', 'ws_kept')


def find_once(folder: RunFolder, config: Config, generator: Generator, judges: Judges) -> tuple[dict, list[Person] | None]:
    """The people as the folder's state holds them until the run ends, and as they were found: None for a resumed run."""
    state, who = folder.load_state(), digest(config.person_kind, names_of(config))
    if state is not None:
        if not all(name in state for name in KEPT):
            raise folder.damaged('something is missing')
        if state['person'] != who:
            raise InputError(f'--outdir={folder.path} was begun for another person. Choose another folder.')
        return state, None
    with arithmetic(config.precision, generator.device):
        found = find_each(config, generator, judges, folder.log)
        ws_kept = latents_kept(config, generator, judges, folder.log) if config.method in CLOSED else None
    state = {'step': 0, 'person': who, **kept_of(found[0]), 'more': [kept_of(one) for one in found[1:]], 'ws_kept': ws_kept}
    folder.save_state(state)
    return state, found


def find_each(config: Config, generator: Generator, judges: Judges, log: Callable[[str], None]) -> list[Person]:
    """Everybody who is to be forgotten."""
    each, found = each_person(config), []
    for number, one in enumerate(each, 1):
        if len(each) > 1:
            log(f'Person {number} of {len(each)}.')
        found.append(find_person(one, generator, judges, log))
    return found


def kept_of(person: Person) -> dict:
    """What a saved state holds of a person."""
    return {'ws_source': person.ws, 'notes': person.notes, 'ws_others': person.ws_others, 'ws_strangers': person.ws_strangers,
            'cameras': person.cameras, 'camera': person.camera, 'ws_mirrored': person.ws_mirrored}
