"""Which addresses somebody may enter."""

import pytest

from homeroom.endpoints import object_to

REFUSED = """
http://sis.example.org  ftp://sis.example.org  file:///etc/passwd  gopher://sis.example.org  sis.example.org  https://
https://user:word@sis.example.org  https://a@sis.example.org  https://sis.example.org/?a=1  https://sis.example.org/#a
https://localhost  https://localhost.  https://LOCALHOST:8443  https://db.local  https://a.internal  https://intranet
https://127.0.0.1  https://127.1  https://2130706433  https://0x7f.1  https://0x7f000001  https://0177.0.0.1
https://10.0.0.1  https://172.16.1.1  https://192.168.1.1  https://169.254.169.254  https://100.64.0.1  https://0.0.0.0
https://224.0.0.1  https://255.255.255.255  https://198.18.0.1  https://[::1]  https://[::]  https://[fd00::1]
https://[fe80::1]  https://[::ffff:127.0.0.1]  https://[64:ff9b::7f00:1]  https://[2002:7f00:1::]  https://[ff02::1]
https://\uff11\uff12\uff17.0.0.1  https://127\u30020\u30020\u30021  https://a.b\u3002internal
https://sis.example.org\\@127.0.0.1  https://sis.example.org:port  https://[::1
""".split()  # noqa: SIM905 - so many are easier to read so

ACCEPTED = """
https://sis.example.org  https://sis.example.org:8443/ims/oneroster/v1p1  https://SIS.Example.org/root/
https://8.8.8.8  https://[2606:4700::1111]/ims  https://schule.münchen.de
""".split()  # noqa: SIM905 - as above


@pytest.mark.parametrize(
    "url", [*REFUSED, "https://sis.example.org/a b", "https://sis\t.example.org", "https://a\0.org"]
)
def test_refused(url: str) -> None:
    """Addresses that are not https on the public internet are refused, however they are written."""
    assert object_to(url, allow_private=False)


@pytest.mark.parametrize("url", ACCEPTED)
def test_accepted(url: str) -> None:
    """Public https addresses are accepted with any port and path."""
    assert object_to(url, allow_private=False) is None


def test_private_addresses_on_purpose() -> None:
    """Where private endpoints are allowed, loopback and plain http are; what is no web address still is not."""
    assert object_to("http://127.0.0.1:8123/ims/oneroster/v1p1", allow_private=True) is None
    assert object_to("file:///etc/passwd", allow_private=True)
