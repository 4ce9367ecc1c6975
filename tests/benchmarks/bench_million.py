"""Selection and weights of a million real and a million synthetic rows: how long, in how much memory?

    python tests/benchmarks/bench_million.py [--rows 20000] [--picks 100] [--features 2048] [--texts 128] [--evenness 1e-4] [--workers 0] [--source FILE] [--folder FOLDER] [--json FILE]
    python tests/benchmarks/bench_million.py --rows 1000000 --picks 600 --texts 4000 --source gold/agnews/train.parquet

Each step is a process of its own, which prints its seconds, its processor seconds, and its peak memory (`ru_maxrss`):

- embed: `--texts` texts by all-MiniLM-L6-v2 into blocks; from the rate follow the hours that `--rows` of them would take. They are NOT embedded here.
- make: `--rows` real and as many synthetic vectors are DRAWN around those of the texts (a text's vector plus noise of length 0.6, scaled to length 1). The synthetic side has other shares of 40 kinds of text, and a tenth of its rows in one
  place. They go through the same Parquet blocks as embedded texts would.
- select: `--picks` picks by blocks; and the variance that they leave at all rows, beside that of as many random rows.
- mmd: MMD² of the two sides.
- weights: of the synthetic rows, until the gap is a thousandth of MMD² of equal weights; and the files of the weights.

All of it is done with a tenth of the rows first. The run fails if a step's peak memory grows by more than 15% and 100 MiB with ten times as many rows (the second round of a selection, which holds the
winners of all blocks, may grow by what they take), if the gap is not reached, or if a pass of the weights takes over twice the processor time of the features alone.
With `--workers` the steps go through Ray (their processes' memory and time are not counted then). Without `--source` texts are made of drawn words.
"""
import argparse
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

KINDS, JUNK, NOISE, MOST_GROWTH, MORE, MOST_RATIO = 40, .1, .6, 1.15, 100, 2.0


def made_texts(n):
    "Texts of drawn words about some topics, so that no download is needed."
    rng = np.random.default_rng(0)
    words = np.array([''.join(map(chr, 97 + np.random.default_rng(word).integers(26, size=3 + word % 6))) for word in range(2000)])
    topics = rng.dirichlet(np.full(2000, .02), 60)
    return [' '.join(rng.choice(words, 40, p=topics[i % 60])) for i in range(n)]


def rows_of(texts, n, shares, junk, seed, block):
    "Blocks of n vectors drawn around those of the texts; `shares` are those of the kinds, and junk comes first."
    from sklearn.cluster import KMeans
    kinds = KMeans(min(KINDS, len(texts)), n_init=1, random_state=0).fit_predict(texts)
    p = np.array(shares)[kinds]/np.bincount(kinds)[kinds]
    rng, dim = np.random.default_rng(seed), texts.shape[1]
    for start in range(0, n, block):
        size = min(block, n - start)
        own = texts[rng.choice(len(texts), size, p=p/p.sum())]
        # junk is spread over all blocks
        own[:int(junk*size)] = texts[0]
        own = own + np.float32(NOISE/math.sqrt(dim))*rng.standard_normal(own.shape, dtype=np.float32)
        yield own/np.linalg.norm(own, axis=1, keepdims=True)


class Steps:
    "The steps; each returns what it has to say."

    def __init__(self, o):
        from synthlab.blocks import RayMap
        self.o, self.home = o, Path(o.folder)
        self.spread = RayMap(o.workers) if o.workers else map

    def embed(self):
        import pyarrow as pa
        import pyarrow.parquet as pq
        from synthlab.blocks import _encoder, embed_blocks
        if self.o.source: texts = pq.ParquetFile(self.o.source).read_row_group(0, columns=['text'])['text'].to_pylist()[:self.o.texts]
        else: texts = made_texts(self.o.texts)
        pq.write_table(pa.table({'text': texts}), self.home/'texts.parquet', row_group_size=256)
        _encoder('minilm').encode(['the model is loaded before the clock starts'])
        start = time.process_time()
        embed_blocks(self.home/'texts.parquet', self.home/'texts', rows=256, spread=self.spread)
        return {'texts': len(texts), 'processor seconds of the texts': time.process_time() - start}

    def make(self):
        from synthlab.blocks import find_blocks, read_block, write_block
        texts = np.concatenate([read_block(path).vectors for path in find_blocks(self.home/'texts')])
        shares = np.random.default_rng(1).dirichlet(np.full(KINDS, 2.)), np.random.default_rng(2).dirichlet(np.full(KINDS, 2.))
        for seed, (name, share, junk) in enumerate((('real', shares[0], 0), ('synthetic', shares[1], JUNK))):
            (self.home/name).mkdir()
            for number, own in enumerate(rows_of(texts, self.o.rows, share, junk, seed, self.o.block)):
                keys = [seed.to_bytes(4, 'big')*6 + (number*self.o.block + row).to_bytes(8, 'big') for row in range(len(own))]
                write_block(self.home/name/f'block-{number:06}.parquet', own, keys)
        return {'GB on disk': round(sum(path.stat().st_size for path in self.home.rglob('*.parquet'))/1e9, 3)}

    def select(self):
        from synthlab.blocks import find_blocks, sample_rows
        from synthlab.select.blocks import select_blocks, variance_left
        blocks, start = find_blocks(self.home/'real'), time.process_time()
        found = select_blocks(blocks, self.o.picks, spread=self.spread)
        picked = time.process_time()
        left = variance_left(blocks, found.vectors, found.length_scale, spread=self.spread)
        drawn = variance_left(blocks, sample_rows(blocks, self.o.picks), found.length_scale, spread=self.spread)
        return {'picks': self.o.picks, 'processor seconds of picks': picked - start, 'mean and largest variance left': left, 'by random rows': drawn}

    def mmd(self):
        from synthlab.align.blocks import mmd2_blocks
        return {'MMD²': mmd2_blocks(self.home/'real', self.home/'synthetic', n_features=self.o.features, spread=self.spread)}

    def weights(self):
        import pandas as pd
        from synthlab.align.blocks import BlockWeights
        from synthlab.blocks import find_blocks, read_block
        start = time.process_time()
        fitted = BlockWeights(self.o.features, evenness=self.o.evenness, sample=min(8192, self.o.block)).fit(self.home/'real', self.home/'synthetic', spread=self.spread)
        fit = time.process_time()
        files = fitted.write(self.home/'synthetic', self.home/'weights', self.spread)
        written = time.process_time()
        block = find_blocks(self.home/'synthetic')[0]
        vectors, bare = read_block(block).vectors, []
        for _ in range(3):
            begin = time.process_time()
            for at in range(0, len(vectors), 512): fitted.features_(vectors[at:at + 512])
            bare.append((time.process_time() - begin)/len(vectors))
        one, mean, best = time.process_time(), fitted._means[None][0], fitted._best[None]
        from synthlab.align.blocks import DualSums
        DualSums(fitted.features_, mean, best.point, fitted.evenness, np.inf)(block)
        one = (time.process_time() - one)/len(vectors)
        junk = np.concatenate([pd.read_parquet(path, columns=['weight'])['weight'].to_numpy()[:int(JUNK*min(self.o.block, self.o.rows))] for path in files[:4]])
        return {'said': repr(fitted), 'passes': fitted.passes_, 'converged': fitted.converged_, 'gap': fitted.gap_, 'MMD² of equal weights': fitted.mmd2_uniform_, 'MMD²': fitted.mmd2_,
                'mean weight of junk': float(junk.mean()), 'processor seconds of the fit': fit - start, 'of the files': written - fit, 'a pass, in the time of its features': one/float(np.median(bare))}


def measured(step, o, rows, folder):
    "Run a step in a process of its own."
    words = [sys.executable, '-W', 'ignore', __file__, '--step', step, '--rows', str(rows), '--folder', str(folder), '--picks', str(o.picks), '--features', str(o.features), '--texts', str(o.texts), '--workers', str(o.workers),
             '--block', str(o.block), '--evenness', str(o.evenness)]
    done = subprocess.run(words + (['--source', o.source] if o.source else []), stdout=subprocess.PIPE, text=True)
    if done.returncode: raise SystemExit(f'{step} failed')
    return json.loads(done.stdout.strip().splitlines()[-1])


def one_step(o):
    start, steps = time.perf_counter(), Steps(o)
    found = getattr(steps, o.step)()
    if o.workers: steps.spread.close()
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({'step': o.step, 'rows': o.rows, 'seconds': time.perf_counter() - start, 'processor seconds': used.ru_utime + used.ru_stime, 'peak MiB': used.ru_maxrss/2**10, **found}))


def shown(value): return f'{value:.4g}' if isinstance(value, float) else ', '.join(map(shown, value)) if isinstance(value, (list, tuple)) else str(value)


def one_size(o, rows, home):
    print(f'\n{rows:,} real and {rows:,} synthetic rows', flush=True)
    folder, found = home/str(rows), {}
    folder.mkdir()
    if rows != o.rows // 10: shutil.copytree(home/str(o.rows // 10)/'texts', folder/'texts')
    for step in (['embed'] if rows == o.rows // 10 else []) + ['make', 'select', 'mmd', 'weights']:
        found[step] = measured(step, o, rows, folder)
        rest = '; '.join(f'{name} {shown(value)}' for name, value in list(found[step].items())[5:])
        print(f"{step:>8} {found[step]['seconds']:8.1f} s {found[step]['processor seconds']:8.1f} s of a processor {found[step]['peak MiB']:7.0f} MiB   {rest}", flush=True)
    if 'embed' in found:
        rate = found['embed']['texts']/found['embed']['processor seconds of the texts']
        print(f'         {rate:.0f} texts a second of processor time: {o.rows:,} texts would take {o.rows/rate/3600:.1f} hours of one processor')
    shutil.rmtree(folder/'real'); shutil.rmtree(folder/'synthetic')
    return found


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('--rows', type=int, default=20_000); a.add_argument('--picks', type=int, default=100); a.add_argument('--features', type=int, default=2048)
    a.add_argument('--texts', type=int, default=128); a.add_argument('--workers', type=int, default=0); a.add_argument('--source'); a.add_argument('--folder'); a.add_argument('--json', type=Path)
    a.add_argument('--evenness', type=float, default=1e-4); a.add_argument('--block', type=int, help='rows of a block: a fortieth of the rows, at most 16,384')
    a.add_argument('--step', help=argparse.SUPPRESS)
    o = a.parse_args()
    o.block = o.block or min(16_384, max(512, o.rows//40))
    if o.step: return one_step(o)
    print(f'load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors, threads {os.environ.get("OMP_NUM_THREADS", "as the library likes")}')
    home = Path(o.folder or tempfile.mkdtemp(prefix='bench_million-'))
    home.mkdir(exist_ok=True)
    try: small, large = (one_size(o, rows, home) for rows in (o.rows // 10, o.rows))
    finally: shutil.rmtree(home)
    growth = {step: large[step]['peak MiB']/small[step]['peak MiB'] for step in large}
    print('\npeak memory beside that of a tenth of the rows: ' + ', '.join(f'{step} {ratio:.2f}' for step, ratio in growth.items()))
    print(f'load {os.getloadavg()[0]:.1f}')
    if o.json: o.json.write_text(json.dumps({'small': small, 'large': large}, indent=1))
    from synthlab.select.uncertainty import memory_needed
    room = {'select': memory_needed(-(-o.rows//o.block)*min(o.picks, o.block), o.picks, 384)/2**20}
    faults = [f'{step} grows in memory' for step in large if not o.workers and large[step]['peak MiB'] > MOST_GROWTH*small[step]['peak MiB'] + MORE + room.get(step, 0)]
    faults += [] if large['weights']['converged'] else ['the gap was not reached']
    ratio = large['weights']['a pass, in the time of its features']
    faults += [f'a pass takes {ratio:.2f} times its features'] if ratio > MOST_RATIO else []
    sys.exit('; '.join(faults) or 0)


if __name__ == '__main__': main()
