"""Media types of files by their names: one fixed table, so that no machine answers otherwise than another."""

from __future__ import annotations

UNKNOWN = b"application/octet-stream"

# https://www.iana.org/assignments/media-types; JavaScript by RFC 9239. What is text is UTF-8.
_TEXT = {
    "text/calendar": "ics",
    "text/css": "css",
    "text/csv": "csv",
    "text/html": "html htm",
    "text/javascript": "js mjs",
    "text/markdown": "md",
    "text/plain": "txt text log conf ini",
    "text/vtt": "vtt",
    "text/xml": "xml xsl",
}
_COMPRESSIBLE = {
    "application/atom+xml": "atom",
    "application/geo+json": "geojson",
    "application/json": "json map",
    "application/ld+json": "jsonld",
    "application/manifest+json": "webmanifest",
    "application/rss+xml": "rss",
    "application/wasm": "wasm",
    "application/xhtml+xml": "xhtml",
    "application/yaml": "yaml yml",
    "font/otf": "otf",
    "font/ttf": "ttf",
    "image/bmp": "bmp",
    "image/svg+xml": "svg",
    "image/vnd.microsoft.icon": "ico",
    "model/gltf+json": "gltf",
}
_OTHER = {
    "application/epub+zip": "epub",
    "application/gzip": "gz tgz",
    "application/pdf": "pdf",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/zip": "zip",
    "application/zstd": "zst",
    "audio/aac": "aac",
    "audio/flac": "flac",
    "audio/midi": "mid midi",
    "audio/mp4": "m4a",
    "audio/mpeg": "mp3",
    "audio/ogg": "ogg oga opus",
    "audio/wav": "wav",
    "audio/webm": "weba",
    "font/woff": "woff",
    "font/woff2": "woff2",
    "image/apng": "apng",
    "image/avif": "avif",
    "image/gif": "gif",
    "image/jpeg": "jpg jpeg",
    "image/jxl": "jxl",
    "image/png": "png",
    "image/tiff": "tif tiff",
    "image/webp": "webp",
    "model/gltf-binary": "glb",
    "video/mp4": "mp4 m4v",
    "video/mpeg": "mpg mpeg",
    "video/ogg": "ogv",
    "video/quicktime": "mov",
    "video/webm": "webm",
}


def _by_ending(table: dict[str, str], parameter: str = "") -> dict[str, bytes]:
    return {ending: (media + parameter).encode() for media, endings in table.items() for ending in endings.split()}


_TEXT_TYPES = _by_ending(_TEXT, "; charset=utf-8")
_COMPRESSIBLE_TYPES = _TEXT_TYPES | _by_ending(_COMPRESSIBLE)
_TYPES = _COMPRESSIBLE_TYPES | _by_ending(_OTHER)


def _ending(name: str) -> str:
    return name.rpartition("/")[2].rpartition(".")[2].lower()


def media_type(name: str) -> bytes:
    """Return a file's Content-Type by its name; :data:`UNKNOWN` for one that is not in the table."""
    return _TYPES.get(_ending(name), UNKNOWN)


def is_compressible(name: str) -> bool:
    """Tell whether files of such a name are worth compressing, so that a compressed one may lie beside it."""
    return _ending(name) in _COMPRESSIBLE_TYPES
