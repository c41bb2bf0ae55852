"""jsonargparse's messages retell every type that was tried; here they become one line: key, fault, nearest name."""

import inspect
import json
import re
from collections.abc import Iterator
from functools import partial
from pkgutil import resolve_name
from textwrap import shorten
from typing import Any, get_args

from jsonargparse import ArgumentParser
from lightning.pytorch import LightningDataModule

from lightning_rnnattn.arguments import class_arguments, parser_arguments
from lightning_rnnattn.cli.errors import nearest, subclass_names
from lightning_rnnattn.spec import spec

CALLABLE = "expects a function or a callable class: "

# The earliest of these in a message is its innermost reason; what stands before it says which key it is about.
REASONS = {
    "option": r"Option '(?P<name>[\w.]+)' is not accepted|does not accept option '(?P<key>[\w.]+)'"
    r"|unrecognized arguments: --(?P<flag>[^\s=]+)",
    "required": r"the following arguments are required: (?:\w+\.)?(?P<name>[\w.]+)"
    r"|Option '(?P<key>[\w.]+)' is required",
    "class": r"Expected a dot import path string: (?P<name>.+?)(?=\. Got value|$)"
    r"|Unexpected import path format: (?P<path>\S+)"
    r"|(?P<absent>No module named '[^']+'|module '[^']+' has no attribute '[^']+')"
    r"|Expected an instantiatable class, (?P<abstract>but is abstract)"
    r"|Expected an instantiatable class, but (?P<nameless>[\w.]+) is abstract"
    r"|Not a valid subclass of (?P<base>\w+)"
    r"|Import path does not correspond|Expected '[\w.]+' to be a subclass",
    "ambiguous": r"Multiple subclasses with name (?P<name>\w+)\. Give the full class path to avoid ambiguity:"
    r" (?P<paths>.+?)\.?$",
    "config": r"Unable to load config ['\"](?P<name>.*?)['\"]",
    "type": r"Expected (?!a dot).+?(?=\. Got value|$)",
}


def short_message(message: str, parser: ArgumentParser) -> str:
    """Says in one line what a message of jsonargparse is about.

    Args:
        message: what jsonargparse said.
        parser: the subcommand's parser, which knows the keys.
    """
    message = re.sub(r"^\s*- Expected a path but .*\n", "", message, flags=re.MULTILINE)
    matches = [(match, kind) for kind, reason in REASONS.items() if (match := re.search(reason, message, re.MULTILINE))]
    if not matches:
        return message
    match, kind = min(matches, key=lambda pair: pair[0].start())
    try:
        return _RETELL[kind](match, parser)
    except (ValueError, TypeError, AttributeError, ImportError):  # a message of another form: better long than lost
        return message


def _option(match: re.Match[str], parser: ArgumentParser) -> str:
    key = match["key"] or match["flag"]
    if key:  # at the top level, where the parser knows all keys
        known = list(parser_arguments(parser))
        root, *_ = key.split(".")
        key = key.partition(".init_args.")[0]
        return f"no option {key}{nearest(key, known) or nearest(root, known)}"
    name = match["name"].partition(".init_args.")[0]
    holder = _holder(match, option=True)
    if holder is LightningDataModule:  # options of a class that was not named are taken for those of its base
        return _missing("data", parser)
    known = [name for name in class_arguments(holder) if not name.endswith(".help")] if holder else []
    return f"no option {'.'.join([*_keys(match), name])}{nearest(name, known)}"


def _required(match: re.Match[str], parser: ArgumentParser) -> str:
    keys = _keys(match)
    if match["name"] and not keys:
        return _missing(match["name"], parser)
    return f"{'.'.join([*keys, match['name'] or match['key']])} is missing"


def _missing(key: str, parser: ArgumentParser) -> str:
    return f"--{key} is missing: give a class{_or_checkpoint(parser)}, or a --config that has one"


def _or_checkpoint(parser: ArgumentParser) -> str:
    return "" if parser.prog.endswith(" fit") else " or a --ckpt_path"


def _class(match: re.Match[str], parser: ArgumentParser) -> str:
    *parents, key = _keys(match)
    if match["nameless"]:
        return _missing(".".join([*parents, key]), parser)
    given = match["name"] or match["path"] or _given(match)
    if given == "None":  # as jsonargparse reads a null for a class within a class
        return f"{'.'.join([*parents, key])}: null is taken from a --config file, but not from the command line"
    if not match["base"] and re.search(r"[/\\]|\.ya?ml$", given):
        return f"{'.'.join([*parents, key])}: no file {given!r}"
    holder = _holder(match)
    argument = (class_arguments(holder) if holder else parser_arguments(parser)).get(key)
    bases = dict.fromkeys(_classes(argument.type)) if argument else {}
    kind = " or ".join(base.__name__ for base in bases)
    if match["base"]:
        return f"{'.'.join([*parents, key])}: which {match['base']}? give its class_path{_or_checkpoint(parser)}"
    if match["abstract"]:
        return f"{'.'.join([*parents, key])}: {given} is abstract: name one of its subclasses"
    if not (match["name"] or match["absent"]):
        return f"{'.'.join([*parents, key])}: {given} is no {kind}"
    names = set().union(*map(subclass_names, bases))
    why = f" ({match[0]})" if match["absent"] else ""
    return f"{'.'.join([*parents, key])}: no {kind} {given!r}{why}{nearest(given.rpartition('.')[2], names)}"


def _ambiguous(match: re.Match[str], parser: ArgumentParser) -> str:
    return f"{'.'.join(_keys(match))}: more than one class is called {match['name']}: give one of {match['paths']}"


def _config(match: re.Match[str], parser: ArgumentParser) -> str:
    return f"{'.'.join(_keys(match))}: expected a mapping of settings or the name of a YAML file, not {match['name']!r}"


def _type(match: re.Match[str], parser: ArgumentParser) -> str:
    tried = re.match(r"(?:(?:\s*- )?Expected .*\n?)+", match.string[match.start() :])
    kinds = re.findall(r"Expected (?:an? )?(.+?)(?=\. Got value|$)", tried[0] if tried else match[0], re.MULTILINE)
    named = (re.sub(r"<class '([\w.]+)'>|typing\.", r"\1", kind) for kind in kinds)
    expected = " or ".join(name for name in named if name != "NoneType")
    expected = re.sub(r"collections\.abc\.|, but got .*", "", expected, flags=re.DOTALL)
    if flags := _flags(match):
        return f"{'.'.join(_keys(match))}: name the class, too: {flags}"
    if expected in ("", "import path or a subclass spec"):  # what is given has the keys of a class, or should
        expected = "the name of a class, or {class_path: its name, init_args: {its options}}"
    return f"{'.'.join(_keys(match))}: expected {expected}, not {shorten(repr(_given(match)), 100)}"


def _flags(match: re.Match[str]) -> str:
    """The flags that give an option to a default that is a partial, which jsonargparse cannot write down; or none."""
    option = re.search(r"but got NestedArg\(key='(?:init_args\.)?([\w.]+)', val='([^']*)'", match.string)
    holder, (*_, key) = _holder(match), _keys(match)
    default = inspect.signature(holder).parameters[key].default if option and holder else None
    if option is None or not isinstance(default, partial):
        return ""
    flag = "--" + ".".join(_keys(match))
    options = {name: json.dumps(value) for name, value in spec(default, key)["init_args"].items()}
    options[option[1]] = option[2]
    return " ".join([f"{flag}={default.func.__name__}", *(f"{flag}.{name}={value}" for name, value in options.items())])


_RETELL = {
    "option": _option,
    "required": _required,
    "class": _class,
    "ambiguous": _ambiguous,
    "config": _config,
    "type": _type,
}


def _keys(match: re.Match[str]) -> list[str]:
    return re.findall(r'Parser key "([^"]+)"', match.string[: match.start()])


def _given(match: re.Match[str]) -> str:
    """The value that a message is about: the first one that it tells after its reason."""
    after = match.string[match.start() :]
    given = re.search(r"(?:Got value|Given value): (.*?)(?=\. Got value|$)", after, re.MULTILINE)
    text = given[1] if given else ""
    nested = re.search(r"(?:val|class_path)='([^']*)'", text)
    return nested[1] if nested else text


def _holder(match: re.Match[str], option: bool = False) -> Any:
    """The class whose argument a message is about, or None at the top level."""
    before, after = match.string[: match.start()], match.string[match.start() :]
    if not option:  # a class path right before the reason is the class at fault, not the one that holds it
        before = re.sub(r"Problem with given class_path '[^']*':\s*$", "", before)
    *_, last = before.split("Problem with given class_path ")
    if CALLABLE in last and (option or 'Parser key "' in last.rpartition(CALLABLE)[2]):
        factory = re.search(r"Got value: Namespace\(class_path='([\w.]+)'", after)
        if factory:  # of a union (schedulers), its short name is left as it was given
            return None if factory[1] == "typing.Union" else resolve_name(factory[1])
    path = re.match(r"'([\w.]+)'", last)
    return resolve_name(path[1]) if path else None


def _classes(annotation: Any) -> Iterator[type]:
    """The classes inside a type: of `Callable[[int], RNN] | None`, RNN."""
    if isinstance(annotation, list):
        return
    if isinstance(annotation, type) and annotation not in (type(None), int, str, float, bool, list, dict):
        yield annotation
    for inner in get_args(annotation):
        yield from _classes(inner)
