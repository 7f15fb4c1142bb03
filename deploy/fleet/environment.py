"""The environment of a child: what it needs to run, and nothing of the parent's secrets."""

from collections.abc import Mapping

# Everything else stays behind: cloud keys, database URLs and tokens of the control plane are no business of a model,
# which is a program somebody else wrote.
PASSED_ON = (
    "PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "PYTHONPATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH",
    "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "KMP_BLOCKTIME", "MALLOC_ARENA_MAX", "CUDA_VISIBLE_DEVICES", "XLA_FLAGS",
    "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "TF_ENABLE_ONEDNN_OPTS", "TF_CPP_MIN_LOG_LEVEL",
    "TF_FORCE_GPU_ALLOW_GROWTH",
)  # fmt: skip

DEFAULTS = {
    "LANG": "C.UTF-8",
    "TF_CPP_MIN_LOG_LEVEL": "2",  # TensorFlow's banners would otherwise be the "last words" in a worker's log
    "PYTHONUNBUFFERED": "1",  # so that the last words of a worker that is killed are in its log
    "PYTHONSAFEPATH": "1",  # `python -m serving` must not pick up a folder called serving from where it was started
}

# With these a process can be recognised in /proc, even one that was spawned a moment before the control plane died
# and never made it into the ledger.
MARK_FLEET = "TEAL_FLEET"
MARK_PROCESS = "TEAL_PROCESS"


def child_environment(parent: Mapping[str, str], *, fleet: str, process: str, threads: int = 0) -> dict[str, str]:
    """Environment for a child of the fleet with token `fleet`. `process` names this one incarnation; `threads` > 0
    bounds what numerical libraries start behind the engine's back."""
    env = {**DEFAULTS, **{name: parent[name] for name in PASSED_ON if name in parent}}
    if threads > 0:
        env |= {"OMP_NUM_THREADS": str(threads), "TF_NUM_INTRAOP_THREADS": str(threads)}
    return {**env, MARK_FLEET: fleet, MARK_PROCESS: process}
