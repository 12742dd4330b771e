"""What an option is: one field of a dataclass, from which the command line, its help and its checks are made."""
from __future__ import annotations

import dataclasses
from dataclasses import MISSING, dataclass
from typing import Any

import click

from eg3d_unlearn import console

NUMBERS = {click.types.IntParamType: 'INT', click.types.FloatParamType: 'FLOAT'}


@dataclass(frozen=True)
class About:
    """What the field of an option carries beside its name, its type and its default."""
    kind: click.ParamType | None     # range, choices or what is named; None: a flag
    help: str
    unit: str = ''                   # of a number
    metavar: str | None = None       # what the help calls the value; numbers have theirs
    flag: str | None = None          # None: --name-of-the-field
    default_is: str = ''             # in words, where the default depends on something
    published: Any = None            # its value in GUIDE as published, which a method or a network may change
    common: bool = False             # most people need it: --help shows it, --help-all the others as well
    private: bool = False            # it says who the person is: not recorded unless --keep-source asks for it
    evaluate: bool | str | tuple[str, str] = False   # the commands of evaluate.py take it, too; strings: their words for it and for its default
    of_run: bool = False             # evaluate.py report takes it from the run, where its user says nothing
    needs: tuple[str, ...] = ()      # what it has no effect without: another option, or what `refuse_unused` is asked for


def option(
    kind: click.ParamType | None,
    default: Any = None,             # `MISSING`: it must be given
    **about,                         # of `About`
) -> Any:
    """A field that is an option."""
    metadata = {'about': About(kind, **about)}
    return dataclasses.field(metadata=metadata) if default is MISSING else dataclasses.field(default=default, metadata=metadata)


def flag(**about) -> Any:
    """A field that is a switch, off unless it is given."""
    return option(None, False, **about)


def about(field: dataclasses.Field) -> About:
    return field.metadata['about']


def flag_of(field: dataclasses.Field) -> str:
    """How an option is written on the command line."""
    return about(field).flag or '--' + field.name.replace('_', '-')


def own_fields(group: type) -> list[dataclasses.Field]:
    """The fields of a dataclass that are not those of its bases."""
    inherited = {field.name for base in group.__bases__ if dataclasses.is_dataclass(base) for field in dataclasses.fields(base)}
    return [field for field in dataclasses.fields(group) if field.name not in inherited]


def click_option(
    field: dataclasses.Field,
    group: str,                      # title of its section in the help
    evaluate: bool = False,          # in the words of evaluate.py
    **changes,                       # of `click.option`, for a command that takes the option in its own way
):
    """The field as an option of a click command: a decorator."""
    this = about(field)
    text, in_words = this.help, this.default_is or ('' if this.published is None else f'by --method; guide {this.published}')
    if evaluate and not isinstance(this.evaluate, bool):
        text, in_words = (this.evaluate, in_words) if isinstance(this.evaluate, str) else this.evaluate
    if this.unit:
        text = f'{text.removesuffix(".")} [{this.unit}].'
    is_given = {'required': True} if field.default is MISSING else {'default': None if in_words else field.default}
    number = next((name for kind, name in NUMBERS.items() if isinstance(this.kind, kind)), None)
    value = {'type': this.kind, 'metavar': this.metavar or number, 'multiple': field.default == (), **is_given}
    shown = True if 'default' in changes else in_words or field.default not in (None, (), MISSING, '')
    settings = {'help': text, 'group': group, 'common': this.common, 'show_default': shown,
                **({'is_flag': True, 'show_default': False} if this.kind is None else value), **changes}
    return click.option(flag_of(field), field.name, cls=console.Option, **settings)
