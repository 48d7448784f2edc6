"""Links and cookies of responses, through a real relay."""


async def test_an_app_can_follow_a_redirect_and_keeps_its_cookie(proxy, upstream, kit):
    upstream.script = [
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%d/base/y\r\n"
        b"Set-Cookie: s=1; Domain=127.0.0.1; Path=/base; Secure\r\nContent-Length: 0\r\n\r\n" % upstream.port
    ]
    _, fields, _ = kit.split(await proxy.get())
    assert b"Location: http://localhost/up/y" in fields
    assert b"Set-Cookie: s=1; Path=/up" in fields


async def test_a_redirect_elsewhere_is_passed_on_and_not_followed(proxy, upstream, kit):
    upstream.script = [b"HTTP/1.1 307 Go\r\nLocation: https://evil.example/\r\nContent-Length: 0\r\n\r\n"]
    status, fields, _ = kit.split(await proxy.get())
    assert status == 307
    assert b"Location: https://evil.example/" in fields
    assert upstream.requests == 1
