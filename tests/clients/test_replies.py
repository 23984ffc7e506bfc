import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.replies import decode_reply, encode_reply
from fedcore.errors import InvalidRecordError
from fedcore.record import Realm
from fedcore.signing import SigningKey, sign_record
from fedcore.wire import TrainReply, read_train_reply, train_reply_content

KEY = SigningKey.generate()


@given(st.binary(max_size=200))
def test_a_kept_reply_is_the_very_reply(order_of, update):
    reply = TrainReply(receipt=sign_record(order_of(), KEY, Realm.PRODUCTION), update=update)
    kept = encode_reply(reply)
    assert decode_reply(kept) == reply
    assert encode_reply(decode_reply(kept)) == kept
    assert read_train_reply(train_reply_content(decode_reply(kept))) == reply


def test_bytes_that_are_no_reply_are_refused():
    with pytest.raises(InvalidRecordError):
        decode_reply(b"{")
