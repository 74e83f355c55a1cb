"""What this machine can do at most, and how long a program takes to start on it."""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryFile

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from tests.benchmarks.measuring import Sample, timed
from tests.benchmarks.scene import Scene
from tests.world import private_key

ROOT = Path(__file__).parent.parent.parent


def signatures(_scene: Scene, count: int) -> Sample:
    """RS256 signatures with an RSA key of 2048 bits: a probe needs one."""
    key = private_key()
    with timed(count) as sample:
        for number in range(count):
            key.sign(b"%d" % number, PKCS1v15(), SHA256())
    return sample


def syncs(scene: Scene, count: int) -> Sample:
    """Writes that are on the disk; a commit of the ledger needs several, a message two commits."""
    with TemporaryFile(dir=scene.folder) as file, timed(count) as sample:
        for _ in range(count):
            file.write(b"x" * 512)
            file.flush()
            os.fsync(file.fileno())
    return sample


def waiting(_scene: Scene, users: int, delay: float, concurrency: int) -> Sample:
    """Nothing but the delays of the answers, so many at a time."""
    return Sample(users, wall=users * delay / concurrency)


def start(scene: Scene, *words: str) -> Sample:
    """Python started once with these words, in the scene's folder."""
    with timed(1) as sample:
        subprocess.run(
            [sys.executable, *words],
            cwd=scene.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            check=True,
        )
    return sample
