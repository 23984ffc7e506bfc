"""The version of this software: what receipts state and permits accept."""

VERSION = "0.1.0"
