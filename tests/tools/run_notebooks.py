"""Execute notebooks in place and keep their outputs.

    python tests/tools/run_notebooks.py                           all of nbs/, in order
    python tests/tools/run_notebooks.py nbs/decode/02_contrast.ipynb     only these
    python tests/tools/run_notebooks.py --flags "gold slow"       cells with these flags too

Each notebook runs in a process of its own, without the cells that `nbdev_test` skips. A skipped cell keeps its
outputs only while its code is the code that made them. The cells with the checks of exercises are folded. The notebook
is then cleaned and carries the hash of its code, by which `tests/test_sync.py` sees outputs that are out of step. When a cell fails, or an output shows a path
of this machine, the notebook stays as it was and the exit status is 1.
"""
import argparse
import hashlib
import json
import multiprocessing
import os
import re
import sys
import time
from pathlib import Path

from execnb.nbio import read_nb, write_nb
from execnb.shell import CaptureShell
from fastcore.xtras import working_directory
from nbdev.clean import nbdev_clean
from nbdev.config import get_config
from nbdev.doclinks import nbglob
from nbdev.frontmatter import FrontmatterProc
from nbdev.process import NBProcessor, extract_directives

ROOT = Path(__file__).parents[2]
# How Jupyter and Colab fold the code of a cell.
FOLDED = {'jupyter': {'source_hidden': True}, 'cellView': 'form'}
MACHINE_PATH = re.compile(r'(?<!\w)/(?:work|root|tmp|home|Users)/|site-packages/')


def notebooks():
    "The notebooks nbdev knows, in reading order."
    return sorted(p.resolve() for p in nbglob(ROOT/'nbs', as_path=True))


def code_cells(nb): return [cell for cell in nb.cells if cell.cell_type == 'code']


def digest(text): return hashlib.sha256(text.encode()).hexdigest()[:16]


def code_hash(nb):
    "Hash of all the code of a notebook, in order."
    return digest(json.dumps([cell.source for cell in code_cells(nb)]))


def machine_paths(nb):
    "Ids of the cells with an output that shows a path of the machine it ran on; pictures aside."
    def text(output):
        parts = [v for k, v in output.get('data', {}).items() if not k.startswith('image/')] + [output.get('text', '')]
        return '\n'.join(json.dumps(part) if isinstance(part, dict) else ''.join(part) for part in parts)
    return [cell.id for cell in code_cells(nb) if any(MACHINE_PATH.search(text(o)) for o in cell.outputs)]


def skips_notebook(path):
    "Whether `nbdev_test` passes over the whole notebook."
    front = NBProcessor(path, procs=FrontmatterProc, process=True).nb.frontmatter_
    return (path.parent/'.notest').exists() or front.get('skip_exec', False)


def skips(cell, flags):
    "Whether `nbdev_test` passes over the cell; `flags` are those that make it do so."
    if cell.cell_type != 'code' or 'nbdev_export(' in cell.source: return True
    found = extract_directives(cell, remove=False)
    return found.get('eval:', [''])[0].lower() == 'false' or bool(flags & found.keys())


def forget_outputs(nb, flags):
    "Remove the outputs that this run makes anew, and those of skipped cells whose code has changed."
    made_by = nb.metadata.get('synthlab', {}).get('flagged', {})
    for cell in code_cells(nb):
        stale = made_by.get(cell.id) != digest(cell.source)
        if cell.outputs and stale and skips(cell, flags): print(f'  cell {cell.id} is skipped and changed: outputs dropped')
        if stale or not skips(cell, flags): cell.outputs = []


def drop_bars(nb):
    "Remove progress bars: a slow machine shows them, a fast one does not, and neither is a result."
    for cell in code_cells(nb):
        cell.outputs = [o for o in cell.outputs if not (o.get('name') == 'stderr' and '\r' in ''.join(o.get('text', '')))]


def checks_of_exercises(nb):
    "The hidden cells with the check of an exercise, which say what the answer is."
    return [cell for cell in code_cells(nb) if re.match(r'#\| *hide\b', cell.source) and re.search(r'(?m)^\w+ = Exercise\(', cell.source)]


def fold_checks(nb):
    "Fold the checks of exercises, so that nobody reads an answer before the question is solved."
    for cell in checks_of_exercises(nb): cell.metadata.update(FOLDED)


def stamp(nb):
    "Note in the metadata which kernel runs the notebook and which code made its outputs."
    every_flag = set(get_config().tst_flags.split())
    flagged = {cell.id: digest(cell.source) for cell in code_cells(nb) if cell.outputs and skips(cell, every_flag)}
    nb.metadata.setdefault('kernelspec', {'display_name': 'python3', 'language': 'python', 'name': 'python3'})
    nb.metadata['synthlab'] = {'executed': code_hash(nb)} | ({'flagged': flagged} if flagged else {})


def run(path, with_flags):
    "Run one notebook and write it back, stamped and clean."
    flags = set(get_config().tst_flags.split()) - with_flags
    nb = read_nb(path)
    forget_outputs(nb, flags)
    sys.path.insert(0, str(ROOT))
    shell = CaptureShell(path)
    try:
        with working_directory(path.parent): shell.run_all(nb, exc_stop=True, preproc=lambda cell: skips(cell, flags))
    except BaseException: sys.exit(shell.prettytb(fname=path))
    found = machine_paths(nb)
    if found: sys.exit(f"{path}: an output shows a path of this machine, cell {', '.join(found)}")
    drop_bars(nb)
    fold_checks(nb)
    stamp(nb)
    write_nb(nb, path)
    nbdev_clean(str(path))


def main():
    "Run the notebooks named on the command line, or all."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('paths', nargs='*', type=Path, help='notebooks; all when none is named')
    parser.add_argument('--flags', default='', help='flagged cells to run too, for example "gold slow"')
    args = parser.parse_args()
    paths = [p.resolve(strict=True) for p in args.paths]
    os.chdir(ROOT)
    failed = []
    for path in paths or notebooks():
        if skips_notebook(path): continue
        start = time.perf_counter()
        process = multiprocessing.get_context('spawn').Process(target=run, args=(path, set(args.flags.split())))
        process.start()
        process.join()
        if process.exitcode: failed.append(str(path.relative_to(ROOT)))
        outcome = '  FAILED' if process.exitcode else ''
        print(f'{time.perf_counter() - start:6.1f} s  {path.relative_to(ROOT)}{outcome}', flush=True)
    if failed: sys.exit(f"failed: {', '.join(failed)}")


if __name__ == '__main__': main()
