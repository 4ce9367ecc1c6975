"Projected gradients equal the projection of autograd's own, in other model families too, and leave the model as it was."
from types import SimpleNamespace

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from synthlab.measure.gradients import g_vendi, gradient_features, linear_layers

FAMILIES = {'gpt2': lambda: GPT2LMHeadModel(GPT2Config(n_layer=2, n_head=2, n_embd=16, vocab_size=50, n_positions=32)),
            'llama': lambda: LlamaForCausalLM(LlamaConfig(num_hidden_layers=2, num_attention_heads=2, hidden_size=16,
                                                          intermediate_size=24, vocab_size=50, max_position_embeddings=32))}
TEXTS = ['the cat', 'a much longer sentence', 'oil']


def small(family):
    "A teacher with random weights that reads letters."
    torch.manual_seed(0)
    model = FAMILIES[family]().eval().requires_grad_(False)
    return SimpleNamespace(model=model, name=family, pad_id=0, device=torch.device('cpu'),
                           encode=lambda texts: [[ord(c) % 50 for c in text] for text in texts])


def exact(teacher, text, layers):
    "The full gradients of one text, each as (in, out) or (out, in) as the layer keeps it."
    weights = [layer.weight.requires_grad_(True) for layer in layers]
    ids = torch.tensor(teacher.encode([text]))
    loss = teacher.model(input_ids=ids, labels=ids).loss                     # transformers' own loss
    found = torch.autograd.grad(loss, weights)
    for weight in weights: weight.requires_grad_(False)
    return torch.cat([g.flatten() for g in found])


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('blocks', [1, 2])
def test_cosines_are_those_of_the_full_gradients(family, blocks):
    teacher = small(family)
    layers = linear_layers(teacher.model, blocks)
    full = torch.nn.functional.normalize(torch.stack([exact(teacher, text, layers) for text in TEXTS]))
    z = torch.from_numpy(gradient_features(TEXTS, teacher, n_features=20000, blocks=blocks, batch_size=2, progress=False))
    assert torch.allclose(z @ z.T, full @ full.T, atol=5/20000**.5)


@pytest.mark.parametrize('family', FAMILIES)
def test_the_model_stays_as_it_was(family):
    teacher = small(family)
    before = {name: value.clone() for name, value in teacher.model.state_dict().items()}
    g_vendi(TEXTS, teacher, n_features=8, progress=False)
    assert not any(weight.requires_grad for weight in teacher.model.parameters())
    assert not any(module._forward_hooks for module in teacher.model.modules())
    assert all(torch.equal(before[name], value) for name, value in teacher.model.state_dict().items())


def test_the_batch_size_does_not_matter():
    one, all_ = (gradient_features(TEXTS, small('llama'), n_features=64, batch_size=n, progress=False) for n in (1, 3))
    assert abs(one - all_).max() < 1e-5


def test_a_text_of_one_token_is_refused():
    with pytest.raises(ValueError, match="two tokens for a gradient, got 'x'"): gradient_features(['x', 'yes'], small('gpt2'))
