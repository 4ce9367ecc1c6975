"""How fast are the word-level metrics, and how do they grow?

    python tests/benchmarks/bench_metrics.py [--peer 300] [--sizes 1000,10000,100000] [--length 30] [--repeats 3] [--json FILE]

First Self-BLEU-5 against NLTK's `sentence_bleu` on the same texts in the same run: NLTK compares each text with all others, so
its time grows with the square of the number of texts; ours is one sort per order of n-grams. The run fails if ours is not
at least 50 times as fast at 300 texts, or if the scores differ by more than 1e-12. Then seconds of each metric, intervals
included, as the number of texts grows, and the exponent of that growth over the last step (1: linear, 2: quadratic).
Texts are of independent words with Zipf's frequencies, so that the numbers do not depend on a download.
"""
import argparse
import json
import math
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from synthlab.measure.lexical import (
    compression_ratio,
    distinct_n,
    length_distribution,
    longest_shared_ngram,
    near_duplicates,
    self_bleu,
    self_bleu_scores,
    vocabulary,
    words,
)

LEAST_RATIO, ORDER = 50, 5


def zipf_texts(n_texts, length, seed=0, n_words=30_000):
    "Texts of independent words with Zipf's frequencies; their lengths vary around `length`."
    rng, share = np.random.default_rng(seed), 1/np.arange(1, n_words + 1)
    lengths = rng.poisson(length, n_texts)
    drawn = rng.choice(n_words, lengths.sum(), p=share/share.sum())
    spelled = [''.join(map(chr, 97 + np.random.default_rng(word).integers(26, size=2 + word % 8))) for word in range(n_words)]
    return [' '.join(spelled[word] for word in text) for text in np.split(drawn, lengths.cumsum()[:-1])]


def nltk_scores(texts):
    tokens, method1 = [words(text) for text in texts], SmoothingFunction().method1
    return [sentence_bleu(tokens[:i] + tokens[i+1:], own, [1/ORDER]*ORDER, method1) for i, own in enumerate(tokens)]


def seconds(run, repeats):
    "Median processor time of a call, which neighbours on the machine disturb less, and what it returned."
    times = []
    for _ in range(repeats):
        start = time.process_time()
        value = run()
        times.append(time.process_time() - start)
    return statistics.median(times), value


def against_nltk(n_texts, length, repeats):
    texts = zipf_texts(n_texts, length)
    (slow, peer), (fast, own) = seconds(lambda: nltk_scores(texts), 1), seconds(lambda: self_bleu_scores(texts, ORDER), repeats)
    return {'texts': n_texts, 'nltk': slow, 'synthlab': fast, 'ratio': slow/fast, 'difference': float(np.abs(own - peer).max())}


def metrics(length):
    others = zipf_texts(10_000, length, seed=1)
    return {'self_bleu': self_bleu, 'distinct_n': distinct_n, 'vocabulary': vocabulary, 'compression_ratio': compression_ratio,
            'length_distribution': length_distribution, 'near_duplicates, normalised': lambda texts: near_duplicates(texts, 'normalised'),
            'near_duplicates, minhash': near_duplicates, 'longest_shared_ngram, 10,000': lambda texts: longest_shared_ngram(texts, others)}


def report_peer(peer):
    print(f'Self-BLEU-{ORDER}, {peer["texts"]} texts: NLTK {peer["nltk"]:.2f} s, synthlab {peer["synthlab"]:.4f} s, '
          f'{peer["ratio"]:.0f} times as fast (at least {LEAST_RATIO}), largest difference {peer["difference"]:.0e}', flush=True)


def growth(sizes, length):
    "Measure and print the seconds of each metric at each size."
    texts, table = zipf_texts(max(sizes), length), {}
    print(f'\n{"seconds for texts":32}{"".join(f"{size:>10,}" for size in sizes)}{"growth":>10}')
    for name, run in metrics(length).items():
        run(texts[:100])                                                             # imports
        times = table[name] = [seconds(lambda: run(texts[:size]), 1)[0] for size in sizes]
        exponent = math.log(times[-1]/times[-2])/math.log(sizes[-1]/sizes[-2]) if len(sizes) > 1 else math.nan
        print(f'{name:32}{"".join(f"{t:10.2f}" for t in times)}{exponent:10.2f}', flush=True)
    return table


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('--peer', type=int, default=300); a.add_argument('--sizes', default='1000,10000,100000')
    a.add_argument('--length', type=int, default=30); a.add_argument('--repeats', type=int, default=3); a.add_argument('--json', type=Path)
    o = a.parse_args()
    sizes = [int(size) for size in o.sizes.split(',')]
    peer = against_nltk(o.peer, o.length, o.repeats)
    report_peer(peer)
    table = growth(sizes, o.length)
    if o.json: o.json.write_text(json.dumps({'against_nltk': peer, 'sizes': sizes, 'seconds': table}, indent=1))
    if o.peer >= 300 and peer['ratio'] < LEAST_RATIO or peer['difference'] > 1e-12: sys.exit('Self-BLEU is slower than promised, or not equal to NLTK')


if __name__ == '__main__': main()
