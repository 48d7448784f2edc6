"""A token as requests carry it."""

import pytest

from proxy.config.attach import AttachBasic, AttachField, AttachQuery
from proxy.secret import Secret
from proxy.tokens.attachment import Attachment


def test_its_fields_are_ready_to_be_written():
    assert Attachment(Secret("abc.def~")).fields == b"\r\nAuthorization: Bearer abc.def~"


def test_it_gives_the_token_itself_to_the_command_that_prints_it():
    assert Attachment(Secret("abc")).access_token == Secret("abc")


def test_it_shows_no_token():
    attachment = Attachment(Secret("abc"))
    assert "abc" not in repr(attachment)
    assert "abc" not in f"{attachment}"


def test_each_token_has_its_own_attachment():
    assert Attachment(Secret("abc")) != Attachment(Secret("abc"))


PLACES = [  # places, fields, query
    ((), b"\r\nAuthorization: Bearer t/k+=", b""),
    ((AttachField(),), b"\r\nAuthorization: Bearer t/k+=", b""),
    ((AttachField(scheme="token"),), b"\r\nAuthorization: token t/k+=", b""),
    ((AttachField(header="X-Api-Key", scheme=""),), b"\r\nX-Api-Key: t/k+=", b""),
    ((AttachField(header="X-Api-Key", scheme="Key"),), b"\r\nX-Api-Key: Key t/k+=", b""),
    ((AttachBasic(basic_user="x"),), b"\r\nAuthorization: Basic eDp0L2srPQ==", b""),
    ((AttachBasic(basic_user="ü"),), b"\r\nAuthorization: Basic w7w6dC9rKz0=", b""),
    ((AttachQuery(query="key"),), b"", b"key=t%2Fk%2B%3D"),
    ((AttachQuery(query="a&b"), AttachQuery(query="c")), b"", b"a%26b=t%2Fk%2B%3D&c=t%2Fk%2B%3D"),
    (
        (AttachField(), AttachField(header="DD-Api-Key", scheme=""), AttachQuery(query="k")),
        b"\r\nAuthorization: Bearer t/k+=\r\nDD-Api-Key: t/k+=",
        b"k=t%2Fk%2B%3D",
    ),
]


@pytest.mark.parametrize(("places", "fields", "query"), PLACES)
def test_a_token_is_where_the_configuration_says(places, fields, query):
    attachment = Attachment(Secret("t/k+="), places)
    assert (attachment.fields, attachment.query) == (fields, query)
    assert attachment.access_token == Secret("t/k+=")
