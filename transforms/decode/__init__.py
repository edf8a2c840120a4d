"""Log records of any known format to canonical calls. See ``registry`` for how to add a format."""

from transforms.decode.batch import DecodeSettings, JoinSettings, decode_batch
from transforms.decode.errors import Skipped, Undecodable
from transforms.decode.named_tags import named_tag
from transforms.decode.record import decode_record
from transforms.decode.registry import FORMATS, Format, format_table

__all__ = [
    "FORMATS",
    "DecodeSettings",
    "Format",
    "JoinSettings",
    "Skipped",
    "Undecodable",
    "decode_batch",
    "decode_record",
    "format_table",
    "named_tag",
]
