"""What rules say about the training texts: attributes, subjects, reasons for a label. No model writes any of it.

    python nbs/pocket/rules.py CORPUS            # CORPUS/TASK.rules.parquet, five minutes

Length, form and tense are counted; key words have the largest tf-idf weight; names are found by the package's own
rules; how strong
an opinion is comes from a linear classifier's margin. Tone, style and the like take the value, of those that the task
lists, whose
embedding is unusually close to the text's: a weak sign, which teaches the form of an answer and some of its sense.
"""
import collections
import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from synthlab.embeddings import default_embedder
from synthlab.measure.entities import RuleExtractor
from synthlab.prompt.records import GENERAL
from synthlab.tasks.task import load_task

from corpus import PARTS

WORD = r"(?u)\b[a-z][a-z'-]{2,}\b"
THING = (r"\b(?:the|an?|his|her|its|their|this|that|our|my|your) ((?:[a-z][a-z-]{2,} )?[a-z][a-z-]{2,})(?=[,.;:!?)]| "
         r"(?:is|are|was|were|has|have|had|will|of|in|on|at|to|for|with|from|by|and|or|but|that|who|which|as)\b|$)")
STOP = ENGLISH_STOP_WORDS | set("n't don't doesn't didn't isn't wasn't can't won't i'm it's i've you're that's there's "
                                "he's she's they're".split())
PLAIN_TONES = ('neutral', 'enthusiastic', 'critical', 'playful', 'earnest', 'ironic')
PLAIN_STYLES = ('plain everyday words', 'formal', 'chatty', 'technical and detailed', 'literary, rich in images')
KEY_WORDS = {'topic', 'aspect', 'product', 'product_info'}
NAMES = {'entities_and_place', 'people_and_place'}
LENGTHS = {'length', 'form_and_length'}
KINDS = {'NAME', 'PERSON', 'ORG', 'GPE', 'NORP', 'LOC', 'FAC', 'PRODUCT', 'EVENT'}


# ---- form, length and tense are counted

def sentence_count(text): return len([s for s in re.split(r'(?<=[.!?])\s+', text) if re.search(r'\w', s)])


def about(words):
    "A count as people say it."
    return f'about {words if words < 12 else 5*round(words/5) if words < 40 else 10*round(words/10)} words'


def form(text):
    "Shape of a text in words."
    n, asks = sentence_count(text), text.rstrip().endswith('?')
    if asks: return 'one question' if n < 2 else 'a statement and then a question'
    return ('one sentence', 'two sentences', 'three or four sentences')[min(max(n, 1), 3) - 1]


def length(text, key):
    "Length, with the form where the attribute asks for it."
    words = about(len(text.split()))
    return words if key == 'length' else f'{form(text)}, {words}'


def tense(text):
    "Tense of most verbs that show one."
    counts = {t: len(re.findall(p, text.lower())) for t, p in
              dict(past=r'\b(?:was|were|had|did|said|\w{3,}ed)\b',
                   future=r"\b(?:will|shall|going to|plans? to)\b|'ll\b",
                   present=r"\b(?:is|are|has|have|does|do|says)\b|'s\b").items()}
    most = max(counts, key=counts.get)
    return f'{most} tense' if counts[most] else 'no verb that shows a tense'


# ---- key words, subjects and reasons come from word counts

class Words:
    "Word statistics of one task."
    def __init__(self, texts, labels):
        self.tfidf = TfidfVectorizer(token_pattern=WORD, stop_words=list(STOP), min_df=3, sublinear_tf=True)
        X = self.tfidf.fit_transform(texts)
        self.model = LogisticRegression(C=4, max_iter=200).fit(X, labels)
        self.names, self.classes = self.tfidf.get_feature_names_out(), list(self.model.classes_)
        counts = np.stack([np.asarray((X[np.asarray(labels) == c] > 0).sum(0)).ravel() for c in self.classes])
        share = (counts + 1)/(pd.Series(labels).value_counts()[self.classes].to_numpy()[:, None] + 100)
        self.neutral = dict(zip(self.names, share.max(0)/share.sum(0) <= 1/len(self.classes) + .25))

    def key_words(self, text, n=3):
        "The words of largest weight, in the order of the text; with two labels none that tells the label."
        row = self.tfidf.transform([text])
        ranked = [w for w in self.names[row.indices[np.argsort(-row.data)]] if len(self.classes) > 2 or self.neutral[w]]
        best = set(ranked[:n])
        return list(dict.fromkeys(w for w in re.findall(WORD, text.lower()) if w in best))

    def reason(self, text, label):
        "Words that speak for the label most, as a reason of at most 48 characters."
        row, w = self.tfidf.transform([text]), self.model.coef_
        w = w[self.classes.index(label)] if len(self.classes) > 2 else w[0]*(1 if label == self.classes[1] else -1)
        order = np.argsort(-row.data*w[row.indices])[:2]
        told = [self.names[row.indices[i]] for i in order if w[row.indices[i]] > 0]
        said = f"it speaks of {' and '.join(told)}" if told else 'the whole of it'
        return said if len(said) <= 48 else f'it speaks of {told[0]}'[:48]

    def margin(self, texts, labels):
        "How far a linear classifier is on the side of the label."
        scores = self.model.decision_function(self.tfidf.transform(texts))
        return scores*np.where(np.asarray(labels) == self.classes[1], 1,
                               -1) if scores.ndim == 1 else scores[np.arange(len(labels)),
                                   [self.classes.index(l) for l in labels]]

    def things(self, text, nouns):
        """One or two words that name something and do not tell the label: what stands behind an article, or a noun that
        others put an article before."""
        low = text.lower()
        found = [m[1] for m in re.finditer(THING, low)] + [m[0] for m in re.finditer(WORD, low) if m[0] in nouns]
        return [t for t in dict.fromkeys(found) if not set(t.split()) & STOP and all(self.neutral.get(w, True)
            for w in t.split())]

    def subject(self, text, nouns):
        "The one that comes first in the text; empty if there are none."
        return min(self.things(text, nouns), key=text.lower().index, default='')


def noun_list(texts, least=4):
    "Words that stand behind an article, and at the end of what it opens, in a third of the places where they stand."
    after, all_ = collections.Counter(), collections.Counter()
    for text in map(str.lower, texts):
        all_.update(re.findall(WORD, text)); after.update(m[1].split()[-1] for m in re.finditer(THING, text))
    return {w for w, n in after.items() if n >= least and n >= all_[w]/3 and w not in STOP}


# ---- tone, style and the like: the listed value that is unusually close

def nearest(vectors, values, embedder):
    "For each text the value whose cosine stands out most among all texts."
    cosines = vectors @ np.asarray(embedder.encode(list(values))).T
    ranks = np.stack([rankdata(column) for column in cosines.T], axis=1)
    return [values[i] for i in ranks.argmax(1)]


def strengths(margins, values):
    "Values in rising order, by the margin's rank."
    return [values[min(int(r*len(values)), len(values) - 1)] for r in (rankdata(margins) - 1)/len(margins)]


def attributes(task, texts, labels, words, vectors, embedder, rng):
    "A value of every attribute for every text; the general attributes for those that a user's own task has."
    lists = {k: a.values for k, a in task.attributes.items()}
    entities = [list(dict.fromkeys(surface for kind, surface in found if kind in KINDS))[:2]
                for found in RuleExtractor()(texts)]
    close = {k: nearest(vectors, v, embedder) for k,
             v in (lists | dict(plain_tone=PLAIN_TONES, plain_style=PLAIN_STYLES)).items() if v and k not in LENGTHS}
    if 'sentiment_strength' in lists:
        close['sentiment_strength'] = strengths(words.margin(texts, labels), lists['sentiment_strength'])
    def value(key, n, special):
        if key in LENGTHS: return length(texts[n], key)
        if key in NAMES and entities[n] and rng.random() < .75: return ', '.join(entities[n]).lower()
        if key in KEY_WORDS and (special or key not in close or rng.random() < .65):
            return ', '.join(words.key_words(texts[n])) or 'none'
        said = close[f'plain_{key}' if special else key][n]
        return f'{said}, {tense(texts[n])}' if key == 'style' and rng.random() < .4 else said
    general = [{k: value(k, n, True) for k in GENERAL} for n in range(len(texts))]
    return [({k: value(k, n, False) for k in lists} or general[n], general[n]) for n in range(len(texts))]


def annotate(task, frame, nouns, words, rows=2500, seed=0):
    "The first rows of a task with what the rules say of them: attributes as JSON, a subject, a reason for the label."
    rng, frame, embedder = np.random.default_rng(seed), frame.head(rows), default_embedder()
    texts, labels = list(frame.text), list(frame.label)
    told = attributes(task, texts, labels, words, np.asarray(embedder.encode(texts)), embedder, rng)
    out = frame.assign(own=[json.dumps(own) for own, _ in told], general=[json.dumps(general) for _, general in told])
    out['subject'] = [words.subject(t, nouns) for t in out.text]
    out['reason'] = [words.reason(t, l) for t, l in zip(out.text, out.label)]
    return out


def write_rules(task, train, test, nouns, path):
    "What the rules say of a set's training texts, and of its test texts where there are some."
    words = Words(list(train.text.head(10_000)), list(train.label.head(10_000)))
    found = annotate(task, train, nouns, words)
    found.to_parquet(path.with_suffix('.rules.parquet'))
    if test is not None: annotate(task, test, nouns, words, 200).to_parquet(path.with_suffix('.test.rules.parquet'))
    print(path.stem, len(found), (found.subject != '').mean().round(3), flush=True)


if __name__ == '__main__':
    corpus = Path(sys.argv[1])
    texts = {name: pd.read_parquet(corpus/f'{name}.parquet') for name in PARTS}
    nouns = noun_list(t for frame in texts.values() for t in frame.text.head(10_000))
    for name, frame in texts.items():
        test = pd.read_parquet(corpus/f'{name}.test.parquet')
        write_rules(load_task(name), frame, test, nouns, corpus/f'{name}.parquet')
    for path in sorted(corpus.glob('more/*.toml')):
        frame = pd.read_parquet(path.with_suffix('.parquet')).sample(frac=1, random_state=0)
        write_rules(load_task(path), frame.head(300), None, nouns, path.with_suffix('.parquet'))
