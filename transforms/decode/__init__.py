"""Log records of any known format to canonical calls. See ``registry`` for how to add a format."""

from transforms.decode.driver import DecodeSettings, decode_batch, decode_record
from transforms.decode.registry import Format, formats, table
from transforms.decode.values import Skip, Undecodable

__all__ = ["DecodeSettings", "Format", "Skip", "Undecodable", "decode_batch", "decode_record", "formats", "table"]
