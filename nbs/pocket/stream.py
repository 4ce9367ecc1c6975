"""Training examples that are worth looking at: demonstrations near the text that follows, labels under other words,
label questions with the meaning of the labels in the demonstrations only.

Every prompt is made by the library's own functions; an example is tokens and a mark for those that are learnt.
"""
import itertools
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from synthlab.decode.model import plain_prompt
from synthlab.tasks.task import Label, Task, load_task, messages

from corpus import PARTS
from prompts import Prompts

BUILT_IN = {'ag_news': .28, 'imdb': .18, 'amazon_category': .16, 'sst2': .15, 'humor': .13, 'toi_headlines': .10}
# What each kind of prompt takes of the examples: of built-in tasks, and of those of the collection.
KINDS = {'few-shot': .52, 'classify': .06, 'simprompt': .03, 'attributes': .05, 'from attributes': .08,
         'several from attributes': .01, 'values': .01, 'contexts': .02, 'seeds': .03, 'from seed': .07, 'correct': .12}
MORE_KINDS = {'few-shot': .60, 'classify': .14, 'attributes': .03, 'from attributes': .07, 'from seed': .05,
              'correct': .11}
COLLECTION = .5                                             # share of examples that are of the collection
NEAR, NEAREST = .92, 2                                      # how often demonstrations are near, and among how many
# How often a text is taken for the nearness of its nearest neighbour, and how much that counts: what stands close to
# its demonstration shows more of how to follow one.
CLOSE, SHARPNESS = .7, 6.
ALL_NEAR = .6                                               # how often all of them are, and not only one
FIRST = .2                                                  # how often the first of several texts is learnt
# Reading off what came before has to be learnt before demonstrations can tell anything: a shown text alone saved the
# earlier teacher .04 of 1.07 nats when the very same text followed. So now and then a demonstration is most of the
# text that follows, and an example is nothing but random tokens and the same tokens again.
COPIES, REPEATED = .3, .08
SHOTS = {0: .2, 1: .28, 2: .18, 3: .16, 4: .06, 5: .04, 6: .03, 7: .025, 8: .025}
# How a label is put: the task's own words, its name in the usual words, a letter that only demonstrations explain.
WORDING = {'own': .8, 'name': .1, 'letter': .1}
MORE_WORDING = {'own': .5, 'name': .3, 'letter': .2}
LONGEST = 768


@dataclass
class Source:
    "Texts of a task with their labels; the first ones have neighbours, and are shown and written after demonstrations."
    task: Task
    texts: list
    labels: np.ndarray
    near: np.ndarray
    cosines: np.ndarray
    weight: float
    built_in: bool
    prompts: Any = None
    by_label: dict = field(default_factory=dict)
    all_of_label: dict = field(default_factory=dict)

    def __post_init__(self):
        with_near = self.labels[:len(self.near)]
        self.by_label = {label: np.flatnonzero(with_near == label) for label in self.task.label_names}
        self.by_label = {label: rows for label, rows in self.by_label.items() if len(rows)}
        self.all_of_label = {label: np.flatnonzero(self.labels == label) for label in self.by_label}
        share = np.sqrt([len(rows) for rows in self.by_label.values()])
        self.prior = share/share.sum()
        pull = np.exp(SHARPNESS*self.cosines[:, 0].astype(float))
        self.pulled = {label: pull[rows].cumsum()/pull[rows].sum() for label, rows in self.by_label.items()}


def read_source(path, task, weight, built_in):
    "A source from the files that corpus.py or collection.py, near.py and rules.py wrote."
    frame, near, cosines = pd.read_parquet(path), *(np.load(path.with_suffix(f'.{what}.npy'))
                                                    for what in ('near', 'cosines'))
    rules = path.with_suffix('.rules.parquet')
    maker = Prompts(task, pd.read_parquet(rules).to_dict('records')) if rules.exists() else None
    return Source(task, list(frame.text), frame.label.to_numpy(), near, cosines, weight, built_in, maker)


def read_sources(corpus):
    "All sources; those of the collection weigh by label signal times the root of their size."
    own = [read_source(corpus/f'{name}.parquet', load_task(name), share*(1 - COLLECTION), True)
           for name, share in BUILT_IN.items()]
    paths = [path for path in sorted(corpus.glob('more/*.toml')) if path.with_suffix('.near.npy').exists()]
    signal = pd.read_json(corpus/'more/signal.json', typ='series')
    more = [read_source(path.with_suffix('.parquet'), load_task(path), 0., False) for path in paths
            if path.stem in signal]
    weights = np.array([signal[source.task.name]*np.sqrt(len(source.texts)) for source in more])
    for source, weight in zip(more, COLLECTION*weights/weights.sum()): source.weight = float(weight)
    return own + more


def renamed(task, label, how, rng):
    "The task with its labels put in another way, and the label's name there."
    if how == 'own': return task, label
    letters = [chr(65 + i) if i < 26 else str(i) for i in rng.permutation(len(task.labels))]
    names = list(task.label_names) if how == 'name' else letters
    about = task.description if rng.random() < .3 else ''
    put = Task(name=task.name, labels=[Label(name=name) for name in names], description=about)
    return put, names[task.label_names.index(label)]


def choose(rng, shares):
    "One key, drawn by the shares."
    keys, p = list(shares), np.array(list(shares.values()))
    return keys[rng.choice(len(keys), p=p/p.sum())]


def with_share(kinds, few_shot):
    "Shares of the kinds of prompt with another one of few-shot prompts; None leaves them."
    if few_shot is None: return kinds
    rest = 1 - kinds['few-shot']
    return {kind: few_shot if kind == 'few-shot' else share*(1 - few_shot)/rest for kind, share in kinds.items()}


class Stream:
    "An endless stream of (ids, is_text) pairs; every text of a label is used before one is used again."
    def __init__(self, sources, tokenizer, seed=0, few_shot=None, copies=COPIES, repeated=REPEATED):
        self.copies, self.is_repeated = copies, repeated
        self.rng, self.tok, self.sources, self.cycles = np.random.default_rng(seed), tokenizer, sources, {}
        self.kinds = {True: with_share(KINDS, few_shot), False: with_share(MORE_KINDS, few_shot)}
        weights = np.array([source.weight for source in sources])
        self.p = weights/weights.sum()
        self._encode, self._asked = lru_cache(200_000)(self._encode), lru_cache(4000)(self._asked)

    def _encode(self, text): return self.tok(text, add_special_tokens=False)['input_ids']

    def _asked(self, n, label):
        "The prompt for a text of a label in the task's own words."
        task = self.sources[n].task
        return self._encode(plain_prompt(messages(task, label), task.cue))

    def _next(self, n, label):
        "Place of the next text of a label, of those that have neighbours."
        return self._turn((n, label), self.sources[n].by_label[label])

    def _any(self, n, label):
        "Place of the next text of a label, of all."
        return self._turn((n, label, 'all'), self.sources[n].all_of_label[label])

    def _turn(self, key, rows):
        if key not in self.cycles: self.cycles[key] = self._cycle(rows)
        return next(self.cycles[key])

    def _close(self, n, label):
        "Place of a text of a label, drawn by the nearness of its nearest neighbour."
        rows, pulled = self.sources[n].by_label[label], self.sources[n].pulled[label]
        return rows[min(np.searchsorted(pulled, self.rng.random()), len(rows) - 1)]

    def _cycle(self, rows):
        while True: yield from rows[self.rng.permutation(len(rows))]

    def _label(self, source):
        return list(source.by_label)[self.rng.choice(len(source.by_label), p=source.prior)]

    def _demonstrations(self, source, row, shots):
        """Places of demonstrations: mostly neighbours of the text, or some neighbours among any texts of its label, so
        that what is written may follow one demonstration of several."""
        rng, near = self.rng, [i for i in source.near[row][:max(NEAREST, shots)] if i >= 0]
        near = [near[i] for i in rng.permutation(len(near))[:shots if rng.random() < ALL_NEAR else 1]]
        if rng.random() >= NEAR: near = []
        others = source.by_label[source.labels[row]]
        taken = {row, *near}
        rest = [i for i in rng.choice(others, min(len(others), 2*shots + 1), replace=False) if i not in taken]
        shown = [*near, *rest][:shots]
        return [shown[i] for i in rng.permutation(len(shown))]

    def few_shot(self, n):
        "Demonstrations of one label, and one more text of it, as the library asks for it."
        source, rng = self.sources[n], self.rng
        label = self._label(source)
        shots = choose(rng, SHOTS)
        if not shots: row = self._any(n, label)
        else: row = self._close(n, label) if rng.random() < CLOSE else self._next(n, label)
        how = choose(rng, WORDING if source.built_in else MORE_WORDING) if shots or source.built_in else 'own'
        if how == 'letter' and not shots: how = 'own'
        task, name = renamed(source.task, label, how, rng)
        ask = self._asked(n, label) if how == 'own' else self._encode(plain_prompt(messages(task, name), task.cue))
        texts = [source.texts[i] for i in (*(self._demonstrations(source, row, shots) if shots else ()), row)]
        if len(texts) > 1 and rng.random() < self.copies: texts[rng.integers(len(texts) - 1)] = self._thinned(texts[-1])
        # What the label alone tells of a text is learnt from prompts without demonstrations; here it would drown out
        # what the first text tells of the next.
        learnt = [int(not shots or rng.random() < FIRST), *[1]*(len(texts) - 1)]
        return [part for text, is_learnt in zip(texts, learnt)
                for part in ((ask, 0), (self._encode(text) + [self.tok.eos_token_id], is_learnt))]

    def _thinned(self, text):
        "A text, or some of its words in their order."
        keep = choose(self.rng, {1.: .25, .8: .25, .6: .25, .4: .25})
        return ' '.join(word for word in text.split() if self.rng.random() < keep) or text

    def repeated(self):
        "Random tokens again and again: only what came before tells what comes next."
        length = int(self.rng.choice([4, 8, 16, 32, 48]))
        tokens = self.rng.integers(5, len(self.tok), length).tolist()
        return [(tokens, 0), (tokens*int(self.rng.integers(1, 4)), 1)]

    def classify(self, n):
        "Texts, each with its label, out of some of the task's labels."
        source, rng = self.sources[n], self.rng
        labels = list(source.by_label)
        if not source.built_in: labels = [labels[i] for i in rng.permutation(len(labels))[:rng.integers(2, 9)]]
        if source.built_in: task = source.task
        else: task = Task(name=source.task.name, cue=source.task.cue if rng.random() < .5 else 'Text:',
                          labels=[Label(name=label) for label in labels])
        ask, cue = self._encode(f'{task.ask_instruction()}\n{task.cue}'), self._encode(task.answer_cue)
        parts = []
        for _ in range(1 + choose(rng, {0: .4, 1: .1, 2: .15, 3: .15, 5: .1, 7: .1})):
            label = labels[rng.integers(len(labels))]
            parts += [(ask, 0), (self._encode(source.texts[self._any(n, label)]), 0), (cue, 0),
                      (self._encode(label) + [self.tok.eos_token_id], 1)]
        return parts

    def answered(self, n, kind):
        "A prompt of another kind, and its answer."
        maker, rng = self.sources[n].prompts, self.rng
        labels = [label for label, rows in maker.by_label.items() if rows]
        weights = np.sqrt([len(maker.by_label[label]) for label in labels])
        rows = maker.by_label[labels[rng.choice(len(labels), p=weights/weights.sum())]]
        prompt, target = maker.make(kind, rows[rng.integers(len(rows))], rng)
        return [(self._encode(prompt), 0), (self._encode(target) + [self.tok.eos_token_id], 1)]

    def parts(self, n):
        source = self.sources[n]
        if self.rng.random() < self.is_repeated: return self.repeated()
        kind = choose(self.rng, self.kinds[source.built_in])
        if kind == 'classify': return self.classify(n)
        if kind == 'few-shot' or source.prompts is None: return self.few_shot(n)
        return self.answered(n, kind)

    def __iter__(self):
        while True:
            parts = [([self.tok.bos_token_id], 0), *self.parts(self.rng.choice(len(self.p), p=self.p))]
            ids = list(itertools.chain.from_iterable(part for part, _ in parts))
            loss = list(itertools.chain.from_iterable([m]*len(part) for part, m in parts))
            if len(ids) <= LONGEST and sum(loss): yield ids, loss
