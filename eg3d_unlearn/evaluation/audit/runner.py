"""An audit from its first tier to audit.json; each tier is kept as soon as it is done, so that a stopped audit goes on."""
from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import secrets
import time
from pathlib import Path
from typing import Callable

from torch import Tensor

from eg3d_unlearn import machine
from eg3d_unlearn.config import Config
from eg3d_unlearn.evaluation import audit as package
from eg3d_unlearn.evaluation import cache
from eg3d_unlearn.evaluation.audit import TIERS
from eg3d_unlearn.evaluation.audit.budget import Budget
from eg3d_unlearn.evaluation.audit.context import Audit
from eg3d_unlearn.evaluation.audit.scores import AFTER, BEFORE, figures
from eg3d_unlearn.evaluation.audit.sentences import back
from eg3d_unlearn.evaluation.audit.tier import Findings, Tier
from eg3d_unlearn.evaluation.audit.utility import measure_utility
from eg3d_unlearn.evaluation.audit.verdict import overall
from eg3d_unlearn.evaluation.evidence import Evidence
from eg3d_unlearn.evaluation.pictures import photograph
from eg3d_unlearn.evaluation.summary import MEANINGLESS
from eg3d_unlearn.generators.precision import arithmetic
from eg3d_unlearn.judges.verification import FALSE_ACCEPTS
from eg3d_unlearn.person.given import names_of
from eg3d_unlearn.person.latents import digest
from eg3d_unlearn.run_folder import OPTIONS, RunFolder, refuse_foreign_files
from eg3d_unlearn.unlearning.presets import resolve
from torch_utils_ext.errors import InputError
from torch_utils_ext.user_files import read_json, shown

AUDIT, BEGUN, PART = 'audit.json', 'audit-begun.json', 'audit-{}.json'
FACE = 256                           # pixels along each side of the picture of a person who came back
UTILITY = 'ruin'                     # of audit.json: what became of other people; kept beside the tiers
# Of the configuration: what changes no figure, and what the fingerprint has by its content.
LEFT_OUT = ('network', 'outdir', 'image', 'latent', 'latent_seed', 'device', 'batch', 'snap', 'upstream', 'keep_source', 'report',
            'trust_file')


class AuditFolder(RunFolder):
    """``--outdir``: what each tier found until all are done, then audit.json."""

    def __init__(self, path: str | Path):
        super().__init__(path, last=AUDIT)

    def refuse_finished(self) -> None:
        """Refuse a folder that holds a finished audit, or somebody else's files; nothing is written."""
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f'--outdir={self.path} is a file. Name a folder.')
        if (self / AUDIT).exists():
            raise InputError(f'--outdir={self.path} holds a finished audit, which is not overwritten. Choose another folder, or delete '
                             f'{self / AUDIT}.')
        refuse_foreign_files(self.path, '--outdir', [BEGUN, OPTIONS])    # an audit may lie in the run's own folder

    def salt(self) -> str:
        """Of the mark of the person: that of an audit that was begun here, else a new one."""
        salt = (self.read(BEGUN) or {}).get('salt', secrets.token_hex(16))
        if not isinstance(salt, str) or not re.fullmatch('(?:[0-9a-f]{2}){1,64}', salt):
            raise InputError(f'{self / BEGUN} is damaged. Choose another --outdir, or delete that folder and start again.')
        return salt

    def begin_or_go_on(self, options: dict) -> None:
        """Refuse a folder that was begun with other options."""
        self.clean(state=False)
        begun = self.read(BEGUN)
        if begun is None:
            self.write(BEGUN, options)
        elif changed := [name for name in options if begun.get(name) != options[name]]:
            raise InputError(f'--outdir={self.path} was begun with another {changed[0]}. Run the same command to go on, or choose another '
                             'folder.')

    def read(self, name: str) -> dict | None:
        """A file's content; None where it is not there."""
        if not (self / name).exists():
            return None
        try:
            return read_json(self / name, 'part of the audit', dict)
        except InputError as error:
            raise InputError(f'{error} Delete it and run the same command again.') from None

    def write(self, name: str, content: dict) -> None:
        json.dumps(content, allow_nan=False)     # a figure that is no number is a mistake
        self.write_json(name, content)

    def read_or_make(self, key: str, make: Callable[[], dict], log: Callable[[str], None]) -> dict:
        """A part of the audit: as it was kept, or made and kept."""
        name = PART.format(key)
        if (found := self.read(name)) is not None:
            check_part(found, key, self / name)
            log(f'{key} was done before.')
            return found
        begun = time.perf_counter()
        made = make()
        made['seconds'] = round(time.perf_counter() - begun, 1)
        self.write(name, made)
        return made

    def finish(self, content: dict) -> None:
        """Write audit.json; the parts, which it holds, go."""
        self.write(AUDIT, content)
        for part in [BEGUN, *(PART.format(key) for key in (*TIERS, UTILITY))]:
            (self / part).unlink(missing_ok=True)


def run_audit(
    evidence: Evidence,
    budget: Budget,
    outdir: str | Path,
    tiers: list[str] | None = None,  # keys of `TIERS`; None = all
    controls: str | None = None,     # folder with a subfolder of photos for each control person; None = by the world
    seed: int = 0,
    log: Callable[[str], None] = print,
) -> dict:
    """Make all attacks and return what audit.json holds; begun tiers that are done are not done again.

    Raises:
        InputError: no recogniser, controls that cannot do, a folder of another audit.
    """
    begun = time.perf_counter()
    audit = Audit(evidence, budget, controls, seed)
    keys = [key for key in TIERS if tiers is None or key in tiers]
    folder = AuditFolder(outdir)
    folder.refuse_finished()
    with folder.locked(), arithmetic(evidence.config.precision, evidence.device):
        folder.refuse_finished()     # once more: another audit may have ended here meanwhile
        folder.begin_or_go_on(fingerprint(evidence, budget, controls, seed, folder.salt()))
        utility = folder.read_or_make(UTILITY, lambda: measure_utility(audit), log)
        log(utility['verdict'])
        results = []
        for key in keys:
            # One picture is enough: that of the attack that needs least.
            shows = not any('recovered' in result for result in results)
            results.append(folder.read_or_make(key, lambda key=key, shows=shows: run_tier(audit, TIERS[key], shows), log))
            log(f'{key}: {results[-1]["verdict"]}')
        content = assembled(audit, utility, results)
        # Of all sittings, where the audit went on after a stop.
        content['seconds'] = round(max(time.perf_counter() - begun, sum(part['seconds'] for part in (utility, *results))), 1)
        folder.finish(content)
    return content


def check_part(part: dict, key: str, path: Path) -> None:
    """Refuse a part of an audit from which audit.json could not be made: it was damaged, or is another program's."""
    try:
        if key == UTILITY:
            overall(part, [])
        else:
            overall({'verdict': '', 'state': ''}, [part])
            back(part)               # which every entry that this package writes has
        json.dumps(part, allow_nan=False, ensure_ascii=False).encode()
        if not part['verdict'].isprintable() or not 0 <= part['seconds'] < 1e9 or part.get('tier', UTILITY) != key:
            raise ValueError
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError):
        raise InputError(f'{shown(path, 300)} is no part of this audit, or is damaged. Delete it and run the same command again.') from None


def run_tier(audit: Audit, tier: Tier, shows: bool = True) -> dict:
    """One tier's entry of audit.json; ``shows``: with a picture where the person is brought back."""
    findings = tier.attack(audit, audit.budget.of(tier))
    name = audit.evidence.measuring[0]
    result = {
        'tier': tier.key, 'title': tier.title, 'attacker': tier.attacker, 'figures': figures_of(audit, findings, name),
        'curve': findings.curve,
        'details': {**findings.details, 'verification': figures_of(audit, findings, name, verified=True),
                    'recognisers': {other: figures_of(audit, findings, other) for other in audit.evidence.recognisers},
                    'changes': changes(findings, name)},
    }
    if shows and findings.best is not None and tier.back(result) is not False:
        result |= recovered(*findings.best, audit.threshold)
    return {**result, 'verdict': tier.say(result)}


def recovered(image: Tensor, likeness: float, threshold: float) -> dict:  # [3, H, W] in -1 to 1
    """The picture of a person who came back, as a small JPEG in the tier's entry; nothing where it is not the person."""
    if not likeness >= threshold:
        return {}
    return {'recovered': {'likeness': round(likeness, 4), 'picture': photograph(image.nan_to_num(0.0).clamp(-1, 1), FACE).uri}}


def figures_of(audit: Audit, findings: Findings, recogniser: str, verified: bool = False) -> dict:
    """The figures of a tier: of cosines or, ``verified``, of the share of comparisons at or above the threshold."""
    before, after = ([hits(scores[recogniser], audit.threshold) if verified else scores[recogniser] for scores in findings.scores[side]]
                     for side in (BEFORE, AFTER))
    return {name: figure.to_json() for name, figure in figures(before, after, audit.seed, least=0.0 if verified else -1.0).items()}


def hits(cells, threshold: float):                     # [A, N] -> [A, N] of 0 and 1; NaN stays
    return (cells >= threshold).to(cells.dtype).masked_fill(cells.isnan(), float('nan'))


def changes(findings: Findings, recogniser: str) -> dict:
    """after - before of the person and of each control: whether the person lies outside what controls do by themselves."""
    each = [round((after[recogniser] - before[recogniser]).nanmean().item(), 4)
            for before, after in zip(findings.scores[BEFORE], findings.scores[AFTER], strict=True)]
    return {'person': each[0], 'controls': each[1:]}


def fingerprint(evidence: Evidence, budget: Budget, controls: str | None, seed: int, salt: str) -> dict:
    """What an interrupted audit must have in common with the command that goes on with it; deleted at the end.

    The person's mark is salted and slow to make: seeds are few enough to try them all.
    """
    config = evidence.config
    # Only what was given: an audit goes on with a package that has gained an option since.
    usual = resolve(Config(network=config.network, outdir=config.outdir, method=config.method),
                    evidence.world, evidence.g_s.family)
    options = {name: value for name, value in dataclasses.asdict(config).items()
               if name not in LEFT_OUT and value != getattr(usual, name)}
    who = digest(config.person_kind, names_of(config))
    return {'budget': budget.name, 'seed': seed, **{f'network {side}': mark for side, mark in marks(evidence).items()}, 'salt': salt,
            'person': hashlib.scrypt(who.encode(), salt=bytes.fromhex(salt), n=2**14, r=8, p=1).hex(), 'controls': controls,
            'inversion': config.inversion,
            'recogniser': list(evidence.recognisers), 'precision': config.precision,
            'set of options': hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()}


def marks(evidence: Evidence) -> dict[str, str]:
    """Checksums of both networks: of their files, or of what is in memory where there are none."""
    sides = ((BEFORE, evidence.before, evidence.g_s), (AFTER, evidence.after, evidence.g_u))
    return {name: cache.fingerprint(generator) if pickle is None else pickle.sha256() for name, pickle, generator in sides}


def assembled(audit: Audit, utility: dict, results: list[dict]) -> dict:
    """audit.json."""
    evidence = audit.evidence
    return {
        **({'MEANING': MEANINGLESS} if evidence.config.random_metric_weights else {}),
        'budget': audit.budget.name, 'steps': audit.budget.describe(TIERS.values()), 'seed': audit.seed,
        'networks': marks(evidence),
        'person': {'photos': len(audit.subjects[0].images), 'given_as': evidence.config.person_kind},
        'controls': len(audit.subjects) - 1, 'controls_are': audit.kind_of_controls,
        'attacked_photo_counts': not audit.leaves_out, 'measured_by': evidence.measuring[0], 'trained_with': evidence.trained_with,
        'threshold': {'cosine': round(audit.threshold, 4), 'false_accept_rate': FALSE_ACCEPTS,
                      'impostor_pairs': audit.impostors.pairs},
        'definition': package.__doc__.split('What the figures mean\n')[1],
        'verdict': [*overall(utility, results), *(f'{result["tier"]}: {result["verdict"]}' for result in results)],
        UTILITY: utility, 'tiers': results, 'not_run': [key for key in TIERS if key not in {result['tier'] for result in results}],
        'config': evidence.config.to_json(), 'versions': machine.versions(), 'hardware': machine.hardware(evidence.device),
        'peak_memory': machine.peak_memory(evidence.device),
    }
