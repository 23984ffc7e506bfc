"""The first administrator: whoever has the code of the host, once, and within a day."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from fedcore.errors import ConflictError, ExpiredError, ForbiddenError, InvalidRecordError
from fedcore.gateway_http import HttpGateway
from governance.auth import make_api_key
from governance.claims import LIFETIME, issue_code
from registry.database import Database


class Empty:
    """A service without any account."""

    def __init__(self, world):
        self.clock, self.world = world.clock, world
        self.database = Database(world.settings.database_url)

    def code(self):
        return issue_code(self.database, self.clock.now)

    def claim(self, code, name="ada", key=None):
        api_key, kept = key or make_api_key()
        self.world.gateway().claim(code, name, (kept.key_id, kept.key_hash))
        return api_key

    def opens(self, api_key):
        return HttpGateway(self.world.client, api_key).list_units() == ()


@pytest.fixture
def empty(make_world):
    made = make_world(first_admin=False)
    service = Empty(made)
    yield service
    service.database.close()


def test_the_code_makes_the_first_administrator(empty):
    api_key = empty.claim(empty.code())
    assert empty.opens(api_key)


def test_a_code_cannot_be_guessed(empty):
    code = empty.code()
    assert re.fullmatch("([a-z2-7]{4}-){7}[a-z2-7]{4}", code)  # 160 bits
    assert code != empty.code()


def test_a_code_is_taken_as_people_type_it(empty):
    code = empty.code().upper().replace("-", " ")
    assert empty.opens(empty.claim(f"  {code} "))


def test_the_code_itself_is_not_kept(empty):
    code = empty.code().replace("-", "")
    assert code.encode() not in empty.world.stored()


@pytest.mark.parametrize("wrong", ["x", "aaaa-bbbb", "", "a" * 32])
def test_a_wrong_code_opens_nothing(empty, wrong):
    code = empty.code()
    with pytest.raises((ForbiddenError, InvalidRecordError)):
        empty.claim(wrong)
    assert empty.opens(empty.claim(code))


def test_without_any_code_there_is_nothing_to_claim(empty):
    with pytest.raises(ForbiddenError, match=r"code\.wrong"):
        empty.claim("a" * 32)


def test_a_code_counts_for_a_day(empty):
    code = empty.code()
    empty.clock.tick(seconds=LIFETIME.total_seconds())
    with pytest.raises(ExpiredError, match=r"code\.expired"):
        empty.claim(code)
    empty.clock.tick(seconds=-1)
    assert empty.opens(empty.claim(code))
    assert timedelta(hours=24) == LIFETIME


def test_a_fresh_code_takes_the_place_of_the_one_before(empty):
    first, second = empty.code(), empty.code()
    with pytest.raises(ForbiddenError, match=r"code\.wrong"):
        empty.claim(first)
    empty.claim(second)


def test_a_code_is_used_once(empty):
    code = empty.code()
    empty.claim(code)
    with pytest.raises(ConflictError, match=r"code\.used"):
        empty.claim(code)


@pytest.mark.parametrize("other_name", [False, True])
def test_a_claim_whose_answer_was_lost_can_be_repeated_as_it_was(empty, other_name):
    code, key = empty.code(), make_api_key()
    empty.claim(code, key=key)
    if other_name:
        with pytest.raises(ConflictError, match=r"code\.used"):
            empty.claim(code, "eve", key)
    else:
        empty.clock.tick(hours=100)
        assert empty.opens(empty.claim(code, key=key))


@pytest.mark.databases
def test_of_concurrent_claims_one_wins(empty):
    code = empty.code()

    def attempt(number):
        try:
            return empty.claim(code, f"number-{number}")
        except ConflictError as error:
            return error.code

    with ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(attempt, range(6)))
    assert outcomes.count("code.used") == 5
    [winner] = [item for item in outcomes if item != "code.used"]
    assert empty.opens(winner)


def test_there_is_no_code_once_there_is_an_account(empty):
    code = empty.code()
    empty.claim(code)
    with pytest.raises(ConflictError, match=r"account\.exists"):
        empty.code()


def test_a_code_from_before_does_not_outlive_an_account_that_came_otherwise(make_world):
    world = make_world()
    service = Empty(world)
    with pytest.raises(ConflictError, match=r"account\.exists"):
        service.code()
    service.database.close()
