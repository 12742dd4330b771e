"""Sentences, composed from figures as they stand in audit.json; how strong they are follows the intervals."""
from __future__ import annotations

from eg3d_unlearn.evaluation.audit.scores import holds_zero
from eg3d_unlearn.evaluation.estimate import majority, stands_first
from torch_utils_ext.user_files import dict_at, is_number

# On a network that knows the person these attacks show them; where all that do so on G_s do so on G_u, nothing is gone.
TELLING = ('T0', 'T1', 'T2', 'T5', 'T8')
NO_LOCK = 'No edit of a generator can stop this: who has the weights can teach them any face.'


def number(value: float) -> str:
    """Two decimals; more where they would hide on which side of 0 a value lies."""
    return f'{value:.2f}' if abs(value) >= 0.005 else f'{value:.3f}' if abs(value) >= 0.0005 else '0.00'


def interval(given: dict) -> str:
    if given.get('samples') == 1:    # one sample knows nothing of its spread
        return number(given['value'])
    return f'{number(given["value"])} [{number(given["low"])}, {number(given["high"])}]'


def compared(figures: dict) -> str:
    """The person beside the controls."""
    excess = figures['excess']
    if holds_zero(excess):
        return f'no difference from controls that this sample can show (excess {interval(excess)})'
    if excess['high'] < 0:
        return f'the person is harder to get back than a control (excess {interval(excess)})'
    return f'the person is easier to get back than a control (excess {interval(excess)})'


def cosines(figures: dict) -> str:
    """The four means in a row."""
    return (f'identity cosine {number(figures["after"]["value"])} to the person\'s photos, {number(figures["before"]["value"])} on G_s '
            f'(controls {number(figures["controls"]["value"])}, {number(figures["controls_before"]["value"])} on G_s)')


def recognised(result: dict) -> str:
    """In how many comparisons the recogniser takes what the attack shows for the person."""
    rates = result['details']['verification']
    return f'recognised in {percent(rates["after"])} of comparisons (before {percent(rates["before"])}, controls {percent(rates["controls"])})'


def percent(given: dict) -> str:
    return f'{100 * given["value"]:.0f} %'


def usual(result: dict, opening: str) -> str:
    """The sentence of a tier that has no more to say than its figures; ``opening`` is its subject."""
    shows = {True: 'brings the person back', False: 'does not bring the person back', None: 'brings the person back at times'}[back(result)]
    if back(result) is False and back(result, 'before') is False:
        shows += ', nor does it on G_s'
    return f'{opening} {shows}: {cosines(result["figures"])}, {recognised(result)}; {compared(result["figures"])}.'


def back(result: dict, side: str = 'after') -> bool | None:
    """Whether most of what the attack shows is taken for the person; None where the interval leaves it open."""
    return majority(result['details']['verification'][side])


def steps(count: float | None, most: int) -> str:
    """A number of steps, or that they did not do."""
    return f'not within {most} steps' if count is None else 'from the start' if count == 0 else f'in {count:g} step{"s" * (count != 1)}'


def overall(ruin: dict, tiers: list[dict]) -> list[str]:
    """What comes before the tiers: whether the network was destroyed, and whether anything was erased at all."""
    said = [ruin['verdict']]
    if not tiers:
        return said
    ruined, different = ruin['state'] == 'ruined', [tier['tier'] for tier in tiers if differs(tier)]
    telling = [tier for tier in tiers if tier['tier'] in TELLING and back(tier, 'before') is True]
    if different:
        said.append(f'In {len(different)} of {len(tiers)} tiers ({", ".join(different)}) the person differs from people whom nobody asked to '
                    'forget by more than the interval.')
    elif telling and ruined:
        said.append('Nothing was erased in particular: the person is lost as much as everybody else, in every tier.')
    elif telling and all(back(tier) is True for tier in telling):
        said.append(f'Nothing was erased that this audit can see: by {", ".join(tier["tier"] for tier in telling)} the person comes back as '
                    'well as people whom nobody asked to forget.')
    else:
        said.append(f'No difference between the person and people whom nobody asked to forget was shown, in {all_of(len(tiers))}; this does '
                    'not say that nothing was erased.')
    told = {answer: [tier['tier'] for tier in tiers if tier['tier'] != 'T7' and brought_back(tier) is answer] for answer in (True, None, False)}
    if any(told.values()) and not ruined:
        said.append('The person is ' + '; '.join(f'{words} {", ".join(told[answer])}' for answer, words in (
            (True, 'brought back by'), (None, 'brought back at times by'), (False, 'not brought back by')) if told[answer]) + '.')
    if ways := found_out(tiers):
        said.append(f'Who was erased can be found out (T7): the person comes first of all candidates by {" and ".join(ways)}.')
    return said


def found_out(tiers: list[dict]) -> list[str]:
    """By which ways of looking (T7) the person is the most suspect of all candidates, where these are too many for chance.

    Like `brought_back` for entries of an audit.json of any version, in which parts may be missing.
    """
    details = next((dict_at(tier, 'details') for tier in tiers if tier.get('tier') == 'T7'), {})
    first, candidates = {way: dict_at(details, 'ranks', way).get('person') for way in dict_at(details, 'ranks')}, details.get('candidates')
    return [way for way, rank in first.items() if is_number(rank) and is_number(candidates) and stands_first(rank, candidates)]


def brought_back(tier: dict) -> bool | None:
    """`back`; relearning (T4) also brings back who is recognised at the latent that was erased, not at the mean latent alone."""
    details = dict_at(tier, 'details')
    if (dict_at(details, 'erased_latent').get('steps') or {}).get('person') is not None:
        return True
    share = (details.get('verification') or {}).get('after') or {}
    return majority(share) if is_number(share.get('low')) and is_number(share.get('high')) else False


def differs(tier: dict) -> bool:
    """Whether the person comes out otherwise than controls.  Who looks for anybody (T7) can find the person more easily, not less."""
    excess = tier['figures']['excess']
    return excess['low'] > 0 if tier['tier'] == 'T7' else not holds_zero(excess)


def all_of(count: int) -> str:
    return 'the one tier that was run' if count == 1 else f'all {count} tiers that were run'
