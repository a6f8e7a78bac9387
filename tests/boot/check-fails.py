# SPDX-License-Identifier: GPL-2.0
"""A required check of health fails: the machine goes back at once, and the report says which."""

START = "enabled"


def run(t):
    t.harm("check-fails", r"50-machine-app")
