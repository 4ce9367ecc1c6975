"The tests need no network, and may use the scripts in tests/tools."
import os
import signal
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault('HF_HUB_OFFLINE', '1')
os.environ.setdefault('HF_HUB_DISABLE_TELEMETRY', '1')
os.environ.setdefault('TOKENIZERS_PARALLELISM', 'false')
# What a test names as its server is not remembered for the user.
os.environ['XDG_CONFIG_HOME'] = tempfile.mkdtemp(prefix='synthlab-tests-')
os.environ.pop('OPENAI_API_KEY', None)
sys.path.insert(0, str(Path(__file__).parent/'tools'))
# A shell that starts the tests in the background ignores Ctrl-C, and so would every command that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN: signal.signal(signal.SIGINT, signal.default_int_handler)

# The same cases in every run, so that a failure is the change's; HYPOTHESIS_PROFILE=explore draws others.
settings.register_profile('same', derandomize=True)
settings.register_profile('explore', derandomize=False)
settings.load_profile(os.environ.get('HYPOTHESIS_PROFILE', 'same'))


def pytest_configure(config):
    config.addinivalue_line('markers', 'long: too slow for every run (make test-long)')


@pytest.fixture(scope='module', params=['stories260K', 'pocket'])
def teacher(request):
    "A small model that others trained, where there is one, and the embedded one."
    from synthlab.teacher.causal import CausalTeacher
    if request.param == 'pocket': return CausalTeacher('pocket')
    folder = Path(os.environ.get('SYNTHLAB_MODELS', 'missing'))/'stories260K'
    if not folder.is_dir(): pytest.skip('SYNTHLAB_MODELS does not hold stories260K')
    return CausalTeacher(folder)


@pytest.fixture(scope='module')
def cluster():
    "Ray on this machine with two processors, whatever the machine has."
    ray = pytest.importorskip('ray', reason='actors on many machines need Ray: pip install "ray[data]>=2.50"')
    from synthlab.system import join_ray
    join_ray('local', num_cpus=2)
    yield
    ray.shutdown()
