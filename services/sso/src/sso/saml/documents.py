"""XML from strangers: bounded, in UTF-8, without a document type, read by one parser and by no other.

What is refused here is refused before a parser or a decoder does any work that a stranger could make dear. SAML needs
neither entities nor processing instructions, so there are none.
"""

from __future__ import annotations

import re
import zlib
from base64 import b64decode
from binascii import Error as Base64Error
from typing import Final

from lxml import etree

MOST_BYTES: Final = 256 * 1024
"""Of a SAML message, before and after every decoding."""
MOST_DEPTH: Final = 40
MOST_ELEMENTS: Final = 5_000
MOST_NAMESPACES: Final = 2_000
"""Declarations of namespaces in a document: canonicalisation looks at each of them for every element below."""
MOST_ATTRIBUTES: Final = 50
"""Of one element."""

_DECLARATION: Final = re.compile(r"""<\?xml\s+version\s*=\s*(["'])1\.0\1([^?>]*)\?>""")
_ENCODING: Final = re.compile(r"""\sencoding\s*=\s*(["'])([^"']*)\1""")
_MARKUP: Final = re.compile(r"<!(?!--|\[CDATA\[)")

Element = etree._Element  # noqa: SLF001 - lxml's own name for the type of an element; there is no public one
Instruction = etree._ProcessingInstruction  # noqa: SLF001 - likewise


class DocumentError(ValueError):
    """A document that is not read. The text is a few words of ours, and nothing of the document."""


def make_parser() -> etree.XMLParser:
    """The one way XML is parsed here: no entities, no document type, no network, no huge trees."""
    return etree.XMLParser(
        encoding="utf-8",  # libxml2 would guess another one from the first bytes
        resolve_entities=False,
        load_dtd=False,
        dtd_validation=False,
        no_network=True,
        huge_tree=False,
        recover=False,
    )


def parse(document: bytes, *, most: int = MOST_BYTES) -> Element:
    """The root of a document. Raises DocumentError for whatever no honest SAML message has."""
    if len(document) > most:
        raise DocumentError("the document is too large")
    _check_text(document)
    try:
        root = etree.fromstring(document.removeprefix(b"\xef\xbb\xbf"), make_parser())
    except (etree.XMLSyntaxError, ValueError):
        raise DocumentError("the document is not well-formed XML") from None
    _check_tree(root)
    return root


def decode_base64(text: str) -> bytes:
    """The bytes of a form field or URL parameter. Raises DocumentError; line breaks and spaces don't matter."""
    if len(text) > MOST_BYTES * 4 // 3 + 1024:
        raise DocumentError("the message is too large")
    try:
        decoded = b64decode("".join(text.split()), validate=True)
    except (Base64Error, ValueError):
        raise DocumentError("the message is not base64") from None
    if len(decoded) > MOST_BYTES:
        raise DocumentError("the message is too large")
    return decoded


def inflate(compressed: bytes) -> bytes:
    """What the redirect binding compressed (SAML bindings §3.4.4.1). Raises DocumentError; it stops at `MOST_BYTES`."""
    unpacking = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        document = unpacking.decompress(compressed, MOST_BYTES + 1)
    except zlib.error:
        raise DocumentError("the message is not compressed as agreed") from None
    if len(document) > MOST_BYTES:
        raise DocumentError("the message is too large")
    if not unpacking.eof or unpacking.unused_data:
        raise DocumentError("the message is not compressed as agreed")
    return document


def deflate(document: bytes) -> bytes:
    """A message of ours for the redirect binding."""
    packing = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packing.compress(document) + packing.flush()


def text_of(element: Element | None) -> str:
    """The whole text of an element that holds nothing but text, without space around it. Raises DocumentError.

    A comment within would split the text, and everything after it would be lost to whoever reads `element.text`
    (CVE-2017-11427); an element with anything inside is refused.
    """
    if element is None:
        raise DocumentError("an element is missing")
    if len(element):
        raise DocumentError("an element holds more than text")
    return (element.text or "").strip(" \t\r\n")


def _check_text(document: bytes) -> None:
    """Look at the bytes before any parser does: the encoding, and whether there is a document type.

    A zero is in no XML, but in every second byte of UTF-16, which passes for UTF-8 otherwise.
    """
    if b"\0" in document:
        raise DocumentError("the document is not in UTF-8")
    try:
        text = document.decode("utf-8")
    except UnicodeDecodeError:
        raise DocumentError("the document is not in UTF-8") from None
    text = text.removeprefix("\ufeff").lstrip(" \t\r\n")
    if text.startswith("<?xml"):
        declaration = _DECLARATION.match(text)
        if declaration is None:
            raise DocumentError("the document's XML declaration can't be read")
        encoding = _ENCODING.search(declaration[2])
        if encoding is not None and encoding[2].lower() != "utf-8":
            raise DocumentError("the document is not in UTF-8")
    if _MARKUP.search(text) is not None:
        raise DocumentError("the document has a document type")


def _check_tree(root: Element) -> None:
    """Bound what later steps have to walk, and refuse what makes canonicalisation fail or differ."""
    around = [*root.itersiblings(preceding=True), *root.itersiblings()]
    if any(isinstance(one, Instruction) for one in [*around, *root.iter(etree.PI)]):
        raise DocumentError("the document has a processing instruction")
    if next(root.iter(etree.Entity), None) is not None or root.getroottree().docinfo.internalDTD is not None:
        raise DocumentError("the document has a document type")
    for number, element in enumerate(root.iter(etree.Element), 1):
        if number > MOST_ELEMENTS:
            raise DocumentError("the document is too large")
        if len(element.attrib) > MOST_ATTRIBUTES:
            raise DocumentError("an element has too many attributes")
    _check_nesting(root)


def _check_nesting(root: Element) -> None:
    depth = namespaces = 0
    for event, item in etree.iterwalk(root, events=("start", "end", "start-ns")):
        if event == "start-ns":
            namespaces += 1
            if isinstance(item, tuple) and item[1] and ":" not in item[1]:
                raise DocumentError("a namespace is relative")
        else:
            depth += 1 if event == "start" else -1
        if depth > MOST_DEPTH or namespaces > MOST_NAMESPACES:
            raise DocumentError("the document is too deep or too large")
