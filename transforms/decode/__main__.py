"""``python -m transforms.decode`` prints the tables of ``docs/formats.md``."""

from transforms.decode.registry import format_table

if __name__ == "__main__":
    print(format_table())
