"""What does a run cost beside a plain file, and does it stay small with a million rows?

    python tests/benchmarks/bench_store.py [--groups 3000] [--rows 1000000] [--folder FOLDER] [--json FILE]

First the store against lines appended to a JSONL file, group by group of 4 rows, in microseconds a row: the file flushed after
each group, the file brought to the disk (fsync) after each group, a run with one transaction a group, a run that keeps the group's
call too (two transactions), and both with 25 groups at a time. A transaction of a run is on the disk when it ends, so the file with
fsync is what it should be compared with. Rows are like those of CorrSynth, about a kilobyte each.

Then a run of `--rows` rows and a tenth as many, each step in a process of its own: seconds and peak memory of writing it, of its
status, of reading a row by its id, and of the exports. The run fails if the status takes two seconds (start of Python included), or if a step
needs over 64 MiB more for all rows than for a tenth of them.
"""
import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from synthlab.store.export import write_csv, write_jsonl, write_parquet
from synthlab.store.runs import Run, open_run, read_status
from synthlab.util import row_id

MEMBERS, STATUS_SECONDS, MORE_MEMORY = 4, 2.0, 64
LABELS = ['World', 'Sports', 'Business', 'Sci/Tech']
RECIPE = {'n': 10**9, 'seed': 0, 'task': {'name': 'ag_news', 'labels': [{'name': label} for label in LABELS]}, 'method': {'name': 'corrsynth'}, 'teacher': {'name': 'pocket'}}
WORDS = ('the market rose in early trade as the team won the second game of the series and a new probe reached orbit while leaders met to discuss prices of '
         'oil and the court heard the case of a company that had sold its shares before the report').split()


def row(number, member):
    "A row like those that CorrSynth writes."
    words = [WORDS[(number*7 + member*3 + place*(1 + number % 5)) % len(WORDS)] for place in range(45)]
    reason = 'copy of a demonstration' if (number + member) % 19 == 0 else ''
    return {'id': row_id('corrsynth', 0, number, member), 'text': ' '.join(words), 'label': LABELS[member], 'label_target': LABELS[member], 'recipe': 'corrsynth', 'teacher': 'pocket',
            'sampling': {'max_new_tokens': 64, 'temperature': .95, 'top_p': .9, 'top_k': 0, 'gamma': 1.0, 'delta': .9, 'alpha': .001, 'mode': 'cross', 'repeats': 1, 'shots': 3},
            'seed': 0, 'group': number, 'member': member, 'demos': [f'{LABELS[member]}/{(number + k) % 8}' for k in range(3)], 'attributes': None, 'context': None, 'seed_text': None,
            'prompt_hash': row_id(number, member), 'tokens': 55, 'steps': 64, 'mask_share': .512, 'kl': .034, 'live_contrast': .9, 'finish_reason': 'stop',
            'status': 'rejected' if reason else 'accepted', 'reason': reason}


def group(number): return [row(number, member) for member in range(MEMBERS)]


def call(rows): return {'completions': [r['text'] for r in rows], 'prompt_tokens': 900, 'completion_tokens': 220, 'error': ''}


# ---- beside a plain file

def to_file(groups, batch, folder, fsync):
    with open(folder/'rows.jsonl', 'w', encoding='utf-8') as file:
        for place, rows in enumerate(groups, 1):
            for r in rows: file.write(json.dumps(r) + '\n')
            if place % batch: continue
            file.flush()
            if fsync: os.fsync(file.fileno())


def to_run(groups, batch, folder, calls):
    with Run(folder/'run', RECIPE) as run:
        for start in range(0, len(groups), batch):
            part = dict(enumerate(groups[start:start + batch], start))
            if calls: run.calls.update({row_id('call', number): call(rows) for number, rows in part.items()})
            run.add_many(part)


WAYS = {'JSONL': (to_file, 1, False), 'JSONL, fsync': (to_file, 1, True), 'run, rows': (to_run, 1, False), 'run, calls and rows': (to_run, 1, True),
        'JSONL, fsync, 25 groups at a time': (to_file, 25, True), 'run, rows, 25 at a time': (to_run, 25, False), 'run, calls and rows, 25 at a time': (to_run, 25, True)}


def beside_a_file(n_groups, parent, repeats=3):
    "Microseconds a row of each way; the best of some attempts, taken in turn."
    groups, best = [group(number) for number in range(n_groups)], {}
    for _ in range(repeats):
        for name, (write, batch, option) in WAYS.items():
            with tempfile.TemporaryDirectory(dir=parent) as folder:
                start = time.perf_counter()
                write(groups, batch, Path(folder), option)
                best[name] = min(best.get(name, 1e9), (time.perf_counter() - start)/n_groups/MEMBERS*1e6)
    return best


# ---- a million rows

def write_run(out, n_rows):
    with Run(out, RECIPE) as run:
        for start in range(0, n_rows//MEMBERS, 100):
            part = {number: group(number) for number in range(start, min(start + 100, n_rows//MEMBERS))}
            run.calls.update({row_id('call', number, member): {'text': r['text'], 'finish_reason': 'stop', 'refusal': '', 'prompt_tokens': 200 + member, 'completion_tokens': 55,
                                                              'model': 'pocket', 'error': '', 'attempts': 1} for number, rows in part.items() for member, r in enumerate(rows)})
            run.add_many(part)


def status(out, n_rows):
    found = read_status(out)
    assert found['candidates'] == found['calls']['calls'] == n_rows, found


def find(out, n_rows):
    with open_run(out) as run: assert run.row(row_id('corrsynth', 0, n_rows//MEMBERS - 1, 2))['member'] == 2


def resume(out, n_rows):
    with Run(out, RECIPE) as run: assert len(run.groups) == n_rows//MEMBERS


def all_groups(out, n_rows):
    with open_run(out) as run: assert sum(len(run.groups[number]) for number in run.groups) == n_rows


def export(write):
    def step(out, n_rows):
        with open_run(out) as run: write(run, out.parent/'exported')
    return step


def finish(out, n_rows):
    with Run(out, RECIPE) as run: assert run.finish()['candidates'] == n_rows


STEPS = {'write, calls too': write_run, 'status': status, 'a row by its id': find, 'open to go on': resume, 'all groups, one by one': all_groups,
         'export jsonl': export(lambda run, path: write_jsonl(run.rows(), path)), 'export csv': export(lambda run, path: write_csv(run.rows, path)),
         'export parquet': export(lambda run, path: write_parquet(run.rows, path)), 'finish': finish}


def peak_mib():
    "Most memory that this process has had. `ru_maxrss` counts the parent's before the process began, so Linux is asked another way."
    try: return next(int(line.split()[1])/1024 for line in Path('/proc/self/status').read_text().splitlines() if line.startswith('VmHWM'))
    except OSError: return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/(1024 if sys.platform == 'linux' else 2**20)


def one_step(name, out, n_rows):
    "Seconds and MiB of a step in a process of its own, and how much of both Python and the imports take."
    code = ('import sys, time; from pathlib import Path; from bench_store import *\n'
            'base, start = peak_mib(), time.perf_counter()\n'
            f'STEPS[{name!r}](Path(sys.argv[1]), int(sys.argv[2]))\n'
            'print(time.perf_counter() - start, peak_mib(), base)')
    start = time.perf_counter()
    done = subprocess.run([sys.executable, '-c', code, str(out), str(n_rows)], cwd=Path(__file__).parent, capture_output=True, text=True)
    if done.returncode: sys.exit(done.stderr)
    seconds, peak, base = map(float, done.stdout.split())
    return {'seconds': seconds, 'with_start': time.perf_counter() - start, 'peak_mib': peak, 'imports_mib': base}


def at_size(n_rows, parent):
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        found = {name: one_step(name, Path(folder)/'run', n_rows) for name in STEPS}
        return found | {'run.db': {'mib': (Path(folder)/'run'/'run.db').stat().st_size/2**20}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--groups', type=int, default=3000, help='groups to compare with a plain file')
    parser.add_argument('--rows', type=int, default=1_000_000, help='rows of the large run; 0 for none')
    parser.add_argument('--folder', type=Path, help='where to write; a temporary folder if none is named')
    parser.add_argument('--json', type=Path)
    args = parser.parse_args()
    if args.rows and shutil.disk_usage(args.folder or tempfile.gettempdir()).free < 8_000*args.rows: sys.exit(f'--rows {args.rows} takes {8_000*args.rows/1e9:.0f} GB of disk')
    beside = beside_a_file(args.groups, args.folder)
    print(f"{'groups of 4 rows':36} {'us/row':>8} {'x JSONL':>8} {'x JSONL, fsync':>15}")
    for name, micro in beside.items(): print(f"{name:36} {micro:8.1f} {micro/beside['JSONL']:8.2f} {micro/beside['JSONL, fsync']:15.2f}")
    sizes = {n: at_size(n, args.folder) for n in (args.rows//10, args.rows) if n}
    for n, steps in sizes.items():
        print(f"\n{n:,} rows and as many calls, run.db {steps['run.db']['mib']:.0f} MiB\n{'':28} {'seconds':>8} {'with start':>11} {'peak MiB':>9} {'of it imports':>14}")
        for name in STEPS: print(f"{name:28} {steps[name]['seconds']:8.2f} {steps[name]['with_start']:11.2f} {steps[name]['peak_mib']:9.0f} {steps[name]['imports_mib']:14.0f}")
    if args.json: args.json.write_text(json.dumps({'beside_a_file': beside, 'sizes': sizes}, indent=1))
    faults = []
    if args.rows:
        few, all_rows = sizes[args.rows//10], sizes[args.rows]
        faults += [f'the status took {all_rows["status"]["with_start"]:.1f} s'] if all_rows['status']['with_start'] >= STATUS_SECONDS else []
        faults += [f'{name} took {all_rows[name]["peak_mib"] - few[name]["peak_mib"]:.0f} MiB more for all rows than for a tenth' for name in STEPS
                   if all_rows[name]['peak_mib'] - few[name]['peak_mib'] > MORE_MEMORY]
    sys.exit('; '.join(faults) or 0)


if __name__ == '__main__': main()
