"""Tasks of 6, 77 and 150 labels, made from a folder of labelled datasets, through every preset: counts, memory, time, report.

    python tests/tools/many_labels.py CORPUS OUT [--labels 6,77,150] [--recipes fewgen,...] [--rows 2] [--limit 300]

CORPUS has tasks.json (by dataset: `description`, `instruction` with {label}, `labels` with a description each) and DATASET.parquet (columns label and text). Tasks, gold rows and
runs are written into OUT only. Each recipe runs with `pocket` in a process of its own, whose peak memory counts; `served` names recipes that a scripted teacher answers,
as a chat server would. The table ends in OUT/many_labels.json; the exit status is 1 if a cell falls short.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import pyarrow.parquet as pq

ROOT = Path(__file__).parents[2]
SETS = {6: 'dstc9_travel_faq', 77: 'bot_skill_intents', 150: 'argkp_keypoint'}
PRESETS = ('fewgen', 'cfg', 'corrsynth', 'synalign', 'simprompt', 'attrprompt', 'verbalized', 'targen', 'combined')
SERVED = ('fewgen', 'simprompt', 'attrprompt', 'verbalized', 'synalign', 'targen')
EXAMPLES, GOLD, LONGEST, MOST = 5, 20, 200, 2000                       # texts of a label in the task and in the gold rows; characters of a text; MB


def texts_of(folder, name, labels):
    "Short texts of the most frequent labels that have enough of them, by label."
    found = defaultdict(dict)
    for label, text in zip(*(pq.read_table(folder/f'{name}.parquet')[column].to_pylist() for column in ('label', 'text'))):
        if 15 < len(text) < LONGEST: found[label][text] = None
    return {label: list(found[label]) for label in sorted(found, key=lambda label: -len(found[label]))[:labels]}


def make_task(folder, labels, out):
    "Write a task and its gold rows; returns their paths."
    import tomli_w
    about, texts = json.loads((folder/'tasks.json').read_text(encoding='utf-8'))[SETS[labels]], texts_of(folder, SETS[labels], labels)
    assert len(texts) == labels, f'{SETS[labels]} has {len(texts)} labels'
    task = {'name': f'made-{labels}', 'description': about['description'], 'instruction': about['instruction'].replace('{label}', '{{ verbalisation }}'), 'max_new_tokens': 48,
            'attributes': {'length': {'meaning': 'How long it is.', 'values': ['very short', 'one sentence']}, 'tone': {'meaning': 'How it sounds.', 'values': ['plain', 'polite', 'hasty']}},
            'labels': [{'name': label, 'verbalisation': label.replace('_', ' '), 'description': about['labels'][label], 'demonstrations': found[:EXAMPLES]} for label, found in texts.items()]}
    out.mkdir(parents=True, exist_ok=True)
    (out/'task.toml').write_text(tomli_w.dumps(task), encoding='utf-8')
    for part, place in (('train', slice(EXAMPLES, EXAMPLES + GOLD)), ('test', slice(EXAMPLES + GOLD, EXAMPLES + GOLD + 10))):
        rows = [{'text': text, 'label': label} for label, found in texts.items() for text in found[place] or found[-2:]]
        (out/f'{part}.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows), encoding='utf-8')
    return out/'task.toml'


MEASURED = 'import resource, sys; from synthlab.cli.main import main; status = main(sys.argv[1:]); ' \
           'print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss//1024}", file=sys.stderr); sys.exit(status)'
SCRIPTED = '''
import resource, sys
sys.path.insert(0, sys.argv[5])
from scripted_teacher import ScriptedTeacher
from synthlab import generate
task, recipe, n, out = sys.argv[1:5]
rows = generate(task, int(n), recipe, gold=None if recipe in ("simprompt", "attrprompt", "verbalized", "targen") else task.replace("task.toml", "train.jsonl"), out=out, teacher=ScriptedTeacher())
print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss//1024}", file=sys.stderr)
sys.exit(len(rows) != int(n))
'''


def run(words, limit):
    "Exit status (None out of time), seconds, peak memory in MB, what was printed, and the last lines on standard error."
    begun, environment = time.monotonic(), os.environ | {'PYTHONPATH': str(ROOT), 'TQDM_DISABLE': '1', 'COLUMNS': '160'}
    try: done = subprocess.run([sys.executable, '-c', *words], capture_output=True, text=True, timeout=limit, env=environment)
    except subprocess.TimeoutExpired: return None, limit, 0, '', f'not finished after {limit} s'
    peak = re.findall(r'^peak (\d+)$', done.stderr, re.M)
    said = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith('peak ')]
    return done.returncode, time.monotonic() - begun, int(peak[-1]) if peak else 0, done.stdout, ' / '.join(said[-3:])


def look(out, n, task):
    "What is wrong with the rows of a run."
    from synthlab.store.runs import read_counts
    labels = [label['name'] for label in __import__('tomllib').loads(Path(task).read_text(encoding='utf-8'))['labels']]
    counts = read_counts(out)
    accepted, ended = counts['accepted'], sum(sum(counts[status].values()) for status in ('accepted', 'rejected', 'failed'))
    rows = [json.loads(line) for line in (out/'dataset.jsonl').read_text(encoding='utf-8').split('\n')[:-1]] if (out/'dataset.jsonl').exists() else []
    faults = [f'{sum(accepted.values())} of {n} rows'] if sum(accepted.values()) != n else []
    if ended != counts['candidates']: faults.append(f"{counts['candidates']} candidates, and {ended} ended")
    if len(rows) != sum(accepted.values()): faults.append(f'{len(rows)} rows in the file, {sum(accepted.values())} accepted')
    if uneven := [label for label in labels if accepted.get(label, 0) != n//len(labels)]: faults.append(f'{len(uneven)} labels without their share')
    if unknown := set(Counter(row['label'] for row in rows)) - set(labels): faults.append(f'{len(unknown)} unknown labels')
    return faults


def cell(task, recipe, n, out, limit, served):
    "One recipe on one task: generated, then evaluated."
    gold = [] if recipe in ('simprompt', 'attrprompt', 'verbalized', 'targen') else ['--gold', str(task.with_name('train.jsonl'))]
    shots = ['--shots', '1'] if recipe in ('fewgen', 'cfg', 'corrsynth', 'combined') else []
    # `pocket` cannot judge labels that it has never met: its verdicts are noted, and the rows stay.
    policy = ['--policy', 'flag'] if recipe in ('targen', 'combined') else []
    words = ([SCRIPTED, str(task), recipe, str(n), str(out), str(ROOT/'tests'/'tools')] if served else
             [MEASURED, 'generate', str(task), '--recipe', recipe, '--n', str(n), '--budget', str(16*n), '--out', str(out), *gold, *shots, *policy])
    status, seconds, peak, told, said = run(words, limit)
    faults = look(out, n, task) if (out/'run.db').exists() and status is not None else [said]
    found = {'recipe': recipe, 'served': served, 'status': status, 'seconds': round(seconds), 'peak_mb': peak, 'terminal_lines': len(told.splitlines()), 'faults': faults, 'said': said}
    if faults or status: return found
    report, seconds, peak, told, said = run([MEASURED, 'evaluate', str(out), '--gold', str(task.with_name('test.jsonl')), '--student', 'none'], limit)
    page = out/'report.html'
    found |= {'report': report, 'report_seconds': round(seconds), 'report_peak_mb': peak, 'report_kb': page.stat().st_size//1024 if page.exists() else 0, 'report_terminal_lines': len(told.splitlines())}
    if report: found['faults'] = [said]
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('corpus', type=Path)
    parser.add_argument('out', type=Path)
    parser.add_argument('--labels', default='6,77,150')
    parser.add_argument('--recipes', default=','.join(PRESETS))
    parser.add_argument('--served', default=','.join(SERVED))
    parser.add_argument('--rows', type=int, default=2, help='rows of each label')
    parser.add_argument('--limit', type=float, default=600, help='seconds for a command')
    asked, table = parser.parse_args(), []
    for labels in map(int, asked.labels.split(',')):
        task = make_task(asked.corpus, labels, asked.out/str(labels))
        for recipe, served in [*((name, False) for name in asked.recipes.split(',') if name), *((name, True) for name in asked.served.split(',') if name)]:
            found = {'labels': labels} | cell(task, recipe, asked.rows*labels, asked.out/str(labels)/f"{recipe}{'-served'*served}", asked.limit, served)
            if max(found['peak_mb'], found.get('report_peak_mb', 0)) > MOST: found['faults'].append(f'more than {MOST} MB')
            table.append(found)
            print(json.dumps(found), flush=True)
            (asked.out/'many_labels.json').write_text(json.dumps(table, indent=1), encoding='utf-8')
    return int(any(found['faults'] or found['status'] for found in table))


if __name__ == '__main__': sys.exit(main())
