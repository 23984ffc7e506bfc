"""Random numbers that a privacy claim may rest on: AES-CTR key streams, 53-bit uniforms, float64.

Nothing here takes a seed. `SystemNoise` draws every key from the operating system; seeded sources
exist in `simulations` only and say so in every receipt.
Reference: Box and Muller (1958); floating-point caveats: Mironov (2012), Holohan and Braghin
    (2021).
"""

import math
import os
from collections.abc import Callable
from typing import Protocol

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from fedcore.privacy.events import NoiseSource

Floats = NDArray[np.float64]


def turn(angles: Floats, cosines: Floats, sines: Floats) -> None:
    """Fill in the cosines and sines of angles."""
    np.cos(angles, out=cosines)
    np.sin(angles, out=sines)


class KeyStream:
    """Numbers from AES-256 in counter mode under one 32-byte key, used for one purpose only."""

    def __init__(self, key: bytes) -> None:
        self._cipher = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()

    def uniforms(self, count: int) -> Floats:
        """Return independent uniform numbers in (0, 1], multiples of 2**-53; shape (count,)."""
        found = (self.words(count) >> np.uint64(11)).view(np.int64).astype(np.float64)
        found += 1.0
        found *= 2.0**-53
        return found

    def below(self, count: int, rate: float) -> NDArray[np.intp]:
        """Return which of the next `count` uniform numbers are at most `rate`, in order.

        The answer that `uniforms` would give, from its words: (word >> 11) + 1 is at most
        rate * 2**53, which a float64 holds exactly.
        """
        words, limit = self.words(count), math.floor(rate * 2.0**53) << 11
        return np.flatnonzero(words < np.uint64(limit)) if limit < 2**64 else np.arange(count)

    def normals(self, count: int, turn: Callable[[Floats, Floats, Floats], None] = turn) -> Floats:
        """Return independent standard normal numbers, shape (count,).

        The tail ends at 8.57 standard deviations, beyond which lies a mass of 1e-17.
        Args: `turn` fills in cosines and sines in float64; they take most of the time.
        """
        pairs = (count + 1) // 2
        radius, angle = self.uniforms(2 * pairs).reshape(2, pairs)
        np.log(radius, out=radius)
        radius *= -2.0
        np.sqrt(radius, out=radius)
        angle *= 2.0 * np.pi
        found = np.empty((2, pairs))
        turn(angle, found[0], found[1])
        found *= radius
        return found.reshape(-1)[:count]

    def words(self, count: int) -> NDArray[np.uint64]:
        """Return independent words of 64 uniform bits, shape (count,)."""
        return np.frombuffer(self._cipher.update(bytes(8 * count)), dtype="<u8")


class RandomSource(Protocol):
    """Where a node's noise and sampling come from."""

    @property
    def kind(self) -> NoiseSource:
        """What the receipt says about the source."""

    def stream(self, unit: str, order: str, purpose: str) -> KeyStream:
        """Return a stream of its own for one purpose (`noise`, `sampling`) of one order."""


class SystemNoise:
    """The operating system's generator: a fresh 256-bit key for every stream."""

    kind: NoiseSource = "float64-os"

    def stream(self, unit: str, order: str, purpose: str) -> KeyStream:  # noqa: ARG002
        """Return a stream under a fresh key; the arguments play no part."""
        return KeyStream(os.urandom(32))
