"""What an audit says before it comes to the tiers: whether the network was ruined, and whether anything was erased at all."""
from __future__ import annotations

from eg3d_unlearn.evaluation.audit import TIERS
from eg3d_unlearn.evaluation.audit.scores import holds_zero
from eg3d_unlearn.evaluation.audit.sentences import back


def overall(utility: dict, tiers: list[dict]) -> list[str]:
    """The sentences; ``utility`` and ``tiers`` are entries of audit.json."""
    said = [utility['verdict']]
    if not tiers:
        return said
    ruined, different = utility['state'] == 'ruined', [tier['tier'] for tier in tiers if differs(tier)]
    telling = [tier for tier in tiers if TIERS[tier['tier']].telling and back(tier, 'before') is True]
    if different:
        said.append(f'In {len(different)} of {len(tiers)} tiers ({", ".join(different)}) the person differs from people whom nobody asked to '
                    'forget by more than the interval.')
    elif telling and ruined:
        said.append('Nothing was erased in particular: the person is lost as much as everybody else, in every tier.')
    elif telling and all(back(tier) is True for tier in telling):
        said.append(f'Nothing was erased that this audit can see: by {", ".join(tier["tier"] for tier in telling)} the person comes back as '
                    'well as people whom nobody asked to forget.')
    else:
        count = 'the one tier that was run' if len(tiers) == 1 else f'all {len(tiers)} tiers that were run'
        said.append(f'No difference between the person and people whom nobody asked to forget was shown, in {count}; this does not say that '
                    'nothing was erased.')
    for_the_person = [tier for tier in tiers if TIERS[tier['tier']].exposed_by is None]
    told = {answer: [tier['tier'] for tier in for_the_person if TIERS[tier['tier']].back(tier) is answer] for answer in (True, None, False)}
    if any(told.values()) and not ruined:
        said.append('The person is ' + '; '.join(f'{words} {", ".join(told[answer])}' for answer, words in (
            (True, 'brought back by'), (None, 'brought back at times by'), (False, 'not brought back by')) if told[answer]) + '.')
    for tier in tiers:
        exposed_by = TIERS[tier['tier']].exposed_by
        if exposed_by is not None and (ways := exposed_by(tier)):
            said.append(f'Who was erased can be found out ({tier["tier"]}): the person comes first of all candidates by {" and ".join(ways)}.')
    return said


def differs(tier: dict) -> bool:
    """Whether the person comes out otherwise than controls.  Who looks for anybody can find the person more easily, not less."""
    excess = tier['figures']['excess']
    return not holds_zero(excess) if TIERS[tier['tier']].exposed_by is None else excess['low'] > 0
