"Records of evaluations as `evaluate` returns them, made up from a seed: real-looking, and as large or as hostile as a test asks."
import numpy as np

LABELS = ('World', 'Sports', 'Business', 'Sci/Tech')
WORDS = {
    'World': 'talks officials border said capital minister troops agreed tuesday region government leaders peace vote city reported'.split(),
    'Sports': 'season coach points game second win team players half league final night scored home title record'.split(),
    'Business': 'shares quarter profit oil prices company market rose billion analysts sales percent deal investors bank growth'.split(),
    'Sci/Tech': 'software users network researchers space internet version security computer study music online data phone search launched'.split()}
HOSTILE = ('<script>document.title="broken"</script><img src=x onerror="document.title=\'broken\'">', '"\'`--></style></script><!-- {{ 7*7 }} ]]>',
           'from left \u202e to right and never back \u2067 again', 'שלום עולם 123 (abc)', 'x'*10_000, 'a\x00b\x1b[31mred\x1b[0m\x07', 'half of a pair \ud800, and \udc00',
           'Z\u0335\u0321\u0327\u0322'*200, '\n'*300 + 'far below', '</textarea></details></section></main><style>*{display:none}</style>', 'zero\u200bwidth\ufeff', '👩\u200d🚀'*400)


def texts(label, n, rng, length=(10, 34)):
    "Made-up sentences of a label."
    vocabulary = WORDS.get(label, WORDS['World'])
    return [' '.join(rng.choice(vocabulary, rng.integers(*length))).capitalize() + '.' for _ in range(n)]


def metric(name, value, half=None, n=96, better='higher', settings=None, **details):
    "An entry as `Metric.to_dict` writes it."
    interval = None if half is None else [round(value - half, 4), round(min(value + half, 1.) if value <= 1 else value + half, 4)]
    return {'name': name, 'value': value, 'interval': interval, 'level': .95, 'n': n, 'better': better, 'settings': settings or {}, 'details': details}


def matrix(labels, own, other, rng): return {a: {b: round(float((own if a == b else other) + rng.normal(0, .02)), 3) for b in labels} for a in labels}


def plane(labels, n, rng):
    "Points of two sets in one plane; the synthetic one is narrower."
    middles, sets = rng.normal(0, 14, (len(labels), 2)), []
    for name, spread in [('gold', 5.), ('synthetic', 3.5)]:
        own = np.arange(n) % len(labels)
        x, y = (middles[own] + rng.normal(0, spread, (n, 2))).round(2).T.tolist()
        sets.append({'name': name, 'x': x, 'y': y, 'label': [labels[i] for i in own]})
    return {'method': 'tsne', 'sets': sets}


def sections(labels, n, rng, shift=0.):
    "Measures of every section, two of them skipped."
    first, second = texts(labels[0], 2, rng)
    copies = [{'row': 3, 'cosine': .97, 'shared words': 11, 'copy': True, 'text': first, 'other': first[:-1] + ', again.'}, {'row': 17, 'cosine': .88, 'shared words': 5, 'copy': False, 'text': second, 'other': texts(labels[-1], 1, rng)[0]}]
    quantiles = {'0%': .11, '25%': .38, '50%': .47, '75%': .58, '100%': .97}
    per_class = {label: {'f1': round(.72 + .04*i, 3), 'precision': round(.7 + .05*i, 3), 'recall': round(.75 + .03*i, 3), 'support': 1900} for i, label in enumerate(labels)}
    bins = [{'confidence': (i + .5)/15, 'accuracy': max(0., (i + .5)/15 - .12*i/15), 'n': 10*i + 3} for i in range(4, 15)]
    return {
        'diversity': [
            metric('self_bleu', .312 + shift/2, .012, n, 'lower', {'n': 5, 'tokenizer': 'words', 'smoothing': 'method1'}),
            metric('distinct_2', .713 - shift, .011, n, settings={'n': 2, 'tokens': 2196}),
            metric('vocabulary', 812., 14., n, settings={'size': n}), metric('compression_ratio', 2.61, .05, n, 'lower'),
            metric('length', 22.4, .9, n, '', histogram={'edges': [float(x) for x in range(0, 60, 4)], 'counts': [0, 1, 4, 9, 18, 22, 17, 12, 7, 3, 2, 1, 0, 0], 'gold': [0, 0, 2, 5, 9, 16, 21, 19, 12, 7, 4, 2, 2, 1]}),
            metric('entity_entropy', 2.87, .21, n, settings={'extractor': 'rules'}, types={'GPE': {'entropy': 3.4, 'n': 61}, 'ORG': {'entropy': 2.2, 'n': 33}}),
            metric('vendi_score', 38.2, 2.1, n, settings={'encoder': 'all-MiniLM-L6-v2', 'q': 1}) | {'gold': metric('vendi_score', 57.9, 2.4, n)},
            metric('near_duplicates', .031, .02, n, 'lower', {'method': 'minhash', 'threshold': .8}, duplicates=3, examples=[{'row': 40, 'earlier': 12, 'similarity': .91, 'text': second, 'twin': second + ' Again.'}])],
        'fidelity': [
            metric('label_preservation', .906 - shift, .045, n, settings={'classifier': 'logistic regression on embeddings'}, judge={'accuracy': .884, 'interval': [.877, .891], 'n': 7600}, confusion=matrix(labels, .9, .03, rng)),
            metric('label_cosine', .148, .02, n, settings={'encoder': 'all-MiniLM-L6-v2'}, matrix=matrix(labels, .31, .12, rng), matrix_with_self_pairs=matrix(labels, .35, .12, rng), within=.31, between=.16)],
        'distribution': [
            metric('coverage', .641 - 2*shift, .06, n, settings={'k': 5}, measures={'precision': {'value': .91, 'interval': [.86, .95]}, 'recall': {'value': .44, 'interval': [.38, .5]}}, expected=.969),
            {'name': 'mauve', 'skipped': 'mauve-text is not installed: pip install "synthlab-text[mauve]" (it is GPLv3, and so is optional)'},
            metric('entity_bias', .38, .07, n, 'lower', {'extractor': 'rules'}, noise_floor=.21)],
        'memorisation': [
            metric('novelty_demonstrations', .948 + shift/4, .03, n, references={'demonstrations': {'size': 20, 'copies': 5, 'cosine': quantiles, 'worst': copies}}),
            metric('novelty_train', .99, .01, n, references={'train': {'size': 4999, 'copies': 1, 'cosine': quantiles, 'worst': copies[1:]}}), metric('novelty_test', 1., .02, n)],
        'student': [
            metric('student_synthetic', .741 - shift, .012, 7600, settings={'student': 'minilm', 'recipe': 'quick', 'seeds': [0, 1, 2]}, seeds=[.744, .739, .741], per_class=per_class, ece=.083, calibration=bins, confusion=matrix(labels, .74, .08, rng)),
            metric('student_gold', .823, .010, 7600, per_class={label: row | {'f1': round(row['f1'] + .08, 3)} for label, row in per_class.items()}, calibration=bins), metric('student_both', .831 - shift/3, .009, 7600),
            metric('cartography', .71, None, n, '', confidence=rng.beta(6, 2, n).round(3).tolist(), variability=rng.beta(2, 9, n).round(3).tolist(), correctness=rng.integers(0, 7, n).tolist()),
            metric('pvi', .83, .1, n, **{'values': rng.normal(.8, .7, n).clip(-3, 2).round(3).tolist(), 'gold values': rng.normal(1.1, .5, n).clip(-3, 2).round(3).tolist()})]}


def made_record(name='demo-corrsynth', n=96, labels=LABELS, seed=0, shift=0., samples=24, hostile=False, delta=.9, figures=True):
    "The record of one evaluation; drawings take most of the time of a page, and can be left out."
    rng, labels = np.random.default_rng(seed), list(labels)
    accepted = {label: n//len(labels) for label in labels}
    total = sum(accepted.values())
    kept = {label: [{'id': f'{name}-{seed}-{i:04}', 'text': text, 'group': i} for i, text in enumerate(texts(label, samples, rng))] for label in labels}
    record = {
        'schema': 1, 'synthlab': '0.1.0', 'name': name, 'task': 'ag_news', 'labels': labels,
        'counts': {'asked': total, 'candidates': total + 24, 'accepted': accepted, 'rejected': {'trimmed': 20, 'repeats a demonstration': 4}, 'failed': {}},
        'sizes': {'rows': total, 'gold_test': 7600, 'gold_train': 4999, 'compared': min(total, 2000)},
        'sections': sections(labels, min(n, 2000), rng, shift), 'projection': plane(labels, min(n, 500), rng), 'samples': kept,
        'provenance': {'recipe': {'n': total, 'seed': seed, 'method': {'name': 'CorrSynth', 'gamma': 1.0, 'delta': delta, 'alpha': .001, 'mode': 'cross'}, 'teacher': {'name': 'pocket', 'dtype': 'float32'},
                                  'task': {'name': 'ag_news', 'instruction': 'Write a {{ verbalisation }} news item.'}}, 'seconds': 41.7, 'embedder': 'all-MiniLM-L6-v2', 'student': 'minilm'}}
    if not figures: _without_figures(record)
    return _poisoned(record) if hostile else record


def _without_figures(record):
    "Take out what is drawn."
    record['projection'] = None
    for entries in record['sections'].values():
        for entry in entries:
            for key in ('histogram', 'calibration', 'confidence', 'variability', 'values', 'gold values'): entry.get('details', {}).pop(key, None)


def _poisoned(record):
    "The record with hostile text wherever a text can stand."
    for label, rows in record['samples'].items(): rows[:0] = [{'id': bad[:60], 'text': bad, 'group': 0} for bad in HOSTILE]
    bad = HOSTILE[0] + HOSTILE[2] + '\x00\ud800' + 'y'*500
    record |= {'name': bad, 'task': bad, 'labels': [*record['labels'][:-1], bad]}
    last = list(record['samples'])[-1]
    record['samples'][bad], record['counts']['accepted'][bad] = record['samples'].pop(last), record['counts']['accepted'].pop(last)
    record['counts']['failed'] = {bad: 0}
    for points in (record['projection'] or {'sets': []})['sets']: points['label'] = [bad if label == last else label for label in points['label']]
    for entries in record['sections'].values():
        for entry in entries[:2]:
            if 'details' in entry: entry['details'] |= {bad: bad, 'texts': [{'text': text, 'other': text, bad: .5} for text in HOSTILE], 'matrix': {bad: {bad: .1, 'b': .2}, 'b': {bad: .3, 'b': .4}}}
        entries.append({'name': 'mauve', 'skipped': bad}); entries.append(metric(bad, .5, .1, settings={bad: bad}))
    record['provenance']['recipe'] |= {bad: {bad: bad}}
    return record
