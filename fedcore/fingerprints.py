"""Eight words that two people read to each other, so that no one in between can swap a key.

The unit's operator reads the words of the request that was made on their machine; whoever enrols
the unit types them in beside the request that has arrived. Equal words mean: the same unit, node
key, transport key, governance key and realm on both sides.

The words stand for 64 bits. Who wants another key to show the words of a given request must try
2^64 keys on average, each through scrypt, which takes 32 MiB of memory and some tenth of a second.

Reference: RFC 7914 (scrypt).
"""

import hashlib

from fedcore.canonical import digest_of
from fedcore.errors import MismatchError
from fedcore.permits import Enrolment
from fedcore.record import Realm

COUNT = 8
_SALT = b"fedpact enrolment words/1"
# Easy to say and to spell, no two of them alike: what they are is part of the product for good, as
# both sides, with whatever versions, must show the same words.
_TEXT = """
acorn album amber anchor angel apple april arctic arrow artist atlas autumn avocado balcony
bamboo banana banjo barrel basket beaver belt bicycle blanket blizzard blossom bonfire bottle
branch bread bridge bronze bucket buffalo butter cabin cactus camel candle captain carpet castle
cement cherry chimney chocolate cinema circus citrus clock coconut coffee compass concert copper
coral corner cotton cradle crayon cricket crystal cupboard curtain cushion daisy dancer dentist
desert diamond dinner doctor dolphin donkey dragon drawer drum dungeon eagle echo eclipse elbow
elephant engine envelope evening factory falcon family farmer feather fern fiddle finger flag
flamingo forest fountain fruit galaxy garlic gate ghost giraffe glacier glove goblin gold gravel
guitar gymnast hammer hamster harvest helmet hippo history horizon hospital hotel hunter husband
insect iron island ivory jacket jaguar jelly jungle kangaroo kayak kettle kingdom kitchen koala
ladder lagoon lamp lantern lemon leopard lettuce library lizard lobster locket lunch machine
magnet mailbox mansion marble market meadow menu mermaid midnight mirror mosaic museum mushroom
napkin needle nephew nickel north notebook nutmeg oasis oatmeal ocean octopus office onion opera
orange orchid oxygen oyster palace panda pebble pencil pepper picnic planet poem polar postcard
potato pretzel pumpkin puzzle pyramid quarter queen rabbit radar rainbow recipe ribbon saddle
sailor salad salmon sandwich scarf school scissors shadow signal silver sister snowflake sparrow
spider spoon squirrel stadium statue summer sunflower sunset swan symbol teapot temple tennis
thunder ticket timber toast tomato toothpick tornado tractor trumpet tulip tunnel turtle
umbrella unicorn vacation vanilla velvet violin voyage waffle walnut walrus wardrobe window
winter woodland yellow zigzag
"""
WORDS: tuple[str, ...] = tuple(_TEXT.split())


def words_of(enrolment: Enrolment, governance_key: str, realm: Realm) -> str:
    """Return the eight words of an enrolment request between a unit and a governance service.

    `governance_key` is the one that the caller believes in: the unit's from its settings,
    governance's its own.
    """
    told = {
        "unit": enrolment.unit,
        "node_key": enrolment.node_key,
        "transport_key": enrolment.transport_key or "",
        "governance_key": governance_key,
        "realm": realm.value,
    }
    seed = digest_of(told).encode()
    # OpenSSL counts its own bookkeeping, too: 32 MiB as the limit would refuse exactly 32 MiB.
    drawn = hashlib.scrypt(seed, salt=_SALT, n=2**15, r=8, p=1, maxmem=2**26, dklen=COUNT)
    return " ".join(WORDS[byte] for byte in drawn)


def verify_words(typed: str, expected: str) -> None:
    """Hold typed words against the expected ones; case, commas, hyphens and spaces are free.

    Raises: MismatchError `enrolment.words_differ`, which tells none of the expected words.
    """
    said = typed.lower().replace(",", " ").replace("-", " ").split()
    if said != expected.split():
        raise MismatchError(
            "enrolment.words_differ",
            "these are not the words of this request: ask the unit's operator on the telephone for "
            "the words that `fedpact node enrol` shows, and for the request that belongs to them; "
            "if they differ again, someone may have swapped a key",
        )
