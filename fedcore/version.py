"""The version of this software: what receipts state and permits accept."""

VERSION = "0.2.0"

# This and the previous minor version speak the same wire: tests/golden/wire holds its bytes.
COMPATIBLE_VERSIONS = (VERSION, "0.1.0")
