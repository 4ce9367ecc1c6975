"""Write `synthlab/<folder>/__init__.py` and its stub from the folder's modules: `python tests/tools/folder_faces.py`.

A stage folder hands on its public names as the package does: each is loaded when it is first used. A name is public when it is
in a module's `__all__`, is defined there, and has a docstring with sections (Parameters, Returns, ...), or is one of the face's.
A name that is also a module's of the same folder stays in its module. The docstring of the folder is written by hand and kept.
"""
import ast
import re
import textwrap
from pathlib import Path

PACKAGE = Path(__file__).parents[2]/'synthlab'
SECTION = re.compile(r'(?m)^\s*(?:Parameters|Attributes|Returns|Yields|Raises|Examples)\n\s*-{3,}\s*$')
TEXT = '''"""{doc}"""
# Below the docstring, written by tests/tools/folder_faces.py.
import lazy_loader

_HOMES = {{
{homes}
}}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_HOMES)
'''


def folders(package=PACKAGE):
    "The folders of the package that hold modules."
    return sorted(path.parent for path in package.glob('*/__init__.py'))


def literal(tree, name):
    "The value of a plain assignment at the top of a module, or None."
    values = [node.value for node in tree.body if isinstance(node, ast.Assign) and getattr(node.targets[0], 'id', '') == name]
    return ast.literal_eval(values[0]) if values else None


def parsed(path): return ast.parse(path.read_text(encoding='utf-8'))


def documented(tree):
    "Functions and classes of a module whose docstring has sections."
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name for node in tree.body if isinstance(node, kinds) and SECTION.search(ast.get_docstring(node) or '')}


def public_names(folder):
    "The names that a folder hands on, by module."
    face = literal(parsed(folder.parent/'__init__.py'), '_HOMES')
    modules = sorted(path for path in folder.glob('[a-z]*.py'))
    homes, known = {}, {path.stem for path in modules}
    for path in modules:
        tree = parsed(path)
        listed = literal(tree, '__all__') or []
        named = face.get(f'{folder.name}.{path.stem}', [])
        names = {name for name in listed if name in documented(tree) or name in named} - known
        if names: homes[path.stem] = sorted(names)
    return homes


def twice(homes):
    "Names that two modules of a folder define."
    names = [name for found in homes.values() for name in found]
    return sorted({name for name in names if names.count(name) > 1})


def table(homes):
    "The lines of the table of names."
    def entry(module, names):
        text = f"'{module}': [{', '.join(map(repr, names))}],"
        return textwrap.fill(text, 116, initial_indent='    ', subsequent_indent='        ', break_long_words=False)
    return '\n'.join(entry(module, names) for module, names in sorted(homes.items()))


def texts(folder):
    "What `__init__.py` and `__init__.pyi` of a folder have to be."
    homes = public_names(folder)
    if twice(homes): raise ValueError(f'two modules of {folder.name} define {", ".join(twice(homes))}: rename one, or make it private')
    doc = ast.get_docstring(parsed(folder/'__init__.py'), clean=False) or folder.name
    lines = [f'from .{module} import {name} as {name}' for module, names in sorted(homes.items()) for name in names]
    stub = f'"The public names of synthlab.{folder.name}, for editors and type checkers."\n' + ''.join(f'{line}\n' for line in lines)
    return {folder/'__init__.py': TEXT.format(doc=doc, homes=table(homes)), folder/'__init__.pyi': stub}


def main():
    "Write the files of every folder."
    for folder in folders():
        for path, text in texts(folder).items(): path.write_text(text, encoding='utf-8')


if __name__ == '__main__': main()
