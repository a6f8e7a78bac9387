# SPDX-License-Identifier: GPL-2.0
"""A unit fails that had not failed before: the machine goes back at once."""

START = "enabled"


def run(t):
    t.harm("unit-fails", r"machine-app.service")
