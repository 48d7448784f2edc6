"""The header fields of a token."""

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
