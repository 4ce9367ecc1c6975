"""Does repelling help? Plain sampling, CorrSynth's mask alone, CorrSynth and CFG on four tasks, eight datasets each.

    python nbs/studies/comparison.py --work runs/comparison                   all of it: about an hour on a free CPU core
    python nbs/studies/comparison.py --work runs/comparison --parts main      the five arms that decide
    python nbs/studies/comparison.py --work runs/comparison --collect nbs/studies/comparison.json

Datasets are the unit: a generation seed draws examples, prompts and texts. Cells come seed by seed, so that a study which
was stopped can be collected; every step leaves a file and is passed over when the file is there. Students are scored
on rows that no bake-off has scored on. Gold data is found through SYNTHLAB_GOLD; only numbers and single words are kept.
"""
import argparse
import json
import time
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from synthlab.decode.choices import CFG, CorrSynth, FewGen
from synthlab.embeddings import Embedder
from synthlab.measure.evaluate import Material, Rows, projection, sample_rows, take
from synthlab.measure.labels import gold_classifier
from synthlab.measure.lexical import words
from synthlab.measure.students import Probe, Student, cartography
from synthlab.run.generate import choose_sampling, generate
from synthlab.tasks.gold import load_gold, written_rows
from synthlab.teacher.causal import CausalTeacher

from protocol import GOLD, SEEDS, USUAL, divide, fresh_test, gold_task, stamp
from steps import balanced, once, rounded

# Texts of a label in a group: eight to ten texts contrast. Reviews are cut at 64 tokens, which is what embeddings see.
TASKS = {'ag_news': 2, 'humor': 4, 'toi_headlines': 2, 'imdb': 4}
N, TEST, LESSONS, TOKENS = 80, 1500, 1000, 64
GRID = ('0', '0.25', '0.5')
# The earlier comparison scored on so many rows of the test part; where it has more, the others are taken.
EARLIER = 5000


def grid():
    "What is subtracted within a label and across, on headlines: those cells that no other arm has."
    shares = [(float(intra), float(cross)) for intra in GRID for cross in GRID]
    return {f'grid {i:g} {c:g}': dict(mode='hybrid', delta=1 - i - c, intra_share=i/(i + c))
            for i, c in shares if i + c and (i, c) not in ((0, .5), (.5, 0), (.25, .25))}


# By part: arms with their options, what makes them, tasks, and seeds.
CORRELATED = {f'{mode} {delta}': dict(mode=mode, delta=delta) for delta in (.5, .9) for mode in ('cross', 'hybrid', 'intra')}
MAIN = {'fewgen': {}, 'masked': dict(delta=1.)} | {name: CORRELATED[name] for name in ('cross 0.5', 'cross 0.9', 'intra 0.5')}


class Arm(NamedTuple):
    "A way to draw texts: its options, its tasks, and its number of seeds."
    options: dict
    tasks: tuple = tuple(TASKS)
    seeds: int = SEEDS


def parts():
    "All arms by part, the most telling part first."
    main = {name: Arm(options) for name, options in MAIN.items()}
    headlines = {'intra 0.0': dict(mode='intra', delta=0.)} | grid()
    return {'main': main, 'hybrid': {'hybrid 0.5': Arm(CORRELATED['hybrid 0.5'])}, 'cfg': {'cfg 0.5': Arm(dict(delta=.5))},
            'alpha': {f'alpha {alpha}': Arm(dict(delta=.5, alpha=alpha), ('ag_news', 'humor')) for alpha in (.01, .1)},
            'grid': {name: Arm(options, ('toi_headlines',), 4) for name, options in headlines.items()},
            'mild': {name: Arm(CORRELATED[name]) for name in ('hybrid 0.9', 'intra 0.9')}}


def decoder(task_name, arm, options):
    "How the texts of an arm are drawn."
    if arm == 'fewgen': return FewGen()
    if arm.startswith('cfg'): return CFG(**options)
    return CorrSynth(repeats=TASKS[task_name], **options)


def untouched(name):
    "At most `TEST` rows of the test part that no bake-off has scored on, and the train part, which has none of them."
    test, train = (Rows.of(load_gold(None, gold_task(name), part=part)) for part in ('test', 'train'))
    rows = Rows.of(fresh_test(name)) if name in GOLD else divide(test, (), train.texts, 0.).test
    used = sample_rows(rows, 1000).texts if name in GOLD else []
    if len(test) > 2*EARLIER: used = used + sample_rows(test, EARLIER).texts
    return sample_rows(divide(rows, used, (), 0.).test, TEST), train


class Task:
    "A task with the real rows that its datasets are measured with."
    def __init__(self, name, teacher, embedder):
        self.name, self.task, self.teacher, self.embedder = name, gold_task(name), teacher, embedder
        self.test, self.train = untouched(name)
        self.lessons = sample_rows(self.train, LESSONS)
        self.shown = Rows.of(written_rows(self.task, 'train')).texts

    @cached_property
    def judge(self): return gold_classifier(self.lessons.texts, self.lessons.labels, self.embedder)

    def write(self, arm, options, seed):
        "A dataset, and what it cost."
        start, sampling = time.process_time(), choose_sampling(self.task, self.teacher)
        limit = min(TOKENS, sampling.max_new_tokens)
        run = generate(decoder(self.name, arm, options), self.task, self.teacher, N, shots=1, seed=seed,
                       sampling=choose_sampling(self.task, self.teacher, max_new_tokens=limit))
        rows = [row for group in run for row in group.rows]
        kept = [row for row in rows if row['status'] == 'accepted']
        told = {name: float(np.mean([row[name] for row in rows])) for name in ('mask_share', 'kl') if rows[0].get(name) is not None}
        costs = {name: getattr(run.stats, name) for name in ('tokens', 'steps', 'forward_rows', 'prefill_rows')}
        return {'texts': [row['text'] for row in kept], 'labels': [row['label'] for row in kept], 'candidates': len(rows),
                'seconds': time.process_time() - start} | told | costs

    def real(self, seed):
        "As many real rows of the train part."
        rows = balanced(self.train, N, seed)
        return {'texts': rows.texts, 'labels': rows.labels}


MEASURES = ('self_bleu', 'vocabulary', 'entity_entropy', 'vendi_score', 'label_preservation', 'label_cosine', 'mauve',
            'mmd', 'coverage', 'novelty_demonstrations', 'length')


def measure(task, written, seed):
    "All numbers of a dataset; which test rows its student gets right, as hexadecimal digits."
    rows = Rows(written['texts'], written['labels'])
    m = Material(embedder=task.embedder, rows=rows, test=task.test, train=task.lessons, shown=task.shown, judge=task.judge,
                 seed=seed, intervals=False)
    found = {entry['name']: entry for entry in take(m, MEASURES)}
    student = Probe(task.embedder).fit(rows.records())
    right = np.array(student.predict(task.test.texts)) == np.array(task.test.labels)
    recalls = {label: float(right[np.array(task.test.labels) == label].mean()) for label in task.task.label_names}
    return {'values': {name: entry.get('value') for name, entry in found.items()}, 'rows': len(rows),
            'accuracy': float(right.mean()), 'recalls': recalls, 'right': np.packbits(right).tobytes().hex(),
            'cosines': found['label_cosine'].get('details', {}).get('matrix'),
            'judge': found['label_preservation'].get('details', {}).get('judge')} | {
                key: value for key, value in written.items() if key not in ('texts', 'labels')}


def cell(work, task, arm, options, seed):
    "Write and measure a dataset, or read what is there."
    folder = work/task.name/arm
    written = once(folder/f'{seed}.rows.json', lambda: task.real(seed) if arm == 'gold' else task.write(arm, options, seed))
    return once(folder/f'{seed}.json', lambda: measure(task, written, seed))


def texts_of(work, name, arm, seeds=SEEDS):
    "All rows of an arm, of those seeds that are there."
    paths = [path for seed in range(seeds) if (path := work/name/arm/f'{seed}.rows.json').exists()]
    found = [json.loads(path.read_text(encoding='utf-8')) for path in paths]
    return Rows([text for one in found for text in one['texts']], [label for one in found for label in one['labels']])


MAPS, MAPPED = ('masked', 'cross 0.5', 'intra 0.5'), 4


def datamap(work, arm):
    "How a fine-tuned student learns the headlines of four seeds together."
    student = Student('minilm', recipe='quick', seed=0, max_length=TOKENS, record=True)
    rows = texts_of(work, 'toi_headlines', arm, MAPPED)
    found = cartography(np.array(student.fit(rows.records()).dynamics_))
    return {key: np.round(value, 3).tolist() for key, value in vars(found).items() if isinstance(value, np.ndarray)}


def promoted(ours, theirs, most=15, prior=.1):
    """Words that one dataset uses more, and less, than another: weighted log-odds with a prior (Monroe and others,
    2008), as z scores."""
    counts = [Counter(word for text in texts for word in words(text.lower())) for texts in (ours, theirs)]
    vocabulary = [word for word in set(counts[0]) | set(counts[1]) if word.isalpha()]
    y, z = (np.array([c[word] for word in vocabulary]) + prior for c in counts)
    delta = np.log(y/(y.sum() - y)) - np.log(z/(z.sum() - z))
    order = np.argsort(delta/np.sqrt(1/y + 1/z))
    def told(places): return [(vocabulary[i], int(y[i]), int(z[i])) for i in places]
    return {'more': told(order[::-1][:most]), 'less': told(order[:most])}


def run(work, names, chosen):
    "All cells of some parts, seed by seed."
    teacher = CausalTeacher('pocket', dtype='bfloat16')
    tasks = [Task(name, teacher, Embedder(max_length=TOKENS, cache=work/'embeddings.db')) for name in names]
    for part in chosen:
        arms = parts()[part] | ({'gold': Arm({})} if part == 'main' else {})
        for seed in range(SEEDS):
            for task in tasks:
                for arm, (options, where, seeds) in arms.items():
                    if task.name in where and seed < seeds: cell(work, task, arm, options, seed)
        if part == 'grid' and 'toi_headlines' in names:
            for arm in MAPS: once(work/'toi_headlines'/arm/'map.json', lambda: datamap(work, arm))


def collect(work, path):
    "Everything that the notebook shows, in one file."
    arms = ['gold', *(name for part in parts().values() for name in part)]
    def read(place): return json.loads(place.read_text(encoding='utf-8'))
    cells = {name: {arm: {seed: read(work/name/arm/f'{seed}.json') for seed in range(SEEDS) if (work/name/arm/f'{seed}.json').exists()}
                    for arm in arms if (work/name/arm).exists()} for name in TASKS}
    headlines, pairs = work/'toi_headlines', {'mask': ('masked', 'fewgen'), 'contrast': ('cross 0.5', 'masked')}
    planes = {'1.0': 'masked', '0.9': 'intra 0.9', '0.5': 'intra 0.5', '0.0': 'intra 0.0'}
    plane = projection({delta: texts_of(work, 'toi_headlines', arm, 4) for delta, arm in planes.items()}, Embedder(max_length=TOKENS, cache=work/'embeddings.db'), most=300)
    changed = {name: {what: promoted(*(texts_of(work, name, arm).texts for arm in pair)) for what, pair in pairs.items()} for name in TASKS}
    maps = {arm: read(headlines/arm/'map.json') for arm in MAPS if (headlines/arm/'map.json').exists()}
    tests = {name: {'labels': untouched(name)[0].labels} for name in TASKS}
    mark = stamp(CausalTeacher('pocket'), USUAL | {'max_new_tokens': f"the task's, at most {TOKENS}"}, n=N, seeds=SEEDS)
    found = {'stamp': mark, 'cells': rounded(cells, 4), 'tests': tests, 'plane': plane, 'maps': maps, 'promoted': changed}
    path.write_text(json.dumps(found, allow_nan=False), encoding='utf-8')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work', type=Path, default=Path('runs/comparison'), help='folder for the datasets')
    parser.add_argument('--tasks', default=','.join(TASKS), help='tasks, with commas between')
    parser.add_argument('--parts', default=','.join(parts()), help='parts, with commas between')
    parser.add_argument('--collect', type=Path, metavar='FILE', help='only gather what is there in a file for the notebook')
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    if args.collect: return collect(args.work, args.collect)
    run(args.work, args.tasks.split(','), args.parts.split(','))


if __name__ == '__main__': main()
