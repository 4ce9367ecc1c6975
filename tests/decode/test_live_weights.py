"What is left of a group contrasts as a group of the survivors would, in every mode."
import itertools
import warnings

import pytest
import torch
from synthlab.decode.choices import CorrSynth
from synthlab.decode.contrast import contrast_weights, live_weights

GROUPS = ['aabb', 'abc', 'aabbcc', 'aaabbb', 'aaab', 'aabc']


@pytest.mark.parametrize('mode', ['cross', 'intra', 'hybrid', 'all'])
@pytest.mark.parametrize('labels', GROUPS)
def test_the_survivors_contrast_as_a_group_of_their_own(mode, labels):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        plan = CorrSynth(delta=.4, mode=mode).plan([f'{m}' for m in range(len(labels))], list(labels))
        for size in range(2, len(labels)):
            for alive in itertools.combinations(range(len(labels)), size):
                rebuilt = contrast_weights([labels[m] for m in alive], delta=.4, mode=mode)
                left = live_weights(plan.weights, [m in alive for m in range(len(labels))], plan.labels)
                left = left[list(alive)][:, list(alive)]
                # rows with nobody left to contrast with keep what is said of them in live_weights
                held = (rebuilt - torch.diag(rebuilt.diag())).abs().sum(1) > 0
                torch.testing.assert_close(left[held], rebuilt[held], atol=1e-6, rtol=0)
