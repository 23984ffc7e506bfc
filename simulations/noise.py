"""Seeded randomness. Exists here only: no other package can make a stream from a seed."""

import hashlib
import hmac

from fedcore.privacy.events import NoiseSource
from fedcore.privacy.noise import KeyStream, RandomSource


class SeededNoise:
    """Streams that a seed repeats, one of its own for each unit, order and purpose.

    Guarantees: streams of different units, orders or purposes are independent, also under one seed.
    """

    kind: NoiseSource = "seeded-simulation"

    def __init__(self, seed: int) -> None:
        self._key = hashlib.sha256(f"fedpact.simulation/{seed}".encode()).digest()

    def stream(self, unit: str, order: str, purpose: str) -> KeyStream:
        """Return the stream of this unit, order and purpose."""
        parts = [part.encode() for part in (unit, order, purpose)]
        label = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return KeyStream(hmac.new(self._key, label, hashlib.sha256).digest())


def split_key(noise: RandomSource, unit: str) -> bytes:
    """Return the key by which a simulated unit sets customers aside.

    Guarantees: the same one in each run of a seed, which would else set other customers aside.
    """
    return noise.stream(unit, "split", "key").words(4).tobytes()
