"""Docstrings say what goes in, what comes out and what can go wrong.

The names of the face have whole numpy docstrings, and so has every other name that begins one; what only other
modules of the package call has a summary.
"""
import ast
import enum
import importlib
import inspect
import pkgutil
import re
import textwrap
from typing import Never, NoReturn

import pytest
import synthlab

MODULES = sorted(m.name for m in pkgutil.walk_packages(synthlab.__path__, 'synthlab.') if not m.name.endswith('._modidx'))
FACE = [getattr(synthlab, name) for name in synthlab.__all__]
NOTHING = (None, 'None', Never, 'Never', NoReturn, 'NoReturn')


def sections(doc):
    "Text below each underlined heading of a numpy docstring, by heading; the summary is under ''."
    parts = re.split(r'(?m)^([A-Z][\w ]*)\n-{3,}[ \t]*$', inspect.cleandoc(doc))
    return {'': parts[0].strip()} | dict(zip(parts[1::2], parts[2::2]))


def documented(section):
    "Names declared in a Parameters section."
    heads = re.findall(r'(?m)^(\*{0,2}\w+(?:, *\*{0,2}\w+)*)[ \t]*(?::|$)', section)
    return {name.strip().lstrip('*') for head in heads for name in head.split(',')}


def parameters(obj):
    "The parameters a caller passes, and whether any other keyword is taken."
    is_class = inspect.isclass(obj)
    if is_class and (issubclass(obj, enum.Enum) or getattr(obj, '_is_protocol', False)): return set(), False
    try: found = list(inspect.signature(obj).parameters.values())
    except ValueError: return set(), False                         # built in C, such as an exception's
    if is_class and '__init__' not in vars(obj): found = [p for p in found if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return {p.name for p in found}, any(p.kind == p.VAR_KEYWORD for p in found)


def has_raise(function):
    "Whether the function's own code raises, other than passing an error on."
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    return any(isinstance(node, ast.Raise) and node.exc for node in ast.walk(tree))


def raises(obj):
    "Whether calling `obj` may run a `raise` written in it; for a class, one in its construction."
    if not inspect.isclass(obj): return has_raise(obj)
    built_by = [vars(obj).get(name) for name in ('__init__', '__post_init__')]
    def written(f): return inspect.isfunction(f) and f.__module__ == obj.__module__ and f.__code__.co_filename != '<string>'
    return any(has_raise(f) for f in built_by if written(f))


def returns(function): return inspect.signature(function).return_annotation not in NOTHING


def bare_methods(cls):
    "Public methods and properties without a docstring, their own or inherited."
    kinds = (staticmethod, classmethod, property)
    public = [k for k, v in vars(cls).items() if not k.startswith('_') and (inspect.isfunction(v) or isinstance(v, kinds))]
    return [name for name in public if not inspect.getdoc(inspect.getattr_static(cls, name))]


def faults(obj):
    "What the docstring of a public function or class lacks."
    is_class, doc = inspect.isclass(obj), obj.__doc__ or ''
    found = sections(doc)
    if not found[''] or is_class and doc.startswith(f'{obj.__name__}('): return ['no docstring']
    # Used inside the package only: a summary will do.
    if not found.keys() & {'Parameters', 'Returns', 'Yields'} and obj not in FACE: return []
    (named, any_keyword), listed = parameters(obj), documented(found.get('Parameters', ''))
    result = [f'Parameters lacks {name}' for name in sorted(named - listed)]
    if not any_keyword: result += [f'Parameters has {name}, which is none' for name in sorted(listed - named)]
    if not is_class and returns(obj) and not found.keys() & {'Returns', 'Yields'}: result.append('no Returns or Yields')
    if raises(obj) and 'Raises' not in found: result.append('no Raises')
    if is_class: result += [f'no docstring on {name}' for name in bare_methods(obj)]
    return result


def public(module):
    "Functions and classes that the module itself defines and lists in `__all__`."
    found = {name: inspect.unwrap(getattr(module, name)) for name in getattr(module, '__all__', [])}
    def own(value): return (inspect.isfunction(value) or inspect.isclass(value)) and value.__module__ == module.__name__
    return {name: value for name, value in found.items() if own(value)}


@pytest.mark.parametrize('name', MODULES)
def test_public_names_are_documented(name):
    members = public(importlib.import_module(name))
    found = [f'{member}: {fault}' for member, obj in members.items() for fault in faults(obj)]
    assert not found, '\n'.join(found)


def _sample(x, *rest, y=1):
    """Add.

    Parameters
    ----------
    x, y : int
        Two numbers.
    z : int
        Not there.
    """
    raise ValueError(x)


def test_faults_are_found():
    assert faults(_sample) == ['Parameters lacks rest', 'Parameters has z, which is none', 'no Returns or Yields', 'no Raises']
